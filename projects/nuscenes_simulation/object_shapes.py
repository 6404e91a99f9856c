"""Sizes and shapes of objects of the ten detection classes."""

from __future__ import annotations

from typing import Callable

import numpy as np

from .primitives import (
    BUS_BODY,
    CABIN,
    CAR_BODY,
    CARGO,
    CLOTHING,
    DIAGONAL_STRIPES,
    HORIZONTAL_STRIPES,
    TRUCK_CAB,
    Primitives,
    ShapeBuilder,
)

# length, width, height in metres: typical value and relative spread
TYPICAL_SIZES = {
    'car': ((4.6, 1.92, 1.68), 0.06),
    'truck': ((7.4, 2.5, 2.95), 0.08),
    'construction_vehicle': ((6.6, 2.7, 3.1), 0.08),
    'bus': ((10.9, 2.85, 3.4), 0.04),
    'trailer': ((10.6, 2.7, 3.8), 0.06),
    'barrier': ((0.5, 2.4, 1.0), 0.05),
    'motorcycle': ((2.1, 0.8, 1.3), 0.06),
    'bicycle': ((1.75, 0.62, 1.2), 0.06),
    'pedestrian': ((0.7, 0.66, 1.74), 0.07),
    'traffic_cone': ((0.42, 0.42, 0.95), 0.12),
}
CLASS_NAMES = tuple(TYPICAL_SIZES)
_RIDER_TOP = 1.72
# Margin between the solids and the annotated box, as in manual annotations.
_BOX_MARGIN = 0.03

_CAR_COLOURS = np.array(
    [
        [0.85, 0.85, 0.86],
        [0.58, 0.60, 0.62],
        [0.10, 0.10, 0.12],
        [0.62, 0.08, 0.08],
        [0.10, 0.20, 0.48],
        [0.72, 0.66, 0.50],
        [0.12, 0.32, 0.22],
        [0.30, 0.32, 0.36],
    ]
)
_BUS_COLOURS = np.array([[0.80, 0.14, 0.12], [0.10, 0.45, 0.25], [0.15, 0.30, 0.65]])
_CARGO_COLOURS = np.array([[0.86, 0.86, 0.84], [0.74, 0.76, 0.80], [0.35, 0.50, 0.66]])
_TRAILER_COLOURS = np.array([[0.46, 0.24, 0.16], [0.20, 0.36, 0.50], [0.36, 0.38, 0.36]])
_CLOTHES = np.array(
    [
        [0.75, 0.20, 0.20],
        [0.15, 0.25, 0.55],
        [0.80, 0.75, 0.65],
        [0.20, 0.20, 0.22],
        [0.85, 0.60, 0.15],
        [0.25, 0.50, 0.35],
        [0.55, 0.35, 0.60],
        [0.90, 0.90, 0.90],
    ]
)
_SKIN = np.array([[0.85, 0.65, 0.52], [0.62, 0.44, 0.32], [0.38, 0.26, 0.20]])
_DARK = np.array([0.10, 0.10, 0.11])
_GLASS = np.array([0.13, 0.17, 0.21])
_ORANGE = np.array([0.95, 0.35, 0.08])
_WHITE = np.array([0.93, 0.93, 0.90])


def random_size(class_name: str, has_rider: bool, generator: np.random.Generator) -> np.ndarray:
    """Draw a size of a class.

    Args:
        class_name: One of `CLASS_NAMES`.
        has_rider: Whether a two-wheeler has a rider, who increases its height.
        generator: Source of randomness.

    Returns:
        (3,) length, width, height in metres.
    """
    typical, spread = TYPICAL_SIZES[class_name]
    common = generator.normal(0, spread)
    size = np.array(typical) * (1 + np.clip(common + generator.normal(0, spread / 2, 3), -0.2, 0.2))
    if class_name in ('bus', 'trailer', 'truck', 'construction_vehicle'):
        size[1] = min(size[1], 2.95)
    if has_rider:
        size[2] = _RIDER_TOP * (1 + generator.uniform(-0.05, 0.05))
    return np.round(size, 3)


