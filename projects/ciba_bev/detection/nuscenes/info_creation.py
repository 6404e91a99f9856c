"""Making the info files that the datasets read.

mmdet3d's converter does the bulk. What it leaves out, the place of each sample in its scene and
the motion of the ego vehicle, is added to its entries under names that mmdet3d does not use, so
that the files stay valid for plain mmdet3d.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import mmengine
from nuscenes.nuscenes import NuScenes
from nuscenes.utils import splits
from rich.progress import track

from ...files import make_folder, scratch_folder
from .can_bus import absolute_can_bus
from .can_bus_expansion import CanBusMotion, find_can_bus_folder
from .data_checks import DataError, create_data_command
from .info_files import load_info_file, save_info_file
from .mmdet3d_converter import convert

SPLITS = {
    'v1.0-trainval': {'train': splits.train, 'val': splits.val},
    'v1.0-mini': {'train': splits.mini_train, 'val': splits.mini_val},
}
TABLES = ('scene', 'sample', 'sample_data', 'ego_pose', 'calibrated_sensor', 'sample_annotation')


def create_info_files(
    root_path: str | Path,
    version: str,
    out_dir: str | Path | None = None,
    tag: str = 'nuscenes',
    max_sweeps: int = 10,
    can_bus: str | Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Converts nuScenes tables to info files with all that training needs.

    Args:
        root_path: The nuScenes root: ``samples``, ``sweeps`` and the folder of tables.
        version: ``v1.0-trainval`` or ``v1.0-mini``.
        out_dir: Where the info files go; the root if ``None``.
        tag: Start of the info files' names.
        max_sweeps: Most past LiDAR sweeps to list for a sample.
        can_bus: The CAN bus expansion; ``None`` uses it if it lies in the root or next to it.
        log: Receives what is being done.

    Returns:
        The info file of each split, by ``train`` and ``val``.

    Raises:
        DataError: If tables or files are missing, or a split is empty.
    """
    root = Path(root_path)
    target = root if out_dir is None else Path(out_dir)
    _check_tables(root, version)
    can_bus_folder = find_can_bus_folder(root, can_bus)
    make_folder(target)

    _check_splits(root, version)
    written = {}
    with scratch_folder(target, '.create_data_') as work_folder:
        log(f"Step 1 of 2: mmdet3d's converter reads the {version} tables in {root}.")
        converted = convert(root, version, max_sweeps, work_folder, tag)
        log('Step 2 of 2: adding scene order and ego motion.')
        nuscenes = NuScenes(version, str(root), verbose=False)
        annotator = _InfoAnnotator(nuscenes, can_bus_folder)
        for split, path in converted.items():
            content = load_info_file(path)
            _use_relative_sweep_paths(content, nuscenes)
            written[split] = target / path.name
            annotator.annotate(content, written[split], root)
            save_info_file(content, written[split])
            log(f'Wrote {written[split]} ({len(content["data_list"])} samples).')
    annotator.report(log)
    return written


