"""The split files of VGG-Sound: the real ones where they are, and faulty ones."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ciba_bev.classification.vgg_sound.splits import (
    CLASSES_FILE,
    CLIPS_FILE,
    TABLE_FILE,
    read_classes,
    read_splits,
)
from ciba_bev.errors import CibaError

REAL = Path(__file__).resolve().parents[3] / 'shared' / 'vggsound_100'


def clip(number):
    return f'abc-DEF_{number:03d}_{number:06d}'


def lists(**changes):
    """Two classes with clips of their own in every part."""
    numbers = iter(range(100))
    content = {
        part: {label: [clip(next(numbers)) for _ in range(2)] for label in range(2)}
        for part in ('train', 'val', 'test')
    }
    return {**content, **changes}


def save(folder, content, classes=None):
    np.save(folder / CLIPS_FILE, np.array(content, dtype=object))
    if classes is not None:
        np.save(folder / CLASSES_FILE, np.array(classes, dtype=object))


def write_table(folder, *rows):
    (folder / TABLE_FILE).write_text('\n'.join(rows) + '\n')


def test_the_real_split_files():
    if not REAL.is_dir():
        pytest.skip(f'the split files of VGG-Sound are not at {REAL}')
    splits = read_splits(REAL)
    assert len(splits.classes) == 100
    assert splits.classes[1] == 'donkey, ass braying'
    counts = {part: len(members) for part, members in splits.clips.items()}
    assert counts == {'train': 51195, 'val': 5000, 'test': 5000}
    # By NumPy's own reader, which trusts the file.
    content = np.load(REAL / CLIPS_FILE, allow_pickle=True).item()
    names = np.load(REAL / CLASSES_FILE, allow_pickle=True).item()
    for part, members in splits.clips.items():
        expected = [(name, label) for label in content[part] for name in content[part][label]]
        assert sorted(members) == sorted(expected)
    assert {name: label for label, name in enumerate(splits.classes)} == names
    assert set(Counter(label for _, label in splits.clips['val']).values()) == {50}


def test_lists_without_names(tmp_path):
    save(tmp_path, lists())
    splits = read_splits(tmp_path)
    assert splits.classes == ['0', '1']
    assert splits.clips['val'] == [(clip(4), 0), (clip(5), 0), (clip(6), 1), (clip(7), 1)]
    # A file stands for its folder.
    assert read_splits(tmp_path / CLIPS_FILE) == splits


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'val': {0: [clip(50)], 2: [clip(51)]}}, 'val, class 2: classes must be .* from 0 to 1'),
        ({'val': {'a': [clip(50)]}}, 'val, class a: classes must be'),
        (
            {'val': {1: [clip(50), 'short']}},
            "val, class 1, row 2: 'short' is not the name of a clip",
        ),
        ({'val': {1: [clip(50), 7]}}, 'val, class 1, row 2: 7 is no'),
        ({'val': {1: clip(50)}}, 'val, class 1: is a str'),
        ({'val': {1: [clip(3)]}}, 'val, class 1, row 1: .* listed before, in .*train, class 1'),
        ({'val': None}, 'clips by class for each of train, val, test'),
        ({'val': {0: []}}, 'list no clips for val'),
    ],
)
def test_faulty_lists_name_file_and_place(tmp_path, change, message):
    save(tmp_path, lists(**change), {'a': 0, 'b': 1})
    with pytest.raises(CibaError, match=message) as error:
        read_splits(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize('classes', [{'a': 0, 'b': 2}, {'a': 0, 'b': 0}, {'a': 1, 'b': 2}])
def test_numbers_of_classes_have_no_gaps(tmp_path, classes):
    save(tmp_path, lists(), classes)
    with pytest.raises(CibaError, match=rf'{CLASSES_FILE}: must map the name of each class'):
        read_classes(tmp_path / CLASSES_FILE)


class Malice:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_pickle_runs_no_code(tmp_path):
    target = tmp_path / 'made'
    save(tmp_path, {'train': Malice(str(target))})
    with pytest.raises(CibaError, match=rf'{CLIPS_FILE}: not a complete array'):
        read_splits(tmp_path)
    assert not target.exists()
    np.load(tmp_path / CLIPS_FILE, allow_pickle=True)
    assert target.exists()


@pytest.mark.parametrize(
    'content', [b'', b'no array', pickle.dumps({'train': 1}), b'\x93NUMPY\x01\x00v\x00{']
)
def test_files_that_are_no_arrays(tmp_path, content):
    (tmp_path / CLIPS_FILE).write_bytes(content)
    with pytest.raises(CibaError, match=rf'{CLIPS_FILE}: not a complete array'):
        read_splits(tmp_path)


def test_half_an_array(tmp_path):
    save(tmp_path, lists())
    path = tmp_path / CLIPS_FILE
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CibaError, match='not a complete array'):
        read_splits(tmp_path)
    np.save(path, np.arange(3))
    with pytest.raises(CibaError, match='must contain one dictionary'):
        read_splits(tmp_path)


def test_the_table_of_all_classes(tmp_path):
    rows = [
        f'abc-DEF_{number:03d},{number},"{label}",{part}'
        for number, (label, part) in enumerate(
            (label, part)
            for label in ('zebra braying', 'ass, donkey')
            for part in ['train'] * 6 + ['test'] * 2
        )
    ]
    write_table(tmp_path, *rows)
    splits = read_splits(tmp_path, validation=2)
    assert splits.classes == ['ass, donkey', 'zebra braying']
    assert {part: len(members) for part, members in splits.clips.items()} == dict(
        train=8, val=4, test=4
    )
    assert Counter(label for _, label in splits.clips['val']) == {0: 2, 1: 2}
    assert (clip(0), 1) in splits.clips['train'] + splits.clips['val']
    assert (clip(15), 0) in splits.clips['test']
    everything = [name for part in splits.clips.values() for name, _ in part]
    assert len(set(everything)) == 16
    assert read_splits(tmp_path, validation=2) == splits
    assert read_splits(tmp_path, validation=2, seed=1) != splits
    # Only some classes, numbered as the file says.
    np.save(tmp_path / CLASSES_FILE, np.array({'zebra braying': 0}, dtype=object))
    fewer = read_splits(tmp_path, validation=2)
    assert {part: len(members) for part, members in fewer.clips.items()} == dict(
        train=4, val=2, test=2
    )
    with pytest.raises(CibaError, match="has 6 training clips of the class 'zebra braying'"):
        read_splits(tmp_path, validation=6)


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('abc-DEF_002,1,zebra', 'row 2 has 3 columns'),
        ('abc-DEF_002,1.5,zebra,train', "row 2: the start is '1.5'"),
        ('abc-DEF_002,1,zebra,val', "row 2: .* the split 'val'"),
        ('abc,1,zebra,train', 'row 2: .* is not the name of a clip'),
        ('abc-DEF_001,1,zebra,test', 'row 2: .* listed before, in .*row 1'),
    ],
)
def test_faulty_rows_of_the_table(tmp_path, row, message):
    write_table(tmp_path, 'abc-DEF_001,1,zebra,train', row)
    with pytest.raises(CibaError, match=rf'{TABLE_FILE}, {message}'):
        read_splits(tmp_path)


def test_no_split_files(tmp_path):
    with pytest.raises(CibaError, match=rf'neither {CLIPS_FILE} nor {TABLE_FILE}'):
        read_splits(tmp_path)
