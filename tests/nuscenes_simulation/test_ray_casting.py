"""Rays against closed forms: planes, boxes, balls and cones."""

from __future__ import annotations

import numpy as np
import pytest

from nuscenes_simulation.primitives import Primitives, ShapeBuilder, concatenate, place_in_world
from nuscenes_simulation.ray_casting import (
    GROUND,
    NOTHING,
    cast_lidar,
    intersect,
    intersect_ground,
    rasterize,
    surface_normal,
)
from nuscenes_simulation.road import CARRIAGEWAY_HALF_WIDTH, KERB_HEIGHT, Road, RoadRaster
from nuscenes_simulation.sensor_rig import lidar_ray_directions

GREY = np.full(3, 0.5)


@pytest.fixture(scope='module')
def straight_road() -> RoadRaster:
    """A road along the x axis."""
    stations = np.arange(-150.0, 150.5, 0.5)
    points = np.stack([stations, np.zeros_like(stations)], axis=1)
    road = Road(stations, points, np.zeros_like(stations), np.zeros(0))
    return road.raster()


def one_box(centre: tuple[float, float, float], size: tuple[float, float, float]) -> np.ndarray:
    """An upright box with its faces along the axes."""
    low, high = np.array(centre) - np.array(size) / 2, np.array(centre) + np.array(size) / 2
    builder = ShapeBuilder()
    builder.box((low[0], high[0]), (low[1], high[1]), (low[2], high[2]), GREY)
    return builder.build().records()


def test_ray_meets_the_near_face_of_a_box():
    solids = one_box((10.0, 0.0, 1.0), (4.0, 2.0, 2.0))
    t, face, x, y, z = intersect(solids[0], np.zeros(3), np.array([1.0, 0.05, 0.1]))
    assert t == pytest.approx(8.0)
    assert (x, y, z) == pytest.approx((-1.0, 0.4, -0.2))
    assert surface_normal(solids[0], face, x, y, z) == pytest.approx((-1.0, 0.0, 0.0))


def test_ray_beside_or_away_from_a_box_misses():
    solids = one_box((10.0, 0.0, 1.0), (4.0, 2.0, 2.0))
    assert intersect(solids[0], np.zeros(3), np.array([1.0, 0.2, 0.1]))[0] == np.inf
    assert intersect(solids[0], np.zeros(3), np.array([-1.0, 0.0, 0.0]))[0] == np.inf


def test_tapered_box_leans_back():
    builder = ShapeBuilder()
    builder.box((-1, 1), (-1, 1), (0, 2), GREY, taper=(0.5, 0.0, 0.0))
    solids = builder.build().records()
    # The front face runs from x = 1 at the bottom to x = 0.5 at the top.
    for height in (0.2, 1.0, 1.8):
        t, face, x, y, z = intersect(
            solids[0], np.array([5.0, 0.0, height]), np.array([-1.0, 0.0, 0.0])
        )
        assert 5.0 - t == pytest.approx(1.0 - 0.25 * height)
        normal = surface_normal(solids[0], face, x, y, z)
        assert normal == pytest.approx(np.array([1.0, 0.0, 0.25]) / np.hypot(1.0, 0.25))


def test_ball_and_cone_follow_their_equations():
    builder = ShapeBuilder()
    builder.ellipsoid((0.0, 0.0, 0.0), (2.0, 1.0, 1.0), GREY)
    builder.cone((0.0, 0.0), (0.0, 2.0), 1.0, GREY, taper=0.5)
    solids = builder.build().records()
    t, _, _, _, _ = intersect(solids[0], np.array([10.0, 0.5, 0.0]), np.array([-1.0, 0.0, 0.0]))
    assert 10.0 - t == pytest.approx(2.0 * np.sqrt(1 - 0.25))
    t, _, _, _, _ = intersect(solids[1], np.array([10.0, 0.0, 1.0]), np.array([-1.0, 0.0, 0.0]))
    assert 10.0 - t == pytest.approx(0.75)
    t, face, _, _, _ = intersect(solids[1], np.array([0.3, 0.0, 9.0]), np.array([0.0, 0.0, -1.0]))
    assert (t, face) == (pytest.approx(7.0), 4)


