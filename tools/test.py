"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--show-dir DIR] ...``."""

from ciba_bev.engine.testing import main

if __name__ == '__main__':
    main()
