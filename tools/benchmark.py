"""Time a distillation step beside the student's step and the teacher's feature."""

from ciba_bev.engine.benchmark import main

if __name__ == '__main__':
    main()
