"""Write the configs that distil one model into another: ``new_pair.py TEACHER_CFG STUDENT_CFG``."""

from ciba_bev.pairs.new_pair import main

if __name__ == '__main__':
    main()
