"""One simulated world, seen by both sensors."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
from shapely.geometry import Polygon

from nuscenes_simulation.appearance import add_fog
from nuscenes_simulation.object_shapes import CLASS_NAMES
from nuscenes_simulation.primitives import ShapeBuilder, place_in_world
from nuscenes_simulation.ray_casting import intersect, road_coordinates
from nuscenes_simulation.road import CARRIAGEWAY_HALF_WIDTH
from nuscenes_simulation.scene_recording import Scene, build_scene, count_points_in_box
from nuscenes_simulation.scenery import ground_shadows
from nuscenes_simulation.sensor_rig import lidar_ray_directions, mounted_cameras, mounted_lidar
from nuscenes_simulation.sensors import CameraRecording, record_camera, record_lidar, sensor_pose
from nuscenes_simulation.traffic import ego_pose

IMAGE_SIZE = (160, 90)
TIME = 3.0


@pytest.fixture(scope='module')
def scene() -> Scene:
    return build_scene('scene-0061', 0, 20.0)


@pytest.fixture(scope='module')
def recordings(scene: Scene) -> dict[str, CameraRecording]:
    """All six cameras at one moment, one ray a pixel."""
    world = scene.world_at(TIME)
    ego = ego_pose(scene.road, scene.ego_motion, TIME)
    shadows = ground_shadows(world.solids, ego[0], scene.light.sun_direction)
    return {
        camera.channel: record_camera(
            world,
            shadows,
            camera,
            *sensor_pose(camera, *ego),
            IMAGE_SIZE,
            1,
            np.random.default_rng(0),
        )
        for camera in mounted_cameras(*IMAGE_SIZE)
    }


def annotated_box(scene: Scene, index: int, time: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, size and yaw of an object's box in the world."""
    item = scene.objects[index]
    foot, yaw = item.pose(scene.road, time)
    return foot + np.array([0.0, 0.0, item.size[2] / 2]), item.size, yaw


def into_box(points: np.ndarray, centre: np.ndarray, yaw: float) -> np.ndarray:
    """Express world points in a box's own axes."""
    offset = points - centre
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.stack(
        [
            cosine * offset[:, 0] + sine * offset[:, 1],
            -sine * offset[:, 0] + cosine * offset[:, 1],
            offset[:, 2],
        ],
        axis=1,
    )


@pytest.mark.parametrize('name', ['scene-0061', 'scene-0103', 'scene-0916'])
def test_solids_stay_inside_their_boxes(name: str):
    scene = build_scene(name, 0, 20.0)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    for item in scene.objects:
        shape = item.shape
        corners = np.concatenate(
            [
                shape.centre[index] + (signs * shape.half_size[index]) @ shape.axes[index].T
                for index in range(len(shape.kind))
            ]
        )
        # The corners of a slanted bar may stand out a little from its rounded silhouette.
        assert (np.abs(corners[:, :2]) <= item.size[:2] / 2 + 0.08).all(), item.class_name
        assert corners[:, 2].min() > -0.13, item.class_name
        assert corners[:, 2].max() <= item.size[2] + 0.01, item.class_name


def test_lidar_points_of_objects_lie_in_their_boxes(scene: Scene):
    world = scene.world_at(TIME)
    lidar = mounted_lidar()
    ego = ego_pose(scene.road, scene.ego_motion, TIME)
    position, rotation = sensor_pose(lidar, *ego)
    points, hits = record_lidar(
        world, position, rotation, lidar_ray_directions(32, 360), np.random.default_rng(0)
    )
    in_world = points[:, :3].astype(float) @ rotation.T + position
    owners = np.where(hits >= 0, world.solids.object_index[np.maximum(hits, 0)], -1)
    hit_objects = np.unique(owners[owners >= 0])
    assert len(hit_objects) > 20
    for index in hit_objects:
        centre, size, yaw = annotated_box(scene, index, TIME)
        own = into_box(in_world[owners == index], centre, yaw)
        # Five standard deviations of the range noise.
        assert (np.abs(own) <= size / 2 + 0.075).all(), scene.objects[index].class_name
        assert count_points_in_box(in_world, centre, size, yaw) >= 0.8 * len(own)
    ground = in_world[hits < -1]
    assert np.abs(ground[:, 2]).max() < 0.12 + 0.075
    assert (points[:, 3] == np.round(points[:, 3])).all()
    assert set(np.unique(points[:, 4])) <= set(range(32))


