"""Scenery along the road that is not annotated, daylight and shadows."""

from __future__ import annotations

from typing import Iterator

import cv2
import numpy as np

from .appearance import Daylight, GroundShadows
from .primitives import (
    BOX,
    CONE,
    ELLIPSOID,
    FACADE,
    FOLIAGE,
    Primitives,
    ShapeBuilder,
    concatenate,
    place_in_world,
)
from .road import KERB_HEIGHT, SIDEWALK_OUTER_OFFSET, Road

_FACADES = np.array(
    [
        [0.66, 0.42, 0.33],
        [0.74, 0.68, 0.58],
        [0.55, 0.56, 0.58],
        [0.80, 0.76, 0.70],
        [0.60, 0.50, 0.40],
        [0.48, 0.54, 0.58],
    ]
)
_WINDOW = np.array([0.22, 0.27, 0.32])


def random_scenery(generator: np.random.Generator, road: Road) -> Primitives:
    """Draw buildings, trees and street lamps along a road.

    Args:
        generator: Source of randomness.
        road: The road.

    Returns:
        Solids in the world, none of them on the carriageway or the sidewalks' walking rows.
    """
    parts: list[Primitives] = []

    def place(builder: ShapeBuilder, along: float, across: float) -> None:
        x, y, heading = road.place(along, across)
        parts.append(place_in_world(builder.build(), np.array([x, y, KERB_HEIGHT]), heading, -1))

    start, end = road.stations[0] + 5, road.stations[-1] - 5
    for side in (-1, 1):
        position = start
        while position < end:
            if generator.random() < 0.72:
                length, depth = generator.uniform(9, 24), generator.uniform(8, 14)
                setback = generator.uniform(3.5, 7.0)
                builder = ShapeBuilder()
                builder.box(
                    (-length / 2, length / 2),
                    (-depth / 2, depth / 2),
                    (-0.2, generator.uniform(5, 22)),
                    _FACADES[generator.integers(len(_FACADES))] + generator.normal(0, 0.03, 3),
                    accent=_WINDOW,
                    texture=FACADE,
                    reflectivity=0.35,
                )
                across = side * (SIDEWALK_OUTER_OFFSET + setback + depth / 2)
                place(builder, position + length / 2, across)
                position += length + generator.uniform(1.0, 6.0)
            else:
                position += generator.uniform(8, 20)
        position = start + generator.uniform(0, 12)
        while position < end:
            builder = ShapeBuilder()
            across = side * (SIDEWALK_OUTER_OFFSET + generator.uniform(0.4, 1.2))
            if generator.random() < 0.65:
                _compose_tree(builder, generator)
            else:
                _compose_lamp(builder, -side)
            place(builder, position, across)
            position += generator.uniform(9, 18)
    return concatenate(parts)


def _compose_tree(builder: ShapeBuilder, generator: np.random.Generator) -> None:
    trunk_top = generator.uniform(2.2, 3.0)
    radius = generator.uniform(0.9, 1.4)
    green = np.array([0.20, 0.38, 0.14]) * generator.uniform(0.8, 1.25)
    builder.cone((0.0, 0.0), (0.0, trunk_top + 0.6), 0.16, np.array([0.32, 0.24, 0.17]), taper=0.3)
    height = generator.uniform(1.3, 2.0)
    for shift, scale in ((0.0, 1.0), (0.45, 0.75), (-0.45, 0.7)):
        builder.ellipsoid(
            (shift * radius, -shift * 0.6 * radius, trunk_top + height * (0.8 + 0.35 * abs(shift))),
            (radius * scale, radius * scale, height * scale),
            green,
            texture=FOLIAGE,
            reflectivity=0.3,
        )


def _compose_lamp(builder: ShapeBuilder, towards_road: int) -> None:
    metal = np.array([0.36, 0.38, 0.40])
    builder.cone((0.0, 0.0), (0.0, 6.5), 0.09, metal, taper=0.3)
    builder.beam((0.0, 0.0, 6.4), (0.0, towards_road * 1.8, 6.7), 0.08, metal)
    lamp_end = sorted((towards_road * 1.5, towards_road * 2.1))
    builder.box((-0.14, 0.14), (lamp_end[0], lamp_end[1]), (6.62, 6.78), metal * 0.8)


