"""The VGG-Sound reader and its spectrogram: values, and errors that name file and row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ciba_bev.classification import VGGSoundDataset
from ciba_bev.classification.vgg_sound.spectrogram import (
    magnitude_spectrogram,
    resize_spectrogram,
)
from ciba_bev.errors import CibaError

CLIPS = ['-aaaaaaaaaa_000001', 'bbbbbbbbbbb_000020', 'ccccccccccc_000300']


@pytest.fixture
def root(tmp_path):
    generator = np.random.default_rng(0)
    for name in ('spectrograms', 'frames'):
        (tmp_path / name).mkdir()
    for name in CLIPS:
        values = generator.uniform(0, 200, (6, 9)).astype(np.float16)
        np.save(tmp_path / 'spectrograms' / f'{name}.npy', values)
        pixels = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'frames' / f'{name}.jpg')
    write_rows(tmp_path, *((name, label) for label, name in enumerate(CLIPS)))
    return tmp_path


def write_rows(root, *rows):
    (root / 'train.csv').write_text('\n'.join(','.join(map(str, row)) for row in rows) + '\n')


def read(root, **arguments):
    sizes = dict(audio_size=(6, 9), frame_size=(8, 12), classes=3)
    return VGGSoundDataset(str(root), 'train.csv', **{**sizes, **arguments})


def test_values_are_those_of_the_files(root):
    sample = read(root)[1]
    assert (sample['labels'], sample['names']) == (1, CLIPS[1])
    assert sample['inputs']['audio'].dtype == sample['inputs']['video'].dtype == torch.float32
    values = np.load(root / 'spectrograms' / f'{CLIPS[1]}.npy')
    np.testing.assert_array_equal(sample['inputs']['audio'][0], values.astype(np.float32))
    pixels = np.asarray(Image.open(root / 'frames' / f'{CLIPS[1]}.jpg')) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(sample['inputs']['video'].permute(1, 2, 0), expected, atol=1e-5)


def test_a_loader_stacks_what_is_asked_for_at_the_size_asked_for(root):
    for path in (root / 'frames').iterdir():
        path.unlink()
    # Files of a modality that is not asked for need not be there.
    (batch,) = DataLoader(read(root, inputs=['audio'], audio_size=(12, 5)), batch_size=3)
    assert set(batch['inputs']) == {'audio'}
    assert batch['inputs']['audio'].shape == (3, 1, 12, 5)
    assert batch['labels'].tolist() == [0, 1, 2]
    assert batch['names'] == CLIPS


def test_frames_are_resized(root):
    assert read(root, frame_size=(4, 6))[0]['inputs']['video'].shape == (3, 4, 6)


def test_a_heading_is_none_of_the_clips(root):
    write_rows(root, ('clip', 'label'), *((name, 2) for name in CLIPS))
    assert [read(root)[index]['names'] for index in range(3)] == CLIPS


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ((CLIPS[2],), 'row 3 has 1 columns'),
        ((CLIPS[2], 1, 1), 'row 3 has 3 columns'),
        ((CLIPS[2], 3), "row 3 has the label '3'.*0 to 2"),
        ((CLIPS[2], -1), "row 3 has the label '-1'"),
        ((CLIPS[2], 'zebra'), "row 3 has the label 'zebra'"),
        (('gone', 1), r'row 3 names .*gone\.npy'),
        ((CLIPS[0], 1), 'row 3 lists .* as row 1 does'),
    ],
)
def test_faulty_rows_are_refused_at_the_start(root, row, message):
    write_rows(root, *((name, 0) for name in CLIPS[:2]), row)
    with pytest.raises(CibaError, match=rf'train\.csv, {message}'):
        read(root)


def test_a_sound_without_its_frame_is_refused_at_the_start(root):
    (root / 'frames' / f'{CLIPS[1]}.jpg').unlink()
    with pytest.raises(CibaError, match=rf'train\.csv, row 2 names .*{CLIPS[1]}\.jpg'):
        read(root)


def test_a_missing_or_empty_csv_file(root):
    write_rows(root, ('clip', 'label'))
    with pytest.raises(CibaError, match='lists no clips'):
        read(root)
    (root / 'train.csv').unlink()
    with pytest.raises(CibaError, match=r'train\.csv: there is no such file.*prepare_vgg_sound'):
        read(root)


def test_unknown_inputs(root):
    with pytest.raises(CibaError, match=r"inputs is \['image'\]"):
        read(root, inputs=['image'])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.zeros((2, 3, 4)), 'of shape'),
        (np.full((6, 9), np.nan), 'NaN'),
        (np.array([['a']]), 'it must contain numbers'),
    ],
)
def test_unusable_sounds_are_fatal(root, content, message):
    np.save(root / 'spectrograms' / f'{CLIPS[1]}.npy', content)
    dataset = read(root)
    with pytest.raises(CibaError, match=rf'row 2: .*{CLIPS[1]}\.npy.*{message}'):
        dataset[1]


def test_half_files_are_fatal(root):
    for path in (
        root / 'spectrograms' / f'{CLIPS[0]}.npy',
        root / 'frames' / f'{CLIPS[1]}.jpg',
    ):
        path.write_bytes(path.read_bytes()[:60])
    dataset = read(root)
    with pytest.raises(CibaError, match=r'row 1: .*\.npy is not a complete array'):
        dataset[0]
    with pytest.raises(CibaError, match=r'row 2: .*\.jpg is not a complete image'):
        dataset[1]


def test_spectrogram_against_torch():
    sound = np.random.default_rng(0).normal(size=160_000).astype(np.float32) * 0.01
    found = magnitude_spectrogram(sound)
    # Ten seconds at 16 kHz have the paper's size as they are.
    assert found.shape == (513, 313)
    assert found.dtype == np.float32
    scaled = torch.from_numpy(sound / (1.1 * np.abs(sound).max()))
    expected = torch.stft(
        scaled, 1024, 512, window=torch.hann_window(1024), pad_mode='constant', return_complex=True
    ).abs()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_spectrogram_against_its_definition():
    sound = np.random.default_rng(1).normal(size=50)
    found = magnitude_spectrogram(sound, 16, 8, None)
    assert found.shape == (9, 7)
    peak = max(abs(value) for value in sound)
    for frame in range(7):
        piece = [frame * 8 - 8 + n for n in range(16)]
        for k in range(9):
            amplitude = sum(
                sound[i]
                / (1.1 * peak)
                * math.sin(math.pi * n / 16) ** 2
                * np.exp(-2j * math.pi * k * n / 16)
                for n, i in enumerate(piece)
                if 0 <= i < 50
            )
            assert found[k, frame] == pytest.approx(abs(amplitude), rel=1e-4, abs=1e-5)


def test_silence_and_loudness():
    assert (magnitude_spectrogram(np.zeros(16000)) == 0).all()
    assert (magnitude_spectrogram(np.zeros(0)) == 0).all()
    sound = np.random.default_rng(2).normal(size=4000)
    np.testing.assert_allclose(
        magnitude_spectrogram(sound), magnitude_spectrogram(30 * sound), rtol=1e-3, atol=1e-4
    )


def test_spectrograms_are_resized_bilinearly():
    # A plane stays a plane between the outermost centres.
    plane = np.add.outer(2.0 * np.arange(10), 3.0 * np.arange(8))
    found = resize_spectrogram(plane, (20, 4))
    rows, columns = (np.arange(20) + 0.5) / 2 - 0.5, (np.arange(4) + 0.5) * 2 - 0.5
    expected = np.add.outer(2 * rows, 3 * columns)
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-5)
