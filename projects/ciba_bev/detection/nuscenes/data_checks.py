"""Find problems in nuScenes data, and describe them with their remedies.

There are two kinds of checks: *fields* of an info file, which are cheap and checked whenever a
dataset is built, and *files* on the disk, which ``CheckDataHook`` checks once before a run.
"""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np
from rich.progress import track

from ...errors import CibaError
from ...shell import shell_command
from .calibration import find_inconsistent_cameras
from .can_bus import CAN_BUS_SIZE

MAX_REPORTED = 10
FLOAT_BYTES = np.dtype(np.float32).itemsize
JPEG_START = b'\xff\xd8'
JPEG_END = b'\xff\xd9'
TEMPORAL_FIELDS = ('scene_token', 'prev', 'next', 'frame_idx', 'can_bus')

FILE_REMEDY = 'Unpack the nuScenes archive of the file again (docs/data.md has the layout).'


class DataError(CibaError):
    """The data on the disk are missing, damaged or not what the config needs."""


@dataclass(frozen=True)
class DataProblem:
    """A problem in the data.

    Attributes:
        file: The file with the problem.
        sample_token: Token of the sample; '' if it affects all of them.
        field: Field of the info file, such as ``images.CAM_FRONT.img_path``.
        finding: Description of the problem.
        remedy: Advice to the user.
    """

    file: str
    sample_token: str
    field: str
    finding: str
    remedy: str

    def __str__(self) -> str:
        sample = f'sample {self.sample_token}, ' if self.sample_token else ''
        return f'{self.file}: {self.finding} ({sample}field {self.field}). {self.remedy}'


def data_error(problems: Sequence[DataProblem]) -> DataError:
    """Combine problems in one error.

    Args:
        problems: At least one problem; the first ten are listed.

    Returns:
        The error.
    """
    if len(problems) == 1:
        return DataError(str(problems[0]))
    lines = [f'{len(problems)} problems in the data:']
    lines += [f'  {number}. {problem}' for number, problem in enumerate(problems[:MAX_REPORTED], 1)]
    if len(problems) > MAX_REPORTED:
        lines.append(f'  ... and {len(problems) - MAX_REPORTED} more.')
    return DataError('\n'.join(lines))


def create_data_command(
    info_file: str | Path,
    version: str,
    annotate_only: bool = False,
    data_root: str | Path | None = None,
    replace: bool = False,
) -> str:
    """Return the command that creates or completes an info file.

    Args:
        info_file: The info file.
        version: nuScenes version, such as ``v1.0-trainval``.
        annotate_only: Whether the file exists and lacks only the temporal fields.
        data_root: The nuScenes root; None for the info file's folder.
        replace: Whether to replace a file of another version or format.

    Returns:
        A shell command.
    """
    path = Path(info_file)
    root = Path(data_root) if data_root else path.parent
    words = ['python', 'tools/create_data.py', '--root-path', str(root), '--version', version]
    if root != path.parent:
        words += ['--out-dir', str(path.parent)]
    tag = path.name.split('_infos_')[0] if '_infos_' in path.name else 'nuscenes'
    if tag != 'nuscenes':
        words += ['--extra-tag', tag]
    if annotate_only:
        words.append('--annotate-only')
    if replace:
        words.append('--replace')
    return shell_command(*words)


@dataclass(frozen=True)
class NeededFields:
    """The parts of an info that a dataset reads.

    Attributes:
        lidar: Whether LiDAR points are loaded.
        sweeps: Whether past LiDAR sweeps are loaded.
        cameras: Whether images are loaded.
        instance_fields: Required fields of annotated objects; empty if annotations are not read.
        temporal: Whether sequences of frames are loaded.
    """

    lidar: bool = False
    sweeps: bool = False
    cameras: bool = False
    instance_fields: tuple[str, ...] = ()
    temporal: bool = False


def field_problems(
    infos: Iterable[dict],
    needed: NeededFields,
    info_file: str,
    version: str,
    data_root: str | Path | None = None,
) -> list[DataProblem]:
    """Find missing fields of infos, and calibrations that contradict the poses.

    Args:
        infos: Entries of an info file's ``data_list``.
        needed: The required parts.
        info_file: The info file, for the message.
        version: nuScenes version, for the remedy.
        data_root: The nuScenes root, for the remedy; None for the info file's folder.

    Returns:
        One problem per sample and field, in order.
    """
    make = f'Write the info file again: {create_data_command(info_file, version, False, data_root)}'
    annotate = f'Add it: {create_data_command(info_file, version, True, data_root)}'
    problems = []
    for position, info in enumerate(infos):
        token = info.get('token', f'number {position}')
        missing = list(_missing_fields(info, needed))
        for field in missing:
            problems.append(DataProblem(info_file, token, field, 'a needed field is missing', make))
        if needed.cameras and not missing:
            for camera, finding in find_inconsistent_cameras(info):
                field = f'images.{camera}.lidar2cam'
                problems.append(DataProblem(info_file, token, field, finding, make))
        if needed.temporal:
            for field in _missing_temporal_fields(info):
                finding = 'a field that sequences of frames need is missing'
                problems.append(DataProblem(info_file, token, field, finding, annotate))
    return problems


