"""Clips with sound and picture: decoding, encoding, and preparing many of them so that it resumes.

Decoded and encoded by PyAV, which brings its own ffmpeg. A prepared file gets its final name when
it is whole, so that a stopped preparation goes on where it stopped.
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

from ..errors import CibaError
from ..files import write_file, written_whole

SETTINGS_FILE = 'preparation.json'
BROKEN_FILE = 'broken_clips.txt'
# What a clip that is no whole clip makes PyAV raise: its own errors, and those of values that the
# libraries below it report but that it does not know (sample formats, layouts, texts).
DECODING_ERRORS = (av.FFmpegError, CibaError, OSError, ValueError)

Job = TypeVar('Job')


def read_sound(path: str | Path, rate: int) -> np.ndarray:
    """Decode the sound of a clip.

    Args:
        path: The clip.
        rate: Samples a second it is brought to.

    Returns:
        (samples,), float32, one channel, full scale at one.

    Raises:
        CibaError: The clip has no sound.
        av.FFmpegError: It cannot be decoded.
    """
    parts = []
    with av.open(str(path)) as clip:
        if not clip.streams.audio:
            raise CibaError('there is no sound in it')
        resampler = av.AudioResampler(format='fltp', layout='mono', rate=rate)
        for frame in clip.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        if parts:
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    if not parts:
        raise CibaError('there is no sound in it')
    return np.concatenate(parts)


def read_middle_frame(path: str | Path) -> Image.Image:
    """Decode the frame in the middle of a clip.

    Args:
        path: The clip.

    Returns:
        The frame, RGB; the last one where the clip ends before its middle.

    Raises:
        CibaError: The clip has no picture.
        av.FFmpegError: It cannot be decoded.
    """
    with av.open(str(path)) as clip:
        if not clip.streams.video:
            raise CibaError('there is no picture in it')
        middle = (clip.duration or 0) // 2
        # To the key frame before it.
        clip.seek(middle)
        latest = None
        for frame in clip.decode(video=0):
            latest = frame
            if frame.time is not None and frame.time * av.time_base >= middle:
                break
    if latest is None:
        raise CibaError('there is no picture in it')
    return latest.to_image()


def encode_clip(
    path: Path,
    pictures: Iterable[np.ndarray],
    sound: np.ndarray,
    pictures_per_second: int,
    rate: int,
) -> None:
    """Write an mp4 file, the same for the same input; under its final name when it is whole.

    Args:
        path: The file.
        pictures: (rows, columns, 3) each, uint8, RGB, one even size.
        sound: (samples,), float32, full scale at one.
        pictures_per_second: Of the video.
        rate: Samples a second of the sound.
    """
    pictures = list(pictures)
    with written_whole(path) as partial, av.open(str(partial), 'w', format='mp4') as container:
        video = container.add_stream('mpeg4', rate=pictures_per_second)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = 'yuv420p'
        video.bit_rate = 1_000_000
        # With several threads the encoder's decisions are not always the same.
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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name first, and give it its own when it is whole.

    Args:
        path: The file.
        content: All of it.

    Raises:
        CibaError: The file cannot be written.
    """
    write_file(path, content)


def prepare_all(work: Callable[[Job], str], jobs: Sequence[Job], workers: int) -> list[str]:
    """Do a piece of work for each clip, with a bar that tells the time left.

    Args:
        work: Prepares one clip; returns why it could not, or nothing. It is sent to other
            processes, so it must be a function of a module, or a partial of one.
        jobs: What it is called with.
        workers: Processes.

    Returns:
        What it returned, in the order of the jobs; for a clip on which its process died, that.
    """
    return list(track(_results(work, jobs, max(1, workers)), 'Decoding', total=len(jobs)))


def _results(work: Callable[[Job], str], jobs: Sequence[Job], workers: int) -> Iterator[str]:
    """Results in order. A damaged clip may take the process that decodes it down with it."""
    waiting = iter(jobs)
    submitted: deque[tuple[Job, Future]] = deque()
    pool = ProcessPoolExecutor(workers)
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
                pool = ProcessPoolExecutor(workers)
    finally:
        pool.shutdown()


def _result_of_one(work: Callable[[Job], str], job: Job) -> str:
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(work, job).result()
        except BrokenProcessPool:
            return 'the process that decoded it died: the clip is damaged, or memory was short'


def require_same_settings(folder: Path, settings: Mapping[str, object]) -> None:
    """Note the settings of a preparation in its folder, which holds clips of one setting only.

    Args:
        folder: Of the prepared data; made if it is not there.
        settings: By name, plain values.

    Raises:
        CibaError: What is there was prepared with others.
    """
    path = folder / SETTINGS_FILE
    if path.is_file():
        try:
            earlier = dict(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError) as error:
            raise CibaError(
                f'{path}: cannot be read ({error}), so nobody knows how the clips here were '
                'prepared. Prepare into another folder, or remove this one.'
            ) from error
        changed = [name for name in settings if earlier.get(name) != settings[name]]
        if changed:
            differences = ', '.join(
                f'{name} {earlier.get(name)} there, {settings[name]} now' for name in changed
            )
            raise CibaError(
                f'{folder} holds clips prepared with other settings: {differences}. Prepare into '
                'another folder, or remove this one.'
            )
    write_whole(path, (json.dumps(dict(settings), indent=1) + '\n').encode())


def write_broken(folder: Path, broken: Mapping[str, str]) -> None:
    """List the clips that are left out.

    Args:
        folder: Of the prepared data.
        broken: By the clip's name, why.
    """
    lines = [f'{name}\t{" ".join(reason.split())}\n' for name, reason in sorted(broken.items())]
    write_whole(folder / BROKEN_FILE, ''.join(lines).encode())
