"""Packaging: the folders below ``projects/`` are installed as packages of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import setuptools
from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_requirements(name: str) -> list[str]:
    """The requirement specifiers of ``requirements/<name>.txt``, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    specifiers = (line.split('#')[0].strip() for line in lines)
    return [specifier for specifier in specifiers if specifier]


if 'develop' in sys.argv and int(setuptools.__version__.split('.')[0]) < 64:
    # Older ones look for an editable package in the top folder only, without a word.
    sys.exit("An editable install needs setuptools >= 64: pip install 'setuptools>=64,<81'")

readme = ROOT / 'README.md'

setup(
    name='ciba_bev',
    version='0.1.0',
    description='Cross-modal distillation for bird-eye-view detection: an MMDetection3D plugin',
    long_description=readme.read_text(encoding='utf-8') if readme.is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.8',
    packages=find_packages('projects', include=['ciba_bev*', 'nuscenes_simulation*']),
    package_dir={'': 'projects'},
    install_requires=read_requirements('runtime'),
    extras_require={
        'mminstall': read_requirements('mminstall'),
        'optional': read_requirements('optional'),
        'tests': read_requirements('tests'),
    },
)
