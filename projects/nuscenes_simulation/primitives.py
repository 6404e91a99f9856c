"""The solids of which objects are composed, as arrays for the ray-casting kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BOX, ELLIPSOID, CONE = 0, 1, 2

# Textures, which the kernels in `appearance` draw.
(
    PLAIN,
    CAR_BODY,
    CABIN,
    BUS_BODY,
    CARGO,
    HORIZONTAL_STRIPES,
    DIAGONAL_STRIPES,
    FACADE,
    FOLIAGE,
    CLOTHING,
    WHEEL,
    TRUCK_CAB,
) = range(12)


class Primitives(NamedTuple):
    """N solids: in the unit cube [-1, 1]^3 of its axes, each is a tapered box, a ball or a cone.

    Attributes:
        kind: (N,) int64, `BOX`, `ELLIPSOID` or `CONE` (a cylinder where the taper is 0).
        centre: (N, 3) float64 metres.
        axes: (N, 3, 3) float64, columns are the local axes, of unit length.
        half_size: (N, 3) float64 metres along the local axes.
        taper: (N, 3) float64, share of the half size by which the front (+x), back (-x) and both
            sides (y) have moved inwards at the top.  A cone reads its first column only.
        object_index: (N,) int64, index of the solid's object; -1 for scenery.
        colour: (N, 3) float64 RGB in [0, 1].
        accent: (N, 3) float64 RGB, second colour of the texture.
        texture: (N,) int64, one of the texture numbers above.
        reflectivity: (N,) float64 in [0, 1], for the LiDAR.
    """

    kind: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    half_size: np.ndarray
    taper: np.ndarray
    object_index: np.ndarray
    colour: np.ndarray
    accent: np.ndarray
    texture: np.ndarray
    reflectivity: np.ndarray

    def records(self) -> np.ndarray:
        """Return the solids as an array of records (N,), which the kernels read."""
        columns = zip(self._fields, self)
        kind = np.dtype([(name, column.dtype, column.shape[1:]) for name, column in columns])
        records = np.empty(len(self.kind), kind)
        for name, column in zip(self._fields, self):
            records[name] = column
        return records


class ShapeBuilder:
    """Collect the solids of an object, in the object's frame.

    The object's frame has its origin on the ground below the object's centre, x forward, y left,
    z up.
    """

    def __init__(self) -> None:
        """Start with no solid."""
        self._rows: list[tuple] = []

    def _append(
        self,
        kind: int,
        centre: np.ndarray,
        axes: np.ndarray,
        half_size: np.ndarray,
        taper: tuple[float, float, float],
        colour: np.ndarray,
        accent: np.ndarray | None,
        texture: int,
        reflectivity: float,
    ) -> None:
        accent = colour if accent is None else accent
        half_size = np.maximum(half_size, 0.005)
        self._rows.append(
            (kind, centre, axes, half_size, taper, -1, colour, accent, texture, reflectivity)
        )

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        colour: np.ndarray,
        *,
        taper: tuple[float, float, float] = (0.0, 0.0, 0.0),
        accent: np.ndarray | None = None,
        texture: int = PLAIN,
        reflectivity: float = 0.4,
    ) -> None:
        """Add a box.

        Args:
            x: Extent along x, metres.
            y: Extent along y, metres.
            z: Extent along z, metres.
            colour: (3,) RGB in [0, 1].
            taper: See :class:`Primitives`.
            accent: Second colour of the texture; None for ``colour``.
            texture: One of the texture numbers of this module.
            reflectivity: For the LiDAR, 0 to 1.
        """
        low, high = np.array([x[0], y[0], z[0]]), np.array([x[1], y[1], z[1]])
        self._append(
            BOX,
            (low + high) / 2,
            np.eye(3),
            (high - low) / 2,
            taper,
            colour,
            accent,
            texture,
            reflectivity,
        )

    def beam(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        thickness: float,
        colour: np.ndarray,
        *,
        reflectivity: float = 0.4,
    ) -> None:
        """Add a square bar.

        Args:
            start: First end point, metres.
            end: Second end point, metres.
            thickness: Side length of its cross-section, metres.
            colour: (3,) RGB in [0, 1].
            reflectivity: For the LiDAR, 0 to 1.
        """
        start_point, end_point = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(end_point - start_point))
        along = (end_point - start_point) / length
        helper = np.array([0.0, 1.0, 0.0]) if abs(along[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
        third = np.cross(along, helper)
        third /= np.linalg.norm(third)
        axes = np.stack([along, np.cross(third, along), third], axis=1)
        half_size = np.array([length / 2, thickness / 2, thickness / 2])
        centre = (start_point + end_point) / 2
        self._append(
            BOX, centre, axes, half_size, (0.0, 0.0, 0.0), colour, None, PLAIN, reflectivity
        )

    def ellipsoid(
        self,
        centre: tuple[float, float, float],
        half_size: tuple[float, float, float],
        colour: np.ndarray,
        *,
        texture: int = PLAIN,
        reflectivity: float = 0.3,
    ) -> None:
        """Add an upright ellipsoid.

        Args:
            centre: Its centre, metres.
            half_size: Half axes along x, y and z, metres.
            colour: (3,) RGB in [0, 1].
            texture: One of the texture numbers of this module.
            reflectivity: For the LiDAR, 0 to 1.
        """
        self._append(
            ELLIPSOID,
            np.asarray(centre, float),
            np.eye(3),
            np.asarray(half_size, float),
            (0.0, 0.0, 0.0),
            colour,
            None,
            texture,
            reflectivity,
        )

    def cone(
        self,
        centre_xy: tuple[float, float],
        z: tuple[float, float],
        radius: float,
        colour: np.ndarray,
        *,
        taper: float = 0.0,
        accent: np.ndarray | None = None,
        texture: int = PLAIN,
        reflectivity: float = 0.4,
    ) -> None:
        """Add an upright truncated cone.

        Args:
            centre_xy: Position of its axis, metres.
            z: Extent along z, metres.
            radius: Radius at the bottom, metres.
            colour: (3,) RGB in [0, 1].
            taper: Share of the radius that is lost at the top; 0 for a cylinder.
            accent: Second colour of the texture; None for ``colour``.
            texture: One of the texture numbers of this module.
            reflectivity: For the LiDAR, 0 to 1.
        """
        self._append(
            CONE,
            np.array([*centre_xy, (z[0] + z[1]) / 2]),
            np.eye(3),
            np.array([radius, radius, (z[1] - z[0]) / 2]),
            (taper, 0.0, 0.0),
            colour,
            accent,
            texture,
            reflectivity,
        )

    def wheel(self, x: float, y: float, radius: float, width: float) -> None:
        """Add a wheel that stands on the ground.

        Args:
            x: Position along x, metres.
            y: Position along y, metres.
            radius: Radius, metres.
            width: Width, metres.
        """
        axes = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        self._append(
            CONE,
            np.array([x, y, radius]),
            axes,
            np.array([radius, radius, width / 2]),
            (0.0, 0.0, 0.0),
            np.array([0.07, 0.07, 0.08]),
            np.array([0.55, 0.55, 0.58]),
            WHEEL,
            0.1,
        )

    def build(self) -> Primitives:
        """Return the collected solids."""
        columns = list(zip(*self._rows))
        integers = {0, 5, 8}
        return Primitives(
            *(
                np.array(column, dtype=np.int64 if index in integers else np.float64)
                for index, column in enumerate(columns)
            )
        )


def concatenate(parts: list[Primitives]) -> Primitives:
    """Concatenate several sets of solids.

    Args:
        parts: The sets.

    Returns:
        All solids.
    """
    return Primitives(*(np.concatenate(columns) for columns in zip(*parts)))


def place_in_world(
    shape: Primitives, position: np.ndarray, yaw: float, object_index: int
) -> Primitives:
    """Move solids from an object's frame into the world.

    Args:
        shape: Solids in the object's frame.
        position: World coordinates of the frame's origin, (3,) metres.
        yaw: Heading of the object in radians.
        object_index: Index of the object, for all solids.

    Returns:
        The moved solids.
    """
    cosine, sine = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return shape._replace(
        centre=shape.centre @ rotation.T + position,
        axes=rotation @ shape.axes,
        object_index=np.full(len(shape.kind), object_index),
    )