def random_daylight(generator: np.random.Generator) -> Daylight:
    """Draw the weather and the time of day.

    Args:
        generator: Source of randomness.

    Returns:
        Light from clear to overcast, with the sun between 25 and 65 degrees high.
    """
    cloudiness = generator.uniform(0.0, 0.85)
    elevation = np.radians(generator.uniform(25, 65))
    azimuth = generator.uniform(-np.pi, np.pi)
    clear_zenith, clear_horizon = np.array([0.26, 0.46, 0.80]), np.array([0.74, 0.82, 0.90])
    if elevation < np.radians(35):
        clear_horizon = np.array([0.92, 0.82, 0.70])
    grey_zenith, grey_horizon = np.array([0.60, 0.64, 0.69]), np.array([0.78, 0.80, 0.82])
    exposure = generator.uniform(0.9, 1.1)
    return Daylight(
        sun_direction=(
            float(np.cos(elevation) * np.cos(azimuth)),
            float(np.cos(elevation) * np.sin(azimuth)),
            float(np.sin(elevation)),
        ),
        sun_strength=float(exposure * (0.95 - 0.75 * cloudiness)),
        sky_strength=float(exposure * (0.66 + 0.32 * cloudiness)),
        zenith=tuple(((1 - cloudiness) * clear_zenith + cloudiness * grey_zenith).tolist()),
        horizon=tuple(((1 - cloudiness) * clear_horizon + cloudiness * grey_horizon).tolist()),
        cloudiness=float(cloudiness),
        haze_distance=float(generator.uniform(180, 420)),
        fog_extinction=0.0,
        texture_seed=int(generator.integers(1, 1_000_000)),
    )


_CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
_CIRCLE = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 9)[:-1]])
_RINGS = np.concatenate(
    [np.column_stack([_CIRCLE, np.full(8, -1.0)]), np.column_stack([_CIRCLE, np.full(8, 1.0)])]
)
_BALL = np.concatenate(
    [
        np.column_stack([_CIRCLE, np.zeros(8)]),
        np.column_stack([_CIRCLE[:, 0], np.zeros(8), _CIRCLE[:, 1]]),
        np.column_stack([np.zeros(8), _CIRCLE]),
    ]
)


def _outlines(solids: Primitives) -> Iterator[np.ndarray]:
    """Yield world points whose convex hulls are (nearly) the solids, (solids, points, 3)."""
    for kind, outline in ((BOX, _CUBE), (ELLIPSOID, _BALL), (CONE, _RINGS)):
        members = solids.kind == kind
        points = np.repeat(outline[None], members.sum(), axis=0)
        taper = solids.taper[members]
        top = outline[:, 2] > 0
        if kind == BOX:
            points[:, top & (outline[:, 0] > 0), 0] = 1 - taper[:, :1]
            points[:, top & (outline[:, 0] < 0), 0] = taper[:, 1:2] - 1
            points[:, top, 1] *= 1 - taper[:, 2:]
        elif kind == CONE:
            points[:, top, :2] *= 1 - taper[:, :1, None]
        axes = solids.axes[members].transpose(0, 2, 1)
        yield solids.centre[members][:, None] + (points * solids.half_size[members][:, None]) @ axes


def _fill_hulls(mask: np.ndarray, points: np.ndarray, cell: float) -> None:
    """Draw the convex hulls of sets of points, (sets, points, 2), from the mask's first centre."""
    for pixels in np.round(points / cell * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, cv2.convexHull(pixels), 255, lineType=cv2.LINE_8, shift=4)


def ground_shadows(
    solids: Primitives,
    centre: np.ndarray,
    sun_direction: tuple[float, float, float],
    half_extent: float = 56.0,
    cell: float = 0.2,
) -> GroundShadows:
    """Cast the shadows of all solids onto flat ground.

    Args:
        solids: Solids in the world.
        centre: World x and y of the middle of the grid.
        sun_direction: Unit vector towards the sun, (x, y, z).
        half_extent: Half the side of the grid in metres.
        cell: Cell size in metres.

    Returns:
        Darkness of the ground: sharp cast shadows, slightly blurred, over a soft contact shadow
        around each foot.
    """
    size = int(2 * half_extent / cell) + 1
    low = np.asarray(centre[:2]) - half_extent
    cast = np.zeros((size, size), dtype=np.uint8)
    contact = np.zeros((size, size), dtype=np.uint8)
    distance = np.abs(solids.centre[:, :2] - np.asarray(centre[:2])).max(axis=1)
    size_of_solid = np.linalg.norm(solids.half_size, axis=1)
    # Low solids within the grid, tall ones also where only their shadow reaches it; the shadows
    # of thin bars would drown in the blur.
    reach = np.minimum(3 * size_of_solid, 30.0)
    shift = np.array(sun_direction[:2]) / sun_direction[2]
    nearby = (distance < half_extent + reach) & (size_of_solid > 0.2)
    for points in _outlines(Primitives(*(column[nearby] for column in solids))):
        height = np.maximum(points[..., 2:], 0.0)
        flat = points[..., :2] - shift * height
        _fill_hulls(cast, flat - low, cell)
        on_ground = height.min(axis=(1, 2)) < 0.6
        _fill_hulls(contact, points[on_ground, :, :2] - low, cell)
    soft = cv2.GaussianBlur(contact, (0, 0), 0.3 / cell)
    blurred = cv2.GaussianBlur(cast, (0, 0), 0.12 / cell)
    darkness = np.maximum(blurred, soft).astype(np.float32) / 255.0
    return GroundShadows(float(low[0]), float(low[1]), cell, darkness)
