"""Check the camera matrices of an info file against its poses.

``lidar2cam`` of a camera follows from the mounting of LiDAR and camera and from the motion of the
vehicle between the two recordings. It is wrong in info files written by mmdet3d 1.1.0rc0 to rc2:
for a camera at t with orientation R in the LiDAR frame, they contain [R^T | -t] instead of
[R^T | -R^T t], which shifts points by about a metre.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from .sweeps import invert_pose

MAX_OFFSET = 0.15  # metres
MAX_ANGLE = 1.0  # degrees
# Limits for the motion between camera and LiDAR, if the pose at the camera's time is not known.
MAX_SPEED = 40.0  # metres a second
MAX_TURN_RATE = 60.0  # degrees a second
UNKNOWN_DELAY = 0.1  # seconds


class InconsistentCamera(NamedTuple):
    """A camera whose ``lidar2cam`` contradicts the poses.

    Attributes:
        camera: Its name.
        finding: Description of the deviation.
    """

    camera: str
    finding: str


def find_inconsistent_cameras(
    info: dict, camera_ego2global: Mapping[str, np.ndarray] | None = None
) -> list[InconsistentCamera]:
    """Find cameras whose ``lidar2cam`` contradicts the poses in an info.

    Args:
        info: Entry of an info file's ``data_list``. Cameras without ``cam2ego`` are skipped.
        camera_ego2global: Pose of the vehicle at the time of each camera, (4, 4). Without it, the
            pose is interpolated from the past sweeps; without past sweeps, the tolerance includes
            the motion of a fast vehicle.

    Returns:
        The cameras that deviate by more than 15 cm or one degree.
    """
    key_ego, lidar2ego = info.get('ego2global'), info['lidar_points'].get('lidar2ego')
    images = {
        name: image
        for name, image in (info.get('images') or {}).items()
        if image.get('cam2ego') is not None and image.get('lidar2cam') is not None
    }
    if not images or key_ego is None or lidar2ego is None:
        return []
    key_ego = np.asarray(key_ego, dtype=np.float64)
    known = camera_ego2global or {}
    poses, slacks = zip(
        *(
            (known[name], 0.0) if name in known else _ego_pose_at(info, image.get('timestamp'))
            for name, image in images.items()
        )
    )
    poses, slack = np.array(poses, dtype=np.float64), np.array(slacks)
    # Global positions are kilometres from the origin: use differences, for precision.
    poses[:, :3, 3] -= key_ego[:3, 3]
    from_key = np.eye(4)
    from_key[:3, :3] = key_ego[:3, :3].T
    cam2ego = np.array([image['cam2ego'] for image in images.values()], dtype=np.float64)
    lidar2cam = np.array([image['lidar2cam'] for image in images.values()], dtype=np.float64)
    ego2lidar = invert_pose(np.asarray(lidar2ego, dtype=np.float64))
    expected = ego2lidar @ from_key @ poses @ cam2ego
    found = invert_pose(lidar2cam)

    offsets = np.linalg.norm(found[:, :3, 3] - expected[:, :3, 3], axis=-1)
    turned = np.trace(lidar2cam[:, :3, :3] @ expected[:, :3, :3], axis1=1, axis2=2)
    angles = np.degrees(np.arccos(np.clip((turned - 1) / 2, -1, 1)))
    # The translation of mmdet3d's release candidates, interpreted as intended.
    as_candidates = np.linalg.norm(-lidar2cam[:, :3, 3] - expected[:, :3, 3], axis=-1)
    allowed = MAX_OFFSET + MAX_SPEED * slack
    inconsistent = (offsets > allowed) | (angles > MAX_ANGLE + MAX_TURN_RATE * slack)
    # NaN is inconsistent, too.
    inconsistent |= ~np.isfinite(offsets + angles)
    return [
        InconsistentCamera(name, _describe(offset, angle, candidate <= limit))
        for name, is_inconsistent, offset, angle, candidate, limit in zip(
            images, inconsistent, offsets, angles, as_candidates, allowed
        )
        if is_inconsistent
    ]


def _describe(offset: float, angle: float, is_from_candidate: bool) -> str:
    origin = ' as files of mmdet3d 1.1.0rc0 to rc2 do,' if is_from_candidate else ''
    return (
        f'lidar2cam puts the camera,{origin} {offset:.2f} m and {angle:.1f} degrees from where the '
        'poses of LiDAR, vehicle and camera put it'
    )


def _ego_pose_at(info: dict, timestamp: float | None) -> tuple[np.ndarray, float]:
    """Return the pose of the vehicle near the time of the key sweep, and the unknown delay.

    It is interpolated, or slightly extrapolated, between the key sweep and the one before.
    """
    pose = np.array(info['ego2global'], dtype=np.float64)
    if timestamp is None or info.get('timestamp') is None:
        return pose, UNKNOWN_DELAY
    delay = timestamp - info['timestamp']
    earlier = [
        sweep
        for sweep in info.get('lidar_sweeps', ())
        if sweep.get('ego2global') is not None and sweep['timestamp'] < info['timestamp']
    ]
    if not earlier:
        return pose, abs(delay)
    before = np.asarray(earlier[0]['ego2global'], dtype=np.float64)
    share = delay / (info['timestamp'] - earlier[0]['timestamp'])
    motion = Rotation.from_matrix(before[:3, :3].T @ pose[:3, :3]).as_rotvec()
    then = pose.copy()
    then[:3, :3] = pose[:3, :3] @ Rotation.from_rotvec(share * motion).as_matrix()
    then[:3, 3] += share * (pose[:3, 3] - before[:3, 3])
    return then, 0.0


def camera_poses(nuscenes: Any, info: dict) -> dict[str, np.ndarray]:
    """Return the pose of the vehicle at the time of each camera.

    Args:
        nuscenes: The devkit, with the tables of the info file.
        info: Entry of an info file's ``data_list``.

    Returns:
        Camera to ``ego2global``, (4, 4) float64.
    """
    channels = nuscenes.get('sample', info['token'])['data']
    poses = {}
    for camera in set(info.get('images') or {}) & set(channels):
        record = nuscenes.get('sample_data', channels[camera])
        stored = nuscenes.get('ego_pose', record['ego_pose_token'])
        w, x, y, z = stored['rotation']
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
        pose[:3, 3] = stored['translation']
        poses[camera] = pose
    return poses
