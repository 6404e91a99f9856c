import os
import shutil

import pytest
import torch
from mmengine.config import Config

from ciba_bev.engine.checkpoint_search import find_checkpoints, newest_whole_checkpoint
from ciba_bev.errors import CibaError


@pytest.fixture
def folder(tmp_path):
    """A function that fills a work folder: names from the first written to the last, and a note."""

    def fill(*names, note=None):
        for second, name in enumerate(names):
            torch.save({'weights': torch.arange(500.0)}, tmp_path / name)
            os.utime(tmp_path / name, (1e9 + second, 1e9 + second))
        if note is not None:
            (tmp_path / 'last_checkpoint').write_text(note)
        return tmp_path

    return fill


def newest(folder, **checkpoint):
    cfg = Config({'work_dir': str(folder), 'default_hooks': {'checkpoint': checkpoint}})
    found = newest_whole_checkpoint(cfg)
    return found and os.path.relpath(found, folder)


@pytest.mark.parametrize(
    ('names', 'note', 'expected'),
    [
        (['epoch_9.pth', 'epoch_10.pth'], '/gone/epoch_10.pth', 'epoch_10.pth'),
        # Without a note, or with one that says nothing.
        (['epoch_9.pth', 'epoch_10.pth'], None, 'epoch_10.pth'),
        (['epoch_9.pth', 'epoch_10.pth'], '', 'epoch_10.pth'),
        (['epoch_9.pth', 'epoch_10.pth'], '/gone/epoch_7.pth', 'epoch_10.pth'),
        # Copied in the order of the alphabet.
        (['epoch_10.pth', 'epoch_9.pth'], None, 'epoch_10.pth'),
        # Killed between the checkpoint and its note.
        (['epoch_1.pth', 'epoch_2.pth'], 'x/epoch_1.pth', 'epoch_2.pth'),
        # Went on from epoch 2; the later ones belong to the course given up.
        (['epoch_4.pth', 'epoch_5.pth', 'epoch_3.pth'], 'x/epoch_3.pth', 'epoch_3.pth'),
        (['epoch_1.pth', 'iter_900.pth', 'epoch_2.pth'], None, 'epoch_2.pth'),
        (['epoch_2.pth', 'iter_900.pth'], None, 'iter_900.pth'),
        (['best_acc_epoch_3.pth', 'student.pth', 'epoch_x.pth'], None, None),
    ],
)
def test_the_newest_is_found(folder, names, note, expected):
    assert newest(folder(*names, note=note)) == expected


def test_no_folder_and_no_checkpoint(tmp_path):
    assert newest(tmp_path / 'nothing') is None
    assert newest(tmp_path) is None


def test_a_damaged_one_is_passed_over_with_a_word(folder, capsys):
    work = folder('epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', note='epoch_3.pth')
    (work / 'epoch_3.pth').write_bytes(b'')
    content = (work / 'epoch_2.pth').read_bytes()
    (work / 'epoch_2.pth').write_bytes(content[: len(content) // 2])
    assert newest(work) == 'epoch_1.pth'
    printed = capsys.readouterr().out
    assert 'epoch_3.pth is skipped: it is empty' in printed
    assert 'epoch_2.pth is skipped: it is truncated' in printed
    (work / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(CibaError, match='all 3 checkpoints are damaged'):
        newest(work)


def test_a_copied_folder_goes_on_from_its_own_files(folder, tmp_path):
    original = folder('epoch_1.pth', 'epoch_2.pth', note=str(tmp_path / 'epoch_2.pth'))
    copy = tmp_path / 'copy'
    copy.mkdir()
    for name in ('last_checkpoint', 'epoch_1.pth', 'epoch_2.pth'):
        shutil.copy(original / name, copy / name)
    cfg = Config({'work_dir': str(copy)})
    assert newest_whole_checkpoint(cfg) == str(copy / 'epoch_2.pth')
    (copy / 'epoch_2.pth').unlink()
    assert newest_whole_checkpoint(cfg) == str(copy / 'epoch_1.pth')


def test_where_the_config_has_them_written(folder, tmp_path):
    assert newest(folder('round 3.pth'), filename_tmpl='round {}.pth') == 'round 3.pth'
    elsewhere = tmp_path / 'elsewhere' / tmp_path.name
    elsewhere.mkdir(parents=True)
    shutil.copy(tmp_path / 'round 3.pth', elsewhere / 'epoch_3.pth')
    found = newest(tmp_path, out_dir=str(tmp_path / 'elsewhere'))
    assert found == os.path.join('elsewhere', tmp_path.name, 'epoch_3.pth')
    [only] = find_checkpoints(Config({'work_dir': str(elsewhere)}))
    assert (only.number, only.kind) == (3, 'epoch_{}.pth')


def test_remote_storage_is_left_to_mmengine(folder):
    assert newest_whole_checkpoint(
        Config({'work_dir': str(folder(note='s3://bucket/epoch_3.pth'))})
    ) == ('s3://bucket/epoch_3.pth')
