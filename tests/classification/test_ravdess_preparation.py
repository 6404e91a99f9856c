"""From clips to the prepared form, with synthetic clips."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_processes import run_tool

from ciba_bev.classification import RavdessDataset
from ciba_bev.classification.latent_model import LATENTS
from ciba_bev.classification.ravdess.audio_features import cepstral_coefficients, mel_filters
from ciba_bev.classification.ravdess.preparation import (
    CSV_FILES,
    ClipName,
    assign_splits,
    crop_and_resize,
    crop_or_pad,
    find_clips,
    prepare_ravdess,
    read_middle_frame,
    read_sound,
)
from ciba_bev.classification.ravdess.synthetic_data import (
    ExpressionModel,
    IndependentExpressionModel,
    draw_face,
    play_chord,
    write_synthetic_clips,
    write_synthetic_data,
)
from ciba_bev.errors import CibaError

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = dict(image_size=(24, 48), frames=44, log=lambda text: None)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clips')
    write_synthetic_clips(folder, seed=1, actors=3, frame_size=(32, 64), seconds=0.5)
    return folder


@pytest.fixture
def some_clips(clips, tmp_path):
    """A copy that may be damaged."""
    return Path(shutil.copytree(clips, tmp_path / 'clips'))


def read_split(folder, part):
    with open(folder / CSV_FILES[part], newline='') as file:
        return list(csv.reader(file))[1:]


def files(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in Path(folder).rglob('*')
        if path.is_file()
    }


def all_names(actors=24):
    return [
        ClipName(1, 1, emotion, 1, statement, repetition, actor)
        for actor in range(1, actors + 1)
        for emotion in range(1, 9)
        for statement in (1, 2)
        for repetition in (1, 2)
    ]


def test_clips_become_what_the_reader_reads(clips, tmp_path):
    result = prepare_ravdess(clips, tmp_path, workers=2, **SETTINGS)
    assert (result.prepared, result.resumed, result.broken) == (24, 0, {})
    assert result.samples == {'train': 8, 'val': 8, 'test': 8}
    seen = []
    for part, csv_file in CSV_FILES.items():
        dataset = RavdessDataset(str(tmp_path), csv_file, image_size=SETTINGS['image_size'])
        for index, (audio, _, label) in enumerate(read_split(tmp_path, part)):
            sample = dataset[index]
            assert sample['inputs']['audio'].shape == (1, 40, 1 + 22050 // 512)
            assert sample['inputs']['image'].shape == (3, 24, 48)
            # The third field of the name, from 1.
            assert sample['labels'] == int(label) == int(audio.split('-')[2]) - 1
            seen.append(audio)
    assert len(set(seen)) == 24
    train = [np.load(tmp_path / 'aud_features' / row[0]) for row in read_split(tmp_path, 'train')]
    assert result.audio_mean == pytest.approx(np.mean(train), rel=1e-5)
    assert result.audio_std == pytest.approx(np.std(train), rel=1e-5)
    assert not list(tmp_path.rglob('*.partial'))


def test_a_stopped_preparation_goes_on(clips, tmp_path):
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    prepare_ravdess(clips, whole, **SETTINGS)
    shutil.copytree(whole, stopped)
    before = files(stopped)
    # As after a kill: one clip without its image, one half written, no lists.
    (first, second, *_) = sorted((stopped / 'vid_features').iterdir())
    first.unlink()
    second.rename(second.with_name(f'.{second.name}.partial'))
    shutil.rmtree(stopped / 'data_file')
    result = prepare_ravdess(clips, stopped, **SETTINGS)
    assert (result.prepared, result.resumed) == (2, 22)
    after = files(stopped)
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }
    untouched = [name for name in after if 'features' in name and after[name] == before[name]]
    assert len(untouched) == 2 * 22


def test_broken_clips_are_counted_listed_and_left_out(some_clips, tmp_path):
    cut, empty, *_ = find_clips(some_clips).values()
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    empty.write_bytes(b'')
    out = tmp_path / 'out'
    result = prepare_ravdess(some_clips, out, **SETTINGS)
    assert set(result.broken) == {cut.stem, empty.stem}
    assert result.prepared == 22
    lines = (out / 'broken_clips.txt').read_text().splitlines()
    assert [line.split('\t')[0] for line in lines] == sorted(result.broken)
    assert all(line.split('\t')[1] for line in lines)
    listed = [row[0] for part in CSV_FILES for row in read_split(out, part)]
    assert len(listed) == 22
    assert not {f'{name}.npy' for name in result.broken} & set(listed)


def test_a_repaired_clip_is_taken_up(some_clips, clips, tmp_path):
    broken = next(iter(find_clips(some_clips).values()))
    broken.write_bytes(b'no clip')
    out = tmp_path / 'out'
    prepare_ravdess(some_clips, out, **SETTINGS)
    shutil.copy(clips / broken.relative_to(some_clips), broken)
    result = prepare_ravdess(some_clips, out, **SETTINGS)
    assert (result.prepared, result.resumed, result.broken) == (1, 23, {})
    assert (out / 'broken_clips.txt').read_text() == ''


def test_other_settings_are_not_mixed(clips, tmp_path):
    prepare_ravdess(clips, tmp_path, **SETTINGS)
    with pytest.raises(CibaError, match=r'other settings: frames 44 there, 87 now'):
        prepare_ravdess(clips, tmp_path, **dict(SETTINGS, frames=87))


def test_random_splits_are_stratified_and_repeatable():
    names = all_names()
    splits = assign_splits(names, 'clip', 0)
    assert splits == assign_splits(list(reversed(names)), 'clip', 0)
    assert splits != assign_splits(names, 'clip', 1)
    assert sorted(name for part in splits.values() for name in part) == sorted(names)
    for part, share in (('train', 0.7), ('val', 0.15), ('test', 0.15)):
        for emotion in range(1, 9):
            count = sum(name.emotion == emotion for name in splits[part])
            assert count == pytest.approx(share * len(names) / 8, abs=1)


def test_actors_are_strangers_in_the_stricter_split():
    splits = assign_splits(all_names(), 'actor', 0)
    actors = {part: {name.actor for name in members} for part, members in splits.items()}
    assert {part: len(members) for part, members in actors.items()} == dict(train=16, val=4, test=4)
    assert len(set.union(*actors.values())) == 24


def test_splits_by_list(tmp_path):
    names = all_names(3)
    lists = {'train': names[:80], 'val': names[80:88], 'test': names[88:90]}
    for part, members in lists.items():
        # File names are as good as bare ones; clips in no list are left out.
        text = '\n'.join(f'Actor_01/{name.stem}.mp4' for name in members)
        (tmp_path / f'{part}.txt').write_text(text)
    assert assign_splits(names, str(tmp_path), 0) == lists
    (tmp_path / 'val.txt').write_text(f'{names[81].stem}\n01-01-01-01-01-01-24\n')
    with pytest.raises(CibaError, match=r"val\.txt, row 2: there is no clip '01-01-01"):
        assign_splits(names, str(tmp_path), 0)
    (tmp_path / 'val.txt').write_text(f'{names[81].stem}\n{names[3].stem}\n')
    with pytest.raises(CibaError, match=r'val\.txt, row 2: .* listed before, in train\.txt'):
        assign_splits(names, str(tmp_path), 0)
    (tmp_path / 'val.txt').unlink()
    with pytest.raises(CibaError, match=r'there is no .*val\.txt'):
        assign_splits(names, str(tmp_path), 0)


def test_too_few_clips_for_a_split():
    with pytest.raises(CibaError, match='leaves nothing for train'):
        assign_splits(all_names(1), 'actor', 0)


def test_only_speech_with_sound_and_picture_is_found(tmp_path):
    for name in (
        '01-01-03-01-01-01-01',
        '02-01-03-01-01-01-01',
        '01-02-03-01-01-01-01',
        '01-01-09-01-01-01-01',
        'holiday',
    ):
        (tmp_path / f'{name}.mp4').touch()
    assert [name.stem for name in find_clips(tmp_path)] == ['01-01-03-01-01-01-01']
    (tmp_path / 'copy').mkdir()
    (tmp_path / 'copy' / '01-01-03-01-01-01-01.mp4').touch()
    with pytest.raises(CibaError, match='exists twice'):
        find_clips(tmp_path)
    with pytest.raises(CibaError, match='no clips of speech'):
        find_clips(PROJECT / 'configs')
    with pytest.raises(CibaError, match='no such folder'):
        find_clips(tmp_path / 'nowhere')


def test_decoded_clips_are_what_was_encoded(clips):
    """The codecs lose little; a wrong frame, channel order or rate would lose much."""
    name, path = list(find_clips(clips).items())[10]
    model = ExpressionModel(1, 0.5)
    clip = model.clip(*name)
    audio, image = model.draw(name.emotion - 1, clip)
    chord = play_chord(audio, 0.5, model.actor(name.actor), clip)
    look = np.random.default_rng(int(clip.integers(2**32)))
    face = draw_face(image, (32, 64), model.actor(name.actor), look)
    decoded = np.asarray(read_middle_frame(path), float)
    assert np.abs(decoded - face).mean() < 10
    wanted = cepstral_coefficients(chord, 22050)
    # The encoder puts some silence in front and behind.
    found = cepstral_coefficients(read_sound(path, 22050), 22050)
    middle = [feature[1:, feature.shape[1] // 2] for feature in (wanted, found)]
    assert np.corrcoef(*middle)[0, 1] > 0.9


def test_cepstrum_against_its_definition():
    rate, window, hop, bands = 8000, 64, 16, 10
    sound = np.random.default_rng(0).normal(size=200)
    found = cepstral_coefficients(sound, rate, 6, bands, window, hop, dynamic_range=30.0)
    assert found.shape == (6, 1 + 200 // 16)

    def to_mel(hertz):
        return hertz / (200 / 3) if hertz < 1000 else 15 + 27 * math.log(hertz / 1000, 6.4)

    def to_hertz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [to_hertz(to_mel(rate / 2) * index / (bands + 1)) for index in range(bands + 2)]
    levels = np.zeros((bands, found.shape[1]))
    for frame in range(found.shape[1]):
        start = frame * hop - window // 2
        piece = [sound[i] if 0 <= i < 200 else 0.0 for i in range(start, start + window)]
        for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:])):
            energy = 0.0
            for k in range(window // 2 + 1):
                hertz = k * rate / window
                weight = min((hertz - low) / (centre - low), (high - hertz) / (high - centre))
                if weight <= 0:
                    continue
                amplitude = sum(
                    value
                    * math.sin(math.pi * n / window) ** 2
                    * np.exp(-2j * math.pi * k * n / window)
                    for n, value in enumerate(piece)
                )
                energy += weight * 2 / (high - low) * abs(amplitude) ** 2
            levels[band, frame] = 10 * math.log10(max(energy, 1e-10))
    levels = np.maximum(levels, levels.max() - 30)
    for coefficient in range(6):
        scale = math.sqrt((1 if coefficient == 0 else 2) / bands)
        basis = [
            scale * math.cos(math.pi * coefficient * (2 * band + 1) / (2 * bands))
            for band in range(bands)
        ]
        np.testing.assert_allclose(found[coefficient], basis @ levels, rtol=1e-3, atol=1e-2)


def test_mel_filters_have_unit_area():
    filters = mel_filters(22050, 2**15, 128)
    np.testing.assert_allclose(filters.sum(1) * 22050 / 2**15, 1, rtol=0.01)


@pytest.mark.parametrize('length', [0, 3, 4, 7, 10, 11])
def test_sounds_are_cropped_or_padded_around_their_middle(length):
    waveform = np.arange(1, length + 1, dtype=np.float32)
    found = crop_or_pad(waveform, 7)
    assert found.shape == (7,)
    if length <= 7:
        before = (7 - length) // 2
        np.testing.assert_array_equal(found[before : before + length], waveform)
        assert np.count_nonzero(found) == length
    else:
        np.testing.assert_array_equal(np.diff(found), 1)
        assert abs((found[0] - 1) - (length - found[-1])) <= 1


def test_images_are_cropped_before_they_are_resized():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 200
    found = np.asarray(crop_and_resize(Image.fromarray(pixels), (10, 10)))
    assert found.shape == (10, 10, 3)
    # The outermost columns are mixed with what was cut off.
    assert (found[:, 1:-1] == 200).all()
    assert (found > 100).all()


def test_the_synthetic_data_is_the_same_for_the_same_seed(tmp_path):
    contents = []
    for run, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(run)
        written = write_synthetic_clips(
            folder, seed=seed, actors=1, frame_size=(16, 32), seconds=0.3
        )
        assert len(written) == 8
        contents.append({name: content for name, (_, content) in files(folder).items()})
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


@pytest.mark.parametrize(('shared', 'common'), [(0.0, 0), (0.25, 2), (1.0, LATENTS)])
def test_the_dial_says_what_both_modalities_have(shared, common):
    model = ExpressionModel(0, shared)
    pairs = [model.draw(number % 8, model.clip(number)) for number in range(400)]
    audio, image = (np.stack(column) for column in zip(*pairs))
    same = (audio == image).all(0)
    assert same.tolist() == [index < common for index in range(LATENTS)]
    # What is not shared is related through the emotion only.
    labels = np.arange(400) % 8
    for index in range(common, LATENTS):
        within = [audio[:, index].copy(), image[:, index].copy()]
        for values in within:
            for label in range(8):
                values[labels == label] -= values[labels == label].mean()
        assert abs(np.corrcoef(*within)[0, 1]) < 0.2


@pytest.mark.parametrize(('shared', 'common'), [(0.0, 0), (0.25, 2), (1.0, LATENTS)])
def test_independent_latents_tell_the_emotion_together_only(shared, common):
    model = IndependentExpressionModel(0, shared)
    labels = np.arange(2400) % 8
    pairs = [model.draw(label, model.clip(number)) for number, label in enumerate(labels)]
    audio, image = (np.arctanh(np.stack(column)) / 0.8 for column in zip(*pairs))
    np.testing.assert_array_equal(audio[:, :common], image[:, :common])
    # Of what is not common, not even its mean can be guessed from the other modality.
    between = np.corrcoef(audio.T, image.T)[:LATENTS, LATENTS:]
    assert np.abs(between - np.diag(np.arange(LATENTS) < common)).max() < 0.1
    everything = np.concatenate((audio, image[:, common:]), axis=1)
    np.testing.assert_array_equal((everything @ model.directions).argmax(1), labels)
    np.testing.assert_allclose(model.directions.T @ model.directions, np.eye(8), atol=1e-12)


def test_the_dial_has_ends():
    with pytest.raises(CibaError, match=r'shared is 1\.5'):
        ExpressionModel(0, 1.5)


def test_the_prepared_synthetic_data_is_read(tmp_path):
    mean, deviation = write_synthetic_data(
        tmp_path, dict(train=10, val=4, test=4), image_size=(8, 16), seconds=0.2
    )
    dataset = RavdessDataset(
        str(tmp_path), CSV_FILES['train'], audio_mean=mean, audio_std=deviation, image_size=(8, 16)
    )
    values = np.stack([dataset[index]['inputs']['audio'] for index in range(10)])
    assert values.mean() == pytest.approx(0, abs=1e-4)
    assert values.std() == pytest.approx(1, abs=1e-4)
    assert [dataset[index]['labels'] for index in range(10)] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


@pytest.mark.slow
def test_the_tools_say_what_they_did(tmp_path):
    made = run_tool(tmp_path, 'make_synthetic_data.py', 'ravdess', '--out', 'clips')
    assert made.returncode == 0, made.stdout
    broken = sorted(Path(tmp_path, 'clips').rglob('*.mp4'))[0]
    broken.write_bytes(b'')
    words = ('--clips', 'clips', '--out', 'prepared', '--split', 'actor', '--workers', '2')
    prepared = run_tool(tmp_path, 'prepare_ravdess.py', *words)
    assert prepared.returncode == 0, prepared.stdout
    assert '47 clips decoded, 0 done before, 1 broken (listed in prepared' in prepared.stdout
    samples = re.search(r'train: (\d+), val: (\d+), test: (\d+) samples', prepared.stdout)
    assert sum(map(int, samples.groups())) == 47
    assert json.loads((tmp_path / 'prepared' / 'preparation.json').read_text())['rate'] == 22050
    # The published sizes, in both defaults.
    published = RavdessDataset(str(tmp_path / 'prepared'), CSV_FILES['train'])
    assert published.shapes == {'audio': (1, 40, 256), 'image': (3, 256, 512)}
    options = ('--out', 'independent', '--prepared', '--samples', '8', '--independent')
    alike = run_tool(tmp_path, 'make_synthetic_data.py', 'ravdess', *options)
    assert alike.returncode == 0, alike.stdout
    synthetic = RavdessDataset(
        str(tmp_path / 'independent'), CSV_FILES['train'], image_size=(28, 56)
    )
    assert len(synthetic) == 8
    options = ('--out', 'none', '--independent')
    unfit = run_tool(tmp_path, 'make_synthetic_data.py', 'mm_imdb', *options)
    assert unfit.returncode == 2
    assert '--independent goes with ravdess and --prepared' in unfit.stdout
    again = run_tool(tmp_path, 'prepare_ravdess.py', *words)
    assert '0 clips decoded, 47 done before, 1 broken' in again.stdout
    refused = run_tool(tmp_path, 'prepare_ravdess.py', *words[:-4], '--split', 'nowhere')
    assert refused.returncode == 1
    assert refused.stdout.startswith("error: split is 'nowhere'")


def test_the_package_does_without_decoders():
    code = "import sys, ciba_bev.classification; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
