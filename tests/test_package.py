"""Importing the package beside every kind of mmcv."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

PROJECTS = Path(__file__).resolve().parents[1] / 'projects'
# An environment where mmcv_operators is not active by itself, or not there at all.
NOT_ACTIVE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, '__module__', '') != 'mmcv_operators']
sys.modules.pop('mmcv_operators', None)
"""
NOT_THERE = NOT_ACTIVE + "sys.modules['mmcv_operators'] = None\n"


@pytest.fixture
def run_beside(tmp_path):
    """Run Python beside an mmcv that has nothing, or nothing but compiled operators."""

    def run(code, compiled=False):
        (tmp_path / 'mmcv').mkdir()
        (tmp_path / 'mmcv' / '__init__.py').touch()
        if compiled:
            (tmp_path / 'mmcv' / f'_ext{EXTENSION_SUFFIXES[0]}').touch()
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(PROJECTS)])}
        return subprocess.run(
            [sys.executable, '-c', code], env=environment, capture_output=True, text=True
        )

    return run


FIND = '; from importlib.util import find_spec; print(find_spec("mmcv._ext").origin)'


def test_operators_become_active_with_the_package(run_beside):
    ended = run_beside(NOT_ACTIVE + 'import ciba_bev' + FIND)
    assert Path(ended.stdout.strip()) == PROJECTS / 'mmcv_operators' / 'extension.py', ended.stderr


@pytest.mark.parametrize('state', [NOT_ACTIVE, NOT_THERE])
def test_compiled_operators_stay(run_beside, state, tmp_path):
    ended = run_beside(state + 'import ciba_bev' + FIND, compiled=True)
    assert Path(ended.stdout.strip()).parent == tmp_path / 'mmcv', ended.stderr


def test_no_operators_at_all_is_said_in_a_sentence(run_beside):
    ended = run_beside(NOT_THERE + 'import ciba_bev, mmcv; print("fine"); import mmcv._ext')
    assert ended.stdout == 'fine\n'
    last = ended.stderr.splitlines()[-1]
    assert last.startswith('ModuleNotFoundError: mmcv has no compiled operators')
    assert 'pip install --no-deps ./projects/mmcv_operators' in last


def test_no_mmcv_at_all():
    code = NOT_THERE + "sys.modules['mmcv'] = None\nimport ciba_bev.distillation, ciba_bev.analysis"
    environment = {**os.environ, 'PYTHONPATH': str(PROJECTS)}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True)
