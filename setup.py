"""For tools that know no other file; everything is in pyproject.toml."""

import sys

import setuptools

if int(setuptools.__version__.split('.')[0]) < 64:
    # Older ones build a package without a name, or make an editable one that is not found.
    sys.exit("ciba_bev needs setuptools >= 64: pip install 'setuptools>=64,<81'")

setuptools.setup()
