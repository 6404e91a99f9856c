"""Packaging: this folder is installed as the package ``mmcv_operators``."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup  # first: it brings the distutils that newer Pythons lack
from setuptools.command.build_py import build_py

# isort: split
from distutils.command.install_headers import install_headers

FOLDER = Path(__file__).resolve().parent


class BuildWithoutSetup(build_py):
    """Leave this file out, which lies beside the package's own."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Find the modules of a package, without this one."""
        modules = super().find_package_modules(package, package_dir)
        return [module for module in modules if module[1] != 'setup']


class InstallBesidePackages(install_headers):
    """Put the ``.pth`` file into site-packages, where Python reads it when it starts.

    It goes as a header, the kind of file that setuptools also installs for an editable package.
    """

    def finalize_options(self) -> None:
        """Install to where the packages go."""
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
    headers=['mmcv_operators.pth'],
    cmdclass={'build_py': BuildWithoutSetup, 'install_headers': InstallBesidePackages},
    install_requires=['numba', 'numpy', 'torch>=2.0'],
)
