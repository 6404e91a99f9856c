"""A place to train pairs in; the packages of plugin/ can be imported, as if installed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).with_name('plugin')))


@pytest.fixture
def workplace(tmp_path, monkeypatch, simulated_nuscenes):
    """A folder as a user would work in, with the tiny data where the configs look for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'simulated').symlink_to(simulated_nuscenes)
    return tmp_path
