"""The name of :mod:`ciba_bev.engine` in version 0.1.0, which configs of that version import."""
