"""The RAVDESS reader: values, and errors that name file and row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ciba_bev.classification import RavdessDataset
from ciba_bev.errors import CibaError

CLIPS = ['01-01-03-01-02-01-05', '01-01-08-02-01-02-24', '01-01-01-01-01-01-01']


@pytest.fixture
def root(tmp_path):
    generator = np.random.default_rng(0)
    for name in ('aud_features', 'vid_features', 'data_file'):
        (tmp_path / name).mkdir()
    for clip in CLIPS:
        np.save(tmp_path / 'aud_features' / f'{clip}.npy', generator.normal(-10, 80, (6, 9)))
        pixels = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'vid_features' / f'{clip}.png')
    return tmp_path


def write_rows(root, *rows):
    text = '\n'.join(','.join(map(str, row)) for row in rows)
    (root / 'data_file' / 'spa_dl.csv').write_text(text + '\n')


def good_rows():
    return [(f'{clip}.npy', f'{clip}.png', label) for label, clip in enumerate(CLIPS)]


def read(root, **arguments):
    return RavdessDataset(str(root), 'data_file/spa_dl.csv', image_size=(8, 12), **arguments)


def test_values_are_those_of_the_files_normalised(root):
    write_rows(root, *good_rows())
    dataset = read(root)
    sample = dataset[1]
    audio = np.load(root / 'aud_features' / f'{CLIPS[1]}.npy')
    pixels = np.asarray(Image.open(root / 'vid_features' / f'{CLIPS[1]}.png')) / 255
    assert len(dataset) == 3
    assert (sample['labels'], sample['names']) == (1, CLIPS[1])
    assert sample['inputs']['audio'].dtype == sample['inputs']['image'].dtype == torch.float32
    np.testing.assert_allclose(sample['inputs']['audio'][0], (audio + 10.59) / 85.66, rtol=1e-5)
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(sample['inputs']['image'].permute(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize('heading', [[], [('audio', 'image', 'label')]])
@pytest.mark.parametrize('folders', [('', ''), ('aud_features/', 'vid_features/')])
def test_headings_and_folders_in_the_csv_file(root, heading, folders):
    rows = [(folders[0] + audio, folders[1] + image, label) for audio, image, label in good_rows()]
    write_rows(root, *heading, *rows)
    assert [read(root)[index]['labels'] for index in range(3)] == [0, 1, 2]


def test_a_loader_stacks_batches_of_the_inputs_asked_for(root):
    write_rows(root, *good_rows())
    (batch,) = DataLoader(read(root, inputs=['image']), batch_size=3)
    assert set(batch['inputs']) == {'image'}
    assert batch['inputs']['image'].shape == (3, 3, 8, 12)
    assert batch['labels'].tolist() == [0, 1, 2]
    assert batch['names'] == CLIPS


def test_images_are_taken_as_they_are_or_resized_if_so_wanted(root):
    write_rows(root, *good_rows())
    message = (
        r'spa_dl\.csv, row 1: .*\.png has 8 x 12 pixels, and image_size of the data set is '
        r'256 x 512\. .* image_size to \[8, 12\] .*resize_images=True'
    )
    with pytest.raises(CibaError, match=message):
        RavdessDataset(str(root), 'data_file/spa_dl.csv')
    # Networks that do not see images do not mind.
    RavdessDataset(str(root), 'data_file/spa_dl.csv', inputs=['audio'])
    dataset = RavdessDataset(
        str(root), 'data_file/spa_dl.csv', image_size=(4, 6), resize_images=True
    )
    assert dataset[0]['inputs']['image'].shape == (3, 4, 6)
    expected = Image.open(root / 'vid_features' / f'{CLIPS[0]}.png').resize((6, 4), Image.BILINEAR)
    red = (np.asarray(expected)[..., 0] / 255 - 0.485) / 0.229
    np.testing.assert_allclose(dataset[0]['inputs']['image'][0], red, atol=1e-5)


def test_one_image_of_another_size_is_found_at_the_start(root):
    write_rows(root, *good_rows())
    Image.new('RGB', (12, 9)).save(root / 'vid_features' / f'{CLIPS[2]}.png')
    with pytest.raises(CibaError, match=r'row 3: .*\.png has 9 x 12 pixels'):
        read(root)


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        (('a.npy', 'a.png'), 'row 3 has 2 columns'),
        (('a.npy', 'a.png', 1, 1), 'row 3 has 4 columns'),
        ((f'{CLIPS[2]}.npy', f'{CLIPS[2]}.png', 8), "row 3 has the label '8'.*0 to 7"),
        ((f'{CLIPS[2]}.npy', f'{CLIPS[2]}.png', -1), "row 3 has the label '-1'"),
        ((f'{CLIPS[2]}.npy', f'{CLIPS[2]}.png', 'sad'), "row 3 has the label 'sad'"),
        (('gone.npy', f'{CLIPS[2]}.png', 1), 'row 3 names .*gone.npy'),
        ((f'{CLIPS[2]}.npy', 'gone.png', 1), 'row 3 names .*gone.png'),
        ((f'{CLIPS[2]}.npy', f'{CLIPS[1]}.png', 1), 'row 3 pairs .* another clip'),
    ],
)
def test_faulty_rows_are_refused_at_the_start(root, row, message):
    write_rows(root, *good_rows()[:2], row)
    with pytest.raises(CibaError, match=rf'spa_dl\.csv, {message}'):
        read(root)


def test_sound_and_picture_may_differ_in_the_modality_only(root):
    silent = root / 'vid_features' / f'02{CLIPS[0][2:]}.png'
    (root / 'vid_features' / f'{CLIPS[0]}.png').rename(silent)
    write_rows(root, (f'{CLIPS[0]}.npy', silent.name, 0))
    assert len(read(root)) == 1


def test_a_missing_or_empty_csv_file(root):
    with pytest.raises(CibaError, match=r'spa_dl\.csv: there is no such file.*prepare_ravdess'):
        read(root)
    write_rows(root, ('audio', 'image', 'label'))
    with pytest.raises(CibaError, match='lists no clips'):
        read(root)


def test_unknown_inputs(root):
    with pytest.raises(CibaError, match=r"inputs is \['video'\]"):
        read(root, inputs=['video'])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.zeros((2, 3, 4)), 'of shape'),
        (np.zeros((6, 8)), r'has shape \(6, 8\), others have \(6, 9\)'),
        (np.zeros((0, 9)), 'it must contain numbers'),
        (np.array([['a']]), 'it must contain numbers'),
    ],
)
def test_unusable_sounds_are_found_at_the_start(root, content, message):
    write_rows(root, *good_rows())
    np.save(root / 'aud_features' / f'{CLIPS[1]}.npy', content)
    with pytest.raises(CibaError, match=rf'row 2: .*{CLIPS[1]}\.npy.*{message}'):
        read(root)


def test_a_sound_with_nan_is_fatal(root):
    write_rows(root, *good_rows())
    np.save(root / 'aud_features' / f'{CLIPS[1]}.npy', np.full((6, 9), np.nan))
    with pytest.raises(CibaError, match=rf'row 2: .*{CLIPS[1]}\.npy contains NaN'):
        read(root)[1]


def test_half_files_are_fatal(root):
    write_rows(root, *good_rows())
    for path in (
        root / 'aud_features' / f'{CLIPS[0]}.npy',
        root / 'vid_features' / f'{CLIPS[1]}.png',
    ):
        path.write_bytes(path.read_bytes()[:-100])
    dataset = read(root)
    with pytest.raises(CibaError, match=r'row 1: .*\.npy is not a complete array'):
        dataset[0]
    with pytest.raises(CibaError, match=r'row 2: .*\.png is not a complete image'):
        dataset[1]
