"""Project boxes and points into camera images."""

from __future__ import annotations

import numpy as np

# Corners 0 to 3 are the front face, 4 to 7 the back face, both counter-clockwise from bottom left.
BOX_EDGES = (
    (0, 1),
    (1, 2),
    (2, 3),
    (3, 0),
    (4, 5),
    (5, 6),
    (6, 7),
    (7, 4),
    (0, 4),
    (1, 5),
    (2, 6),
    (3, 7),
)
FRONT_FACE = (0, 1, 2, 3)
_UNIT_CORNERS = np.array(
    [
        [1, 1, -1],
        [1, -1, -1],
        [1, -1, 1],
        [1, 1, 1],
        [-1, 1, -1],
        [-1, -1, -1],
        [-1, -1, 1],
        [-1, 1, 1],
    ]
)


def box_corners(boxes: np.ndarray) -> np.ndarray:
    """Return the corners of boxes.

    Args:
        boxes: (N, 7 or more) x, y, z of the centre, extents along the box's own x (its heading),
            y and z in metres, yaw about z in radians.

    Returns:
        (N, 8, 3) corners in the same frame, those of the front face first.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    corners = _UNIT_CORNERS * boxes[:, None, 3:6] / 2
    cosine, sine = np.cos(boxes[:, 6])[:, None], np.sin(boxes[:, 6])[:, None]
    x = cosine * corners[..., 0] - sine * corners[..., 1]
    y = sine * corners[..., 0] + cosine * corners[..., 1]
    return np.stack([x, y, corners[..., 2]], axis=-1) + boxes[:, None, :3]


def project_points(points: np.ndarray, lidar2img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project points into an image.

    Args:
        points: (N, 3) in the LiDAR frame, metres.
        lidar2img: (4, 4) LiDAR frame to homogeneous pixels.

    Returns:
        (N, 2) pixel coordinates, meaningful where the depth is positive, and (N,) depths in
        metres along the optical axis.
    """
    homogeneous = points @ lidar2img[:3, :3].T + lidar2img[:3, 3]
    depth = homogeneous[:, 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return homogeneous[:, :2] / safe[:, None], depth


def project_segments(
    segments: np.ndarray, lidar2img: np.ndarray, near: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Project line segments into an image, clipped at a near plane.

    Args:
        segments: (N, 2, 3) end points in the LiDAR frame, metres.
        lidar2img: (4, 4) LiDAR frame to homogeneous pixels.
        near: Distance of the near plane from the camera in metres.

    Returns:
        (N, 2, 2) pixel coordinates, and (N,) whether a part of each segment is in front of the near
        plane.
    """
    ends = segments @ lidar2img[:3, :3].T + lidar2img[:3, 3]
    depth = ends[..., 2]
    visible = (depth > near).any(axis=1)
    span = depth[:, 1] - depth[:, 0]
    share = (near - depth[:, 0]) / np.where(np.abs(span) < 1e-12, 1e-12, span)
    crossing = ends[:, 0] + share[:, None] * (ends[:, 1] - ends[:, 0])
    clipped = np.where((depth <= near)[..., None], crossing[:, None], ends)
    return clipped[..., :2] / np.maximum(clipped[..., 2:], near), visible