def test_ground_is_a_plane_with_raised_sides(straight_road: RoadRaster):
    origin = np.array([0.0, 0.0, 2.0])
    t, _, along, across = intersect_ground(straight_road, origin, np.array([1.0, 0.2, -0.1]))
    assert (t, along, across) == pytest.approx((20.0, 20.0, 4.0))
    direction = np.array([0.0, 1.0, -0.1])
    t, _, _, across = intersect_ground(straight_road, origin, direction)
    assert (t, across) == pytest.approx(((2.0 - KERB_HEIGHT) / 0.1,) * 2)
    # This ray is below the kerb's top when it reaches the edge, and above the road.
    slope = (2.0 - KERB_HEIGHT / 2) / CARRIAGEWAY_HALF_WIDTH
    t, _, _, _ = intersect_ground(straight_road, origin, np.array([0.0, 1.0, -slope]))
    assert t == pytest.approx(CARRIAGEWAY_HALF_WIDTH)
    assert intersect_ground(straight_road, origin, np.array([1.0, 0.0, 0.1]))[0] == np.inf


def random_solids(generator: np.random.Generator, count: int) -> Primitives:
    """Many small solids of all kinds around the origin, none of them over it."""
    parts = []
    for index in range(count):
        builder = ShapeBuilder()
        size = generator.uniform(0.3, 2.0, 3)
        kind = index % 3
        if kind == 0:
            builder.box((-size[0], size[0]), (-size[1], size[1]), (0, size[2]), GREY)
        elif kind == 1:
            builder.ellipsoid((0, 0, size[2]), tuple(size), GREY)
        else:
            builder.beam((-size[0], 0, 0.1), (size[0], 0.5, size[2]), 0.3, GREY)
        angle, distance = generator.uniform(-np.pi, np.pi), generator.uniform(5, 40)
        position = np.array([distance * np.cos(angle), distance * np.sin(angle), 0.0])
        parts.append(
            place_in_world(builder.build(), position, generator.uniform(-np.pi, np.pi), index)
        )
    return concatenate(parts)


def test_lidar_windows_lose_no_hit(straight_road: RoadRaster):
    solids = random_solids(np.random.default_rng(0), 40).records()
    origin, rotation = np.array([0.0, 0.0, 1.8]), np.eye(3)
    rotation[1:, 1:] = [[np.cos(0.02), -np.sin(0.02)], [np.sin(0.02), np.cos(0.02)]]
    directions = lidar_ray_directions(16, 90)
    ranges, hits = cast_lidar(solids, straight_road, origin, rotation, directions, 100.0)
    assert (hits >= 0).sum() > 100
    for column in range(90):
        for ring in range(16):
            ray = rotation @ directions[column, ring]
            distances = [intersect(solids[index], origin, ray)[0] for index in range(40)]
            ground = intersect_ground(straight_road, origin, ray)[0]
            nearest = min(*distances, ground)
            if nearest > 100.0:
                assert hits[column, ring] == NOTHING
                continue
            assert ranges[column, ring] == pytest.approx(nearest)
            expected = GROUND if ground == nearest else int(np.argmin(distances))
            assert hits[column, ring] == expected


def test_image_windows_lose_no_hit():
    # Solids as near as two metres, so that some reach behind the camera.
    solids = random_solids(np.random.default_rng(1), 40)
    solids = solids._replace(centre=solids.centre * np.array([0.4, 0.4, 1.0])).records()
    origin = np.array([0.0, 0.0, 1.5])
    world_to_camera = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    intrinsic = np.array([[15.0, 0.0, 16.0], [0.0, 15.0, 9.0], [0.0, 0.0, 1.0]])
    depth, nearest, covered = rasterize(solids, 40, origin, world_to_camera, intrinsic, 32, 18)
    expected_covered = np.zeros(40, dtype=int)
    for row in range(18):
        for column in range(32):
            ray_in_camera = np.array([(column + 0.5 - 16) / 15, (row + 0.5 - 9) / 15, 1.0])
            ray = world_to_camera.T @ ray_in_camera
            distances = np.array([intersect(solids[i], origin, ray)[0] for i in range(40)])
            expected_covered += np.isfinite(distances)
            if np.isfinite(distances).any():
                assert nearest[row, column] == np.argmin(distances)
                assert depth[row, column] == pytest.approx(distances.min())
            else:
                assert nearest[row, column] == NOTHING
    assert (nearest >= 0).sum() > 50
    np.testing.assert_array_equal(covered, expected_covered)
