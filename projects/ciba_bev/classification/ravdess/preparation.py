"""Convert the raw clips of RAVDESS to the files that :class:`RavdessDataset` reads.

For each clip of speech (channel 01) with sound and picture (modality 01), the middle frame and the
cepstral coefficients are stored. A clip is done if both files exist. They are written atomically,
so that an interrupted preparation continues where it stopped.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import numpy as np
from PIL import Image

from ...errors import CibaError, ConfigError
from ..clips import (
    BROKEN_FILE,
    DECODING_ERRORS,
    prepare_all,
    read_middle_frame,
    read_sound,
    require_same_settings,
    write_broken,
)
from ..prepared_files import make_folders, read_array, write_array, write_image, write_rows
from .audio_features import HOP, cepstral_coefficients
from .dataset import CLIP_NAME, EMOTIONS, IMAGE_SIZE

# The published features have 40 coefficients and 256 frames.
FRAMES = 256
RATE = 22050

CSV_FILES = {
    'train': 'data_file/spa_dl.csv',
    'val': 'data_file/spa_val.csv',
    'test': 'data_file/spa_test.csv',
}
SPLITS = ('clip', 'actor')
FOLDERS = ('aud_features', 'vid_features')
_HEADING = ('audio', 'image', 'label')


class ClipName(NamedTuple):
    """The fields of a clip's name, numbered from 1 as in RAVDESS."""

    modality: int
    channel: int
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    @classmethod
    def parse(cls, name: str) -> ClipName | None:
        """Parse the name of a file.

        Args:
            name: The name, without folder and suffix.

        Returns:
            Its fields; None if it is not the name of a clip.
        """
        if CLIP_NAME.fullmatch(name) is None:
            return None
        parsed = cls(*map(int, name.split('-')))
        return parsed if 1 <= parsed.emotion <= len(EMOTIONS) else None

    @property
    def stem(self) -> str:
        """The name of the file, without folder and suffix."""
        return '-'.join(f'{field:02d}' for field in self)


class Preparation(NamedTuple):
    """Result of a preparation.

    Attributes:
        prepared: Number of clips decoded now.
        resumed: Number of clips done before.
        broken: Name of each clip that could not be decoded to the reason.
        samples: Number of clips in the CSV file of each split.
        audio_mean: Mean of the training clips' coefficients.
        audio_std: Standard deviation of the training clips' coefficients.
    """

    prepared: int
    resumed: int
    broken: dict[str, str]
    samples: dict[str, int]
    audio_mean: float
    audio_std: float


def prepare_ravdess(
    clips: str | Path,
    out: str | Path,
    split: str = 'clip',
    image_size: Sequence[int] = IMAGE_SIZE,
    frames: int = FRAMES,
    rate: int = RATE,
    seed: int = 0,
    workers: int = 1,
    log: Callable[[str], None] = print,
) -> Preparation:
    """Decode all clips and write the prepared form.

    Args:
        clips: Folder with the clips (mp4), at any depth.
        out: Folder of the prepared data; may contain the result of an interrupted call.
        split: ``'clip'`` splits the clips of each emotion at random, 70 % for training, 15 % for
            validation, 15 % for testing; ``'actor'`` splits the actors, so that those in validation
            and test are unknown to the model; otherwise a folder with ``train.txt``, ``val.txt``
            and ``test.txt``, with the name of a clip per line. The paper does not state its split.
        image_size: Rows and columns of the frames.
        frames: Length of the feature, in steps of 512 samples. Longer sounds are cropped to their
            middle, shorter ones are padded with silence. The default is 5.9 seconds.
        rate: Sampling rate to resample the sound to, in Hz.
        seed: Seed of the random split.
        workers: Number of processes.
        log: Receives messages about the progress.

    Returns:
        Counts, broken clips, and mean and standard deviation of the coefficients.

    Raises:
        CibaError: There are no clips, none can be decoded, a split is empty or lists unknown clips,
            or the folder contains data prepared with other settings.
    """
    sources = find_clips(clips)
    folder = Path(out)
    # Checked before hours are spent on decoding.
    assigned = assign_splits(sources, split, seed)
    require_same_settings(folder, {'image_size': list(image_size), 'frames': frames, 'rate': rate})
    make_folders(folder, FOLDERS)
    waiting = [path for name, path in sources.items() if not _is_done(folder, name)]
    log(f'{len(sources)} clips in {clips}, {len(sources) - len(waiting)} of them done before.')
    work = partial(
        _prepare_clip, folder=folder, image_size=tuple(image_size), frames=frames, rate=rate
    )
    reasons = prepare_all(work, waiting, workers)
    broken = {path.stem: reason for path, reason in zip(waiting, reasons) if reason}
    write_broken(folder, broken)
    return _finish(folder, sources, assigned, len(waiting) - len(broken), broken)


