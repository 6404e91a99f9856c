"""Detect objects in a single frame: ``python tools/predict.py CONFIG CHECKPOINT --images ...``."""

from ciba_bev.engine.prediction import main

if __name__ == '__main__':
    main()
