"""Compare how many dimensions trained models use: ``tools/analyze_collapse.py --help``."""

from ciba_bev.runner.collapse_analysis import main

if __name__ == '__main__':
    main()
