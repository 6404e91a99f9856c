"""The CAN bus expansion's pose messages for a simulated scene."""

from __future__ import annotations

from typing import Any

import numpy as np

from .nuscenes_tables import yaw_to_quaternion
from .scene_recording import Scene, timestamp_at
from .traffic import ego_pose

_MESSAGE_INTERVAL = 0.02
_GRAVITY = 9.81


def pose_messages(scene: Scene, duration: float) -> list[dict[str, Any]]:
    """Return the vehicle's measurements of its own motion, at 50 Hz.

    Args:
        scene: The scene.
        duration: Seconds from the first to the last key frame.

    Returns:
        Messages with the fields of nuScenes' `pose` messages: position and orientation in the
        world; acceleration, rotation rate and velocity in the ego frame.
    """
    messages = []
    step = _MESSAGE_INTERVAL
    for time in np.arange(-step, duration + 2 * step, step):
        position, yaw = ego_pose(scene.road, scene.ego_motion, time)
        _, yaw_before = ego_pose(scene.road, scene.ego_motion, time - step)
        _, yaw_after = ego_pose(scene.road, scene.ego_motion, time + step)
        turn = (yaw_after - yaw_before + np.pi) % (2 * np.pi) - np.pi
        yaw_rate = turn / (2 * step)
        speed = scene.ego_motion.speed(time)
        acceleration = scene.ego_motion.speed(time + 0.1) - scene.ego_motion.speed(time - 0.1)
        messages.append(
            {
                'accel': [acceleration / 0.2, speed * yaw_rate, _GRAVITY],
                'orientation': yaw_to_quaternion(yaw),
                'pos': position.tolist(),
                'rotation_rate': [0.0, 0.0, yaw_rate],
                'utime': timestamp_at(scene, time),
                'vel': [speed, 0.0, 0.0],
            }
        )
    return messages