def test_points_are_counted_inside_and_on_the_surface():
    generator = np.random.default_rng(0)
    centre, size, yaw = np.array([40.0, -25.0, 1.0]), np.array([4.0, 1.5, 2.0]), 0.7
    points = centre + generator.uniform(-3, 3, (5000, 3))
    inside = (np.abs(into_box(points, centre, yaw)) <= size / 2).all(axis=1)
    assert 200 < inside.sum() < 1000
    assert count_points_in_box(points, centre, size, yaw) == inside.sum()
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    assert count_points_in_box(corners, np.zeros(3), np.full(3, 2.0), 0.0) == 8
    assert count_points_in_box(np.zeros((0, 3)), centre, size, yaw) == 0


# Outlines of ellipsoids and cones lie within them: they are of 8 points a circle.
@pytest.mark.parametrize(
    ('kind', 'covered'), [('box', 0.93), ('ellipsoid', 0.84), ('cone', 0.84)], ids=str
)
def test_shadows_are_the_solids_along_the_rays_of_the_sun(kind: str, covered: float):
    builder = ShapeBuilder()
    grey = np.full(3, 0.5)
    # High enough to leave no contact shadow.
    if kind == 'box':
        builder.box((-2, 2), (-1, 1), (1, 4), grey, taper=(0.6, 0.1, 0.4))
    elif kind == 'ellipsoid':
        builder.ellipsoid((0, 0, 3), (2, 1, 1.5), grey)
    else:
        builder.cone((0, 0), (1, 4), 1.5, grey, taper=0.7)
    solids = place_in_world(builder.build(), np.array([100.0, 50.0, 0.0]), 0.5, 0)
    sun = np.array([0.5, -0.3, 0.6]) / np.linalg.norm([0.5, -0.3, 0.6])
    shadows = ground_shadows(solids, np.array([99.0, 52.0]), tuple(sun.tolist()), 8.0, 0.16)
    rows, columns = np.indices(shadows.darkness.shape)
    ground = np.stack(
        [
            shadows.origin_x + columns * shadows.cell,
            shadows.origin_y + rows * shadows.cell,
            np.zeros(rows.shape),
        ],
        axis=-1,
    ).reshape(-1, 3)
    # A ray towards the sun meets the solid, or does not.
    (solid,) = solids.records()
    blocked = np.array([np.isfinite(intersect(solid, point, sun)[0]) for point in ground])
    dark = shadows.darkness.reshape(-1)
    assert blocked.sum() > 200
    assert dark[blocked].mean() > covered
    # The blur of the edge.
    assert dark[~blocked].sum() < 0.1 * blocked.sum()


def test_rendered_pixels_lie_in_projected_boxes(
    scene: Scene, recordings: dict[str, CameraRecording]
):
    ego = ego_pose(scene.road, scene.ego_motion, TIME)
    checked = 0
    for camera in mounted_cameras(*IMAGE_SIZE):
        position, rotation = sensor_pose(camera, *ego)
        owners = recordings[camera.channel].object_index
        for index in np.unique(owners[owners >= 0]):
            centre, size, yaw = annotated_box(scene, index, TIME)
            signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
            corners = signs * size / 2
            corners[:, :2] = corners[:, :2] @ turn.T
            in_camera = (corners + centre - position) @ rotation
            if (in_camera[:, 2] < 0.1).any():
                continue
            pixels = (in_camera / in_camera[:, 2:]) @ camera.intrinsic.T
            rows, columns = np.nonzero(owners == index)
            assert columns.min() + 0.5 >= pixels[:, 0].min() - 1
            assert columns.max() + 0.5 <= pixels[:, 0].max() + 1
            assert rows.min() + 0.5 >= pixels[:, 1].min() - 1
            assert rows.max() + 0.5 <= pixels[:, 1].max() + 1
            checked += 1
    assert checked > 20


def test_depth_in_the_camera_is_the_geometry(scene: Scene, recordings: dict[str, CameraRecording]):
    """Back-projected pixels of objects fall into their boxes, those of the road onto the road."""
    ego = ego_pose(scene.road, scene.ego_motion, TIME)
    for camera in mounted_cameras(*IMAGE_SIZE):
        recording = recordings[camera.channel]
        position, rotation = sensor_pose(camera, *ego)
        rows, columns = np.nonzero(np.isfinite(recording.depth))
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1)
        rays = pixels @ np.linalg.inv(camera.intrinsic).T
        world = position + recording.depth[rows, columns, None] * (rays @ rotation.T)
        owners = recording.object_index[rows, columns]
        for index in np.unique(owners[owners >= 0]):
            centre, size, yaw = annotated_box(scene, index, TIME)
            own = into_box(world[owners == index], centre, yaw)
            assert (np.abs(own) <= size / 2 + 0.08).all()
        near = np.hypot(*(world - ego[0])[:, :2].T) < 8.0
        lowest = world[near & (owners < 0), 2]
        assert len(lowest) > 50
        np.testing.assert_allclose(lowest, 0.0, atol=1e-6)


