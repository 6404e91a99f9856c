"""Drives through one simulated scene and records it: sensor files, and what tables need."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import zlib
from typing import Sequence

import cv2
import numpy as np

from .appearance import Daylight, add_fog
from .primitives import Primitives, concatenate, place_in_world
from .ray_casting import compiled
from .road import Road, RoadRaster, random_road
from .scenery import ground_shadows, random_daylight, random_scenery
from .sensor_rig import LIDAR_CHANNEL, lidar_ray_directions, mounted_cameras, mounted_lidar
from .sensors import World, record_camera, record_lidar, sensor_pose
from .settings import KEY_FRAME_INTERVAL, SimulationSettings
from .traffic import Motion, TrafficObject, ego_pose, random_motion, random_traffic

ANNOTATION_RANGE = 60.0
"""Objects further from the ego vehicle than this many metres are not annotated."""
_SIGHT_BEYOND_ENDS = 110.0
_JPEG_QUALITY = 92
_FIRST_TIMESTAMP = 1_600_000_000_000_000


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene before anything is recorded in it.

    Attributes:
        name: nuScenes scene name.
        seed: Seed of the whole data set.
        start_timestamp: Microseconds at the first key frame.
        road: The road.
        road_raster: Its coordinates on a grid.
        ego_motion: How the ego vehicle drives.
        objects: Annotated objects.
        scenery: Solids without annotation, in the world.
        light: Daylight.
    """

    name: str
    seed: int
    start_timestamp: int
    road: Road
    road_raster: RoadRaster
    ego_motion: Motion
    objects: list[TrafficObject]
    scenery: Primitives
    light: Daylight

    def world_at(self, time: float) -> World:
        """Return everything there is to see at a time in seconds."""
        parts = []
        for index, item in enumerate(self.objects):
            position, yaw = item.pose(self.road, time)
            parts.append(place_in_world(item.shape, position, yaw, index))
        solids = concatenate([*parts, self.scenery])
        return World(solids, len(self.objects), self.road, self.road_raster, self.light)


def _generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a source of randomness of its own for every purpose."""
    keys = [zlib.crc32(str(part).encode()) for part in purpose]
    return np.random.default_rng([seed, *keys])


@functools.lru_cache(maxsize=2)
def build_scene(name: str, seed: int, duration: float) -> Scene:
    """Draw the road, the traffic, the scenery and the weather of a scene.

    Args:
        name: nuScenes scene name; each name is a different place.
        seed: Seed of the data set.
        duration: Seconds that will be recorded.

    Returns:
        The scene, the same for the same arguments.
    """
    generator = _generator(seed, name, 'scene')
    may_stop = bool(generator.random() < 0.35)
    ego_motion = random_motion(generator, generator.uniform(4.5, 8.0), duration, may_stop)
    travelled = ego_motion.distance(duration)
    half_length = travelled / 2 + _SIGHT_BEYOND_ENDS
    centre = (half_length + 80.0, half_length + 80.0)
    road = random_road(generator, -_SIGHT_BEYOND_ENDS, travelled + _SIGHT_BEYOND_ENDS, centre)
    objects = random_traffic(generator, ego_motion, duration)
    scenery = random_scenery(generator, road)
    light = random_daylight(generator)
    start = _FIRST_TIMESTAMP + int(name.split('-')[1]) * 100_000_000
    return Scene(name, seed, start, road, road.raster(), ego_motion, objects, scenery, light)


def log_name(scene: Scene) -> str:
    """Return the log name that starts every file name of a scene, in nuScenes' pattern."""
    number = int(scene.name.split('-')[1])
    return f'n900-2020-09-13-{number // 60 % 24:02d}-{number % 60:02d}-00+0000'


def record_filename(scene: Scene, channel: str, timestamp: int, is_key_frame: bool) -> str:
    """Return the path of a sensor file below the data root."""
    folder = 'samples' if is_key_frame else 'sweeps'
    ending = 'pcd.bin' if channel == LIDAR_CHANNEL else 'jpg'
    return f'{folder}/{channel}/{log_name(scene)}__{channel}__{timestamp}.{ending}'


@dataclasses.dataclass(frozen=True)
class RecordedAnnotation:
    """One object at one key frame, before it is known in which frames it is annotated.

    Attributes:
        object_index: Index into the scene's objects.
        position: Box centre in the world, (3,) metres.
        yaw: Heading in radians.
        attribute: nuScenes attribute name or ''.
        lidar_points: LiDAR points inside the box.
        visible: Pixels in which the object is seen, over all cameras.
        covered: Pixels in which it would be seen if nothing stood before it.
    """

    object_index: int
    position: np.ndarray
    yaw: float
    attribute: str
    lidar_points: int
    visible: float
    covered: float


@dataclasses.dataclass(frozen=True)
class RecordedFrame:
    """What one key frame adds to the tables; its sensor files are already written.

    Attributes:
        index: Number of the key frame in its scene.
        annotations: Every object within `ANNOTATION_RANGE`.
    """

    index: int
    annotations: list[RecordedAnnotation]


