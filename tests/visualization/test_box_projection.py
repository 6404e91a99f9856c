"""Corners and projections against closed forms and the devkit."""

from __future__ import annotations

import numpy as np
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from ciba_bev.visualization import box_corners, project_points, project_segments

# LiDAR x right, y forward, z up; the camera looks forward from the LiDAR's own place.
INTRINSIC = np.array([[100.0, 0.0, 80.0], [0.0, 100.0, 45.0], [0.0, 0.0, 1.0]])
LIDAR_TO_CAMERA = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
LIDAR2IMG = np.eye(4)
LIDAR2IMG[:3, :3] = INTRINSIC @ LIDAR_TO_CAMERA


def test_corners_are_the_devkits():
    generator = np.random.default_rng(0)
    boxes = generator.uniform(-3, 3, (20, 7))
    boxes[:, 3:6] = generator.uniform(0.5, 5, (20, 3))
    for box, corners in zip(boxes, box_corners(boxes)):
        reference = Box(
            box[:3], box[[4, 3, 5]], Quaternion(axis=[0, 0, 1], radians=box[6])
        ).corners()
        ours = corners[np.lexsort(np.round(corners, 6).T)]
        theirs = reference.T[np.lexsort(np.round(reference, 6))]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
        # The devkit, too, puts the front face first.
        np.testing.assert_allclose(corners[:4].mean(axis=0), reference[:, :4].mean(axis=1))


def test_no_box_has_no_corners():
    assert box_corners(np.zeros((0, 7))).shape == (0, 8, 3)


def test_points_project_like_the_devkit():
    points = np.random.default_rng(0).uniform(1, 20, (50, 3))
    pixels, depth = project_points(points, LIDAR2IMG)
    in_camera = LIDAR_TO_CAMERA @ points.T
    np.testing.assert_allclose(depth, points[:, 1])
    np.testing.assert_allclose(pixels, view_points(in_camera, INTRINSIC, True)[:2].T)


def test_segments_end_at_the_near_plane():
    segments = np.array(
        [
            [[1.0, 10.0, 0.0], [1.0, -10.0, 0.0]],  # passes the camera
            [[0.0, 5.0, 0.0], [1.0, 5.0, 0.0]],
            [[0.0, -5.0, 0.0], [1.0, -5.0, 0.0]],  # behind it
        ]
    )
    ends, visible = project_segments(segments, LIDAR2IMG, near=0.5)
    assert visible.tolist() == [True, True, False]
    # At depth 10 and at the near plane, x / depth * focal length + principal point.
    np.testing.assert_allclose(ends[0], [[90.0, 45.0], [280.0, 45.0]])
    np.testing.assert_allclose(ends[1], [[80.0, 45.0], [100.0, 45.0]])