def _missing_fields(info: dict, needed: NeededFields) -> Iterator[str]:
    fields = ['token', 'ego2global', 'lidar_points.lidar2ego']
    if needed.lidar:
        fields += ['timestamp', 'lidar_points.lidar_path', 'lidar_points.num_pts_feats']
    if needed.cameras:
        fields += [
            f'images.{camera}.{field}'
            for camera in info.get('images') or ('CAM_FRONT',)
            for field in ('img_path', 'cam2img', 'lidar2cam')
        ]
    for field in fields:
        if _lookup(info, field) is None:
            yield field
    if needed.sweeps:
        # mmdet3d's converter omits the list for frames without past sweeps.
        for number, sweep in enumerate(info.get('lidar_sweeps', ())):
            for field in ('timestamp', 'lidar_points.lidar_path', 'lidar_points.lidar2sensor'):
                if _lookup(sweep, field) is None:
                    yield f'lidar_sweeps[{number}].{field}'
    if needed.instance_fields:
        if info.get('instances') is None:
            yield 'instances'
            return
        for number, instance in enumerate(info['instances']):
            for field in needed.instance_fields:
                if field not in instance:
                    yield f'instances[{number}].{field}'


def _missing_temporal_fields(info: dict) -> Iterator[str]:
    for field in TEMPORAL_FIELDS:
        value = info.get(field)
        if value is None or (field == 'can_bus' and len(value) != CAN_BUS_SIZE):
            yield field


def _lookup(info: dict, field: str) -> Any:
    value: Any = info
    for key in field.split('.'):
        if not isinstance(value, dict) or value.get(key) is None:
            return None
        value = value[key]
    return value


@dataclass(frozen=True)
class DataFile:
    """A file of a sample.

    Attributes:
        path: Its path.
        sample_token: The first sample that refers to it.
        field: The field of the info that names it.
        point_features: Number of features of a LiDAR point; 0 for an image.
        center: Principal point of the camera in pixels, (x, y), from its calibration.
    """

    path: str
    sample_token: str
    field: str
    point_features: int = 0
    center: tuple[float, float] | None = None


def files_of_info(info: dict, needed: NeededFields) -> Iterator[DataFile]:
    """List the files of a sample.

    Args:
        info: A parsed info, with absolute paths.
        needed: The parts that are loaded.

    Yields:
        The LiDAR file, the past sweeps and the images, if they are loaded.
    """
    token = info['token']
    if needed.lidar:
        features = info['lidar_points']['num_pts_feats']
        path = info['lidar_points']['lidar_path']
        yield DataFile(path, token, 'lidar_points.lidar_path', features)
        if needed.sweeps:
            for number, sweep in enumerate(info.get('lidar_sweeps', ())):
                field = f'lidar_sweeps[{number}].lidar_points.lidar_path'
                yield DataFile(sweep['lidar_points']['lidar_path'], token, field, features)
    if needed.cameras:
        for camera, image in info['images'].items():
            center = (image['cam2img'][0][2], image['cam2img'][1][2])
            yield DataFile(image['img_path'], token, f'images.{camera}.img_path', center=center)


def file_problem(file: DataFile, read_end: bool = True) -> DataProblem | None:
    """Check that a file exists and is complete, without reading all of it.

    Args:
        file: The file.
        read_end: Whether to open an image to check its start and end markers.

    Returns:
        The problem, or None.
    """
    finding = _finding_of_file(file, read_end)
    if finding is None:
        return None
    return DataProblem(file.path, file.sample_token, file.field, finding, FILE_REMEDY)


def _finding_of_file(file: DataFile, read_end: bool) -> str | None:
    try:
        status = os.stat(file.path)
    except FileNotFoundError:
        if os.path.islink(file.path):
            return f'the file is a link to {os.readlink(file.path)}, which does not exist'
        return 'the file does not exist'
    except OSError as error:
        return f'the file cannot be read: {error.strerror}'
    size = status.st_size
    if stat.S_ISDIR(status.st_mode):
        return 'it is a folder, not a file'
    if size == 0:
        return 'the file is empty'
    if file.point_features:
        point_bytes = file.point_features * FLOAT_BYTES
        if size % point_bytes:
            return (
                f'its {size} bytes are not a multiple of the {point_bytes} of a LiDAR point: '
                f'the file is truncated, or the number of features of a point is not '
                f'{file.point_features} (num_pts_feats)'
            )
    elif read_end and file.path.lower().endswith(('.jpg', '.jpeg')):
        try:
            with open(file.path, 'rb') as stream:
                start = stream.read(len(JPEG_START))
                stream.seek(-min(size, 32), os.SEEK_END)
                end = stream.read()
        except OSError as error:
            return f'the file cannot be read: {error.strerror}'
        if start != JPEG_START:
            return 'the image is damaged at its beginning: its JPEG start marker is missing'
        # Some writers pad the file to a round size.
        if not end.rstrip(b'\0\n\r').endswith(JPEG_END):
            return 'the image is truncated: its JPEG end marker is missing'
    return None


def file_problems(
    files: Sequence[DataFile],
    max_seconds: float = 60.0,
    show_progress: bool = False,
    log: Callable[[str], None] | None = None,
) -> list[DataProblem]:
    """Check many files in parallel.

    Args:
        files: The files.
        max_seconds: After this time, the remaining images are checked only for existence and size,
            so that a slow disk does not delay training.
        show_progress: Whether to show a progress bar.
        log: Receives a message if the time ran out.

    Returns:
        The problems, in the order of the files.
    """
    deadline = time.monotonic() + max_seconds

    def check(file: DataFile) -> DataProblem | None:
        return file_problem(file, read_end=time.monotonic() < deadline)

    # Threads, because the work is limited by the disk.
    with ThreadPoolExecutor(max_workers=16) as pool:
        results = track(
            pool.map(check, files),
            description='Checking files',
            total=len(files),
            transient=True,
            disable=not show_progress,
        )
        problems = [problem for problem in results if problem is not None]
    if log is not None and time.monotonic() >= deadline:
        log(
            f'Checking the files took longer than {max_seconds:g} s; the last images were checked '
            'for presence and size only, not for truncation.'
        )
    return problems
