"""Read ego motion from the nuScenes CAN bus expansion."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
from nuscenes.can_bus.can_bus_api import NuScenesCanBus

from .data_checks import DataError


def find_can_bus_folder(root_path: str | Path, can_bus: str | Path | None) -> Path | None:
    """Find the parent of the folder ``can_bus``, which the devkit needs.

    Args:
        root_path: The nuScenes root.
        can_bus: The ``can_bus`` folder or its parent; None to search the root and its parent.

    Returns:
        The parent of the ``can_bus`` folder; None if there is no expansion.

    Raises:
        DataError: ``can_bus`` is given, but is not such a folder.
    """
    if can_bus is None:
        root = Path(root_path)
        candidates = [root, root.absolute().parent]
        return next((folder for folder in candidates if (folder / 'can_bus').is_dir()), None)
    folder = Path(can_bus)
    if (folder / 'can_bus').is_dir():
        return folder
    if folder.absolute().name == 'can_bus' and folder.is_dir():
        return folder.absolute().parent
    raise DataError(
        f'{folder}: there is no folder can_bus here. Unpack can_bus.zip of nuScenes ("CAN bus '
        'expansion" on the download page) and give its can_bus folder, or leave --can-bus out to '
        'go without: ego motion then comes from the poses, and acceleration, rotation rate and '
        'velocity are zero.'
    )


class CanBusMotion:
    """Acceleration, rotation rate and velocity from the CAN bus expansion.

    Args:
        folder: The folder that contains ``can_bus/``.

    Attributes:
        scenes_without: Names of requested scenes without pose messages: those in the devkit's list
            of scenes without CAN bus data, and those whose file does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self._devkit = NuScenesCanBus(dataroot=str(folder))
        self._scene_name = ''
        self._times: list[int] = []
        self._messages: list[dict] = []
        self.scenes_without: list[str] = []

    def at(self, scene_name: str, timestamp: int) -> np.ndarray | None:
        """Return the motion in the last message at or before a time.

        Args:
            scene_name: Name of the scene, ``scene-0061``.
            timestamp: Unix time in microseconds.

        Returns:
            Acceleration (m/s^2), rotation rate (rad/s) and velocity (m/s), shape (9,); those of the
            first message if all are later; None if the scene has no messages.
        """
        if scene_name != self._scene_name:
            self._open_scene(scene_name)
        if not self._messages:
            return None
        message = self._messages[max(bisect_right(self._times, timestamp) - 1, 0)]
        return np.concatenate([message[key] for key in ('accel', 'rotation_rate', 'vel')])

    def _open_scene(self, scene_name: str) -> None:
        self._scene_name = scene_name
        scene_number = int(scene_name.rpartition('-')[2])
        file = Path(self._devkit.can_dir) / f'{scene_name}_pose.json'
        if scene_number in self._devkit.can_blacklist or not file.is_file():
            self.scenes_without.append(scene_name)
            self._messages = []
        else:
            try:
                messages = self._devkit.get_messages(scene_name, 'pose', print_warnings=False)
                self._messages = sorted(messages, key=lambda message: message['utime'])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f'{file}: the CAN bus messages are truncated or damaged ({error}). Unpack '
                    'can_bus.zip of nuScenes again.'
                ) from None
        self._times = [message['utime'] for message in self._messages]
