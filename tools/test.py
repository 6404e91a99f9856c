"""Score a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--show-dir DIR] ...``."""

from ciba_bev.runner.testing import main

if __name__ == '__main__':
    main()
