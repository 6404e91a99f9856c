"""What the LiDAR and the cameras record of a world of solids, noise included."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from .appearance import Daylight, GroundShadows, marking_strength, shade
from .primitives import Primitives
from .ray_casting import (
    NOTHING,
    cast_lidar,
    compiled,
    intersect,
    rasterize,
    road_coordinates,
    surface_normal,
)
from .road import CARRIAGEWAY_HALF_WIDTH, Road, RoadRaster
from .sensor_rig import LIDAR_MAX_RANGE, MountedSensor

_RANGE_NOISE = 0.015
_PIXEL_NOISE = 2.5


@dataclasses.dataclass(frozen=True)
class World:
    """Everything a sensor can meet at one moment.

    Attributes:
        solids: Solids in the world, those of one object next to each other.
        object_count: Number of annotated objects.
        road: The road.
        road_raster: The road's coordinates on a grid.
        light: Daylight.
    """

    solids: Primitives
    object_count: int
    road: Road
    road_raster: RoadRaster
    light: Daylight

    @functools.cached_property
    def solid_records(self) -> np.ndarray:
        """The solids as the kernels read them."""
        return self.solids.records()


@dataclasses.dataclass(frozen=True)
class CameraRecording:
    """One camera's picture and how much of each object it shows.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float64 metres along the optical axis of the centre-most ray of each pixel;
            infinite in the sky.
        object_index: (H, W) int64 object seen in that ray, -1 for none.
        visible: (objects,) float64, pixels in which each object is seen.
        covered: (objects,) float64, pixels it would be seen in if nothing stood before it.
    """

    image: np.ndarray
    depth: np.ndarray
    object_index: np.ndarray
    visible: np.ndarray
    covered: np.ndarray


def sensor_pose(
    sensor: MountedSensor, ego_position: np.ndarray, ego_yaw: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a sensor's position (world, (3,)) and sensor-to-world rotation (3, 3)."""
    cosine, sine = np.cos(ego_yaw), np.sin(ego_yaw)
    ego_to_world = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return ego_position + ego_to_world @ sensor.translation, ego_to_world @ sensor.rotation


