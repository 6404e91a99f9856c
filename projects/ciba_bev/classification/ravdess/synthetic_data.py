"""A synthetic data set in RAVDESS's format: drawn faces and chords that express an emotion.

A face has eight movable parts and a chord eight tones; the position of each part and the loudness
of each tone is one latent number. Some latents are common to face and chord, the others belong to
one of them. The share of common latents controls the modality gap.

Either every emotion has its own mean of all latents. This can be learnt from few clips, but the
specific latents of one modality are then correlated with those of the other through the emotion.
Or all latents are independent and jointly determine the emotion, as in the paper's theory. This
takes thousands of clips to learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
from PIL import Image

from ...errors import ConfigError
from ...files import make_folder
from ..clips import encode_clip
from ..latent_model import LATENTS, LatentModel
from ..prepared_files import make_folders
from .audio_features import cepstral_coefficients
from .dataset import EMOTIONS
from .preparation import (
    CSV_FILES,
    FOLDERS,
    ClipName,
    measure_features,
    write_prepared_clip,
    write_split,
)

RATE = 22050
_FRAMES_PER_SECOND = 10
# Lowest and highest tone of a chord in Hz, and the range of its latents.
_TONES = (220.0, 5000.0)
_LOUDNESS_DECIBELS = 15.0
_NOISE = 1e-3


class ExpressionModel(LatentModel):
    """Latent numbers of all clips of a data set, with a mean for each emotion.

    Args:
        seed: Seed of the means.
        shared: Share of the latents that face and chord have in common, 0 to 1.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """

    def __init__(self, seed: int, shared: float) -> None:
        super().__init__(seed, shared, len(EMOTIONS))

    def actor(self, number: int) -> np.random.Generator:
        """Return the random generator of an actor's looks and voice.

        Args:
            number: Number of the actor.

        Returns:
            A new generator.
        """
        return self.generator(1, number)

    def clip(self, *key: int) -> np.random.Generator:
        """Return the random generator of everything specific to a clip.

        Args:
            *key: Integers that identify the clip.

        Returns:
            A new generator.
        """
        return self.generator(2, *key)


class IndependentExpressionModel(ExpressionModel):
    """Independent latent numbers that jointly determine the emotion.

    Each emotion is a direction in the space of all latents, common and specific, orthogonal to
    those of the other emotions. The emotion of a clip is the one whose direction has the largest
    dot product with its latents. Each modality therefore contains information about every emotion
    that the other does not.

    Args:
        seed: Seed of the directions.
        shared: Share of the latents that face and chord have in common, 0 to 1.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """

    def __init__(self, seed: int, shared: float) -> None:
        super().__init__(seed, shared)
        count = 2 * LATENTS - self.common
        drawn = np.random.default_rng((seed, 0)).standard_normal((count, len(EMOTIONS)))
        self.directions = np.linalg.qr(drawn)[0]

    def draw(self, label: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw the latents of a clip.

        Args:
            label: Emotion, 0 to 7.
            generator: Source of the latents.

        Returns:
            See :meth:`LatentModel.draw`.
        """
        # Rejection sampling: one in eight draws has the given emotion.
        while True:
            latents = generator.standard_normal(len(self.directions))
            if np.argmax(latents @ self.directions) == label:
                break
        latents = np.tanh(0.8 * latents)
        audio, own_of_image = np.split(latents, [LATENTS])
        return audio, np.concatenate((audio[: self.common], own_of_image))


