"""Settings of a simulated data set."""

from __future__ import annotations

import dataclasses
import math

from .errors import SettingsError
from .sensor_rig import LIDAR_MAX_RANGE

MINI_TRAIN_SCENES = (
    'scene-0061',
    'scene-0553',
    'scene-0655',
    'scene-0757',
    'scene-0796',
    'scene-1077',
    'scene-1094',
    'scene-1100',
)
MINI_VAL_SCENES = ('scene-0103', 'scene-0916')
VERSIONS = ('v1.0-mini', 'v1.0-trainval')
KEY_FRAME_INTERVAL = 0.5
"""Seconds between two annotated key frames, as in nuScenes (2 Hz)."""


@dataclasses.dataclass(frozen=True)
class SimulationSettings:
    """Size and density of the simulated recordings.

    Attributes:
        frames_per_scene: Key frames in each scene, half a second apart.
        image_width: Width of every camera image in pixels.
        image_height: Height of every camera image in pixels.
        supersampling: Rays along each side of a pixel; their mean is the pixel.
        lidar_beams: Beams of the LiDAR, spread over nuScenes' elevations.
        lidar_azimuth_steps: LiDAR columns in one turn.
        lidar_range: Range of the LiDAR, metres. Objects without LiDAR points are not evaluated in
            nuScenes, so that this is also the range of relevant objects.
        sweeps_per_keyframe: LiDAR sweeps without annotations before each key frame.
        visibility: Meteorological optical range of the cameras in fog, metres; infinite without
            fog. The LiDAR sees through it.
        can_bus: Whether to write the CAN bus expansion's pose messages.
        version: Name of the table folder.

    Raises:
        SettingsError: A value is out of range.
    """

    frames_per_scene: int = 40
    image_width: int = 192
    image_height: int = 112
    supersampling: int = 2
    lidar_beams: int = 32
    lidar_azimuth_steps: int = 900
    lidar_range: float = 40.0
    sweeps_per_keyframe: int = 0
    visibility: float = math.inf
    can_bus: bool = False
    version: str = 'v1.0-mini'

    def __post_init__(self) -> None:
        """Check all values."""
        limits = {
            'frames_per_scene': (1, 1000),
            'image_width': (16, 4096),
            'image_height': (9, 4096),
            'supersampling': (1, 4),
            'lidar_beams': (2, 256),
            'lidar_azimuth_steps': (8, 8192),
            'lidar_range': (5, LIDAR_MAX_RANGE),
            'sweeps_per_keyframe': (0, 9),
            'visibility': (5, math.inf),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f'{name} is {value}; choose a value from {low} to {high}')
        if self.version not in VERSIONS:
            raise SettingsError(
                f'unknown version {self.version!r}; choose one of {", ".join(VERSIONS)}'
            )


def scenes_of_version(version: str) -> tuple[str, ...]:
    """Return the names of all scenes that may appear in a nuScenes version.

    Args:
        version: ``v1.0-mini`` or ``v1.0-trainval``.

    Returns:
        Scene names of the training split followed by those of the validation split.
    """
    if version == 'v1.0-mini':
        return MINI_TRAIN_SCENES + MINI_VAL_SCENES
    from nuscenes.utils import splits  # slow to import, and only needed for the large version

    return tuple(splits.train) + tuple(splits.val)


def resolve_scene_names(requested: list[str], version: str) -> list[str]:
    """Return the scene names for a number of scenes or a list of names.

    Args:
        requested: Empty for all ten mini scenes, one number N for N scenes (at least one of them
            a validation scene when N is 2 or more), or scene names.
        version: nuScenes version.

    Returns:
        Scene names, sorted, so that the order of the arguments does not matter.

    Raises:
        SettingsError: A name is unknown or repeated, or the number is out of range.
    """
    known = scenes_of_version(version)
    if not requested:
        return sorted(MINI_TRAIN_SCENES + MINI_VAL_SCENES)
    if len(requested) == 1 and requested[0].lstrip('-').isdigit():
        count = int(requested[0])
        if not 1 <= count <= len(known):
            raise SettingsError(
                f'{version} has {len(known)} scenes, so {count} cannot be simulated'
            )
        # Spread over the list, so that the validation scenes at its end are always represented.
        chosen = [known[(index * len(known)) // count] for index in range(count - 1)]
        return sorted([*chosen, known[-1]])
    unknown = [name for name in requested if name not in known]
    if unknown:
        hint = ', '.join(known) if len(known) <= 10 else "the devkit's train and val splits"
        raise SettingsError(f'unknown scene name {unknown[0]!r}; {version} has {hint}')
    if len(set(requested)) != len(requested):
        raise SettingsError('a scene name is given twice')
    return sorted(requested)
