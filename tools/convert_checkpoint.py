"""Published weights to files the configs load: ``convert_checkpoint.py SRC DST --model MODEL``."""

from ciba_bev.checkpoints.conversion import main

if __name__ == '__main__':
    main()
