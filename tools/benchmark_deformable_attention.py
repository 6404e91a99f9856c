"""Time every backend of deformable attention side by side, at sizes that the detectors use."""

from ciba_bev.ops.benchmark import main

if __name__ == '__main__':
    main()