def build_object_shape(
    class_name: str, size: np.ndarray, has_rider: bool, generator: np.random.Generator
) -> Primitives:
    """Compose an object of a class inside a box of the given size.

    Args:
        class_name: One of `CLASS_NAMES`.
        size: Length, width, height of the annotated box in metres.
        has_rider: Whether a two-wheeler has a rider.
        generator: Source of randomness for colours and details.

    Returns:
        Solids in the object's frame (origin on the ground below the centre, x forward).
    """
    builder = ShapeBuilder()
    half_length, half_width = size[0] / 2 - _BOX_MARGIN, size[1] / 2 - _BOX_MARGIN
    height = size[2] - _BOX_MARGIN
    if class_name in ('motorcycle', 'bicycle'):
        _TWO_WHEELERS[class_name](builder, half_length, half_width, height, has_rider, generator)
    else:
        _COMPOSERS[class_name](builder, half_length, half_width, height, generator)
    return builder.build()


def _pick(palette: np.ndarray, generator: np.random.Generator, jitter: float = 0.04) -> np.ndarray:
    colour = palette[generator.integers(len(palette))]
    return np.clip(colour + generator.normal(0, jitter, 3), 0.02, 0.98)


def _add_wheels(
    builder: ShapeBuilder, positions: list[float], half_width: float, radius: float
) -> None:
    width = 0.24
    for x in positions:
        for side in (-1, 1):
            builder.wheel(x, side * (half_width - width / 2), radius, width)


