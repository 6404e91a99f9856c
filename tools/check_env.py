"""Say what is installed, whether it fits together, and which implementation runs each operator."""

import importlib.util
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / 'projects/ciba_bev/engine/environment.py'

if __name__ == '__main__':
    # By its path: importing the package would import what may be missing.
    specification = importlib.util.spec_from_file_location('environment', FILE)
    environment = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(environment)
    sys.exit(environment.main())