def find_clips(folder: str | Path) -> dict[ClipName, Path]:
    """Find the clips of speech with sound and picture.

    Args:
        folder: The folder, searched recursively.

    Returns:
        Name to file, sorted by name.

    Raises:
        CibaError: The folder does not exist, has no such clips, or has one of them twice.
    """
    if not Path(folder).is_dir():
        raise CibaError(f'{folder}: there is no such folder of clips.')
    found: dict[ClipName, Path] = {}
    for path in sorted(Path(folder).rglob('*.mp4')):
        name = ClipName.parse(path.stem)
        if name is None or (name.modality, name.channel) != (1, 1):
            continue
        if name in found:
            raise CibaError(f'{path} exists twice, also as {found[name]}. Remove one of them.')
        found[name] = path
    if not found:
        raise CibaError(
            f'{folder}: contains no clips of speech with sound and picture. Their names are '
            '01-01-EE-II-SS-RR-AA.mp4, of seven two-digit fields (Video_Speech_Actor_*.zip).'
        )
    return dict(sorted(found.items()))


def assign_splits(
    names: Sequence[ClipName] | dict[ClipName, Path], split: str, seed: int
) -> dict[str, list[ClipName]]:
    """Split clips into training, validation and test data.

    Args:
        names: The clips.
        split: See :func:`prepare_ravdess`.
        seed: Seed of the random splits.

    Returns:
        Clips of ``train``, ``val`` and ``test``, sorted by name.

    Raises:
        ConfigError: A split would be empty, or a list is missing or names an unknown clip.
    """
    names = sorted(names)
    if split not in SPLITS:
        return _read_lists(Path(split), names)
    generator = random.Random(seed)
    assigned: dict[str, list[ClipName]] = {part: [] for part in CSV_FILES}
    # Split by clip, every emotion is a group; split by actor, all actors are one group.
    groups: dict[int, list[int] | list[ClipName]] = {}
    if split == 'actor':
        groups[0] = sorted({name.actor for name in names})
    else:
        for name in names:
            groups.setdefault(name.emotion, []).append(name)
    for group in groups.values():
        generator.shuffle(group)
        held_out = max(1, round(0.15 * len(group)))
        parts = {
            'test': group[:held_out],
            'val': group[held_out : 2 * held_out],
            'train': group[2 * held_out :],
        }
        for part, members in parts.items():
            chosen = set(members)
            assigned[part] += [
                name for name in names if (name.actor if split == 'actor' else name) in chosen
            ]
    for part, members in assigned.items():
        if not members:
            raise ConfigError(
                f'split {split!r} leaves nothing for {part}: {len(names)} clips of '
                f'{len({name.actor for name in names})} actors are too few.'
            )
    return {part: sorted(members) for part, members in assigned.items()}


def _read_lists(folder: Path, names: Sequence[ClipName]) -> dict[str, list[ClipName]]:
    known = set(names)
    seen: dict[ClipName, str] = {}
    assigned: dict[str, list[ClipName]] = {}
    for part in CSV_FILES:
        path = folder / f'{part}.txt'
        if not path.is_file():
            raise ConfigError(
                f'split is {str(folder)!r}: it must be {" or ".join(map(repr, SPLITS))}, or a '
                f'folder with lists of clips; there is no {path}.'
            )
        assigned[part] = []
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
            if not line.strip():
                continue
            name = ClipName.parse(Path(line.strip()).stem)
            if name not in known:
                raise ConfigError(f'{path}, row {number}: there is no clip {line.strip()!r}.')
            if name in seen:
                raise ConfigError(
                    f'{path}, row {number}: {line.strip()!r} is listed before, in {seen[name]}.'
                )
            seen[name] = f'{part}.txt'
            assigned[part].append(name)
        if not assigned[part]:
            raise ConfigError(f'{path}: lists no clips.')
    return assigned


