"""Decode, encode and prepare video clips; an interrupted preparation can be resumed.

PyAV, which includes ffmpeg, decodes and encodes. Prepared files are written atomically, so that a
preparation continues where it was stopped.
"""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, Mapping, Sequence, TypeVar

import av
import numpy as np
from PIL import Image
from rich.progress import track

from ..errors import CibaError, ConfigError
from ..files import atomic_write, write_file
from ..parent_watch import end_with_parent

SETTINGS_FILE = 'preparation.json'
BROKEN_FILE = 'broken_clips.txt'
# What PyAV raises for a damaged clip: its own errors, and ValueError for values that it does not
# know (sample formats, layouts, texts).
DECODING_ERRORS = (av.FFmpegError, CibaError, OSError, ValueError)

Job = TypeVar('Job')


def read_sound(path: str | Path, rate: int) -> np.ndarray:
    """Decode the sound of a clip.

    Args:
        path: The clip.
        rate: Sampling rate to resample to, in Hz.

    Returns:
        (samples,), float32, one channel, full scale at one.

    Raises:
        CibaError: The clip has no audio stream, or an empty one.
        av.FFmpegError: It cannot be decoded.
    """
    parts = []
    with av.open(str(path)) as clip:
        if not clip.streams.audio:
            raise CibaError('it has no audio stream')
        resampler = av.AudioResampler(format='fltp', layout='mono', rate=rate)
        for frame in clip.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        if parts:
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    if not parts:
        raise CibaError('its audio stream is empty')
    return np.concatenate(parts)


def read_middle_frame(path: str | Path) -> Image.Image:
    """Decode the frame in the middle of a clip.

    Args:
        path: The clip.

    Returns:
        The frame, RGB; the last one if the clip ends before its middle.

    Raises:
        CibaError: The clip has no video stream, or an empty one.
        av.FFmpegError: It cannot be decoded.
    """
    with av.open(str(path)) as clip:
        if not clip.streams.video:
            raise CibaError('it has no video stream')
        middle = (clip.duration or 0) // 2
        # Seeks to the key frame before it.
        clip.seek(middle)
        latest = None
        for frame in clip.decode(video=0):
            latest = frame
            if frame.time is not None and frame.time * av.time_base >= middle:
                break
    if latest is None:
        raise CibaError('its video stream is empty')
    return latest.to_image()


def encode_clip(
    path: Path,
    pictures: Iterable[np.ndarray],
    sound: np.ndarray,
    pictures_per_second: int,
    rate: int,
) -> None:
    """Write an mp4 file, atomically; the same input gives the same file.

    Args:
        path: The file.
        pictures: (rows, columns, 3) each, uint8, RGB, of the same even size.
        sound: (samples,), float32, full scale at one.
        pictures_per_second: Frame rate of the video.
        rate: Sampling rate of the sound, in Hz.
    """
    pictures = list(pictures)
    with atomic_write(path) as partial, av.open(str(partial), 'w', format='mp4') as container:
        video = container.add_stream('mpeg4', rate=pictures_per_second)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = 'yuv420p'
        video.bit_rate = 1_000_000
        # With several threads the encoder is not deterministic.
        video.codec_context.thread_count = 1
        stream = container.add_stream('aac', rate=rate, layout='mono')
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        container.mux(video.encode(None))
        block = stream.codec_context.frame_size or len(sound)
        for start in range(0, len(sound), block):
            frame = av.AudioFrame.from_ndarray(
                sound[None, start : start + block], format='fltp', layout='mono'
            )
            frame.sample_rate = rate
            frame.pts = start
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def prepare_all(work: Callable[[Job], str], jobs: Sequence[Job], workers: int) -> list[str]:
    """Prepare clips in parallel, with a progress bar.

    Args:
        work: Prepares one clip and returns the reason if it failed, else an empty string. It is
            pickled, so it must be a function of a module or a partial of one.
        jobs: Its arguments, one for each call.
        workers: Number of processes.

    Returns:
        What ``work`` returned, in the order of the jobs. If the process died on a clip, this is
        the reason.
    """
    return list(track(_results(work, jobs, max(1, workers)), 'Decoding', total=len(jobs)))


def _results(work: Callable[[Job], str], jobs: Sequence[Job], workers: int) -> Iterator[str]:
    """Yield results in order. A damaged clip may kill the process that decodes it."""
    waiting = iter(jobs)
    submitted: deque[tuple[Job, Future]] = deque()
    pool = ProcessPoolExecutor(workers, initializer=end_with_parent)
    try:
        while True:
            for job in islice(waiting, 4 * workers - len(submitted)):
                submitted.append((job, pool.submit(work, job)))
            if not submitted:
                return
            job, future = submitted.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                suspects = [job, *(job for job, _ in submitted)]
                submitted.clear()
                pool.shutdown()
                yield from (_result_of_one(work, suspect) for suspect in suspects)
                pool = ProcessPoolExecutor(workers, initializer=end_with_parent)
    finally:
        pool.shutdown()


def _result_of_one(work: Callable[[Job], str], job: Job) -> str:
    with ProcessPoolExecutor(1, initializer=end_with_parent) as pool:
        try:
            return pool.submit(work, job).result()
        except BrokenProcessPool:
            return 'the process that decoded it died: the clip is damaged, or memory was short'


def require_same_settings(folder: Path, settings: Mapping[str, object]) -> None:
    """Record the settings of a preparation in its folder, and refuse to mix two settings.

    Args:
        folder: Folder of the prepared data; created if it does not exist.
        settings: Name to plain value.

    Raises:
        ConfigError: The clips in the folder were prepared with other settings.
        CibaError: The recorded settings cannot be read.
    """
    path = folder / SETTINGS_FILE
    if path.is_file():
        try:
            earlier = dict(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError) as error:
            raise CibaError(
                f'{path}: cannot be read ({error}), so that the settings of the clips here are '
                'unknown. Prepare into another folder, or remove this one.'
            ) from error
        changed = [name for name in settings if earlier.get(name) != settings[name]]
        if changed:
            differences = ', '.join(
                f'{name} {earlier.get(name)} there, {settings[name]} now' for name in changed
            )
            raise ConfigError(
                f'{folder} contains clips prepared with other settings: {differences}. Prepare '
                'into another folder, or remove this one.'
            )
    write_file(path, json.dumps(dict(settings), indent=1) + '\n')


def write_broken(folder: Path, broken: Mapping[str, str]) -> None:
    """List the clips that are left out in a file.

    Args:
        folder: Folder of the prepared data.
        broken: Name of each clip to the reason.
    """
    lines = [f'{name}\t{" ".join(reason.split())}\n' for name, reason in sorted(broken.items())]
    write_file(folder / BROKEN_FILE, ''.join(lines))
