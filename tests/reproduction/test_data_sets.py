"""Missing data are listed before anything is run, by a dry run too."""

from __future__ import annotations

from pathlib import Path

import pytest

from ciba_bev.errors import CibaError
from ciba_bev.reproduction.command import reproduce
from ciba_bev.reproduction.data_sets import DATA_SETS, NUSCENES, demo_steps, find_missing_data

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = ['configs/ravdess_image.py', 'configs/ravdess_audio.py', None, 'configs/synthetic_mse.py']


@pytest.fixture
def root(tmp_path):
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(PROJECT / name)
    return tmp_path


def put(root, data):
    path = root / data.file
    path.parent.mkdir(parents=True)
    path.touch()


def test_each_data_set_is_named_once_with_its_remedy(root):
    assert find_missing_data(root, ['configs/synthetic_mse.py', None]) == []
    (message,) = find_missing_data(root, CONFIGS)
    assert message.startswith('ravdess_audio and 1 more need data/ravdess/data_file/spa')
    assert 'python tools/prepare_ravdess.py --clips CLIPS --out data/ravdess' in message
    messages = find_missing_data(root, [*CONFIGS, 'configs/bevformer_r50.py'])
    assert [text.split()[0] for text in messages] == ['bevformer_r50', 'ravdess_audio']
    put(root, DATA_SETS['ravdess'])
    put(root, NUSCENES)
    assert find_missing_data(root, [*CONFIGS, 'configs/bevformer_r50.py']) == []


def test_nothing_is_run_without_the_data(root):
    with pytest.raises(CibaError) as error:
        reproduce(root, ['table1a', 'table1b'], [0])
    assert str(error.value).count(', which is missing. Download') == 2
    assert not (root / 'work_dirs').exists()


def test_a_dry_run_says_which_data_are_missing(root, capsys):
    reproduce(root, ['table1a', 'table1b'], [0], dry_run=True)
    shown = capsys.readouterr().out
    assert 'ravdess_audio_seed0' in shown
    for name in ('data/ravdess/data_file/spa_dl.csv', 'data/mm_imdb/multimodal_imdb.hdf5'):
        assert shown.count(f'{name}, which is missing') == 1
    assert 'nuscenes' not in shown
    put(root, DATA_SETS['ravdess'])
    reproduce(root, ['table1a'], [0], dry_run=True)
    assert 'Missing data' not in capsys.readouterr().out


def test_a_dry_run_of_the_demonstration_misses_nothing(root, capsys):
    reproduce(root, ['table1a'], [0], demo=True, dry_run=True)
    assert 'Missing data' not in capsys.readouterr().out


def test_the_demo_makes_the_data_that_its_trainings_read(root):
    for prefix, step in demo_steps(root).items():
        words = step.command
        assert (root / words[words.index('--out') + 1]) in step.outputs[0].parents
        assert words[1] == prefix
    assert demo_steps(root).keys() == DATA_SETS.keys()


def test_the_demo_has_no_nuscenes(root):
    with pytest.raises(CibaError, match='leave out --demo'):
        reproduce(root, ['table2'], [0], demo=True)
