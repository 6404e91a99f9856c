"""Say what is installed, whether it fits together, and what mends it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PROJECTS = Path(__file__).resolve().parents[1] / 'projects'
FILE = PROJECTS / 'ciba_bev/engine/environment.py'

if __name__ == '__main__':
    # By its path: importing the package would import what may be missing.
    specification = importlib.util.spec_from_file_location('environment_report', FILE)
    report = importlib.util.module_from_spec(specification)
    sys.modules['environment_report'] = report
    specification.loader.exec_module(report)
    sys.exit(report.main())
