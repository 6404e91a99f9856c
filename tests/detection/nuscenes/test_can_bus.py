import numpy as np
import pytest
from nuscenes.eval.common.utils import quaternion_yaw
from pyquaternion import Quaternion

from ciba_bev.detection.nuscenes.can_bus import (
    absolute_can_bus,
    can_bus_from_ego_pose,
    relative_can_bus,
)


def rotation_about_z(degrees):
    return Quaternion(axis=[0, 0, 1], degrees=degrees)


def frame(degrees, translation=(0.0, 0.0, 0.0)):
    return absolute_can_bus(np.array(translation), rotation_about_z(degrees).elements)


@pytest.mark.parametrize('seed', range(5))
def test_yaw_is_the_devkits(seed):
    rotation = Quaternion(np.random.default_rng(seed).normal(size=4)).normalised
    can_bus = absolute_can_bus(np.zeros(3), rotation.elements)
    assert np.isclose(can_bus[16], quaternion_yaw(rotation) % (2 * np.pi))
    assert np.isclose(can_bus[17], np.degrees(can_bus[16]))
    assert 0 <= can_bus[16] < 2 * np.pi


def test_yaw_just_below_zero_stays_below_two_pi():
    assert frame(-1e-15)[16] < 2 * np.pi


def test_absolute_vector_holds_each_part_in_its_place():
    rotation = rotation_about_z(90)
    can_bus = absolute_can_bus(np.array([1.0, 2.0, 3.0]), rotation.elements, np.arange(9) + 10)
    assert can_bus.dtype == np.float64
    np.testing.assert_array_equal(can_bus[:3], [1, 2, 3])
    np.testing.assert_allclose(can_bus[3:7], [np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    np.testing.assert_array_equal(can_bus[7:16], np.arange(10, 19))
    np.testing.assert_allclose(can_bus[16:], [np.pi / 2, 90])


@pytest.mark.parametrize(
    ('before', 'after', 'turned'),
    [(10, 25, 15), (25, 10, -15), (350, 5, 15), (5, 350, -15), (0, 180, 180), (180, 0, 180)],
)
def test_yaw_change_takes_the_short_way(before, after, turned):
    relative = relative_can_bus(frame(after), frame(before))
    assert relative[17] == pytest.approx(turned, abs=1e-9)
    assert relative[16] == pytest.approx(np.radians(after))


def test_translation_is_in_global_axes():
    relative = relative_can_bus(frame(90, (7, 5, 3)), frame(90, (4, 4, 4)))
    np.testing.assert_allclose(relative[:3], [3, 1, -1])


def test_first_frame_has_not_moved_and_its_input_is_left_alone():
    current = frame(30, (1, 2, 3))
    copy = current.copy()
    relative = relative_can_bus(current, None)
    np.testing.assert_array_equal(relative[[0, 1, 2, 17]], 0)
    np.testing.assert_array_equal(relative[3:17], copy[3:17])
    np.testing.assert_array_equal(current, copy)


@pytest.mark.parametrize('degrees', [0, 45, 200, 359])
def test_ego_pose_alone_gives_the_rotation_without_motion(degrees):
    rotation = rotation_about_z(degrees)
    pose = rotation.transformation_matrix.astype(np.float32)
    pose[:3, 3] = [1000, 2000, 3]
    can_bus = can_bus_from_ego_pose(pose)
    np.testing.assert_array_equal(can_bus[:3], 0)
    np.testing.assert_array_equal(can_bus[7:16], 0)
    assert can_bus[3] >= 0
    assert Quaternion.absolute_distance(Quaternion(can_bus[3:7]), rotation) < 1e-6
    assert can_bus[16] == pytest.approx(np.radians(degrees), abs=1e-6)
    assert can_bus[17] == 0