def test_objects_never_touch_each_other_or_the_ego_vehicle():
    for name in ('scene-0061', 'scene-0103'):
        scene = build_scene(name, 0, 20.0)
        for time in np.arange(0.0, 20.0, 2.5):
            position, heading = ego_pose(scene.road, scene.ego_motion, time)
            forward = np.array([np.cos(heading), np.sin(heading)])
            footprints = [footprint(position[:2] + 1.45 * forward, np.array([4.9, 1.9]), heading)]
            for item in scene.objects:
                foot, yaw = item.pose(scene.road, time)
                footprints.append(footprint(foot[:2], item.size[:2], yaw))
            centres = np.array([[*polygon.centroid.coords[0]] for polygon in footprints])
            for first, polygon in enumerate(footprints):
                distance = np.linalg.norm(centres[first + 1 :] - centres[first], axis=1)
                for second in first + 1 + np.flatnonzero(distance < 15):
                    assert not polygon.intersects(footprints[second]), (name, time, first, second)


def footprint(centre: np.ndarray, size: np.ndarray, yaw: float) -> Polygon:
    """A box seen from above."""
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * size / 2
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return Polygon(corners @ turn.T + centre)


def test_every_class_is_around_and_where_it_belongs(scene: Scene):
    counts = collections.Counter(item.class_name for item in scene.objects)
    assert set(counts) == set(CLASS_NAMES)
    assert min(counts.values()) >= 4
    for item in scene.objects:
        if item.class_name in ('car', 'truck', 'bus', 'trailer', 'construction_vehicle'):
            assert abs(item.across) < CARRIAGEWAY_HALF_WIDTH - item.size[1] / 2


def test_road_raster_inverts_the_centreline(scene: Scene):
    for along in (-40.0, 3.3, 57.0):
        for across in (-12.0, 0.0, 8.0):
            x, y, _ = scene.road.place(along, across)
            found = road_coordinates(scene.road_raster, float(x), float(y))
            assert found == pytest.approx((along, across), abs=0.05)


@pytest.mark.parametrize('visibility', [15.0, 60.0])
def test_fog_is_koschmieders_law(scene: Scene, visibility: float):
    world = scene.world_at(TIME)
    ego = ego_pose(scene.road, scene.ego_motion, TIME)
    shadows = ground_shadows(world.solids, ego[0], scene.light.sun_direction)
    foggy = dataclasses.replace(world, light=add_fog(world.light, visibility))
    width, height = IMAGE_SIZE
    for camera in mounted_cameras(width, height):
        pose = sensor_pose(camera, *ego)
        clear, fog = (
            record_camera(each, shadows, camera, *pose, IMAGE_SIZE, 1, SilentGenerator())
            for each in (world, foggy)
        )
        assert np.array_equal(clear.depth, fog.depth)
        x = (np.arange(width) + 0.5 - camera.intrinsic[0, 2]) / camera.intrinsic[0, 0]
        y = (np.arange(height) + 0.5 - camera.intrinsic[1, 2]) / camera.intrinsic[1, 1]
        distance = clear.depth * np.sqrt(1 + x[None, :] ** 2 + y[:, None] ** 2)
        solid = np.isfinite(distance)
        # The definition of visibility: 5 % of a contrast is left at that distance.
        left = 0.05 ** (distance[solid] / visibility)[:, None]
        expected = light_of(clear)[solid] * left + world.light.horizon * (1 - left)
        # Where the film saturates, a grey value stands for a range of light.
        assert np.abs(light_of(fog)[solid] - expected).max() < 0.04
        assert np.abs(light_of(fog)[solid] - expected).mean() < 0.006


class SilentGenerator:
    """A camera without noise."""

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)


def light_of(recording: CameraRecording) -> np.ndarray:
    """Undo the film's response and the vignette."""
    height, width = recording.image.shape[:2]
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = (np.arange(height) + 0.5) / height * 2 - 1
    vignette = 1.0 - 0.1 * (x[None, :] ** 2 + y[:, None] ** 2)[..., None]
    return -np.log(1 - np.minimum(recording.image / vignette / 255, 0.999)) / 1.6


def test_no_fog_is_the_clear_air(scene: Scene):
    assert add_fog(scene.light, np.inf) == scene.light._replace(fog_extinction=0.0)
