"""A synthetic data set in VGG-Sound's format: frames of eight discs and sounds of eight tones.

The size of each disc and the loudness of each tone is one latent number. Some latents are common to
both modalities, the others belong to one of them. Every class has its own mean of all latents, so
that either modality predicts the class in part. The share of common latents controls the modality
gap.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
from PIL import Image

from ...files import atomic_write, make_folder
from ..clips import encode_clip
from ..latent_model import LATENTS, LatentModel
from ..prepared_files import make_folders
from .preparation import (
    CSV_FILES,
    FOLDERS,
    write_classes,
    write_prepared_clip,
    write_split,
)
from .spectrogram import RATE, magnitude_spectrogram
from .splits import CLASSES_FILE, CLIPS_FILE

CLASSES = 8
_FRAMES_PER_SECOND = 8
_TONES = (250.0, 6000.0)
_LOUDNESS_DECIBELS = 15.0
# First part of the key of a clip's random numbers.
_CLIP_STREAM = 1
_ID_LETTERS = string.ascii_letters + string.digits + '-_'


def draw_discs(
    latents: np.ndarray, size: Sequence[int], clip: np.random.Generator, shift: float = 0.0
) -> np.ndarray:
    """Draw a frame.

    Args:
        latents: (8,), -1 to 1: radii of the discs, row by row.
        size: Rows and columns.
        clip: Generator of colours, positions and noise.
        shift: Shift of all discs to the right, in widths of the frame.

    Returns:
        (rows, columns, 3), uint8, RGB.
    """
    rows, columns = size
    picture = np.broadcast_to(clip.uniform(20, 90, 3), (rows, columns, 3)).copy()
    # A grid of two rows and four columns.
    y, x = np.mgrid[:rows, :columns]
    y, x = (y + 0.5) / rows * 2, (x + 0.5) / columns * 4 - 4 * shift
    edge = 4.0 / columns
    for position, latent in enumerate(latents):
        centre = np.array((position // 4 + 0.5, position % 4 + 0.5)) + clip.uniform(-0.08, 0.08, 2)
        inside = 0.26 + 0.18 * latent - np.hypot(y - centre[0], x - centre[1])
        cover = np.clip(inside / edge + 0.5, 0, 1)[..., None]
        picture += cover * (clip.uniform(130, 250, 3) - picture)
    picture += clip.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def play_tones(latents: np.ndarray, seconds: float, clip: np.random.Generator) -> np.ndarray:
    """Synthesise a sound.

    Args:
        latents: (8,), -1 to 1: loudness of the tones, from the lowest to the highest.
        seconds: Duration.
        clip: Generator of pitch, phases and noise.

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


def write_synthetic_clips(
    folder: str | Path,
    seed: int = 0,
    shared: float = 0.5,
    samples: Mapping[str, int] | None = None,
    classes: int = CLASSES,
    frame_size: Sequence[int] = (48, 96),
    seconds: float = 1.0,
) -> list[Path]:
    """Write clips and split files with VGG-Sound's names and formats.

    Args:
        folder: Clips are written to its subfolder ``clips``, split files to ``splits``.
        seed: The same seed writes the same files.
        shared: Share of the latents that discs and tones have in common, 0 to 1.
        samples: Clips of each class for ``train``, ``val`` and ``test``; None for 4, 2 and 2.
        classes: Number of classes.
        frame_size: Rows and columns of the video, even numbers.
        seconds: Duration of the clips.

    Returns:
        The files of the clips.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """
    samples = {'train': 4, 'val': 2, 'test': 2} if samples is None else samples
    model = LatentModel(seed, shared, classes)
    clips, splits = Path(folder, 'clips'), Path(folder, 'splits')
    for made in (clips, splits):
        make_folder(made)
    listed: dict[str, dict[int, list[str]]] = {}
    written = []
    for index, part in enumerate(CSV_FILES):
        listed[part] = {label: [] for label in range(classes)}
        for label in range(classes):
            for take in range(samples[part]):
                clip = model.generator(_CLIP_STREAM, index, label, take)
                name = _clip_name(clip)
                listed[part][label].append(name)
                audio, video = model.draw(label, clip)
                tones = play_tones(audio, seconds, clip)
                look, count = int(clip.integers(2**32)), round(seconds * _FRAMES_PER_SECOND)
                pictures = [
                    # The discs drift through their positions, which they have in the middle.
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


def write_synthetic_data(
    folder: str | Path,
    samples: Mapping[str, int] | None = None,
    seed: int = 0,
    shared: float = 0.5,
    classes: int = CLASSES,
    audio_size: Sequence[int] = (64, 32),
    frame_size: Sequence[int] = (32, 64),
    seconds: float = 1.0,
) -> None:
    """Write the prepared form directly, without clips, for larger experiments.

    Args:
        folder: Folder of the prepared data.
        samples: Number of samples of ``train``, ``val`` and ``test``; None for 480, 160 and 320.
        seed: The same seed writes the same files.
        shared: Share of the latents that discs and tones have in common, 0 to 1.
        classes: Number of classes; samples are assigned to them in turn.
        audio_size: Bins and frames of the spectrograms.
        frame_size: Rows and columns of the frames.
        seconds: Duration of the sound.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """
    samples = {'train': 480, 'val': 160, 'test': 320} if samples is None else samples
    root = Path(folder)
    model = LatentModel(seed, shared, classes)
    make_folders(root, FOLDERS)
    write_classes(root, _class_names(classes))
    for index, (part, csv_file) in enumerate(CSV_FILES.items()):
        rows = []
        for number in range(samples[part]):
            label = number % classes
            clip = model.generator(_CLIP_STREAM, index, number)
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
    """Save a dictionary as NumPy does, as a pickle in an array without axes."""
    with atomic_write(path) as partial, open(partial, 'wb') as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)
