"""Positions of the LiDAR and the six cameras on the ego vehicle, as in nuScenes.

Frames: ego has x forward, y left, z up with its origin on the ground below the rear axle; the
LiDAR has x right, y forward, z up; a camera has x right, y down, z along the optical axis.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

REFERENCE_IMAGE_SIZE = (1600, 900)
LIDAR_CHANNEL = 'LIDAR_TOP'
LIDAR_ELEVATION_RANGE = (-30.67, 10.67)
LIDAR_MAX_RANGE = 100.0
CAMERA_CHANNELS = (
    'CAM_FRONT',
    'CAM_FRONT_RIGHT',
    'CAM_BACK_RIGHT',
    'CAM_BACK',
    'CAM_BACK_LEFT',
    'CAM_FRONT_LEFT',
)

# channel: position (m), yaw and pitch of the optical axis (degrees, left and up positive),
# focal length and principal point (pixels of a 1600 x 900 image)
_CAMERA_MOUNTS = {
    'CAM_FRONT': ((1.70, 0.02, 1.51), 0.3, -0.3, 1266.0, (816.0, 491.0)),
    'CAM_FRONT_RIGHT': ((1.55, -0.49, 1.50), -56.4, -0.8, 1261.0, (808.0, 495.0)),
    'CAM_BACK_RIGHT': ((1.01, -0.48, 1.56), -110.8, -0.9, 1260.0, (807.0, 501.0)),
    'CAM_BACK': ((0.03, 0.00, 1.58), 179.9, 1.0, 809.0, (829.0, 482.0)),
    'CAM_BACK_LEFT': ((1.04, 0.48, 1.59), 108.6, -0.9, 1257.0, (792.0, 493.0)),
    'CAM_FRONT_LEFT': ((1.52, 0.49, 1.51), 55.2, 0.1, 1273.0, (827.0, 480.0)),
}
_LIDAR_POSITION = (0.94, 0.0, 1.84)
_LIDAR_YAW_PITCH = (0.1, -1.4)


@dataclasses.dataclass(frozen=True)
class MountedSensor:
    """A sensor and its calibration.

    Attributes:
        channel: nuScenes channel name.
        translation: Position in the ego frame, (3,) metres.
        rotation: Sensor-to-ego rotation matrix, (3, 3).
        intrinsic: Camera matrix in pixels, (3, 3), or None for the LiDAR.  The centre of the
            top left pixel is (0.5, 0.5), so the matrix scales with the image size.
    """

    channel: str
    translation: np.ndarray
    rotation: np.ndarray
    intrinsic: np.ndarray | None = None


def _axes_from_forward(yaw_degrees: float, pitch_degrees: float) -> Rotation:
    return Rotation.from_euler('ZY', [yaw_degrees, -pitch_degrees], degrees=True)


def mounted_lidar() -> MountedSensor:
    """Return the roof LiDAR."""
    # Columns: the LiDAR's x (right), y (forward) and z (up) in a frame with x forward, y left.
    lidar_to_level = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rotation = _axes_from_forward(*_LIDAR_YAW_PITCH).as_matrix() @ lidar_to_level
    return MountedSensor(LIDAR_CHANNEL, np.array(_LIDAR_POSITION), rotation)


def mounted_cameras(image_width: int, image_height: int) -> list[MountedSensor]:
    """Return the six cameras with intrinsics for the given image size.

    Args:
        image_width: Image width in pixels.
        image_height: Image height in pixels.

    Returns:
        One sensor per channel, in the order of `CAMERA_CHANNELS`.
    """
    scale_x = image_width / REFERENCE_IMAGE_SIZE[0]
    scale_y = image_height / REFERENCE_IMAGE_SIZE[1]
    # Columns: the camera's x (right), y (down) and z (forward) in a frame with x forward, y left.
    camera_to_level = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    cameras = []
    for channel in CAMERA_CHANNELS:
        position, yaw, pitch, focal_length, (centre_x, centre_y) = _CAMERA_MOUNTS[channel]
        intrinsic = np.array(
            [
                [focal_length * scale_x, 0.0, centre_x * scale_x],
                [0.0, focal_length * scale_y, centre_y * scale_y],
                [0.0, 0.0, 1.0],
            ]
        )
        rotation = _axes_from_forward(yaw, pitch).as_matrix() @ camera_to_level
        cameras.append(
            MountedSensor(channel, np.array(position), rotation, intrinsic),
        )
    return cameras


def lidar_ray_directions(beams: int, azimuth_steps: int) -> np.ndarray:
    """Return the unit directions of the rays of a LiDAR turn, in the LiDAR frame.

    The turn starts behind-left like the real one, at -x, and goes clockwise seen from above.

    Args:
        beams: Number of beams, evenly spread over `LIDAR_ELEVATION_RANGE`.
        azimuth_steps: Columns in the turn.

    Returns:
        (azimuth_steps, beams, 3) float64; beam 0 is the lowest.
    """
    azimuth = np.pi - 2 * np.pi * np.arange(azimuth_steps) / azimuth_steps
    elevation = np.radians(np.linspace(*LIDAR_ELEVATION_RANGE, beams))
    directions = np.empty((azimuth_steps, beams, 3))
    directions[..., 0] = np.cos(azimuth)[:, None] * np.cos(elevation)
    directions[..., 1] = np.sin(azimuth)[:, None] * np.cos(elevation)
    directions[..., 2] = np.sin(elevation)
    return directions
