"""The 18 numbers that describe the motion of the ego vehicle to BEVFormer.

Layout, as in BEVFormer, so that its published weights can be used:

====== ============================================================== ============
index  meaning                                                        unit
====== ============================================================== ============
0:3    translation, global axes                                       m
3:7    ego rotation in the global frame, quaternion (w, x, y, z)      1
7:10   acceleration, ego axes                                         m/s^2
10:13  rotation rate, ego axes                                        rad/s
13:16  velocity, ego axes                                             m/s
16     ego yaw in the global frame, in [0, 2 pi)                      rad
17     ego yaw                                                        degree
====== ============================================================== ============

Info files contain the *absolute* vector of a frame: entry 0:3 is the global position, entry 17 the
yaw. The input of a model is the *relative* one: translation and yaw change since the previous
frame.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

CAN_BUS_SIZE = 18
TRANSLATION = slice(0, 3)
ROTATION = slice(3, 7)
MOTION = slice(7, 16)
YAW_RADIANS = 16
YAW_DEGREES = 17


def absolute_can_bus(
    translation: np.ndarray, rotation: np.ndarray, motion: np.ndarray | None = None
) -> np.ndarray:
    """Return the absolute vector of a frame.

    Args:
        translation: Ego position in the global frame, shape (3,), metres.
        rotation: Ego rotation in the global frame, unit quaternion (w, x, y, z), shape (4,).
        motion: Acceleration, rotation rate and velocity as the CAN bus reports them, shape (9,).
            None if there is no CAN bus message, for zeros.

    Returns:
        The absolute vector, float64, shape (18,).
    """
    yaw = _yaw_of_quaternion(rotation)
    can_bus = np.zeros(CAN_BUS_SIZE)
    can_bus[TRANSLATION] = translation
    can_bus[ROTATION] = rotation
    if motion is not None:
        can_bus[MOTION] = motion
    can_bus[YAW_RADIANS] = yaw
    can_bus[YAW_DEGREES] = np.degrees(yaw)
    return can_bus


def can_bus_from_ego_pose(ego2global: np.ndarray) -> np.ndarray:
    """Return the relative vector of a frame without a past, from its ego pose.

    Args:
        ego2global: Transform from the ego to the global frame, shape (4, 4), metres.

    Returns:
        The relative vector with zero motion, float64, shape (18,).
    """
    ego2global = np.asarray(ego2global, dtype=np.float64)
    x, y, z, w = Rotation.from_matrix(ego2global[:3, :3]).as_quat()
    # q and -q are the same rotation: fix the sign, so that equal poses have equal vectors.
    sign = -1.0 if w < 0 else 1.0
    current = absolute_can_bus(ego2global[:3, 3], sign * np.array([w, x, y, z]))
    return relative_can_bus(current, None)


def relative_can_bus(current: np.ndarray, previous: np.ndarray | None) -> np.ndarray:
    """Return the vector of a frame relative to the frame before it.

    Args:
        current: Absolute vector of the frame, shape (18,).
        previous: Absolute vector of the frame before it, shape (18,); ``None`` at the start of a
            clip or scene.

    Returns:
        A copy of ``current``, float64, shape (18,), whose entries 0:3 are the translation since
        ``previous`` in global axes (m) and whose entry 17 is the yaw change since ``previous`` in
        degrees, in (-180, 180]. Both are zero without ``previous``.
    """
    relative = np.array(current, dtype=np.float64)
    if previous is None:
        relative[TRANSLATION] = 0.0
        relative[YAW_DEGREES] = 0.0
        return relative
    previous = np.asarray(previous, dtype=np.float64)
    relative[TRANSLATION] -= previous[TRANSLATION]
    turned = relative[YAW_DEGREES] - previous[YAW_DEGREES]
    relative[YAW_DEGREES] = 180.0 - (180.0 - turned) % 360.0
    return relative


def _yaw_of_quaternion(rotation: np.ndarray) -> float:
    w, x, y, z = rotation
    forward = Rotation.from_quat([x, y, z, w]).apply([1.0, 0.0, 0.0])
    yaw = float(np.arctan2(forward[1], forward[0]) % (2 * np.pi))
    # The modulo of a tiny negative angle is exactly 2 pi.
    return 0.0 if yaw >= 2 * np.pi else yaw