def count_points_in_box(
    points: np.ndarray, centre: np.ndarray, size: np.ndarray, yaw: float
) -> int:
    """Count points inside an upright box.

    Args:
        points: (N, 3) world metres.
        centre: (3,) box centre.
        size: (3,) length, width, height.
        yaw: Heading in radians.

    Returns:
        Number of points inside or on the surface.
    """
    return int(_count_in_box(points, centre, size / 2, np.cos(yaw), np.sin(yaw)))


@compiled
def _count_in_box(
    points: np.ndarray, centre: np.ndarray, half_size: np.ndarray, cosine: float, sine: float
) -> int:
    count = 0
    for index in range(len(points)):
        x, y, z = points[index, 0] - centre[0], points[index, 1] - centre[1], points[index, 2]
        inside = abs(cosine * x + sine * y) <= half_size[0]
        inside &= abs(cosine * y - sine * x) <= half_size[1]
        inside &= abs(z - centre[2]) <= half_size[2]
        count += inside
    return count


def frame_times(settings: SimulationSettings, index: int) -> list[tuple[float, bool]]:
    """Return the times of the sweeps that lead to a key frame and of the key frame itself.

    Args:
        settings: Density of the recording.
        index: Number of the key frame; the first one has no sweeps before it.

    Returns:
        (seconds since the first key frame, whether it is the key frame), in order.
    """
    sweeps = settings.sweeps_per_keyframe if index > 0 else 0
    step = KEY_FRAME_INTERVAL / (sweeps + 1)
    times = [(index * KEY_FRAME_INTERVAL - back * step, False) for back in range(sweeps, 0, -1)]
    return [*times, (index * KEY_FRAME_INTERVAL, True)]


def timestamp_at(scene: Scene, time: float) -> int:
    """Return nuScenes microseconds for seconds since the first key frame."""
    return scene.start_timestamp + round(time * 1e6)


def record_frame(
    scene: Scene, settings: SimulationSettings, index: int, root: pathlib.Path
) -> RecordedFrame:
    """Record one key frame and the sweeps before it, and write the sensor files.

    Args:
        scene: The scene.
        settings: Size and density of the recording.
        index: Number of the key frame.
        root: Data root; the folders of all channels exist.

    Returns:
        The objects around the ego vehicle.
    """
    lidar = mounted_lidar()
    directions = lidar_ray_directions(settings.lidar_beams, settings.lidar_azimuth_steps)
    for time, is_key_frame in frame_times(settings, index):
        world = scene.world_at(time)
        timestamp = timestamp_at(scene, time)
        generator = _generator(scene.seed, scene.name, 'noise', timestamp)
        ego = ego_pose(scene.road, scene.ego_motion, time)
        position, rotation = sensor_pose(lidar, *ego)
        points, _ = record_lidar(
            world, position, rotation, directions, generator, settings.lidar_range
        )
        points.tofile(root / record_filename(scene, LIDAR_CHANNEL, timestamp, is_key_frame))
        if not is_key_frame:
            continue
        visible, covered = _record_cameras(scene, settings, world, ego, timestamp, generator, root)
        world_points = points[:, :3].astype(np.float64) @ rotation.T + position
    annotations = []
    for object_index, item in enumerate(scene.objects):
        foot, yaw = item.pose(scene.road, time)
        if np.hypot(*(foot - ego[0])[:2]) > ANNOTATION_RANGE:
            continue
        centre = foot + np.array([0.0, 0.0, item.size[2] / 2])
        annotations.append(
            RecordedAnnotation(
                object_index,
                centre,
                yaw,
                item.attribute(time),
                count_points_in_box(world_points, centre, item.size, yaw),
                float(visible[object_index]),
                float(covered[object_index]),
            )
        )
    return RecordedFrame(index, annotations)


def _record_cameras(
    scene: Scene,
    settings: SimulationSettings,
    world: World,
    ego: tuple[np.ndarray, float],
    timestamp: int,
    generator: np.random.Generator,
    root: pathlib.Path,
) -> tuple[np.ndarray, np.ndarray]:
    """Write all images; return visible and covered pixels of each object, summed over them."""
    world = dataclasses.replace(world, light=add_fog(world.light, settings.visibility))
    shadows = ground_shadows(world.solids, ego[0], world.light.sun_direction)
    visible = np.zeros(len(scene.objects))
    covered = np.zeros(len(scene.objects))
    image_size = (settings.image_width, settings.image_height)
    for camera in mounted_cameras(*image_size):
        position, rotation = sensor_pose(camera, *ego)
        recording = record_camera(
            world,
            shadows,
            camera,
            position,
            rotation,
            image_size,
            settings.supersampling,
            generator,
        )
        visible += recording.visible
        covered += recording.covered
        path = root / record_filename(scene, camera.channel, timestamp, True)
        write_image(path, recording.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return visible, covered


def write_image(path: pathlib.Path, image: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write an image; unlike OpenCV's own writing, raise what the disk says.

    Args:
        path: The file.
        image: (H, W, 3) BGR or (H, W), uint8.
        options: Options of OpenCV's encoder.

    Raises:
        OSError: The file cannot be written.
    """
    _, encoded = cv2.imencode(path.suffix, image, options)
    path.write_bytes(encoded.tobytes())
