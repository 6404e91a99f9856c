"""From clips and split files to the prepared form, with synthetic clips."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from ciba_bev.classification import VGGSoundDataset
from ciba_bev.classification.clips import encode_clip, read_middle_frame, read_sound
from ciba_bev.classification.latent_model import LATENTS, LatentModel
from ciba_bev.classification.vgg_sound.preparation import (
    CSV_FILES,
    find_clips,
    prepare_vgg_sound,
)
from ciba_bev.classification.vgg_sound.spectrogram import magnitude_spectrogram
from ciba_bev.classification.vgg_sound.splits import read_splits
from ciba_bev.classification.vgg_sound.synthetic_data import (
    CLASSES,
    draw_discs,
    play_tones,
    write_synthetic_clips,
    write_synthetic_data,
)
from ciba_bev.errors import CibaError

PROJECT = Path(__file__).resolve().parents[2]
SIZES = dict(audio_size=(33, 20), frame_size=(16, 24))
SETTINGS = dict(**SIZES, log=lambda text: None)
SMALL = dict(classes=3, samples=dict(train=3, val=1, test=1), frame_size=(32, 64), seconds=0.5)


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp('vgg_sound')
    write_synthetic_clips(folder, seed=1, **SMALL)
    return folder


@pytest.fixture
def some(synthetic, tmp_path):
    """A copy that may be damaged."""
    return Path(shutil.copytree(synthetic, tmp_path / 'synthetic'))


def prepare(folder, out, **settings):
    return prepare_vgg_sound(folder / 'clips', folder / 'splits', out, **{**SETTINGS, **settings})


def listed(out):
    rows = []
    for csv_file in CSV_FILES.values():
        with open(out / csv_file, newline='') as file:
            rows += list(csv.reader(file))[1:]
    return {name: int(label) for name, label in rows}


def prepared_files(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in Path(folder).rglob('*')
        if path.suffix in ('.npy', '.jpg', '.partial')
    }


def test_clips_become_what_the_reader_reads(synthetic, tmp_path):
    result = prepare(synthetic, tmp_path, workers=2)
    assert (result.prepared, result.resumed, result.missing, result.broken) == (15, 0, 0, {})
    assert result.samples == {'train': 9, 'val': 3, 'test': 3}
    splits = read_splits(synthetic / 'splits')
    for part, csv_file in CSV_FILES.items():
        dataset = VGGSoundDataset(str(tmp_path), csv_file, classes=3, **SIZES)
        found = [(sample['names'], sample['labels']) for sample in dataset]
        assert found == splits.clips[part]
    sample = dataset[0]
    clip = synthetic / 'clips' / f'{sample["names"]}.mp4'
    spectrogram = magnitude_spectrogram(read_sound(clip, 16000), size=(33, 20))
    # Half precision.
    np.testing.assert_allclose(sample['inputs']['audio'][0], spectrogram, rtol=1e-3, atol=1e-6)
    assert (tmp_path / 'classes.csv').read_text().splitlines()[1] == '0,event 0'
    assert not list(tmp_path.rglob('*.partial'))


def test_a_stopped_preparation_goes_on(synthetic, tmp_path):
    prepare(synthetic, tmp_path)
    before = prepared_files(tmp_path)
    # As after a kill: one clip without its frame, one half written, no lists.
    first, second, *_ = sorted((tmp_path / 'frames').iterdir())
    first.unlink()
    second.rename(second.with_name(f'.{second.name}.partial'))
    for csv_file in CSV_FILES.values():
        (tmp_path / csv_file).unlink()
    result = prepare(synthetic, tmp_path)
    assert (result.prepared, result.resumed) == (2, 13)
    after = prepared_files(tmp_path)
    assert after.keys() == before.keys()
    changed = [name for name in after if after[name][0] != before[name][0]]
    # Both files of the two; what they hold is as it was.
    assert len(changed) == 4
    assert all(after[name][1] == before[name][1] for name in after)
    assert len(listed(tmp_path)) == 15


def test_broken_and_missing_clips_are_counted_listed_and_left_out(some, tmp_path):
    paths = sorted((some / 'clips').iterdir())
    cut, empty, gone, silent, *_ = paths
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    empty.write_bytes(b'')
    gone.unlink()
    no_sound(silent)
    # Text in a clip's clothes, which no list names.
    (some / 'clips' / 'holiday.mp4').write_text('no clip')
    out = tmp_path / 'out'
    result = prepare(some, out, workers=2)
    assert set(result.broken) == {path.stem for path in (cut, empty, gone, silent)}
    assert (result.prepared, result.missing) == (11, 1)
    lines = dict(line.split('\t') for line in (out / 'broken_clips.txt').read_text().splitlines())
    assert lines == {name: ' '.join(reason.split()) for name, reason in result.broken.items()}
    assert lines[gone.stem] == f'not in {some / "clips"}'
    assert lines[silent.stem] == 'it has no sound'
    assert all(lines.values())
    assert len(listed(out)) == 11
    assert not set(result.broken) & set(listed(out))


def no_sound(path):
    """Overwrite a clip by one without an audio stream."""
    import av

    with av.open(str(path), 'w') as container:
        video = container.add_stream('mpeg4', rate=8)
        video.height, video.width, video.pix_fmt = 32, 32, 'yuv420p'
        picture = np.zeros((32, 32, 3), np.uint8)
        container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        container.mux(video.encode(None))


def test_a_clip_that_comes_later_is_taken_up(some, synthetic, tmp_path):
    path = sorted((some / 'clips').iterdir())[0]
    path.unlink()
    out = tmp_path / 'out'
    assert prepare(some, out).missing == 1
    shutil.copy(synthetic / 'clips' / path.name, path)
    result = prepare(some, out)
    assert (result.prepared, result.resumed, result.broken) == (1, 14, {})
    assert (out / 'broken_clips.txt').read_text() == ''
    # Clips may go once they are prepared.
    path.unlink()
    result = prepare(some, out)
    assert (result.prepared, result.resumed, result.broken) == (0, 15, {})


@pytest.mark.slow
def test_a_kill_leaves_nothing_half_written(synthetic, tmp_path):
    command = [sys.executable, str(PROJECT / 'tools' / 'prepare_vgg_sound.py')]
    command += [str(synthetic / 'clips'), '--splits', str(synthetic / 'splits')]
    command += ['--out', 'out', '--workers', '1']
    out = tmp_path / 'out'
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 60
        while not list(out.glob('frames/*.jpg')) and time.monotonic() < limit:
            time.sleep(0.002)
        workers = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
    # Nor does anyone go on writing, or wait for ever for the next clip.
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    whole = {path.stem for path in out.glob('frames/[!.]*.jpg')}
    assert 1 <= len(whole) < 15
    for path in out.glob('spectrograms/[!.]*.npy'):
        assert np.load(path).shape == (513, 313)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = re.search(r'(\d+) clips decoded, (\d+) done before, 0 broken, 0 missing', done.stdout)
    decoded, resumed = map(int, summary.groups())
    assert (decoded + resumed, resumed) == (15, len(whole))
    assert 'train: 9, val: 3, test: 3 samples of 3 classes.' in done.stdout


def test_other_settings_are_not_mixed(synthetic, tmp_path):
    prepare(synthetic, tmp_path)
    with pytest.raises(CibaError, match=r'other settings: frame_size \[16, 24\] there, \[8, 8\]'):
        prepare(synthetic, tmp_path, frame_size=(8, 8))


def test_a_part_without_clips_is_refused(some, tmp_path):
    for name, _ in read_splits(some / 'splits').clips['val']:
        (some / 'clips' / f'{name}.mp4').write_bytes(b'')
    with pytest.raises(CibaError, match='no clip of val could be prepared'):
        prepare(some, tmp_path / 'out')


def test_clips_are_found_at_any_depth_once(tmp_path):
    names = ['abc-DEF_001_000001', '-bc-DEF_002_000002']
    for path in ('a/b', 'c'):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / 'a' / 'b' / f'{names[0]}.mp4').touch()
    (tmp_path / 'c' / f'{names[1]}.webm').touch()
    (tmp_path / 'c' / f'{names[0]}.txt').touch()
    found = find_clips(tmp_path, [*names, 'abc-DEF_003_000003'])
    assert {name: path.suffix for name, path in found.items()} == {
        names[0]: '.mp4',
        names[1]: '.webm',
    }
    (tmp_path / 'c' / f'{names[0]}.mkv').touch()
    with pytest.raises(CibaError, match='exists twice'):
        find_clips(tmp_path, names)
    with pytest.raises(CibaError, match=r'has none of the 1 clips'):
        find_clips(tmp_path, ['abc-DEF_003_000003'])
    with pytest.raises(CibaError, match='no such folder'):
        find_clips(tmp_path / 'nowhere', names)


def test_decoded_clips_are_what_was_encoded(tmp_path):
    """The codecs lose little; a wrong frame, channel order or rate would lose much."""
    model = LatentModel(1, 0.5, CLASSES)
    audio, video = model.draw(2, model.generator(1, 0))
    tones = play_tones(audio, 0.5, model.generator(1, 1))
    pictures = [draw_discs(video, (32, 64), model.generator(1, number)) for number in range(5)]
    path = tmp_path / 'clip.mp4'
    encode_clip(path, pictures, tones, 8, 16000)
    decoded = np.asarray(read_middle_frame(path), float)
    errors = [np.abs(decoded - picture).mean() for picture in pictures]
    # The sound's last block makes the clip a little longer than its pictures.
    assert errors.index(min(errors)) in (2, 3)
    assert min(errors) < 12
    wanted, found = (
        magnitude_spectrogram(sound, size=None) for sound in (tones, read_sound(path, 16000))
    )
    middle = [values[:, values.shape[1] // 2] for values in (wanted, found)]
    assert np.corrcoef(*middle)[0, 1] > 0.9


def test_the_synthetic_data_is_the_same_for_the_same_seed(tmp_path):
    contents = []
    for run, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(run)
        written = write_synthetic_clips(
            folder, seed=seed, **{**SMALL, 'classes': 1, 'seconds': 0.25}
        )
        assert len(written) == 5
        contents.append(
            {path.name: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
        )
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize(('shared', 'common'), [(0.0, 0), (0.25, 2), (1.0, LATENTS)])
def test_the_dial_says_what_both_modalities_have(shared, common):
    model = LatentModel(0, shared, CLASSES)
    labels = np.arange(400) % 8
    pairs = [model.draw(label, model.generator(1, number)) for number, label in enumerate(labels)]
    audio, video = (np.stack(column) for column in zip(*pairs))
    assert (audio == video).all(0).tolist() == [index < common for index in range(LATENTS)]
    # What is not shared is related through the class only.
    for index in range(common, LATENTS):
        within = [audio[:, index].copy(), video[:, index].copy()]
        for values in within:
            for label in range(8):
                values[labels == label] -= values[labels == label].mean()
        assert abs(np.corrcoef(*within)[0, 1]) < 0.2


def test_the_dial_has_ends():
    with pytest.raises(CibaError, match=r'shared is 1\.5'):
        LatentModel(0, 1.5, CLASSES)


def test_latents_are_seen_and_heard():
    quiet, loud = (
        play_tones(np.eye(LATENTS)[3] * s, 0.5, np.random.default_rng(0)) for s in (-1, 1)
    )
    change = magnitude_spectrogram(loud / 9, size=None) - magnitude_spectrogram(
        quiet / 9, size=None
    )
    tone = np.geomspace(250, 6000, LATENTS)[3] / (16000 / 1024)
    assert abs(np.abs(change[:, 5]).argmax() - tone) < 4
    small, large = (
        draw_discs(np.eye(LATENTS)[5] * s, (40, 80), np.random.default_rng(0)) for s in (-1, 1)
    )
    rows, columns = np.nonzero(np.abs(large.astype(int) - small).max(2) > 30)
    # The second disc of the second row.
    assert rows.min() >= 20
    assert columns.min() >= 20
    assert columns.max() < 40


def test_the_prepared_synthetic_data_is_read(tmp_path):
    write_synthetic_data(tmp_path, dict(train=10, val=4, test=4), classes=8, **SIZES)
    dataset = VGGSoundDataset(str(tmp_path), CSV_FILES['train'], **SIZES)
    assert [sample['labels'] for sample in dataset] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert np.load(next((tmp_path / 'spectrograms').iterdir())).shape == (33, 20)
