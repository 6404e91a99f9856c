"""The body of tools/predict.py: detect objects in a single frame.

The frame is written as an info file of one entry and read by the data set and the test pipeline of
the config, so that the model gets the same input as in a test.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from ..checkpoints.files import read_checkpoints_safely
from ..checkpoints.matching import get_state_dict, load_weights, require_complete
from ..errors import CibaError, ConfigError, exit_with_message
from ..files import write_file
from .config_checks.nested import find_dataset
from .config_options import read_config_file
from .own_frame import (
    Calibration,
    Camera,
    choose_cameras,
    find_images,
    read_calibration,
    read_images,
    read_points,
)

if TYPE_CHECKING:
    from mmengine.structures import InstanceData

BOXES_FILE = 'boxes.json'
PICTURE_FILE = 'picture.png'
RESULTS_FILE = 'results_nusc.json'
_NUSCENES_FEATURES = 5
_NOT_CAMERAS = ('pts', 'sweeps', 'img')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/predict.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='Detect objects in a single frame: boxes as JSON, and a picture.'
    )
    parser.add_argument('config', help='config file of a detector')
    parser.add_argument('checkpoint', help='its checkpoint, from a training or exported')
    parser.add_argument(
        '--images', nargs='+', metavar='PATH', help='folder of images, or one image per camera'
    )
    parser.add_argument('--points', metavar='FILE', help='LiDAR sweep, .bin (float32) or .npy')
    parser.add_argument(
        '--calibration', metavar='FILE', help='calibration (.json), or mmdet3d info file (.pkl)'
    )
    parser.add_argument('--token', help='token of the frame, for an info file with several')
    parser.add_argument(
        '--out',
        metavar='FOLDER',
        help='folder of the results (default: work_dirs/<config>/prediction)',
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='minimum score of drawn boxes (default: 0.3)'
    )
    parser.add_argument('--device', help='such as cuda:0 or cpu (default: a GPU if there is one)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='config fields to override; lists as a=[1,2]',
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def build_detector(cfg: Config, checkpoint: str, device: str | None = None) -> nn.Module:
    """Build the detector of a config with trained weights.

    Args:
        cfg: The config. For a distiller only the student is built.
        checkpoint: File or URL of its weights, from a training or exported.
        device: Device of the detector; None for a GPU if there is one.

    Returns:
        The detector, in evaluation mode.

    Raises:
        CibaError: The config has no detector, the checkpoint belongs to another model, or there is
            no such device.
    """
    from ..registry import MODELS

    model_config = cfg.get('model') or {}
    if 'bottleneck_sizes' in model_config:
        raise ConfigError(
            f'{cfg.filename}: trains bottlenecks (Algorithm 1), which detect nothing. Give the '
            'config of a teacher or a student.'
        )
    if 'student_tap' in model_config:
        model_config = model_config.student
    read_checkpoints_safely()
    with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        model = registry.build(model_config)
    weights = get_state_dict(CheckpointLoader.load_checkpoint(checkpoint, 'cpu'))
    require_complete(load_weights(model, weights), checkpoint, cfg.filename or 'this config')
    try:
        return model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f'--device {device}: torch cannot use it ({str(error).splitlines()[0]}).'
        ) from error


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


def predict(model: nn.Module, frame: SingleFrame) -> InstanceData:
    """Detect objects in a frame.

    Args:
        model: From :func:`build_detector`.
        frame: The frame.

    Returns:
        ``bboxes_3d``, ``scores_3d`` and ``labels_3d``, on the CPU, sorted by score.

    Raises:
        ConfigError: The model is not a 3-D detector.
    """
    from mmengine.dataset import pseudo_collate

    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([frame.load()]))
    boxes = getattr(sample, 'pred_instances_3d', None)
    if boxes is None or 'bboxes_3d' not in boxes:
        raise ConfigError('the model predicts no pred_instances_3d; it is not a 3-D detector.')
    boxes = boxes.to('cpu')
    return boxes[boxes.scores_3d.argsort(descending=True)]


def describe_boxes(boxes: InstanceData, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Convert boxes to plain values, for JSON.

    Args:
        boxes: From :func:`predict`.
        class_names: Names of the labels.

    Returns:
        For each box ``label`` (name), ``score``, ``center`` (x, y, z of the middle, metres),
        ``size`` (length, width, height, metres), ``yaw`` (radians, counter-clockwise from the x
        axis to the front of the box) and ``velocity`` (x, y, metres a second; None if the model
        does not predict it), all in the LiDAR frame.
    """
    centers = boxes.bboxes_3d.gravity_center.tolist()
    rows = boxes.bboxes_3d.tensor.tolist()
    return [
        {
            'label': class_names[label] if label < len(class_names) else str(label),
            'score': score,
            'center': center,
            'size': row[3:6],
            'yaw': row[6],
            'velocity': row[7:9] or None,
        }
        for center, row, score, label in zip(
            centers, rows, boxes.scores_3d.tolist(), boxes.labels_3d.tolist()
        )
    ]


def draw(
    frame: SingleFrame, boxes: list[dict[str, Any]], score_threshold: float, path: Path, title: str
) -> None:
    """Draw the frame with its boxes into a file.

    Args:
        frame: The frame.
        boxes: From :func:`describe_boxes`.
        score_threshold: Boxes with a lower score are not drawn.
        path: The PNG file.
        title: Title of the picture.
    """
    # Imported here because the plotting libraries are slow to load.
    from ..visualization import DrawnBoxes, compose_sample_picture, write_picture

    drawn = [box for box in boxes if box['score'] >= score_threshold]
    rows = np.array([[*box['center'], *box['size'], box['yaw']] for box in drawn]).reshape(-1, 7)
    predictions = DrawnBoxes(
        rows, [box['label'] for box in drawn], np.array([box['score'] for box in drawn])
    )
    picture = compose_sample_picture(
        frame.images,
        frame.lidar2img(),
        np.zeros((0, 3)) if frame.points is None else frame.points,
        ground_truth=None,
        predictions=predictions,
        title=f'{title}   {len(drawn)} detections with a score of {score_threshold:g} or more',
    )
    write_picture(picture, path)


def main(arguments: list[str] | None = None) -> None:
    """Run tools/predict.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        cfg = read_config_file(args.config, args.cfg_options)
        # Data sets log at length while they are built.
        MMLogger.get_instance('prediction', log_level='WARNING')
        calibration = read_calibration(args.calibration, args.token) if args.calibration else None
        frame = SingleFrame(cfg, calibration, args.images, args.points)
        model = build_detector(cfg, args.checkpoint, args.device)
        found = predict(model, frame)
        boxes = describe_boxes(found, frame.class_names)
        work_dir = cfg.get('work_dir') or Path('work_dirs', Path(args.config).stem)
        folder = Path(args.out or Path(work_dir, 'prediction'))
        content = {
            'config': args.config,
            'checkpoint': args.checkpoint,
            'token': frame.token,
            'boxes': boxes,
        }
        write_file(folder / BOXES_FILE, json.dumps(content, indent=1) + '\n')
        results = frame.nuscenes_results(found)
        if results is not None:
            write_file(folder / RESULTS_FILE, json.dumps(results) + '\n')
        draw(frame, boxes, args.score_thr, folder / PICTURE_FILE, frame.token or args.config)
        written = [BOXES_FILE, PICTURE_FILE] + [RESULTS_FILE] * (results is not None)
        print(f'{len(boxes)} boxes. Written to {folder}: {", ".join(written)}.')

    exit_with_message(run, args.traceback)