def draw_face(
    latents: np.ndarray, size: Sequence[int], actor: np.random.Generator, clip: np.random.Generator
) -> np.ndarray:
    """Draw a face.

    Args:
        latents: (8,), -1 to 1: curve, opening and width of the mouth, height and slope of the
            brows, opening of the eyes, direction of the gaze, colour of the cheeks.
        size: Rows and columns.
        actor: Generator of the actor's looks.
        clip: Generator of position, light and noise.

    Returns:
        (rows, columns, 3), uint8, RGB.
    """
    curve, opening, mouth_width, brow_height, brow_slope, eye_opening, gaze, flush = latents
    rows, columns = size
    background, skin = actor.uniform(40, 120, 3), actor.uniform((150, 110, 90), (240, 200, 180))
    head_width = actor.uniform(0.8, 0.95)
    shift_x, shift_y = clip.uniform(-0.05, 0.05, 2)
    light = clip.uniform(0.85, 1.1)
    # One unit is half the height; y points down.
    y, x = np.mgrid[:rows, :columns]
    x = (x + 0.5 - columns / 2) / (rows / 2) - shift_x
    y = (y + 0.5 - rows / 2) / (rows / 2) - shift_y
    edge = 3.0 / rows
    picture = np.broadcast_to(background, (rows, columns, 3)).copy()

    def paint(inside: np.ndarray, colour: Sequence[float]) -> None:
        """Fill the region where ``inside`` is positive, with a soft edge."""
        cover = np.clip(inside / edge, 0, 1)[..., None]
        picture[:] = picture * (1 - cover) + np.asarray(colour) * cover

    paint((1 - np.hypot(x / head_width, y / 0.95)) * head_width, skin)
    for side in (-1, 1):
        eye_x, eye_y = x - side * 0.38, y + 0.15
        height = 0.14 + 0.1 * eye_opening
        paint(0.16 - np.hypot(eye_x, y - 0.25), skin + np.array((60, -60, -60)) * flush)
        paint((1 - np.hypot(eye_x / 0.22, eye_y / height)) * height, (250, 250, 250))
        paint(0.08 - np.hypot(eye_x - 0.12 * gaze, eye_y * 0.08 / height), (30, 30, 40))
        brow = y + 0.52 + 0.15 * brow_height + side * brow_slope * 0.6 * eye_x
        paint(np.minimum(0.06 - np.abs(brow), 0.24 - np.abs(eye_x)), (50, 35, 25))
    width = 0.4 + 0.15 * mouth_width
    mouth = y - 0.58 + curve * 0.2 * ((x / width) ** 2 - 0.5)
    paint(np.minimum(0.1 + 0.08 * opening - np.abs(mouth), width - np.abs(x)), (150, 30, 40))
    picture = picture * light + clip.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def play_chord(
    latents: np.ndarray,
    seconds: float,
    actor: np.random.Generator,
    clip: np.random.Generator,
) -> np.ndarray:
    """Synthesise a chord.

    Args:
        latents: (8,), -1 to 1: loudness of the tones, from the lowest to the highest.
        seconds: Duration.
        actor: Generator of the voice, which shifts all tones slightly.
        clip: Generator of phases and noise.

    Returns:
        (samples,), float32, between -1 and 1.
    """
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 2.0 ** actor.uniform(-0.1, 0.1)
    frequencies = pitch * np.geomspace(*_TONES, LATENTS)
    amplitudes = 0.03 * 10 ** (_LOUDNESS_DECIBELS * latents / 20)
    phases = clip.uniform(0, 2 * np.pi, LATENTS)
    tones = np.sin(2 * np.pi * frequencies[:, None] * time + phases[:, None])
    fade = np.minimum(1, 8 * np.minimum(time, time[-1] - time) / seconds)
    sound = fade * (amplitudes @ tones) + _NOISE * clip.standard_normal(len(time))
    return np.clip(sound, -1, 1).astype(np.float32)


