"""Write a student's weights alone, to deploy: ``tools/export_student.py CHECKPOINT OUT``."""

from ciba_bev.checkpoints.student_export import main

if __name__ == '__main__':
    main()
