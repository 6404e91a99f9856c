"""Draw nuScenes key frames, read by the devkit."""

from __future__ import annotations

import os
import pathlib
from typing import Any, NamedTuple

import cv2
import numpy as np
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from ..errors import CibaError
from .bird_eye_view import DrawnBoxes
from .class_colours import CLASS_COLOURS
from .sample_picture import CAMERA_LAYOUT, compose_sample_picture, write_picture


def _transform(record: dict[str, Any]) -> np.ndarray:
    return transform_matrix(record['translation'], Quaternion(record['rotation']))


def _sensor_to_world(nusc: NuScenes, sample_data: dict[str, Any]) -> np.ndarray:
    calibration = nusc.get('calibrated_sensor', sample_data['calibrated_sensor_token'])
    return _transform(nusc.get('ego_pose', sample_data['ego_pose_token'])) @ _transform(calibration)


def _boxes_in_view(
    descriptions: list[dict[str, Any]], class_names: list[str], world_to_view: np.ndarray
) -> np.ndarray:
    """Convert nuScenes boxes in the world frame to (N, 7) boxes in an upright frame."""
    boxes = np.zeros((len(class_names), 7))
    for row, description in zip(boxes, descriptions):
        rotation = world_to_view[:3, :3] @ Quaternion(description['rotation']).rotation_matrix
        row[:3] = world_to_view[:3, :3] @ description['translation'] + world_to_view[:3, 3]
        width, length, height = description['size']
        row[3:6] = length, width, height
        row[6] = np.arctan2(rotation[1, 0], rotation[0, 0])
    return boxes


def _read_image(path: str) -> np.ndarray:
    image = cv2.imread(path)
    if image is None:
        raise CibaError(f'{path} is missing or not an image; download or simulate it again')
    return image[..., ::-1]


class KeyFrame(NamedTuple):
    """A key frame in an upright frame at the LiDAR: x right, y forward, z up, metres.

    Attributes:
        images: (H, W, 3) uint8 RGB image of each camera channel.
        lidar2img: (4, 4) from that frame to homogeneous pixels, for each channel.
        points: (N, 3) LiDAR points.
        ground_truth: Annotated boxes with LiDAR points on them; others are not evaluated.
        world_to_view: (4, 4) from the world to that frame.
    """

    images: dict[str, np.ndarray]
    lidar2img: dict[str, np.ndarray]
    points: np.ndarray
    ground_truth: DrawnBoxes
    world_to_view: np.ndarray

    def select(self, predictions: list[dict[str, Any]], score_threshold: float) -> DrawnBoxes:
        """Return the detections that are drawn.

        Args:
            predictions: Detections in nuScenes' result format.
            score_threshold: Those with a lower score are left out.

        Returns:
            Boxes of the known classes, in this frame.
        """
        kept = [
            prediction
            for prediction in predictions
            if prediction['detection_score'] >= score_threshold
            and prediction['detection_name'] in CLASS_COLOURS
        ]
        names = [prediction['detection_name'] for prediction in kept]
        scores = np.array([prediction['detection_score'] for prediction in kept])
        return DrawnBoxes(_boxes_in_view(kept, names, self.world_to_view), names, scores)


