"""Compare how many dimensions the features of trained models use, as Figures 5 and 6 do."""

from ciba_bev.engine.collapse_analysis import main

if __name__ == '__main__':
    main()
