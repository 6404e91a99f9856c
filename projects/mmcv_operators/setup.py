"""Packaging: this folder is installed as the package ``mmcv_operators``."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.install_data import install_data

FOLDER = Path(__file__).resolve().parent


class InstallBesidePackages(install_data):
    """Put the ``.pth`` file into site-packages, where Python reads it when it starts."""

    def finalize_options(self) -> None:
        self.set_undefined_options('install', ('install_lib', 'install_dir'))
        super().finalize_options()


setup(
    name='mmcv_operators',
    version=re.search(r"__version__ = '(.+)'", (FOLDER / '__init__.py').read_text())[1],
    description="mmcv's operators in Python, for an mmcv without compiled ones",
    long_description=(FOLDER / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.8',
    packages=['mmcv_operators'],
    package_dir={'mmcv_operators': '.'},
    data_files=[('', ['mmcv_operators.pth'])],
    cmdclass={'install_data': InstallBesidePackages},
    install_requires=['numba', 'numpy', 'torch>=2.0'],
)
