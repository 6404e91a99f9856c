"""Create the info files of the datasets.

mmdet3d's converter does most of the work. The index of each sample in its scene and the motion of
the ego vehicle are added to its entries, under names that mmdet3d does not use, so that the files
are valid for plain mmdet3d.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from nuscenes.nuscenes import NuScenes
from nuscenes.utils import splits
from rich.progress import track

from ...errors import ConfigError
from ...files import make_folder, scratch_folder
from .calibration import camera_poses, find_inconsistent_cameras
from .can_bus import absolute_can_bus
from .can_bus_expansion import CanBusMotion, find_can_bus_folder
from .data_checks import DataError, create_data_command
from .info_files import DamagedInfoFileError, load_info_file, save_info_file
from .mmdet3d_converter import convert
from .tables import check_tables, explained_failures, read_table

SPLITS = {
    'v1.0-trainval': {'train': splits.train, 'val': splits.val},
    'v1.0-mini': {'train': splits.mini_train, 'val': splits.mini_val},
    # Without annotations: for the test server.
    'v1.0-test': {'test': splits.test},
}


def create_info_files(
    root_path: str | Path,
    version: str,
    out_dir: str | Path | None = None,
    tag: str = 'nuscenes',
    max_sweeps: int = 10,
    can_bus: str | Path | None = None,
    replace: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Convert nuScenes tables to info files.

    Args:
        root_path: The nuScenes root: ``samples``, ``sweeps`` and the folder of tables.
        version: One of :data:`SPLITS`.
        out_dir: Folder of the info files; None for the root.
        tag: Prefix of the info files' names.
        max_sweeps: Maximum number of past LiDAR sweeps of a sample.
        can_bus: Folder of the CAN bus expansion; None to use the one in the root or its parent, if
            it exists.
        replace: Whether to replace info files of another version or format. Those of the same
            version are always replaced.
        log: Receives messages about the progress.

    Returns:
        The info file of each split: ``train`` and ``val``, or ``test``.

    Raises:
        DataError: Tables or files are missing or damaged, a split is empty, or a file of another
            version would be replaced.
    """
    root = Path(root_path)
    target = root if out_dir is None else Path(out_dir)
    _check_version(version)
    check_tables(root, version)
    can_bus_folder = find_can_bus_folder(root, can_bus)
    _check_splits(root, version)
    files = {split: target / f'{tag}_infos_{split}.pkl' for split in SPLITS[version]}
    if not replace:
        for path in files.values():
            _check_replaceable(path, version, root)
    make_folder(target)
    with scratch_folder(target, '.create_data_') as folder:
        log(f"Step 1 of 2: mmdet3d's converter reads the {version} tables in {root}.")
        converted = convert(root, version, max_sweeps, folder, tag, list(SPLITS[version]))
        log('Step 2 of 2: adding scene order and ego motion.')
        annotator = _InfoAnnotator(root, version, can_bus_folder)
        for split, path in converted.items():
            content = load_info_file(path)
            annotator.use_relative_sweep_paths(content)
            annotator.annotate(content, files[split])
            save_info_file(content, files[split])
            log(f'Wrote {files[split]} ({len(content["data_list"])} samples).')
    annotator.report(log)
    return files


