"""A frame of one's own as an entry of a test data set.

The frame is written as an info file of one entry and read by the data set and the test pipeline of
the config, so that the model gets the same input as in a test.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..errors import CibaError, ConfigError
from .config_checks.nested import find_dataset
from .own_frame import Calibration, Camera, choose_cameras, find_images, read_images, read_points

if TYPE_CHECKING:
    from mmengine.structures import InstanceData

_NUSCENES_FEATURES = 5
_NOT_CAMERAS = ('pts', 'sweeps', 'img')


class SingleFrame:
    """The files of a frame, in the form that a config's test data set reads.

    Args:
        cfg: The config of the detector.
        calibration: From :func:`read_calibration`; None for a LiDAR detector without images.
        images: Image files or their folder; None for those in the info file, relative to the data
            root of the config.
        points: File of the LiDAR sweep; None for that in the info file, with its past sweeps.

    Raises:
        CibaError: An input that the detector needs is missing or invalid.
    """

    def __init__(
        self,
        cfg: Config,
        calibration: Calibration | None,
        images: Sequence[str] | None = None,
        points: str | None = None,
    ) -> None:
        self._cfg = cfg
        self._dataset = _test_dataset(cfg)
        self._calibration = calibration or Calibration(Path('no calibration'), {})
        modality = self._dataset.get('modality') or {'use_lidar': True}
        needs_cameras, needs_points = modality.get('use_camera'), modality.get('use_lidar')
        info = self._calibration.info
        if needs_cameras and (calibration is None or not (images or info)):
            raise ConfigError(
                f'{cfg.filename}: the model needs camera images. Give --images and --calibration.'
            )
        if needs_points and not (points or info):
            raise ConfigError(f'{cfg.filename}: the model needs LiDAR points. Give --points.')
        self.cameras: dict[str, Camera] = {}
        self.image_files: dict[str, Path] = {}
        if images or needs_cameras:
            self._find_images(images)
        self.images = read_images(self.image_files, self.cameras)
        self._read_points(points, needs_points)

    @property
    def token(self) -> str:
        """Token of the frame in the calibration; '' if it has none."""
        return self._calibration.token

    @property
    def class_names(self) -> list[str]:
        """Class names in the order of the detector's labels."""
        return list((self._dataset.get('metainfo') or {}).get('classes') or [])

    def lidar2img(self) -> dict[str, np.ndarray]:
        """Return the projection from the LiDAR frame to the pixels of each image file.

        Returns:
            Name of each camera to a (4, 4) matrix.
        """
        return {name: camera.lidar2img for name, camera in self.cameras.items()}

    def load(self) -> dict[str, Any]:
        """Load the frame with the test pipeline of the config.

        Returns:
            The packed frame.
        """
        from mmdet3d.registry import DATASETS

        from ..detection.nuscenes.info_files import save_info_file

        init_default_scope(self._cfg.get('default_scope', 'mmdet3d'))
        with tempfile.TemporaryDirectory() as folder:
            info = self.info()
            if self.points is not None:
                # Pipelines do not read NumPy arrays.
                path = Path(folder, 'points.bin')
                self.points.tofile(path)
                info['lidar_points'].update(lidar_path=str(path), num_pts_feats=self.features)
            metainfo = dict(self._dataset.get('metainfo') or {})
            metainfo.setdefault('version', 'v1.0-trainval')
            content = {'metainfo': {'version': metainfo['version']}, 'data_list': [info]}
            ann_file = Path(folder, 'frame.pkl')
            save_info_file(content, ann_file)
            dataset = copy.deepcopy(self._dataset)
            dataset.update(ann_file=str(ann_file), test_mode=True)
            for key in ('indices', 'lazy_init'):
                dataset.pop(key, None)
            return DATASETS.build(dataset)[0]

    def info(self) -> dict[str, Any]:
        """Return the frame as an entry of an mmdet3d info file, with absolute paths.

        Unknown poses are the identity, and motion is zero.

        Returns:
            The entry.
        """
        from ..detection.nuscenes.can_bus import can_bus_from_ego_pose

        ego2global = self._calibration.ego2global
        pose = np.eye(4) if ego2global is None else ego2global
        lidar2ego = self._calibration.lidar2ego
        info = {
            'token': self.token or 'frame',
            'timestamp': 0.0,
            'lidar_points': {},
            # The first frame of a scene, without past frames.
            'scene_token': 'scene',
            'prev': '',
            'next': '',
            'frame_idx': 0,
            'can_bus': can_bus_from_ego_pose(pose).tolist(),
            **copy.deepcopy(self._calibration.info or {}),
            'sample_idx': 0,
            'ego2global': pose.tolist(),
            'instances': [],
        }
        info['lidar_points']['lidar2ego'] = (np.eye(4) if lidar2ego is None else lidar2ego).tolist()
        if self.points is not None:
            info.pop('lidar_sweeps', None)
        info['images'] = {
            name: {
                'img_path': str(self.image_files[name].resolve()),
                'cam2img': camera.cam2img.tolist(),
                'lidar2cam': camera.lidar2cam.tolist(),
            }
            for name, camera in self.cameras.items()
        }
        return info

    def nuscenes_results(self, boxes: InstanceData) -> dict[str, Any] | None:
        """Convert boxes to nuScenes' result format.

        Args:
            boxes: Boxes of the detector, on the CPU.

        Returns:
            ``meta`` and ``results``; None if token or poses are not known.
        """
        from ..detection.nuscenes.metric import NuScenesDetectionMetric

        poses = (self._calibration.ego2global, self._calibration.lidar2ego)
        if not self.token or any(pose is None for pose in poses):
            return None
        metric = NuScenesDetectionMetric(
            data_root='', ann_file='', modality=self._dataset.get('modality')
        )
        metric.data_infos = [self.info()]
        prediction = dict(boxes.items())
        with tempfile.TemporaryDirectory() as folder:
            frame = {'pred_instances_3d': prediction, 'sample_idx': 0}
            # It prints a progress bar.
            with contextlib.redirect_stdout(io.StringIO()):
                written, _ = metric.format_results([frame], self.class_names, folder)
            return json.loads(Path(written['pred_instances_3d']).read_text(encoding='utf-8'))

    def _find_images(self, images: Sequence[str] | None) -> None:
        prefixes = self._dataset.get('data_prefix') or {}
        expected = [name for name in prefixes if name not in _NOT_CAMERAS]
        self.cameras = choose_cameras(self._calibration, expected)
        if not self.cameras:
            raise CibaError(
                f'{self._calibration.file}: contains no cameras. Add them, or leave --images out.'
            )
        if images:
            self.image_files = find_images(images, self.cameras, self._calibration.file)
            return
        root = Path(self._dataset.get('data_root') or '')
        for name in self.cameras:
            image = self._calibration.info['images'][name]['img_path']
            self.image_files[name] = root / prefixes.get(name, prefixes.get('img', '')) / image

    def _read_points(self, points: str | None, needed: bool) -> None:
        """Read the given points; those in an info file are read by the pipeline."""
        loader = _find_transform(self._dataset.get('pipeline') or [], 'LoadPointsFromFile')
        stated = self._calibration.point_features
        self.features = (loader or {}).get('load_dim') or stated or _NUSCENES_FEATURES
        self.points = None
        if points is None:
            return
        if needed and stated is not None and stated != self.features:
            raise CibaError(
                f'{self._calibration.file}: points have {stated} numbers (point_features), but the '
                f'model reads {self.features} (load_dim of LoadPointsFromFile). Remove columns, or '
                'append zeros.'
            )
        self.points = read_points(points, self.features, only_position=not needed)


def _test_dataset(cfg: Config) -> Any:
    dataset = find_dataset(cfg.get('test_dataloader'))
    if dataset is None:
        raise ConfigError(f'{cfg.filename}: has no test_dataloader with a pipeline.')
    return dataset


def _find_transform(pipeline: Sequence[dict], name: str) -> dict | None:
    for step in pipeline:
        if str(step.get('type')).rpartition('.')[2] == name:
            return step
        inner = _find_transform(step.get('transforms') or [], name)
        if inner:
            return inner
    return None
