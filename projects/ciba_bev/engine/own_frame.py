"""Read a single frame from files: images, points and calibration that are not in a data set."""

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

from ..errors import CibaError, ConfigError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
# Deviation of a rotation matrix from orthonormal: calibrations are often rounded.
_ROTATION_TOLERANCE = 1e-2
_FLOAT_BYTES = 4
_EXAMPLE = (
    'A calibration file is {"cameras": {"CAM_FRONT": {"cam2img": 3x3, "lidar2cam": 4x4}, ...}, '
    '"lidar2ego": 4x4, "ego2global": 4x4}; the last two are optional (docs/nuscenes.md).'
)


@dataclass
class Camera:
    """One camera of a frame.

    Attributes:
        cam2img: (3, 3) intrinsic matrix, pixels of the image file.
        lidar2cam: (4, 4) from the LiDAR frame to the camera's (x right, y down, z forward), metres.
        image: File name of its image in the calibration; '' if there is none.
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
    """Calibration of the sensors of a frame.

    Attributes:
        file: The calibration file.
        cameras: Name to camera.
        lidar2ego: (4, 4), or None if it is not known.
        ego2global: (4, 4), or None if it is not known.
        token: Token of the frame; '' if it has none.
        point_features: Number of features of a LiDAR point; None if it is not known.
        info: The entry of the mmdet3d info file; None for a JSON file.
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
        path: A JSON file as described in docs/nuscenes.md, or an mmdet3d info file (``.pkl``).
        token: Token of a frame in an info file; None for the only frame.

    Returns:
        The calibration.

    Raises:
        CibaError: The file does not exist or is invalid; names the field.
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
                # Some converters list cameras without an image.
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
        raise CibaError(f'{path}: cameras must map names to matrices. {_EXAMPLE}')
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
        asked = 'choose one with --token' if token is None else f'none of them is {token}'
        raise ConfigError(
            f'{path}: the info file has {len(infos)} frames; {asked}. The first is '
            f'{tokens[0] if tokens else "missing"}.'
        )
    return infos[tokens.index(token)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CibaError(
            f'{path}: the calibration is not a JSON file ({error}). {_EXAMPLE}'
        ) from error
    if not isinstance(content, dict):
        raise CibaError(f'{path}: the calibration is a {type(content).__name__}. {_EXAMPLE}')
    unknown = set(content) - {'cameras', 'lidar2ego', 'ego2global', 'token', 'point_features'}
    if unknown:
        raise CibaError(f'{path}: unknown field {", ".join(sorted(unknown))}. {_EXAMPLE}')
    return content


def _camera(camera: Mapping[str, Any], field: str) -> Camera:
    image = str(camera.get('image') or '')
    if 'cam2img' not in camera and 'lidar2img' in camera:
        # Only the product is used, and scaling an image scales the rows of both.
        lidar2img = _matrix(camera['lidar2img'], f'{field}.lidar2img', [(4, 4), (3, 4)])
        return Camera(np.eye(3), lidar2img, image)
    missing = [name for name in ('cam2img', 'lidar2cam') if camera.get(name) is None]
    if missing:
        raise CibaError(
            f'{field}: {" and ".join(missing)} missing. Give cam2img and lidar2cam, or lidar2img.'
        )
    cam2img = _matrix(camera['cam2img'], f'{field}.cam2img', [(3, 3), (3, 4), (4, 4)])
    lidar2cam = _pose(camera['lidar2cam'], f'{field}.lidar2cam')
    if not np.allclose(cam2img[:3, 3], 0):
        # A projection with an offset, as in KITTI, shifts the camera.
        return Camera(np.eye(3), cam2img @ lidar2cam, image)
    return Camera(cam2img[:3, :3], lidar2cam, image)


def _optional_pose(content: Mapping[str, Any], name: str, field: Path) -> np.ndarray | None:
    return None if content.get(name) is None else _pose(content[name], f'{field}: {name}')


def _pose(value: Any, field: str) -> np.ndarray:
    pose = _matrix(value, field, [(4, 4), (3, 4)])
    rotation = pose[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise CibaError(
            f'{field} is not a rigid transform (its upper left 3 x 3 part times its transpose '
            f'differs from the identity by {error:.2g}). Give rotation and translation in metres.'
        )
    return pose


def _matrix(value: Any, field: str, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return a (4, 4) matrix with the given one in its upper left corner."""
    allowed = ' or '.join(f'{rows} x {columns}' for rows, columns in shapes)
    try:
        given = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CibaError(f'{field} is not a matrix of numbers; give {allowed}.') from error
    if given.shape not in shapes:
        shape = ' x '.join(map(str, given.shape)) or 'a single number'
        raise CibaError(f'{field} is {shape}; it must be {allowed}.')
    if not np.isfinite(given).all():
        raise CibaError(f'{field} contains NaN or infinity.')
    matrix = np.eye(4)
    matrix[: given.shape[0], : given.shape[1]] = given
    return matrix


def choose_cameras(calibration: Calibration, expected: Sequence[str]) -> dict[str, Camera]:
    """Sort the cameras of a frame in the order of the training data.

    Args:
        calibration: Calibration of the frame.
        expected: Names of the cameras in the config's data; empty if there are none.

    Returns:
        Name to camera. If no name is expected, the order is that of the calibration.

    Raises:
        CibaError: Expected cameras are missing, or there are others.
    """
    cameras = calibration.cameras
    if len(cameras) == len(expected) and not set(cameras) & set(expected):
        print_log(
            f'{calibration.file}: the cameras {", ".join(cameras)} are used as '
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
        given: Folders or image files. The image of a camera is the file named in the calibration,
            or else the file whose name contains that of the camera.
        cameras: Name to camera.
        calibration: The calibration file, for messages.

    Returns:
        Name of each camera to its image file.

    Raises:
        CibaError: A camera has no image or several, or a path does not exist.
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
                f'expected {wanted}one file with {name} in its name.'
            )
        found[name] = candidates[0]
    return found


def _camera_in(stem: str, names: Sequence[str]) -> str | None:
    """Return the longest camera name in a file name: CAM_FRONT_LEFT is not CAM_FRONT."""
    matching = [
        name
        for name in names
        if re.search(rf'(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])', stem.lower())
    ]
    return max(matching, key=len, default=None)


def read_images(images: Mapping[str, Path], cameras: Mapping[str, Camera]) -> dict[str, np.ndarray]:
    """Read images, and check their sizes against the calibration.

    Args:
        images: Name of each camera to its image file.
        cameras: Name to camera.

    Returns:
        Name of each camera to (H, W, 3) uint8 RGB.

    Raises:
        CibaError: A file cannot be read, or its size contradicts the calibration.
    """
    read = {}
    for name, path in images.items():
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise CibaError(
                f'{path}: the image of {name} cannot be read. It is damaged or not an image.'
            )
        height, width = image.shape[:2]
        x, y = cameras[name].cam2img[:2, 2]
        # The intrinsics are the identity if only the product of the matrices is known.
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
        features: Number of features of a point: x, y, z in metres, then others.
        only_position: Whether only x, y and z are needed, so that an array may have any number of
            further columns.

    Returns:
        (N, features) float32.

    Raises:
        CibaError: The file does not exist, is empty, not finite, or has another number of features.
    """
    path = Path(path)
    if not path.is_file():
        raise CibaError(f'{path}: there is no such file of points.')
    remedy = (
        f'The model reads {features} numbers per point (load_dim of LoadPointsFromFile). Remove '
        'columns, or append zeros.'
    )
    if path.suffix == '.npy':
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CibaError(f'{path}: not a NumPy array of numbers ({error}).') from error
        columns = points.shape[1] if points.ndim == 2 else 0
        if columns != features and not (only_position and columns >= 3):
            raise CibaError(f'{path}: the array has shape {points.shape}. {remedy}')
        points = points.astype(np.float32)
    else:
        size = path.stat().st_size
        if size % (features * _FLOAT_BYTES):
            raise CibaError(
                f'{path}: its {size} bytes are not a multiple of {features} float32 numbers. '
                f'{remedy}'
            )
        points = np.fromfile(path, dtype=np.float32).reshape(-1, features)
    if len(points) == 0:
        raise CibaError(f'{path}: contains no points.')
    if not np.isfinite(points).all():
        count = int((~np.isfinite(points)).any(1).sum())
        raise CibaError(f'{path}: {count} of {len(points)} points are not finite. Remove them.')
    return points
