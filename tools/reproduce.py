"""Make the paper's tables and figures, on real data or on synthetic data."""

from pathlib import Path

from ciba_bev.reproduction.command import main

if __name__ == '__main__':
    main(Path(__file__).resolve().parents[1])
