"""Simulate a small nuScenes, train a teacher and a student on it and score both."""

from pathlib import Path

from ciba_bev.quickstart.steps import main

if __name__ == '__main__':
    main(Path(__file__).resolve().parents[1])
