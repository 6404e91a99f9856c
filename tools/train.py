"""Train a model: ``python tools/train.py CONFIG [--work-dir DIR] [--resume] [--amp] ...``."""

from ciba_bev.engine.training import main

if __name__ == '__main__':
    main()
