"""A frame of one's own: images, points and calibration that belong to no data set.

Whatever they come from, they end up in the form of one entry of an mmdet3d info file, which is
what data sets and pipelines read.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import cv2
import numpy as np
from mmengine.logging import print_log

from ..errors import CibaError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
# How far a rotation may be from orthonormal: calibrations are written with few digits.
_ROTATION_TOLERANCE = 1e-2
_FLOAT_BYTES = 4
_EXAMPLE = (
    'A calibration file is {"cameras": {"CAM_FRONT": {"cam2img": 3x3, "lidar2cam": 4x4}, ...}, '
    '"lidar2ego": 4x4, "ego2global": 4x4}; the last two may be left out (docs/nuscenes.md).'
)


@dataclass
class Camera:
    """One camera of a frame.

    Attributes:
        cam2img: (3, 3) intrinsic matrix, pixels of the image file.
        lidar2cam: (4, 4) from the LiDAR frame to the camera's (x right, y down, z forward), metres.
        image: Name of its image, as the calibration gives it; '' if it does not.
    """

    cam2img: np.ndarray
    lidar2cam: np.ndarray
    image: str = ''

    @property
    def lidar2img(self) -> np.ndarray:
        """(4, 4) from LiDAR-frame metres to (u * depth, v * depth, depth, 1)."""
        intrinsic = np.eye(4)
        intrinsic[:3, :3] = self.cam2img
        return intrinsic @ self.lidar2cam


@dataclass
class Calibration:
    """Where the sensors of a frame are.

    Attributes:
        file: Where it was read from.
        cameras: By name.
        lidar2ego: (4, 4), or None if it is not known.
        ego2global: (4, 4), or None if it is not known.
        token: The frame's name; '' if it has none.
        point_features: Numbers of a LiDAR point; None if it is not known.
        info: The entry of the mmdet3d info file it comes from; None if it does not.
    """

    file: Path
    cameras: dict[str, Camera]
    lidar2ego: np.ndarray | None = None
    ego2global: np.ndarray | None = None
    token: str = ''
    point_features: int | None = None
    info: dict[str, Any] | None = None


def read_calibration(path: str | os.PathLike, token: str | None = None) -> Calibration:
    """Read a calibration file.

    Args:
        path: A JSON file as docs/nuscenes.md describes it, or an mmdet3d info file (``.pkl``).
        token: Which frame of an info file; None for the only one.

    Returns:
        The calibration.

    Raises:
        CibaError: The file is missing or not of that form; names the field.
    """
    path = Path(path)
    if not path.is_file():
        raise CibaError(f'{path}: there is no such calibration file. {_EXAMPLE}')
    if path.suffix in ('.pkl', '.pickle'):
        content, info = None, _entry_of(path, token)
        lidar = info.get('lidar_points') or {}
        content = {
            'cameras': {
                name: dict(camera, image=Path(camera.get('img_path') or '').name)
                for name, camera in (info.get('images') or {}).items()
                # Some converters list cameras that a frame does not have.
                if camera.get('img_path')
            },
            'lidar2ego': lidar.get('lidar2ego'),
            'ego2global': info.get('ego2global'),
            'token': info.get('token', ''),
            'point_features': lidar.get('num_pts_feats'),
        }
    else:
        content, info = _read_json(path), None
    features = content.get('point_features')
    if features is not None and (not isinstance(features, int) or features < 3):
        raise CibaError(f'{path}: point_features is {features!r}; it must be a number, 3 or more.')
    cameras = content.get('cameras', {})
    if not isinstance(cameras, dict) or not all(isinstance(c, dict) for c in cameras.values()):
        raise CibaError(f'{path}: cameras must give matrices to each name. {_EXAMPLE}')
    return Calibration(
        path,
        {name: _camera(camera, f'{path}: cameras.{name}') for name, camera in cameras.items()},
        _optional_pose(content, 'lidar2ego', path),
        _optional_pose(content, 'ego2global', path),
        str(content.get('token') or ''),
        features,
        info,
    )


def _entry_of(path: Path, token: str | None) -> dict[str, Any]:
    from ..detection.nuscenes.info_files import load_info_file

    infos = load_info_file(path)['data_list']
    if token is None and len(infos) == 1:
        return infos[0]
    tokens = [str(info.get('token', '')) for info in infos]
    if token is None or token not in tokens:
        asked = 'say which one with --token' if token is None else f'none of them is {token}'
        raise CibaError(
            f'{path}: the info file has {len(infos)} frames; {asked}. The first is '
            f'{tokens[0] if tokens else "missing"}.'
        )
    return infos[tokens.index(token)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CibaError(f'{path}: the calibration is no JSON file ({error}). {_EXAMPLE}') from error
    if not isinstance(content, dict):
        raise CibaError(f'{path}: the calibration holds a {type(content).__name__}. {_EXAMPLE}')
    unknown = set(content) - {'cameras', 'lidar2ego', 'ego2global', 'token', 'point_features'}
    if unknown:
        raise CibaError(f'{path}: nothing is known of {", ".join(sorted(unknown))}. {_EXAMPLE}')
    return content


def _camera(camera: Mapping[str, Any], place: str) -> Camera:
    image = str(camera.get('image') or '')
    if 'cam2img' not in camera and 'lidar2img' in camera:
        # Their product is all that counts, and scaling an image scales the rows of either.
        lidar2img = _matrix(camera['lidar2img'], f'{place}.lidar2img', [(4, 4), (3, 4)])
        return Camera(np.eye(3), lidar2img, image)
    missing = [name for name in ('cam2img', 'lidar2cam') if camera.get(name) is None]
    if missing:
        raise CibaError(
            f'{place}: {" and ".join(missing)} missing. Give cam2img and lidar2cam, or lidar2img.'
        )
    cam2img = _matrix(camera['cam2img'], f'{place}.cam2img', [(3, 3), (3, 4), (4, 4)])
    lidar2cam = _pose(camera['lidar2cam'], f'{place}.lidar2cam')
    if not np.allclose(cam2img[:3, 3], 0):
        # A projection with an offset, as KITTI has it, moves the camera.
        return Camera(np.eye(3), cam2img @ lidar2cam, image)
    return Camera(cam2img[:3, :3], lidar2cam, image)


def _optional_pose(content: Mapping[str, Any], name: str, place: Path) -> np.ndarray | None:
    return None if content.get(name) is None else _pose(content[name], f'{place}: {name}')


def _pose(value: Any, place: str) -> np.ndarray:
    pose = _matrix(value, place, [(4, 4), (3, 4)])
    rotation = pose[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise CibaError(
            f'{place} is no rotation and translation (its upper left 3 x 3 part times its own '
            f'transpose is off the identity by {error:.2g}). Give a rigid transform in metres.'
        )
    return pose


def _matrix(value: Any, place: str, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """A (4, 4) matrix with the given one in its upper left corner."""
    allowed = ' or '.join(f'{rows} x {columns}' for rows, columns in shapes)
    try:
        given = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CibaError(f'{place} is no matrix of numbers; give {allowed}.') from error
    if given.shape not in shapes:
        shape = ' x '.join(map(str, given.shape)) or 'a single number'
        raise CibaError(f'{place} is {shape}; it must be {allowed}.')
    if not np.isfinite(given).all():
        raise CibaError(f'{place} holds NaN or infinity.')
    matrix = np.eye(4)
    matrix[: given.shape[0], : given.shape[1]] = given
    return matrix


def choose_cameras(calibration: Calibration, expected: Sequence[str]) -> dict[str, Camera]:
    """Bring a frame's cameras into the order in which the model was given them in training.

    Args:
        calibration: The frame's.
        expected: Names of the cameras in the config's data; empty if it names none.

    Returns:
        The cameras. If none has an expected name, they are taken in the order of the calibration.

    Raises:
        CibaError: Some of the expected ones are missing, or there are others.
    """
    cameras = calibration.cameras
    if len(cameras) == len(expected) and not set(cameras) & set(expected):
        print_log(
            f'{calibration.file}: the cameras {", ".join(cameras)} are taken for '
            f'{", ".join(expected)}, in this order.',
            logger='current',
            level=logging.WARNING,
        )
        return dict(cameras)
    if not expected:
        return dict(cameras)
    missing = [name for name in expected if name not in cameras]
    unknown = [name for name in cameras if name not in expected]
    if missing or unknown:
        found = f'missing: {", ".join(missing)}' if missing else f'unknown: {", ".join(unknown)}'
        raise CibaError(
            f'{calibration.file}: the model was trained with the cameras {", ".join(expected)} '
            f'({found}). Give these.'
        )
    return {name: cameras[name] for name in expected}


def find_images(
    given: Sequence[str | os.PathLike], cameras: Mapping[str, Camera], calibration: Path
) -> dict[str, Path]:
    """Find the image of each camera.

    Args:
        given: One folder, or image files. A camera's image is the file that the calibration names;
            if that is not there, the one that has the camera's name in its own.
        cameras: The cameras.
        calibration: Where they come from, for messages.

    Returns:
        By camera.

    Raises:
        CibaError: A camera has no image or several, or a file is not an image.
    """
    paths = [Path(path) for path in given]
    for path in paths:
        if not path.exists():
            raise CibaError(f'{path}: there is no such image or folder.')
    files = [path for path in paths if path.is_file()]
    for folder in (path for path in paths if path.is_dir()):
        files += sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    owners = {file: _camera_in(file.stem, list(cameras)) for file in files}
    found = {}
    for name, camera in cameras.items():
        candidates = [file for file in files if file.name == camera.image]
        candidates = candidates or [file for file in files if owners[file] == name]
        if len(candidates) != 1:
            wanted = f'{camera.image} or ' if camera.image else ''
            what = 'no image' if not candidates else f'{len(candidates)} images'
            raise CibaError(
                f'camera {name} of {calibration} has {what} in {", ".join(map(str, paths))}; '
                f'wanted is {wanted}one file with {name} in its name.'
            )
        found[name] = candidates[0]
    return found


def _camera_in(stem: str, names: Sequence[str]) -> str | None:
    """The longest camera name in a file's: CAM_FRONT does not take what is CAM_FRONT_LEFT's."""
    matching = [
        name
        for name in names
        if re.search(rf'(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])', stem.lower())
    ]
    return max(matching, key=len, default=None)


def read_images(images: Mapping[str, Path], cameras: Mapping[str, Camera]) -> dict[str, np.ndarray]:
    """Read images for a picture, and hold them against their calibration.

    Args:
        images: Image file of each camera.
        cameras: The cameras.

    Returns:
        (H, W, 3) uint8 RGB, by camera.

    Raises:
        CibaError: A file cannot be read, or is not of the size that its camera was calibrated for.
    """
    read = {}
    for name, path in images.items():
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise CibaError(
                f'{path}: the image of {name} cannot be read. It is damaged or no image; give a '
                'whole one.'
            )
        height, width = image.shape[:2]
        x, y = cameras[name].cam2img[:2, 2]
        # The identity stands in where only the product of the matrices is known.
        if (x or y) and not (0 < x < width and 0 < y < height):
            raise CibaError(
                f'{path}: the image has {width} x {height} pixels, but the optical axis of {name} '
                f'(cam2img) is at ({x:.0f}, {y:.0f}), outside of it. Give the image as it was '
                'calibrated, or scale the first two rows of cam2img as the image was.'
            )
        read[name] = np.ascontiguousarray(image[..., ::-1])
    return read


def read_points(path: str | os.PathLike, features: int, only_position: bool = False) -> np.ndarray:
    """Read a LiDAR sweep.

    Args:
        path: Raw float32 numbers (``.bin``), or a NumPy array (``.npy``).
        features: Numbers of a point: x, y, z in metres and what the model reads besides.
        only_position: Whether no more than x, y and z is needed, so that an array may have any
            number of columns.

    Returns:
        (N, features) float32.

    Raises:
        CibaError: The file is missing, empty, not finite, or of points with other features.
    """
    path = Path(path)
    if not path.is_file():
        raise CibaError(f'{path}: there is no such file of points.')
    remedy = (
        f'The model reads {features} numbers a point (load_dim of LoadPointsFromFile). Leave out '
        'columns, or append zeros, so that there are as many.'
    )
    if path.suffix == '.npy':
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CibaError(f'{path}: is no NumPy array of numbers ({error}).') from error
        columns = points.shape[1] if points.ndim == 2 else 0
        if columns != features and not (only_position and columns >= 3):
            raise CibaError(f'{path}: the array has shape {points.shape}. {remedy}')
        points = points.astype(np.float32)
    else:
        size = path.stat().st_size
        if size % (features * _FLOAT_BYTES):
            raise CibaError(
                f'{path}: its {size} bytes are no whole number of points of {features} float32 '
                f'numbers. {remedy}'
            )
        points = np.fromfile(path, dtype=np.float32).reshape(-1, features)
    if len(points) == 0:
        raise CibaError(f'{path}: there are no points in it.')
    if not np.isfinite(points).all():
        count = int((~np.isfinite(points)).any(1).sum())
        raise CibaError(f'{path}: {count} of {len(points)} points are not finite. Leave them out.')
    return points