@compiled
def _echo_surfaces(
    solids: np.ndarray,
    road: RoadRaster,
    crosswalks: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    directions: np.ndarray,
    ranges: np.ndarray,
    hits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return reflectivity and cosine of incidence where each ray of a turn ends."""
    reflectivity = np.zeros(hits.shape)
    cosine = np.zeros(hits.shape)
    for column in range(hits.shape[0]):
        for ring in range(hits.shape[1]):
            index = hits[column, ring]
            if index == NOTHING:
                continue
            ray = rotation @ directions[column, ring]
            if index >= 0:
                _, face, x, y, z = intersect(solids[index], position, ray)
                nx, ny, nz = surface_normal(solids[index], face, x, y, z)
                reflectivity[column, ring] = solids[index].reflectivity
                cosine[column, ring] = abs(nx * ray[0] + ny * ray[1] + nz * ray[2])
                continue
            t = ranges[column, ring]
            along, across = road_coordinates(
                road, position[0] + t * ray[0], position[1] + t * ray[1]
            )
            cosine[column, ring] = abs(ray[2])
            reflectivity[column, ring] = 0.2
            if abs(across) < CARRIAGEWAY_HALF_WIDTH:
                paint, _ = marking_strength(along, across, crosswalks)
                reflectivity[column, ring] = 0.12 + 0.5 * paint
    return reflectivity, cosine


def record_lidar(
    world: World,
    position: np.ndarray,
    rotation: np.ndarray,
    directions: np.ndarray,
    generator: np.random.Generator,
    max_range: float = LIDAR_MAX_RANGE,
) -> tuple[np.ndarray, np.ndarray]:
    """Take one LiDAR turn.

    Args:
        world: What there is to see.
        position: Sensor position, (3,) world metres.
        rotation: Sensor-to-world rotation, (3, 3).
        directions: (A, B, 3) unit directions in the sensor frame.
        generator: Source of noise.
        max_range: No echo comes from beyond, metres.

    Returns:
        (N, 5) float32 points in the sensor frame: x, y, z (metres), intensity (0 to 255), ring;
        and (N,) int64 index of the solid each point lies on, below zero on the ground.
    """
    ranges, hits = cast_lidar(
        world.solid_records, world.road_raster, position, rotation, directions, max_range
    )
    reflectivity, cosine = _echo_surfaces(
        world.solid_records,
        world.road_raster,
        world.road.crosswalks,
        position,
        rotation,
        directions,
        ranges,
        hits,
    )
    intensity = 255 * reflectivity * np.sqrt(cosine) * generator.uniform(0.7, 1.0, hits.shape)
    noisy = ranges + generator.normal(0, _RANGE_NOISE, hits.shape)
    # Weak echoes get lost: dark, slanted and distant surfaces.
    finite = np.isfinite(ranges)
    distance = np.where(finite, ranges, 0.0)
    weakness = (distance / LIDAR_MAX_RANGE) ** 2 / np.maximum(reflectivity * cosine, 0.004)
    lost = generator.random(hits.shape) < 0.02 + 0.1 * np.minimum(weakness, 6.0)
    keep = finite & ~lost
    ring = np.broadcast_to(np.arange(hits.shape[1]), hits.shape)
    points = np.column_stack(
        [
            directions[keep] * noisy[keep][:, None],
            np.round(np.clip(intensity[keep], 0, 255)),
            ring[keep],
        ]
    )
    return points.astype(np.float32), hits[keep]


def record_camera(
    world: World,
    shadows: GroundShadows,
    camera: MountedSensor,
    position: np.ndarray,
    rotation: np.ndarray,
    image_size: tuple[int, int],
    supersampling: int,
    generator: np.random.Generator,
) -> CameraRecording:
    """Take one picture.

    Args:
        world: What there is to see.
        shadows: Shadows on the ground.
        camera: The camera, for its intrinsics.
        position: Camera position, (3,) world metres.
        rotation: Camera-to-world rotation, (3, 3).
        image_size: Width and height in pixels.
        supersampling: Rays along each side of a pixel.
        generator: Source of noise.

    Returns:
        The picture and its depth and object buffers.
    """
    width, height = image_size
    intrinsic = camera.intrinsic.copy()
    intrinsic[:2] *= supersampling
    depth, nearest, covered = rasterize(
        world.solid_records,
        world.object_count,
        position,
        np.ascontiguousarray(rotation.T),
        intrinsic,
        width * supersampling,
        height * supersampling,
    )
    colours = shade(
        world.solid_records,
        nearest,
        depth,
        supersampling,
        world.road_raster,
        world.road.crosswalks,
        shadows,
        world.light,
        position,
        np.ascontiguousarray(rotation),
        intrinsic,
    )
    # NOTHING, -1, is the index of the last one.
    owners = np.append(world.solids.object_index, -1)[nearest]
    seen = np.bincount(owners.ravel() + 1, minlength=world.object_count + 1)[1:]
    # A film's response: bright surfaces lose contrast instead of turning white.
    picture = 255.0 * (1.0 - np.exp(-1.6 * colours)) * _vignette(width, height)
    picture += _PIXEL_NOISE * generator.standard_normal(picture.shape, dtype=np.float32)
    middle = supersampling // 2
    per_pixel = supersampling**2
    return CameraRecording(
        np.clip(np.round(picture), 0, 255).astype(np.uint8),
        depth[middle::supersampling, middle::supersampling],
        owners[middle::supersampling, middle::supersampling],
        seen / per_pixel,
        covered / per_pixel,
    )


def _vignette(width: int, height: int) -> np.ndarray:
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = (np.arange(height) + 0.5) / height * 2 - 1
    return (1.0 - 0.1 * (x[None, :] ** 2 + y[:, None] ** 2))[..., None].astype(np.float32)
