"""A road: its centreline, and conversion between road and world coordinates."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

LANE_WIDTH = 3.5
CARRIAGEWAY_HALF_WIDTH = 10.2
"""Two lanes and a parking strip on each side of the centreline, in metres."""
EDGE_LINE_OFFSET = 2 * LANE_WIDTH
SIDEWALK_OUTER_OFFSET = 14.6
KERB_HEIGHT = 0.12
_STEP = 0.5


class RoadRaster(NamedTuple):
    """Distances along and across the road on a square grid, for fast lookup.

    Attributes:
        origin_x: World x of the first cell's centre.
        origin_y: World y of the first cell's centre.
        cell: Cell size in metres.
        along: (rows = y, columns = x) float32, metres along the centreline.
        across: Same shape, metres to the left of the centreline; 1e3 beyond the road's ends.
    """

    origin_x: float
    origin_y: float
    cell: float
    along: np.ndarray
    across: np.ndarray


@dataclasses.dataclass(frozen=True)
class Road:
    """A road with two lanes each way, parking strips and sidewalks.

    Attributes:
        stations: (N,) metres along the centreline, evenly spaced.
        points: (N, 2) world coordinates of the centreline.
        headings: (N,) direction of the centreline in radians.
        crosswalks: Stations of the middles of the zebra crossings.
    """

    stations: np.ndarray
    points: np.ndarray
    headings: np.ndarray
    crosswalks: np.ndarray

    def place(
        self, along: np.ndarray | float, across: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Convert road coordinates to world coordinates; beyond its ends the road is straight.

        Args:
            along: Metres along the centreline.
            across: Metres to the left of it.

        Returns:
            World x, world y and the heading of the centreline there (radians, not wrapped).
        """
        heading = np.interp(along, self.stations, self.headings)
        beyond = along - np.clip(along, self.stations[0], self.stations[-1])
        x = np.interp(along, self.stations, self.points[:, 0])
        y = np.interp(along, self.stations, self.points[:, 1])
        x = x + np.cos(heading) * beyond - np.sin(heading) * across
        y = y + np.sin(heading) * beyond + np.cos(heading) * across
        return x, y, heading

    def raster(self, cell: float = 1.0, margin: float = 45.0) -> RoadRaster:
        """Tabulate road coordinates around the road.

        Args:
            cell: Grid cell in metres.
            margin: Metres covered beyond the centreline's bounding box.

        Returns:
            The grid, to be read with bilinear interpolation.
        """
        low = np.floor(self.points.min(axis=0) - margin)
        high = np.ceil(self.points.max(axis=0) + margin)
        x = np.arange(low[0], high[0] + cell, cell)
        y = np.arange(low[1], high[1] + cell, cell)
        cells = np.stack(np.meshgrid(x, y), axis=-1)
        _, nearest = cKDTree(self.points).query(cells)
        heading = self.headings[nearest]
        offset = cells - self.points[nearest]
        along_offset = np.cos(heading) * offset[..., 0] + np.sin(heading) * offset[..., 1]
        across = -np.sin(heading) * offset[..., 0] + np.cos(heading) * offset[..., 1]
        at_an_end = (nearest == 0) | (nearest == len(self.points) - 1)
        across[at_an_end] = 1e3
        along = self.stations[nearest] + along_offset
        return RoadRaster(
            float(x[0]), float(y[0]), cell, along.astype(np.float32), across.astype(np.float32)
        )


def random_road(
    generator: np.random.Generator, start: float, end: float, centre: tuple[float, float]
) -> Road:
    """Draw a road of straight and curved sections.

    Args:
        generator: Source of randomness.
        start: First station in metres (usually negative, behind the ego vehicle's start).
        end: Last station.
        centre: World coordinates around which the road is centred.

    Returns:
        A road whose curves have radii of 90 m and more.
    """
    stations = np.arange(start, end + _STEP, _STEP)
    curvature = np.zeros_like(stations)
    position = start
    turn = generator.choice([-1.0, 1.0])
    while position < end:
        straight = generator.uniform(10, 70)
        curve = generator.uniform(30, 80)
        inside = (stations >= position + straight) & (stations < position + straight + curve)
        # The curvature changes smoothly, as with a steering wheel.
        phase = (stations[inside] - position - straight) / curve
        curvature[inside] = turn * np.sin(np.pi * phase) / generator.uniform(90, 250)
        position += straight + curve
        turn = -turn if generator.random() < 0.7 else turn
    headings = generator.uniform(-np.pi, np.pi) + np.cumsum(curvature) * _STEP
    steps = _STEP * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    points = np.cumsum(steps, axis=0)
    points += np.asarray(centre) - (points.min(axis=0) + points.max(axis=0)) / 2
    crosswalks = np.arange(start + generator.uniform(20, 60), end, generator.uniform(60, 100))
    return Road(stations, points, headings, crosswalks)
