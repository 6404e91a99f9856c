"""Time a distillation step beside the student's step and the teacher's feature."""

from ciba_bev.runner.distillation_benchmark import main

if __name__ == '__main__':
    main()
