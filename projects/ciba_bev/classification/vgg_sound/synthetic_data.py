"""Synthetic VGG-Sound: eight discs that are seen and eight tones that are heard.

The size of each disc and the loudness of each tone is one latent number. Some latents are common to
both, the others belong to one of them. All have a mean for each class of events and scatter around
it, so that either modality tells the class in part, and the share of common latents is the dial for
the modality gap.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
from PIL import Image

from ...errors import CibaError
from ...files import make_folder, written_whole
from ..clips import encode_clip
from .preparation import (
    CSV_FILES,
    make_folders,
    write_classes,
    write_prepared_clip,
    write_split,
)
from .spectrogram import RATE, magnitude_spectrogram
from .splits import CLASSES_FILE, CLIPS_FILE

LATENTS = 8
CLASSES = 8
_FRAMES_PER_SECOND = 8
_TONES = (250.0, 6000.0)
_LOUDNESS_DECIBELS = 15.0
_ID_LETTERS = string.ascii_letters + string.digits + '-_'


class EventModel:
    """The properties that all clips have in common: the means of the classes.

    Args:
        seed: Of the means.
        shared: Share of the latents that discs and tones have in common, 0 to 1.
        classes: Number of classes.
        separation: Standard deviation of the classes' means, in units of the scatter around them.

    Raises:
        CibaError: The share is outside its range.
    """

    def __init__(
        self, seed: int, shared: float, classes: int = CLASSES, separation: float = 1.0
    ) -> None:
        if not 0 <= shared <= 1:
            raise CibaError(f'shared is {shared}; it must be from 0 to 1.')
        self.seed = seed
        self.common = round(shared * LATENTS)
        # Common ones, and those of each modality; of the latter, the last are used.
        shape = (3, classes, LATENTS)
        self.means = separation * np.random.default_rng((seed, 0)).standard_normal(shape)

    def draw(self, label: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw the latents of a clip.

        Args:
            label: Its class.
            generator: Source of the scatter.

        Returns:
            Latents of the tones and of the discs, (8,) each, between -1 and 1; the first
            ``common`` of them are the same.
        """
        drawn = self.means[:, label] + generator.standard_normal((3, LATENTS))
        general, audio, video = np.tanh(0.5 * drawn)
        return tuple(
            np.concatenate((general[: self.common], specific[self.common :]))
            for specific in (audio, video)
        )

    def clip(self, *key: int) -> np.random.Generator:
        """The generator of everything that is particular to a clip."""
        return np.random.default_rng((self.seed, 1, *key))


