"""The packages of this folder's plugin/ can be imported, as if they were installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name('plugin')))