def annotate_info_files(
    root_path: str | Path,
    version: str,
    out_dir: str | Path | None = None,
    tag: str = 'nuscenes',
    can_bus: str | Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Add scene order and ego motion to info files that mmdet3d's ``create_data.py`` wrote.

    Args:
        root_path: The nuScenes root; only the tables are read.
        version: One of :data:`SPLITS`.
        out_dir: Folder of the info files; None for the root.
        tag: Prefix of the info files' names.
        can_bus: Folder of the CAN bus expansion; None to use the one in the root or its parent, if
            it exists.
        log: Receives messages about the progress.

    Returns:
        The completed info file of each split that has one.

    Raises:
        DataError: Tables or info files are missing or damaged, or contradict each other.
    """
    root = Path(root_path)
    folder = root if out_dir is None else Path(out_dir)
    _check_version(version)
    check_tables(root, version)
    can_bus_folder = find_can_bus_folder(root, can_bus)
    files = {split: folder / f'{tag}_infos_{split}.pkl' for split in SPLITS[version]}
    present = {split: path for split, path in files.items() if path.is_file()}
    if not present:
        names = ' or '.join(path.name for path in files.values())
        command = create_data_command(next(iter(files.values())), version, data_root=root)
        raise DataError(f'{folder}: there is no {names} to complete. Make them: {command}')
    log(f'Reading the {version} tables in {root}.')
    annotator = _InfoAnnotator(root, version, can_bus_folder)
    for path in present.values():
        content = load_info_file(path, root)
        annotator.annotate(content, path)
        save_info_file(content, path)
        log(f'Completed {path} ({len(content["data_list"])} samples).')
    annotator.report(log)
    return present


class _InfoAnnotator:
    """Add scene order and ego motion to infos, from the tables and the CAN bus expansion."""

    def __init__(self, root: Path, version: str, can_bus_folder: Path | None) -> None:
        self._root = root
        self._version = version
        self._can_bus_folder = can_bus_folder
        self._motion = None if can_bus_folder is None else CanBusMotion(can_bus_folder)
        with explained_failures(root, version):
            self._nuscenes = NuScenes(version, str(root), verbose=False)
            self._frame_index = self._count_frames()

    def annotate(self, content: dict, path: Path) -> None:
        """Add the fields in place; ``path`` is for error messages."""
        version = content['metainfo'].get('version', self._version)
        if version != self._version:
            raise DataError(
                f'{path}: the info file was made from {version}, but --version says '
                f'{self._version}. Give --version {version}.'
            )
        with explained_failures(self._root, version):
            for info in track(content['data_list'], description=f'Adding to {path.name}'):
                self._check(info, path)
                info.update(self._fields(info['token']))

    def _check(self, info: dict, path: Path) -> None:
        """Check that an info belongs to the tables and does not contradict them."""
        command = create_data_command(path, self._version, data_root=self._root)
        token = info.get('token')
        if token not in self._frame_index:
            raise DataError(
                f'{path}: sample {token} (field token) is not in the {self._version} tables in '
                f'{self._root}. Write the info file again: {command}'
            )
        for camera, finding in find_inconsistent_cameras(info, camera_poses(self._nuscenes, info)):
            raise DataError(
                f'{path}: {finding} (sample {token}, field images.{camera}.lidar2cam). Write the '
                f'info file again: {command}'
            )

    def use_relative_sweep_paths(self, content: dict) -> None:
        """Make the paths of sweeps relative to the root.

        mmdet3d takes a sweep for a key frame if its path contains the word "samples", which fails
        if the path of the root does.
        """
        for info in content['data_list']:
            for sweep in info.get('lidar_sweeps', ()):
                data = self._nuscenes.get('sample_data', sweep['sample_data_token'])
                sweep['lidar_points']['lidar_path'] = data['filename']

    def report(self, log: Callable[[str], None]) -> None:
        """Log the source of the ego motion."""
        if self._motion is None:
            log(
                'No CAN bus expansion: acceleration, rotation rate and velocity are zero. '
                '(It is optional; give its folder with --can-bus.)'
            )
            return
        log(f'Ego motion is from {self._can_bus_folder / "can_bus"}.')
        without = self._motion.scenes_without
        if without:
            log(
                f'{len(without)} scenes have no CAN bus data; their acceleration, rotation rate '
                f'and velocity are zero: {", ".join(sorted(without))}.'
            )

    def _count_frames(self) -> dict[str, int]:
        frame_index = {}
        for scene in self._nuscenes.scene:
            token, count = scene['first_sample_token'], 0
            while token:
                frame_index[token] = count
                token, count = self._nuscenes.get('sample', token)['next'], count + 1
        return frame_index

    def _fields(self, token: str) -> dict:
        sample = self._nuscenes.get('sample', token)
        lidar = self._nuscenes.get('sample_data', sample['data']['LIDAR_TOP'])
        pose = self._nuscenes.get('ego_pose', lidar['ego_pose_token'])
        motion = None
        if self._motion is not None:
            scene = self._nuscenes.get('scene', sample['scene_token'])
            motion = self._motion.at(scene['name'], sample['timestamp'])
        can_bus = absolute_can_bus(pose['translation'], pose['rotation'], motion)
        return {
            'scene_token': sample['scene_token'],
            'prev': sample['prev'],
            'next': sample['next'],
            'frame_idx': self._frame_index[token],
            # A list, because NumPy 1 cannot read pickled arrays of NumPy 2.
            'can_bus': can_bus.tolist(),
        }


def _check_version(version: str) -> None:
    if version not in SPLITS:
        raise ConfigError(f'--version {version}: give one of {", ".join(SPLITS)}.')


def _check_splits(root: Path, version: str) -> None:
    table = root / version / 'scene.json'
    names = {scene['name'] for scene in read_table(root, version, 'scene')}
    known = SPLITS[version]
    unknown = sorted(names.difference(*known.values()))
    if unknown:
        raise DataError(
            f"{table}: the scenes {', '.join(unknown[:10])} are in none of the devkit's splits "
            f'for {version} ({", ".join(known)}), so that they could not be scored. Rename them '
            '(field name) or give the version they belong to.'
        )
    for split, scenes in known.items():
        if names.isdisjoint(scenes):
            raise DataError(
                f'{table}: none of its {len(names)} scenes is in the {split} split of {version}, '
                f'and all splits of the version are needed ({", ".join(known)}). Add scenes of '
                'that split (for simulated data: ask for more scenes).'
            )


def _check_replaceable(path: Path, version: str, root: Path) -> None:
    """Check that an existing info file is of the same version."""
    if not path.is_file():
        return
    try:
        found = load_info_file(path)['metainfo'].get('version')
    except DamagedInfoFileError:
        return
    except DataError:
        found = 'another format'
    if found != version:
        command = create_data_command(path, version, data_root=root, replace=True)
        raise DataError(
            f'{path}: there is an info file of {found or "an unknown version"} already, and this '
            f'one would be of {version}. Keep both: give this one another name with --extra-tag '
            f'({version.split("-")[-1]}, for example). Replace it: {command}'
        )