def read_key_frame(nusc: NuScenes, sample_token: str) -> KeyFrame:
    """Read what is drawn of a key frame.

    Args:
        nusc: The devkit's data set.
        sample_token: Token of the key frame.

    Returns:
        The key frame.

    Raises:
        CibaError: A sensor file is missing or damaged.
    """
    sample = nusc.get('sample', sample_token)
    lidar = nusc.get('sample_data', sample['data']['LIDAR_TOP'])
    lidar_to_world = _sensor_to_world(nusc, lidar)
    # Boxes are upright in the world, whereas the sensor is tilted.
    forward = lidar_to_world[:3, 1]
    yaw = np.arctan2(forward[1], forward[0]) - np.pi / 2
    view_to_world = np.eye(4)
    view_to_world[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    view_to_world[:3, 3] = lidar_to_world[:3, 3]
    world_to_view = np.linalg.inv(view_to_world)

    points = _read_points(os.path.join(nusc.dataroot, lidar['filename']))
    lidar_to_view = world_to_view @ lidar_to_world
    points = points[:, :3] @ lidar_to_view[:3, :3].T + lidar_to_view[:3, 3]
    images, lidar2img = {}, {}
    for channel in (channel for row in CAMERA_LAYOUT for channel in row):
        camera = nusc.get('sample_data', sample['data'][channel])
        calibration = nusc.get('calibrated_sensor', camera['calibrated_sensor_token'])
        intrinsic = np.eye(4)
        intrinsic[:3, :3] = calibration['camera_intrinsic']
        world_to_camera = np.linalg.inv(_sensor_to_world(nusc, camera))
        lidar2img[channel] = intrinsic @ world_to_camera @ view_to_world
        images[channel] = _read_image(os.path.join(nusc.dataroot, camera['filename']))

    annotations = [nusc.get('sample_annotation', token) for token in sample['anns']]
    annotations = [
        annotation
        for annotation in annotations
        if category_to_detection_name(annotation['category_name'])
        and annotation['num_lidar_pts'] > 0
    ]
    names = [category_to_detection_name(annotation['category_name']) for annotation in annotations]
    ground_truth = DrawnBoxes(_boxes_in_view(annotations, names, world_to_view), names)
    return KeyFrame(images, lidar2img, points, ground_truth, world_to_view)


def draw_nuscenes_sample(
    nusc: NuScenes,
    sample_token: str,
    predictions: list[dict[str, Any]] | None = None,
    score_threshold: float = 0.3,
    out_file: str | os.PathLike | None = None,
    points_on_images: bool = False,
) -> np.ndarray:
    """Draw a key frame of nuScenes or of a data set in its format.

    Annotated objects without LiDAR points are not drawn, as they are not evaluated.

    Args:
        nusc: The devkit's data set.
        sample_token: Token of the key frame.
        predictions: Detections in nuScenes' result format: `translation`, `size`, `rotation` in
            the world frame, `detection_name` and `detection_score`; None to draw ground truth only.
        score_threshold: Predictions with a lower score are not drawn.
        out_file: PNG file to write; None to write no file.
        points_on_images: Whether to draw the LiDAR points into the images, too.

    Returns:
        (H, W, 3) uint8 RGB picture.

    Raises:
        CibaError: A sensor file is missing or damaged.
    """
    frame = read_key_frame(nusc, sample_token)
    detected = None if predictions is None else frame.select(predictions, score_threshold)
    picture = compose_sample_picture(
        frame.images,
        frame.lidar2img,
        frame.points,
        frame.ground_truth,
        detected,
        title=_title(nusc, sample_token, detected, score_threshold),
        points_on_images=points_on_images,
    )
    if out_file is not None:
        write_picture(picture, out_file)
    return picture


def _read_points(path: str) -> np.ndarray:
    if not pathlib.Path(path).is_file():
        raise CibaError(f'{path} is missing; download or simulate it again')
    values = np.fromfile(path, dtype=np.float32)
    if values.size % 5:
        raise CibaError(f'{path} is truncated: {values.size} numbers are not a multiple of 5')
    return values.reshape(-1, 5)


def _title(
    nusc: NuScenes, sample_token: str, detected: DrawnBoxes | None, score_threshold: float
) -> str:
    sample = nusc.get('sample', sample_token)
    scene = nusc.get('scene', sample['scene_token'])
    first = nusc.get('sample', scene['first_sample_token'])
    seconds = (sample['timestamp'] - first['timestamp']) / 1e6
    shown = 'ground truth'
    if detected is not None:
        shown = f'{len(detected)} detections with a score of {score_threshold:g} or more'
    return f'{scene["name"]}, {seconds:.1f} s   {sample["token"]}   {shown}'