def _compose_car(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    paint = _pick(_CAR_COLOURS, generator)
    waist = height * 0.56
    builder.box(
        (-length, length),
        (-width, width),
        (0.2, waist),
        paint,
        taper=(0.03, 0.02, 0.04),
        texture=CAR_BODY,
        reflectivity=0.5,
    )
    style = generator.integers(3)  # saloon, hatchback, estate or van
    front = (0.28, 0.34, 0.42)[style] * length
    back = (-0.70, -0.92, -0.97)[style] * length
    builder.box(
        (back, front),
        (-width * 0.92, width * 0.92),
        (waist, height),
        paint,
        taper=(0.5, (0.45, 0.3, 0.08)[style], 0.16),
        accent=_GLASS,
        texture=CABIN,
        reflectivity=0.25,
    )
    _add_wheels(builder, [-0.62 * length, 0.62 * length], width, 0.33)


def _compose_truck(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    paint = _pick(_CAR_COLOURS[3:7], generator)
    cab_back = length - min(2.1, 0.6 * length)
    cab_height = height * generator.uniform(0.74, 0.9)
    builder.box(
        (cab_back, length),
        (-width * 0.94, width * 0.94),
        (0.45, cab_height),
        paint,
        taper=(0.16, 0.0, 0.05),
        accent=_GLASS,
        texture=TRUCK_CAB,
        reflectivity=0.5,
    )
    builder.box((-length, cab_back), (-width * 0.45, width * 0.45), (0.5, 0.9), _DARK)
    cargo = _pick(_CARGO_COLOURS, generator)
    cargo_extent = (-length, cab_back - 0.25)
    if generator.random() < 0.7:
        builder.box(
            cargo_extent,
            (-width, width),
            (0.9, height),
            cargo,
            accent=paint,
            texture=CARGO,
            reflectivity=0.6,
        )
    else:  # open bed with a load
        builder.box(cargo_extent, (-width, width), (0.8, 0.52 * height), paint, reflectivity=0.5)
        middle = sum(cargo_extent) / 2
        half = (cargo_extent[1] - cargo_extent[0]) / 2
        builder.ellipsoid(
            (middle, 0.0, 0.5 * height),
            (half * 0.92, width * 0.9, 0.5 * height),
            np.array([0.45, 0.36, 0.25]),
        )
    _add_wheels(builder, [-0.72 * length, -0.42 * length, length - 1.0], width, 0.46)


def _compose_bus(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    paint = _pick(_BUS_COLOURS, generator)
    builder.box(
        (-length, length),
        (-width, width),
        (0.3, height * 0.94),
        paint,
        taper=(0.015, 0.0, 0.03),
        accent=_GLASS,
        texture=BUS_BODY,
        reflectivity=0.5,
    )
    builder.box(
        (-0.8 * length, -0.3 * length), (-0.6 * width, 0.6 * width), (0.9 * height, height), _WHITE
    )
    _add_wheels(builder, [-0.55 * length, 0.62 * length], width, 0.48)


def _compose_trailer(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    paint = _pick(_TRAILER_COLOURS, generator)
    builder.box(
        (-length, length),
        (-width, width),
        (1.25, height),
        paint,
        accent=paint * 0.7,
        texture=CARGO,
        reflectivity=0.55,
    )
    builder.box((-length, length), (-width * 0.4, width * 0.4), (0.95, 1.25), _DARK)
    for side in (-1, 1):
        builder.box(
            (0.5 * length, 0.53 * length),
            (side * width * 0.6 - 0.07, side * width * 0.6 + 0.07),
            (0.0, 0.95),
            _DARK,
        )
    _add_wheels(builder, [-0.86 * length, -0.66 * length, -0.46 * length], width, 0.48)


def _compose_construction_vehicle(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    yellow = np.clip(np.array([0.93, 0.66, 0.08]) + generator.normal(0, 0.03, 3), 0, 1)
    grey = np.array([0.28, 0.28, 0.28])
    if generator.random() < 0.6:  # excavator: tracks, turning house, boom with bucket
        for side in (-1, 1):
            y = side * (width - 0.275)
            builder.box(
                (-length, 0.25 * length),
                (y - 0.275, y + 0.275),
                (0.0, 0.85),
                _DARK,
                taper=(0.12, 0.12, 0.0),
            )
        builder.box(
            (-length, 0.12 * length),
            (-width * 0.85, width * 0.85),
            (0.95, 0.62 * height),
            yellow,
            reflectivity=0.55,
        )
        builder.box(
            (-0.35 * length, 0.15 * length),
            (0.1 * width, width * 0.85),
            (0.62 * height, 0.95 * height),
            yellow,
            taper=(0.15, 0.0, 0.08),
            accent=_GLASS,
            texture=CABIN,
        )
        elbow = (0.62 * length, -0.25 * width, height - 0.2)
        builder.beam((0.1 * length, -0.25 * width, 0.5 * height), elbow, 0.36, yellow)
        builder.beam(elbow, (0.86 * length, -0.25 * width, 0.75), 0.28, yellow)
        builder.box(
            (0.72 * length, length),
            (-0.6 * width, 0.15 * width),
            (0.1, 0.85),
            grey,
            reflectivity=0.3,
        )
    else:  # wheel loader: engine, cab in the middle, shovel in front
        builder.box(
            (-length, -0.1 * length),
            (-0.8 * width, 0.8 * width),
            (0.7, 0.58 * height),
            yellow,
            taper=(0.0, 0.1, 0.05),
        )
        builder.box(
            (-0.3 * length, 0.2 * length),
            (-0.62 * width, 0.62 * width),
            (0.55 * height, height),
            yellow,
            taper=(0.12, 0.06, 0.08),
            accent=_GLASS,
            texture=CABIN,
        )
        builder.box((-0.1 * length, 0.45 * length), (-0.4 * width, 0.4 * width), (0.7, 1.5), yellow)
        for side in (-1, 1):
            y = side * 0.4 * width
            builder.beam((0.3 * length, y, 1.5), (0.8 * length, y, 0.55), 0.22, yellow)
        builder.box(
            (0.72 * length, length),
            (-width, width),
            (0.08, 0.95),
            grey,
            taper=(0.0, 0.5, 0.0),
            reflectivity=0.3,
        )
        for x in (-0.6 * length, 0.4 * length):
            for side in (-1, 1):
                builder.wheel(x, side * (0.9 * width - 0.25), 0.72, 0.5)


def _compose_barrier(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    if generator.random() < 0.5:  # plastic, red and white
        colour, accent, texture = np.array([0.88, 0.20, 0.10]), _WHITE, DIAGONAL_STRIPES
    else:  # concrete
        colour = np.full(3, generator.uniform(0.55, 0.7))
        accent, texture = colour, CARGO
    builder.box(
        (-length, length),
        (-width, width),
        (0.0, 0.3 * height),
        colour,
        accent=accent,
        texture=texture,
        reflectivity=0.6,
        taper=(0.35, 0.35, 0.0),
    )
    builder.box(
        (-0.62 * length, 0.62 * length),
        (-width, width),
        (0.3 * height, height),
        colour,
        taper=(0.45, 0.45, 0.0),
        accent=accent,
        texture=texture,
        reflectivity=0.6,
    )


def _compose_pedestrian(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    top, trousers = _pick(_CLOTHES, generator), _pick(_CLOTHES[1:4], generator) * 0.7
    skin = _pick(_SKIN, generator, 0.02)
    hip, shoulder = 0.48 * height, 0.83 * height
    stride = length * generator.uniform(0.55, 0.85)
    for side in (-1, 1):
        y = side * 0.28 * width
        builder.beam((side * stride, y, 0.04), (0.0, y, hip), 0.16, trousers, reflectivity=0.2)
        builder.beam(
            (-side * stride * 0.8, side * (width - 0.06), 0.46 * height),
            (0.0, side * (width - 0.1), shoulder - 0.04),
            0.11,
            top,
            reflectivity=0.3,
        )
    builder.box(
        (-0.13, 0.13),
        (-0.72 * width, 0.72 * width),
        (hip - 0.05, shoulder),
        top,
        accent=trousers,
        texture=CLOTHING,
        reflectivity=0.35,
    )
    head = (height - shoulder) / 2 * 0.9
    builder.ellipsoid((0.03, 0.0, height - head), (0.11, 0.095, head), skin)
    builder.ellipsoid((-0.02, 0.0, height - 0.75 * head), (0.1, 0.1, 0.75 * head), _DARK)
    if generator.random() < 0.4:  # a rucksack tells back from front
        builder.box(
            (-0.30, -0.13),
            (-0.45 * width, 0.45 * width),
            (hip + 0.1, shoulder - 0.05),
            _pick(_CLOTHES, generator),
        )


def _compose_traffic_cone(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    generator: np.random.Generator,
) -> None:
    orange = np.clip(_ORANGE + generator.normal(0, 0.03, 3), 0, 1)
    builder.box((-length, length), (-width, width), (0.0, 0.06), orange * 0.5)
    builder.cone(
        (0.0, 0.0),
        (0.06, height),
        0.82 * min(length, width),
        orange,
        taper=0.78,
        accent=_WHITE,
        texture=HORIZONTAL_STRIPES,
        reflectivity=0.7,
    )


def _add_rider(
    builder: ShapeBuilder,
    seat: tuple[float, float],
    grip: tuple[float, float],
    foot: tuple[float, float],
    half_width: float,
    top: float,
    helmet: np.ndarray,
    generator: np.random.Generator,
) -> None:
    jacket, trousers = _pick(_CLOTHES, generator), _pick(_CLOTHES[1:4], generator) * 0.7
    shoulder_x = seat[0] + 0.35 * (grip[0] - seat[0])
    shoulder_z = top - 0.30
    builder.beam(
        (seat[0], 0.0, seat[1]), (shoulder_x, 0.0, shoulder_z), 0.34, jacket, reflectivity=0.3
    )
    builder.ellipsoid((shoulder_x + 0.06, 0.0, top - 0.14), (0.13, 0.11, 0.14), helmet)
    for side in (-1, 1):
        y = side * min(0.2, half_width)
        builder.beam(
            (shoulder_x, y, shoulder_z - 0.05),
            (grip[0], side * (half_width - 0.05), grip[1]),
            0.09,
            jacket,
        )
        knee = (seat[0] + 0.36, y, (seat[1] + foot[1]) / 2 + 0.16)
        builder.beam((seat[0], y, seat[1]), knee, 0.14, trousers, reflectivity=0.2)
        builder.beam(knee, (foot[0], y, foot[1]), 0.12, trousers, reflectivity=0.2)


def _compose_motorcycle(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    has_rider: bool,
    generator: np.random.Generator,
) -> None:
    paint = _pick(_CAR_COLOURS[2:6], generator)
    radius = 0.31
    builder.wheel(-length + radius, 0.0, radius, 0.16)
    builder.wheel(length - radius, 0.0, radius, 0.14)
    own_height = min(height, 1.22)
    builder.box(
        (-0.42 * length, 0.36 * length), (-0.2, 0.2), (0.22, 0.62), np.array([0.25, 0.25, 0.27])
    )
    builder.box(
        (-0.1 * length, 0.42 * length), (-0.18, 0.18), (0.6, 0.92), paint, taper=(0.3, 0.3, 0.3)
    )
    builder.box((-0.85 * length, -0.02 * length), (-0.16, 0.16), (0.62, 0.8), _DARK)
    builder.beam((length - radius, 0, radius), (0.42 * length, 0, own_height - 0.15), 0.12, paint)
    builder.box(
        (0.36 * length, 0.44 * length),
        (-width, width),
        (own_height - 0.18, own_height - 0.1),
        _DARK,
    )
    builder.box(
        (0.42 * length, 0.58 * length),
        (-0.16, 0.16),
        (own_height - 0.4, own_height),
        paint,
        taper=(0.6, 0.0, 0.3),
    )
    if has_rider:
        grip = (0.4 * length, own_height - 0.12)
        foot = (0.0, 0.25)
        helmet = _pick(_CAR_COLOURS, generator)
        _add_rider(builder, (-0.3 * length, 0.82), grip, foot, width, height, helmet, generator)


def _compose_bicycle(
    builder: ShapeBuilder,
    length: float,
    width: float,
    height: float,
    has_rider: bool,
    generator: np.random.Generator,
) -> None:
    paint = _pick(_CLOTHES[:6], generator)
    radius = 0.34
    own_height = min(height, 1.12)
    back, front = -length + radius, length - radius
    builder.wheel(back, 0.0, radius, 0.06)
    builder.wheel(front, 0.0, radius, 0.06)
    crank, saddle = (-0.08 * length, 0.0, 0.32), (-0.28 * length, 0.0, own_height - 0.2)
    head = (0.42 * length, 0.0, own_height - 0.16)
    for start, end in (
        ((back, 0.0, radius), crank),
        ((back, 0.0, radius), saddle),
        (crank, saddle),
        (crank, head),
        (saddle, head),
        ((front, 0.0, radius), head),
    ):
        builder.beam(start, end, 0.06, paint, reflectivity=0.5)
    builder.box(
        (saddle[0] - 0.14, saddle[0] + 0.12), (-0.08, 0.08), (saddle[2], saddle[2] + 0.09), _DARK
    )
    builder.box(
        (head[0] - 0.04, head[0] + 0.06),
        (-width, width),
        (own_height - 0.14, own_height - 0.06),
        _DARK,
    )
    if has_rider:
        grip = (head[0], own_height - 0.08)
        seat = (saddle[0], saddle[2] + 0.08)
        foot = (crank[0] + 0.05, 0.2)
        _add_rider(builder, seat, grip, foot, width, height, _pick(_CLOTHES, generator), generator)


_COMPOSERS: dict[str, Callable[..., None]] = {
    'car': _compose_car,
    'truck': _compose_truck,
    'bus': _compose_bus,
    'trailer': _compose_trailer,
    'construction_vehicle': _compose_construction_vehicle,
    'barrier': _compose_barrier,
    'pedestrian': _compose_pedestrian,
    'traffic_cone': _compose_traffic_cone,
}
_TWO_WHEELERS: dict[str, Callable[..., None]] = {
    'motorcycle': _compose_motorcycle,
    'bicycle': _compose_bicycle,
}
