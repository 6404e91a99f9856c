"""Finding what is wrong with nuScenes data, and saying it so that it can be mended.

Two kinds of checks share one report: *fields* of an info file (cheap, done whenever a dataset
is built) and *files* on the disk (done once before training or testing by ``CheckDataHook``).
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

FILE_REMEDY = 'Unpack the nuScenes archive that holds it again (data/README.md has the layout).'


class DataError(CibaError):
    """The data on the disk is not what the configuration needs; the message says what to do."""


@dataclass(frozen=True)
class DataProblem:
    """One thing wrong with the data.

    Attributes:
        file: The file it is in.
        sample_token: Token of the sample concerned, '' if it concerns all of them.
        field: Place in the info file, as in ``images.CAM_FRONT.img_path``.
        finding: What is wrong.
        remedy: What to do about it.
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
    """Sums up problems in one error.

    Args:
        problems: At least one problem; the first ten are spelled out.

    Returns:
        The error to raise.
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
    """Spell out the command that makes, or completes, an info file.

    Args:
        info_file: The info file.
        version: nuScenes version, such as ``v1.0-trainval``.
        annotate_only: Whether the file is there and only lacks the temporal fields.
        data_root: The nuScenes root; None for the info file's folder.
        replace: Whether a file of another version or format is to be replaced.

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
    """What a dataset reads from each info.

    Attributes:
        lidar: LiDAR points are loaded.
        sweeps: Past LiDAR sweeps are loaded.
        cameras: Images are loaded.
        instance_fields: Fields every annotated object must have; empty where annotations are
            not read.
        temporal: Frames are put in sequence.
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
    """List the needed fields that infos lack, and calibrations that contradict the poses.

    Args:
        infos: Entries of an info file's ``data_list``.
        needed: What must be there.
        info_file: The file they come from, for the report.
        version: nuScenes version, for the remedy.
        data_root: The nuScenes root, for the remedy; None for the info file's folder.

    Returns:
        One problem per sample and field, in order.
    """
    make = f'Write the info file anew: {create_data_command(info_file, version, False, data_root)}'
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
        # mmdet3d's converter leaves the list out where a scene's first frame has no sweeps.
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
    """A file that a sample refers to.

    Attributes:
        path: Where it is.
        sample_token: The first sample that refers to it.
        field: The field of the info that names it.
        point_features: Numbers a LiDAR point has in it; 0 for an image.
        center: Principal point of the camera in pixels, (x, y), as its calibration has it.
    """

    path: str
    sample_token: str
    field: str
    point_features: int = 0
    center: tuple[float, float] | None = None


def files_of_info(info: dict, needed: NeededFields) -> Iterator[DataFile]:
    """Lists the files that loading one sample opens.

    Args:
        info: A dataset's parsed info: its paths are complete.
        needed: Which sensors are loaded.

    Yields:
        The LiDAR file, the past sweeps and the images, as far as they are needed.
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
    """Checks that a file is there and whole, without reading it.

    Args:
        file: The file.
        read_end: Whether to look for an image's start and end markers, which takes opening it.

    Returns:
        What is wrong with it, or ``None``.
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
                f'its {size} bytes are no multiple of the {point_bytes} that a LiDAR point takes: '
                f'the file is truncated, or a point has another number of features in it than '
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
    """Checks many files with threads.

    Args:
        files: The files.
        max_seconds: After this time the images still to come are checked for presence and size
            only, so that a slow disk does not hold up training.
        show_progress: Whether to show a progress bar with the time left.
        log: Receives a remark if the time ran out.

    Returns:
        The problems, in the files' order.
    """
    deadline = time.monotonic() + max_seconds

    def check(file: DataFile) -> DataProblem | None:
        return file_problem(file, read_end=time.monotonic() < deadline)

    # The work is waiting for the disk, not computing.
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