def crop_and_resize(image: Image.Image, size: Sequence[int]) -> Image.Image:
    """Crop the middle of an image to an aspect ratio, then resize it.

    Args:
        image: The image.
        size: Rows and columns of the result.

    Returns:
        The new image.
    """
    rows, columns = size
    scale = min(image.width / columns, image.height / rows)
    left = (image.width - scale * columns) / 2
    top = (image.height - scale * rows) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize((columns, rows), Image.BILINEAR, box)


def crop_or_pad(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Crop a sound to its middle, or pad it with silence on both sides.

    Args:
        waveform: (N,).
        samples: Length of the result.

    Returns:
        (samples,), of the same dtype.
    """
    missing = samples - len(waveform)
    if missing <= 0:
        return waveform[-missing // 2 : -missing // 2 + samples]
    return np.pad(waveform, (missing // 2, missing - missing // 2))


def write_prepared_clip(folder: Path, stem: str, feature: np.ndarray, image: Image.Image) -> None:
    """Write both files of a clip atomically.

    Args:
        folder: Folder of the prepared data, with its subfolders.
        stem: Name of the files, without suffix.
        feature: (coefficients, frames).
        image: The frame.
    """
    write_array(_audio_file(folder, stem), feature)
    write_image(_image_file(folder, stem), image, 'PNG')


def write_split(path: Path, samples: Sequence[tuple[str, int]]) -> None:
    """Write the CSV file of a split.

    Args:
        path: The file.
        samples: Name of the files without suffix, and label, of each sample.
    """
    rows = [(f'{stem}.npy', f'{stem}.png', label) for stem, label in samples]
    write_rows(path, [_HEADING, *rows])


def measure_features(folder: Path, stems: Sequence[str]) -> tuple[float, float]:
    """Return mean and standard deviation of the coefficients of clips, for normalisation.

    Args:
        folder: Folder of the prepared data.
        stems: Names of the files, without suffix.

    Returns:
        Mean and standard deviation.
    """
    count, first, second = 0, 0.0, 0.0
    for stem in stems:
        values = read_array(_audio_file(folder, stem), str(folder)).astype(np.float64)
        count += values.size
        first += values.sum()
        second += np.square(values).sum()
    mean = first / count
    return float(mean), float(np.sqrt(second / count - mean**2))


def _prepare_clip(
    path: Path, folder: Path, image_size: tuple[int, int], frames: int, rate: int
) -> str:
    """Decode one clip and write its files; return the reason if that failed, else ''."""
    try:
        # One frame at the start, and one after every hop.
        waveform = crop_or_pad(read_sound(path, rate), (frames - 1) * HOP)
        image = crop_and_resize(read_middle_frame(path), image_size)
    except DECODING_ERRORS as error:
        return str(error) or type(error).__name__
    write_prepared_clip(folder, path.stem, cepstral_coefficients(waveform, rate), image)
    return ''


def _finish(
    folder: Path,
    sources: dict[ClipName, Path],
    assigned: dict[str, list[ClipName]],
    prepared: int,
    broken: dict[str, str],
) -> Preparation:
    """Write the CSV files of the decoded clips, and measure the training clips."""
    usable = {
        part: [name for name in members if name.stem not in broken]
        for part, members in assigned.items()
    }
    for part, members in usable.items():
        if not members:
            raise CibaError(
                f'no clip of {part} could be decoded; {folder / BROKEN_FILE} lists the reasons.'
            )
        write_split(folder / CSV_FILES[part], [(name.stem, name.emotion - 1) for name in members])
    mean, deviation = measure_features(folder, [name.stem for name in usable['train']])
    return Preparation(
        prepared,
        len(sources) - prepared - len(broken),
        broken,
        {part: len(members) for part, members in usable.items()},
        mean,
        deviation,
    )


def _audio_file(folder: Path, stem: str) -> Path:
    return folder / 'aud_features' / f'{stem}.npy'


def _image_file(folder: Path, stem: str) -> Path:
    return folder / 'vid_features' / f'{stem}.png'


def _is_done(folder: Path, name: ClipName) -> bool:
    files = _audio_file(folder, name.stem), _image_file(folder, name.stem)
    return all(path.is_file() and path.stat().st_size for path in files)
