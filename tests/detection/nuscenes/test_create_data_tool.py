import runpy
import shutil
import sys
from pathlib import Path

import pytest

from ciba_bev.detection.nuscenes.data_checks import DataError
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file

NAME = 'nuscenes_infos_val.pkl'
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


def test_what_the_user_can_fix_is_said_in_one_message(run_tool, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_tool('--root-path', tmp_path, '--version', 'v1.0-mini')
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith(f'error: {tmp_path}')
    with pytest.raises(DataError):
        run_tool('--root-path', tmp_path, '--version', 'v1.0-mini', '--traceback')


def test_replacing_is_asked_for(run_tool, simulated_nuscenes, tmp_path, capsys):
    save_info_file({'metainfo': {'version': 'v1.0-trainval'}, 'data_list': []}, tmp_path / NAME)
    arguments = ['--root-path', simulated_nuscenes, '--version', 'v1.0-mini', '--out-dir', tmp_path]
    with pytest.raises(SystemExit):
        run_tool(*arguments)
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert '--replace' in error
    run_tool(*arguments, '--replace')
    assert len(load_info_file(tmp_path / NAME)['data_list']) == 7