def write_synthetic_clips(
    folder: str | Path,
    seed: int = 0,
    shared: float = 0.5,
    actors: int = 6,
    clips_per_emotion: int = 1,
    frame_size: Sequence[int] = (96, 160),
    seconds: float = 1.0,
) -> list[Path]:
    """Write raw clips with RAVDESS's names and folders.

    Args:
        folder: Folder of the actors' folders.
        seed: The same seed writes the same files.
        shared: Share of the latents that face and chord have in common, 0 to 1.
        actors: Number of actors, at most 24.
        clips_per_emotion: Clips of each actor and emotion, at most 8.
        frame_size: Rows and columns of the video, even numbers.
        seconds: Duration of the clips.

    Returns:
        The files of the clips.

    Raises:
        ConfigError: A value is out of range.
    """
    if not (1 <= actors <= 24 and 1 <= clips_per_emotion <= 8):
        raise ConfigError('actors must be from 1 to 24 and clips_per_emotion from 1 to 8.')
    model = ExpressionModel(seed, shared)
    written = []
    for actor in range(1, actors + 1):
        actor_folder = Path(folder) / f'Actor_{actor:02d}'
        make_folder(actor_folder)
        for label in range(len(EMOTIONS)):
            for take in range(clips_per_emotion):
                name = ClipName(
                    modality=1,
                    channel=1,
                    emotion=label + 1,
                    intensity=1 + take // 4,
                    statement=1 + take // 2 % 2,
                    repetition=1 + take % 2,
                    actor=actor,
                )
                path = actor_folder / f'{name.stem}.mp4'
                _write_clip(path, model, name, frame_size, seconds)
                written.append(path)
    return written


def write_synthetic_data(
    folder: str | Path,
    samples: Mapping[str, int] | None = None,
    seed: int = 0,
    shared: float = 0.5,
    image_size: Sequence[int] = (28, 56),
    seconds: float = 1.0,
    actors: int = 24,
    independent: bool = False,
) -> tuple[float, float]:
    """Write the prepared form directly, without clips, for larger experiments.

    Args:
        folder: Folder of the prepared data.
        samples: Number of samples of ``train``, ``val`` and ``test``; None for 320, 80 and 160.
        seed: The same seed writes the same files.
        shared: Share of the latents that face and chord have in common, 0 to 1.
        image_size: Rows and columns of the frames.
        seconds: Duration of the sound.
        actors: Number of actors; samples of all splits are assigned to them in turn.
        independent: Use independent latents instead of a mean for each emotion.

    Returns:
        Mean and standard deviation of the training samples' coefficients.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """
    samples = {'train': 320, 'val': 80, 'test': 160} if samples is None else samples
    root = Path(folder)
    model = (IndependentExpressionModel if independent else ExpressionModel)(seed, shared)
    make_folders(root, FOLDERS)
    for index, (part, csv_file) in enumerate(CSV_FILES.items()):
        rows = []
        for number in range(samples[part]):
            label, actor = number % len(EMOTIONS), number // len(EMOTIONS) % actors
            clip = model.clip(index, number)
            audio, image = model.draw(label, clip)
            chord = play_chord(audio, seconds, model.actor(actor), clip)
            face = draw_face(image, image_size, model.actor(actor), clip)
            stem = f'{part}_{number:06d}'
            feature = cepstral_coefficients(chord, RATE)
            write_prepared_clip(root, stem, feature, Image.fromarray(face))
            rows.append((stem, label))
        write_split(root / csv_file, rows)
    return measure_features(root, [f'train_{number:06d}' for number in range(samples['train'])])


def _write_clip(
    path: Path, model: ExpressionModel, name: ClipName, frame_size: Sequence[int], seconds: float
) -> None:
    clip = model.clip(*name)
    audio, image = model.draw(name.emotion - 1, clip)
    chord = play_chord(audio, seconds, model.actor(name.actor), clip)
    look = int(clip.integers(2**32))
    count = round(seconds * _FRAMES_PER_SECOND)
    pictures = [
        # The expression grows and fades; the middle half of the clip shows it in full.
        draw_face(
            min(1.0, 4 * min(number + 1, count - number) / count) * image,
            frame_size,
            model.actor(name.actor),
            np.random.default_rng(look),
        )
        for number in range(count)
    ]
    encode_clip(path, pictures, chord, _FRAMES_PER_SECOND, RATE)
