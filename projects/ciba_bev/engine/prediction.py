"""The body of tools/predict.py: detect objects in a single frame."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader
from torch import nn

from ..checkpoints.files import read_checkpoints_safely
from ..checkpoints.matching import get_state_dict, load_weights, require_complete
from ..errors import ConfigError, exit_with_message
from ..files import write_file
from .config_options import read_config_file
from .own_frame import read_calibration
from .single_frame import SingleFrame

if TYPE_CHECKING:
    from mmengine.structures import InstanceData

BOXES_FILE = 'boxes.json'
PICTURE_FILE = 'picture.png'
RESULTS_FILE = 'results_nusc.json'


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
        *('--score-thr', '--score-threshold'),
        type=float,
        default=0.3,
        help='minimum score of drawn boxes (default: 0.3)',
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
