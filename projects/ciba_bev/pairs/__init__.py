"""Configs for distilling one model into another, written by ``tools/new_pair.py``."""