def annotate_info_files(
    root_path: str | Path,
    version: str,
    out_dir: str | Path | None = None,
    tag: str = 'nuscenes',
    can_bus: str | Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Adds scene order and ego motion to info files that mmdet3d's ``create_data.py`` wrote.

    Args:
        root_path: The nuScenes root; only the tables are read.
        version: ``v1.0-trainval`` or ``v1.0-mini``.
        out_dir: Where the info files are; the root if ``None``.
        tag: Start of the info files' names.
        can_bus: The CAN bus expansion; ``None`` uses it if it lies in the root or next to it.
        log: Receives what is being done.

    Returns:
        The completed info file of each split, by ``train`` and ``val``.

    Raises:
        DataError: If tables or info files are missing or do not belong together.
    """
    root = Path(root_path)
    folder = root if out_dir is None else Path(out_dir)
    _check_tables(root, version)
    can_bus_folder = find_can_bus_folder(root, can_bus)
    files = {split: folder / f'{tag}_infos_{split}.pkl' for split in SPLITS[version]}
    present = {split: path for split, path in files.items() if path.is_file()}
    if not present:
        raise DataError(
            f'{folder}: there is neither {tag}_infos_train.pkl nor {tag}_infos_val.pkl to '
            f'complete. Make them: {create_data_command(files["train"], version)}'
        )
    log(f'Reading the {version} tables in {root}.')
    annotator = _InfoAnnotator(NuScenes(version, str(root), verbose=False), can_bus_folder)
    for path in present.values():
        content = load_info_file(path)
        annotator.annotate(content, path, root)
        save_info_file(content, path)
        log(f'Completed {path} ({len(content["data_list"])} samples).')
    annotator.report(log)
    return present


class _InfoAnnotator:
    """Adds to infos what the tables and the CAN bus expansion know about their samples."""

    def __init__(self, nuscenes: NuScenes, can_bus_folder: Path | None) -> None:
        self._nuscenes = nuscenes
        self._can_bus_folder = can_bus_folder
        self._motion = None if can_bus_folder is None else CanBusMotion(can_bus_folder)
        self._frame_index = self._count_frames()

    def annotate(self, content: dict, path: Path, root: Path) -> None:
        """Adds the fields in place; ``path`` and ``root`` are named in errors only."""
        version = content['metainfo'].get('version', self._nuscenes.version)
        if version != self._nuscenes.version:
            raise DataError(
                f'{path}: the info file was made from {version}, but --version says '
                f'{self._nuscenes.version}. Give --version {version}.'
            )
        infos = content['data_list']
        for info in track(infos, description=f'Adding to {path.name}'):
            token = info.get('token')
            if token not in self._frame_index:
                raise DataError(
                    f'{path}: sample {token} (field token) is not in the {version} tables in '
                    f'{root}. Write the info file anew: {create_data_command(path, version)}'
                )
            info.update(self._fields(token))

    def report(self, log: Callable[[str], None]) -> None:
        """Says where ego motion came from."""
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
            # A list, because pickled arrays of NumPy 2 cannot be read by NumPy 1.
            'can_bus': can_bus.tolist(),
        }


def _check_tables(root: Path, version: str) -> None:
    if version not in SPLITS:
        raise DataError(f'--version {version}: give one of {", ".join(SPLITS)}.')
    missing = [name for name in TABLES if not (root / version / f'{name}.json').is_file()]
    if missing:
        files = ', '.join(f'{name}.json' for name in missing)
        raise DataError(
            f'{root / version}: the tables {files} are missing. --root-path must be the folder '
            f'that holds samples, sweeps and {version}; the tables are in the metadata archive of '
            'nuScenes (data/README.md has the layout).'
        )


def _check_splits(root: Path, version: str) -> None:
    table = root / version / 'scene.json'
    names = {scene['name'] for scene in mmengine.load(str(table))}
    known = SPLITS[version]
    strangers = sorted(names.difference(*known.values()))
    if strangers:
        raise DataError(
            f'{table}: the scenes {", ".join(strangers[:10])} are in '
            f"neither of the devkit's splits for {version}, so that they could not be scored. "
            'Rename them (field name) or give the version they belong to.'
        )
    for split, scenes in known.items():
        if names.isdisjoint(scenes):
            raise DataError(
                f'{table}: none of its {len(names)} scenes is in the '
                f'{split} split of {version}, and both splits are needed. Add scenes of that split '
                '(for simulated data: ask for more scenes).'
            )


def _use_relative_sweep_paths(content: dict, nuscenes: NuScenes) -> None:
    # mmdet3d decides by the word "samples" anywhere in a sweep's path whether it is a key frame,
    # which goes wrong where the root's own path has that word in it.
    for info in content['data_list']:
        for sweep in info.get('lidar_sweeps', ()):
            record = nuscenes.get('sample_data', sweep['sample_data_token'])
            sweep['lidar_points']['lidar_path'] = record['filename']
