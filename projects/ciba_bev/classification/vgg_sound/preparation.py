"""Convert clips of VGG-Sound to the files that :class:`VGGSoundDataset` reads.

For each clip in the split files, the spectrogram of its sound and its middle frame are stored,
resized as in Appendix D.5. A clip is done if both files exist.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import numpy as np
from PIL import Image

from ...errors import CibaError
from ..clips import (
    BROKEN_FILE,
    DECODING_ERRORS,
    prepare_all,
    read_middle_frame,
    read_sound,
    require_same_settings,
    write_broken,
)
from ..prepared_files import make_folders, write_array, write_image, write_rows
from .dataset import FILES, FRAME_SIZE, HEADING, prepared_file
from .spectrogram import HOP, RATE, SIZE, WINDOW, magnitude_spectrogram
from .splits import Splits, read_splits

CSV_FILES = {'train': 'train.csv', 'val': 'val.csv', 'test': 'test.csv'}
FOLDERS = tuple(name for name, _ in FILES.values())
SUFFIXES = ('.mp4', '.mkv', '.webm')
_JPEG_QUALITY = 95


class Preparation(NamedTuple):
    """Result of a preparation.

    Attributes:
        prepared: Number of clips decoded now.
        resumed: Number of clips done before.
        missing: Number of clips in the split files that are not in the folder.
        broken: Name of each clip that is left out to the reason; missing clips are included.
        samples: Number of clips in the CSV file of each split.
        classes: Number of classes.
    """

    prepared: int
    resumed: int
    missing: int
    broken: dict[str, str]
    samples: dict[str, int]
    classes: int


def prepare_vgg_sound(
    clips: str | Path,
    splits: str | Path,
    out: str | Path,
    audio_size: Sequence[int] = SIZE,
    frame_size: Sequence[int] = FRAME_SIZE,
    validation: int = 50,
    seed: int = 0,
    workers: int = 1,
    log: Callable[[str], None] = print,
) -> Preparation:
    """Decode all clips and write the prepared form.

    Args:
        clips: Folder with the clips, named ``<YouTube id>_<start second, six digits>``, at any
            depth, as mp4, mkv or webm.
        splits: Folder with the split files (:func:`read_splits`).
        out: Folder of the prepared data; may contain the result of an interrupted call.
        audio_size: Bins and frames of the spectrograms.
        frame_size: Rows and columns of the frames.
        validation: Clips of each class to hold out if the split files have no validation data.
        seed: Seed of the choice of those.
        workers: Number of processes.
        log: Receives messages about the progress.

    Returns:
        Counts, and the clips that are left out.

    Raises:
        CibaError: The split files are invalid, none of their clips exists, none of a split can be
            decoded, or the folder contains data prepared with other settings.
    """
    # Checked before hours are spent on decoding.
    wanted = read_splits(splits, validation, seed)
    names = [name for part in wanted.clips.values() for name, _ in part]
    sources = find_clips(clips, names)
    folder = Path(out)
    require_same_settings(
        folder,
        {
            'audio_size': list(audio_size),
            'frame_size': list(frame_size),
            'rate': RATE,
            'window': WINDOW,
            'hop': HOP,
        },
    )
    make_folders(folder, FOLDERS)
    present = _present(folder)
    done = [name for name in names if all(name in found for found in present.values())]
    finished = set(done)
    waiting = [name for name in names if name in sources and name not in finished]
    missing = [name for name in names if name not in sources and name not in finished]
    log(
        f'{len(names)} clips in the split files: {len(done)} of them done before, {len(missing)} '
        f'not in {clips}.'
    )
    work = partial(
        _prepare_clip, folder=folder, audio_size=tuple(audio_size), frame_size=tuple(frame_size)
    )
    reasons = prepare_all(work, [sources[name] for name in waiting], workers)
    undecodable = {name: reason for name, reason in zip(waiting, reasons) if reason}
    broken = {**undecodable, **dict.fromkeys(missing, f'not in {clips}')}
    write_broken(folder, broken)
    return Preparation(
        len(waiting) - len(undecodable),
        len(done),
        len(missing),
        broken,
        _write_lists(folder, wanted, broken),
        len(wanted.classes),
    )


def find_clips(folder: str | Path, names: Sequence[str]) -> dict[str, Path]:
    """Find clips by name.

    Args:
        folder: The folder, searched recursively.
        names: Names of the clips; other files are ignored.

    Returns:
        Name to file, for the clips that exist.

    Raises:
        CibaError: The folder does not exist, or has none of the clips or one of them twice.
    """
    if not Path(folder).is_dir():
        raise CibaError(f'{folder}: there is no such folder of clips.')
    wanted = set(names)
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob('*')):
        if path.suffix not in SUFFIXES or path.stem not in wanted:
            continue
        if path.stem in found:
            raise CibaError(f'{path} exists twice, also as {found[path.stem]}. Remove one of them.')
        found[path.stem] = path
    if not found:
        raise CibaError(
            f'{folder}: has none of the {len(wanted)} clips that the split files list, such as '
            f'{min(wanted)}.mp4.'
        )
    return found


def write_prepared_clip(
    folder: Path, clip: str, spectrogram: np.ndarray, frame: Image.Image
) -> None:
    """Write both files of a clip atomically.

    Args:
        folder: Folder of the prepared data, with its subfolders.
        clip: Name of the clip.
        spectrogram: (bins, frames), stored in half precision, whose error is smaller than that of
            the videos' audio codecs.
        frame: The frame.
    """
    write_array(prepared_file(folder, 'audio', clip), spectrogram.astype(np.float16))
    write_image(prepared_file(folder, 'video', clip), frame, 'JPEG', quality=_JPEG_QUALITY)


def write_split(path: Path, samples: Sequence[tuple[str, int]]) -> None:
    """Write the CSV file of a split.

    Args:
        path: The file.
        samples: Name and class index of each clip.
    """
    write_rows(path, [HEADING, *samples])


def write_classes(folder: Path, names: Sequence[str]) -> None:
    """Write the names of the classes to ``classes.csv``, which only people read.

    Args:
        folder: Folder of the prepared data.
        names: Names in the order of the class indices.
    """
    write_rows(folder / 'classes.csv', [('label', 'name'), *enumerate(names)])


def _prepare_clip(
    path: Path, folder: Path, audio_size: tuple[int, int], frame_size: tuple[int, int]
) -> str:
    """Decode one clip and write its files; return the reason if that failed, else ''."""
    try:
        spectrogram = magnitude_spectrogram(read_sound(path, RATE), size=audio_size)
        if not np.isfinite(spectrogram).all():
            raise CibaError('its sound has samples that are NaN or infinite')
        frame = read_middle_frame(path).resize(frame_size[::-1], Image.BILINEAR)
    except DECODING_ERRORS as error:
        return str(error) or type(error).__name__
    write_prepared_clip(folder, path.stem, spectrogram, frame)
    return ''


def _present(folder: Path) -> dict[str, set[str]]:
    """Return the clips whose file exists, by modality; lists each folder once."""
    return {
        modality: {
            path.name[: -len(suffix)]
            for path in (folder / name).iterdir()
            if path.name.endswith(suffix) and path.stat().st_size
        }
        for modality, (name, suffix) in FILES.items()
    }


def _write_lists(folder: Path, wanted: Splits, broken: dict[str, str]) -> dict[str, int]:
    counts = {}
    for part, members in wanted.clips.items():
        usable = [(name, label) for name, label in members if name not in broken]
        if not usable:
            raise CibaError(
                f'no clip of {part} could be prepared; {folder / BROKEN_FILE} lists the reasons.'
            )
        write_split(folder / CSV_FILES[part], usable)
        counts[part] = len(usable)
    write_classes(folder, wanted.classes)
    return counts
