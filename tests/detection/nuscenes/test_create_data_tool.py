import runpy
import shutil
import sys
from pathlib import Path

import pytest

from ciba_bev.detection.nuscenes.info_files import load_info_file

TOOL = Path(__file__).resolve().parents[3] / 'tools' / 'create_data.py'


@pytest.fixture
def run_tool(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run


def test_options_reach_the_converter(run_tool, simulated_nuscenes, tmp_path):
    shutil.copytree(simulated_nuscenes / 'can_bus', tmp_path / 'can_bus')
    arguments = ['--root-path', simulated_nuscenes, '--version', 'v1.0-mini']
    arguments += ['--extra-tag', 'short', '--out-dir', tmp_path, '--max-sweeps', 1]
    run_tool(*arguments)
    info = load_info_file(tmp_path / 'short_infos_train.pkl')['data_list'][3]
    assert len(info['lidar_sweeps']) == 1
    run_tool(*arguments, '--annotate-only', '--can-bus', tmp_path / 'can_bus')
    again = load_info_file(tmp_path / 'short_infos_train.pkl')['data_list'][3]
    assert again['can_bus'] == info['can_bus']


def test_what_the_user_can_mend_is_said_in_one_message(run_tool, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run_tool('--root-path', tmp_path, '--version', 'v1.0-mini')
    assert str(stopped.value).startswith(f'error: {tmp_path}')