def draw_discs(
    latents: np.ndarray, size: Sequence[int], clip: np.random.Generator, shift: float = 0.0
) -> np.ndarray:
    """Draw a frame.

    Args:
        latents: (8,), -1 to 1: radii of the discs, row by row.
        size: Rows and columns.
        clip: Of colours, places and noise.
        shift: Of all discs, to the right, in widths of the frame.

    Returns:
        (rows, columns, 3), uint8, RGB.
    """
    rows, columns = size
    picture = np.broadcast_to(clip.uniform(20, 90, 3), (rows, columns, 3)).copy()
    # Four by two places of one unit.
    y, x = np.mgrid[:rows, :columns]
    y, x = (y + 0.5) / rows * 2, (x + 0.5) / columns * 4 - 4 * shift
    edge = 4.0 / columns
    for place, latent in enumerate(latents):
        centre = np.array((place // 4 + 0.5, place % 4 + 0.5)) + clip.uniform(-0.08, 0.08, 2)
        inside = 0.26 + 0.18 * latent - np.hypot(y - centre[0], x - centre[1])
        cover = np.clip(inside / edge + 0.5, 0, 1)[..., None]
        picture += cover * (clip.uniform(130, 250, 3) - picture)
    picture += clip.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def play_tones(latents: np.ndarray, seconds: float, clip: np.random.Generator) -> np.ndarray:
    """Play a sound.

    Args:
        latents: (8,), -1 to 1: loudness of the tones from the lowest.
        seconds: Length.
        clip: Of pitch, phases and noise.

    Returns:
        (samples,), float32, at 16 kHz, between -1 and 1.
    """
    time = np.arange(round(seconds * RATE)) / RATE
    frequencies = 2.0 ** clip.uniform(-0.05, 0.05) * np.geomspace(*_TONES, LATENTS)
    phases = clip.uniform(0, 2 * np.pi, LATENTS)
    amplitudes = 0.03 * 10 ** (_LOUDNESS_DECIBELS * latents / 20)
    sound = amplitudes @ np.sin(2 * np.pi * frequencies[:, None] * time + phases[:, None])
    sound = sound + 2e-3 * clip.standard_normal(len(time))
    return np.clip(sound, -1, 1).astype(np.float32)


def write_synthetic_data(
    folder: str | Path,
    seed: int = 0,
    shared: float = 0.5,
    samples: Mapping[str, int] | None = None,
    classes: int = CLASSES,
    frame_size: Sequence[int] = (48, 96),
    seconds: float = 1.0,
) -> list[Path]:
    """Write clips and split files under the names and in the formats that VGG-Sound has.

    Args:
        folder: The clips go to its ``clips``, the split files to its ``splits``.
        seed: The same seed writes the same files, whatever was there.
        shared: Share of the latents that discs and tones have in common, 0 to 1.
        samples: Clips of each class for ``train``, ``val`` and ``test``; None for 4, 2 and 2.
        classes: Number of classes.
        frame_size: Rows and columns of the video, even numbers.
        seconds: Length of the clips.

    Returns:
        The clips.

    Raises:
        CibaError: A value is outside its range.
    """
    samples = {'train': 4, 'val': 2, 'test': 2} if samples is None else samples
    model = EventModel(seed, shared, classes)
    clips, splits = Path(folder, 'clips'), Path(folder, 'splits')
    for made in (clips, splits):
        make_folder(made)
    listed: dict[str, dict[int, list[str]]] = {}
    written = []
    for index, part in enumerate(CSV_FILES):
        listed[part] = {label: [] for label in range(classes)}
        for label in range(classes):
            for take in range(samples[part]):
                clip = model.clip(index, label, take)
                name = _clip_name(clip)
                listed[part][label].append(name)
                audio, video = model.draw(label, clip)
                tones = play_tones(audio, seconds, clip)
                look, count = int(clip.integers(2**32)), round(seconds * _FRAMES_PER_SECOND)
                pictures = [
                    # The discs drift; in the middle of the clip they are where they belong.
                    draw_discs(
                        video, frame_size, np.random.default_rng(look), 0.1 * (number / count - 0.5)
                    )
                    for number in range(count)
                ]
                written.append(clips / f'{name}.mp4')
                encode_clip(written[-1], pictures, tones, _FRAMES_PER_SECOND, RATE)
    _save_dictionary(splits / CLIPS_FILE, listed)
    _save_dictionary(
        splits / CLASSES_FILE, {name: label for label, name in enumerate(_class_names(classes))}
    )
    return written


def write_prepared_synthetic_data(
    folder: str | Path,
    samples: Mapping[str, int] | None = None,
    seed: int = 0,
    shared: float = 0.5,
    classes: int = CLASSES,
    audio_size: Sequence[int] = (64, 32),
    frame_size: Sequence[int] = (32, 64),
    seconds: float = 1.0,
) -> None:
    """Write the prepared form directly, without clips in between, for larger experiments.

    Args:
        folder: Of the prepared data.
        samples: Number of samples of ``train``, ``val`` and ``test``; None for 480, 160 and 320.
        seed: The same seed writes the same files.
        shared: Share of the latents that discs and tones have in common, 0 to 1.
        classes: Number of classes, which take turns.
        audio_size: Bins and frames of the spectrograms.
        frame_size: Rows and columns of the frames.
        seconds: Length of the sound.

    Raises:
        CibaError: The share is outside its range.
    """
    samples = {'train': 480, 'val': 160, 'test': 320} if samples is None else samples
    root = Path(folder)
    model = EventModel(seed, shared, classes)
    make_folders(root)
    write_classes(root, _class_names(classes))
    for index, (part, csv_file) in enumerate(CSV_FILES.items()):
        rows = []
        for number in range(samples[part]):
            label = number % classes
            clip = model.clip(index, number)
            name = _clip_name(clip)
            audio, video = model.draw(label, clip)
            spectrogram = magnitude_spectrogram(play_tones(audio, seconds, clip), size=audio_size)
            frame = Image.fromarray(draw_discs(video, frame_size, clip))
            write_prepared_clip(root, name, spectrogram, frame)
            rows.append((name, label))
        write_split(root / csv_file, rows)


def _clip_name(clip: np.random.Generator) -> str:
    letters = ''.join(_ID_LETTERS[index] for index in clip.integers(len(_ID_LETTERS), size=11))
    return f'{letters}_{int(clip.integers(600)):06d}'


def _class_names(count: int) -> list[str]:
    return [f'event {label}' for label in range(count)]


def _save_dictionary(path: Path, content: dict) -> None:
    """As NumPy saves a dictionary: a pickle in an array without axes."""
    with written_whole(path) as partial, open(partial, 'wb') as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)
