"""Compiled kernels that find where rays meet solids and the ground.

All kernels work in world coordinates and float64.  A ray is ``origin + t * direction``; the
direction need not be of unit length, and `t` counts in its lengths.

Solids are records (`Primitives.records`).  Numba counts references to an array
whenever it is passed on, which took longer than the geometry; records it passes on as they are.
"""

from __future__ import annotations

import math
from typing import Sequence

import numba
import numpy as np

from .primitives import BOX, ELLIPSOID
from .road import CARRIAGEWAY_HALF_WIDTH, KERB_HEIGHT, RoadRaster

NOTHING, GROUND = -1, -2
"""Codes below zero in a buffer of primitive indices."""
ROADWAY, RAISED, KERB_FACE = 0, 1, 2
"""What kind of ground a ray meets."""
_NEAR = 0.1

compiled = numba.njit(cache=True, error_model='numpy')
"""Compile a kernel once a machine; divisions by zero give infinities as in NumPy.

Numba compiles anew when the file of a kernel changes, but not when a file it imports from does:
after such a change, remove this folder's ``__pycache__``.
"""

inlined = numba.njit(cache=True, error_model='numpy', inline='always')
"""The same for small helpers, whose calls would cost more than what they compute."""


@inlined
def _box_plane(solid: np.void, face: int) -> tuple[float, float, float, float]:
    """Return plane (a, b, c, d) with a x + b y + c z <= d inside the tapered unit box."""
    if face >= 4:
        return 0.0, 0.0, 1.0 if face == 4 else -1.0, 1.0
    sign = 1.0 if face % 2 == 0 else -1.0
    lean = solid.taper[min(face, 2)] / 2
    if face <= 1:
        return sign, 0.0, lean, 1.0 - lean
    return 0.0, sign, lean, 1.0 - lean


@inlined
def _intersect_box(
    solid: np.void,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
) -> tuple[float, int]:
    enter, leave, entered_face = 0.0, np.inf, -1
    for face in range(6):
        a, b, c, d = _box_plane(solid, face)
        speed = a * dx + b * dy + c * dz
        room = d - (a * ox + b * oy + c * oz)
        if speed > 1e-12:
            leave = min(leave, room / speed)
        elif speed < -1e-12:
            t = room / speed
            if t > enter:
                enter = t
                entered_face = face
        elif room < 0:
            return np.inf, -1
        if enter >= leave:
            return np.inf, -1
    if entered_face < 0:
        return np.inf, -1
    return enter, entered_face


@compiled
def _intersect_ball(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[float, int]:
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1.0
    discriminant = b * b - a * c
    if c <= 0 or discriminant <= 0:
        return np.inf, -1
    t = (-b - math.sqrt(discriminant)) / a
    if t <= 0:
        return np.inf, -1
    return t, 0


@compiled
def _intersect_cone(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, taper: float
) -> tuple[float, int]:
    best, best_face = np.inf, -1
    # The mantle: x^2 + y^2 = (base - slope * z)^2 for z in [-1, 1].
    slope = taper / 2
    radius = 1.0 - slope - slope * oz
    shrink = -slope * dz
    a = dx * dx + dy * dy - shrink * shrink
    b = ox * dx + oy * dy - radius * shrink
    c = ox * ox + oy * oy - radius * radius
    discriminant = b * b - a * c
    if discriminant > 0 and abs(a) > 1e-12:
        root = math.sqrt(discriminant)
        for sign in (-1.0, 1.0):
            t = (-b + sign * root) / a
            z = oz + t * dz
            if 0 < t < best and -1.0 <= z <= 1.0:
                best, best_face = t, 0
    if abs(dz) > 1e-12:
        for face in (4, 5):
            height = 1.0 if face == 4 else -1.0
            t = (height - oz) / dz
            x, y = ox + t * dx, oy + t * dy
            cap = 1.0 - taper if face == 4 else 1.0
            if 0 < t < best and x * x + y * y <= cap * cap:
                best, best_face = t, face
    return best, best_face


@inlined
def _intersect_local(
    solid: np.void,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
) -> tuple[float, int]:
    kind = solid.kind
    if kind == BOX:
        return _intersect_box(solid, ox, oy, oz, dx, dy, dz)
    if kind == ELLIPSOID:
        return _intersect_ball(ox, oy, oz, dx, dy, dz)
    return _intersect_cone(ox, oy, oz, dx, dy, dz, solid.taper[0])


@inlined
def _along_axis(solid: np.void, axis: int, x: float, y: float, z: float) -> float:
    """Express a world vector along one axis of a solid, in units of its half size."""
    axes = solid.axes
    projected = axes[0, axis] * x + axes[1, axis] * y + axes[2, axis] * z
    return projected / solid.half_size[axis]


@inlined
def _to_local(solid: np.void, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Express a world vector in units of a solid's half sizes along its axes."""
    return (
        _along_axis(solid, 0, x, y, z),
        _along_axis(solid, 1, x, y, z),
        _along_axis(solid, 2, x, y, z),
    )


@inlined
def _origin_to_local(solid: np.void, origin: np.ndarray) -> tuple[float, float, float]:
    """Express a world point in a solid's unit coordinates."""
    centre = solid.centre
    return _to_local(
        solid,
        origin[0] - centre[0],
        origin[1] - centre[1],
        origin[2] - centre[2],
    )


@inlined
def intersect(
    solid: np.void, origin: Sequence[float], direction: Sequence[float]
) -> tuple[float, int, float, float, float]:
    """Intersect one ray with one solid.

    Args:
        solid: Record of the solid.
        origin: Ray origin, (3,) world metres, outside the solid.
        direction: Ray direction, (3,).

    Returns:
        `t` (infinite for a miss), the face (0 to 3 sides, 4 top, 5 bottom) and the hit in the
        solid's unit coordinates.
    """
    ox, oy, oz = _origin_to_local(solid, origin)
    dx, dy, dz = _to_local(solid, direction[0], direction[1], direction[2])
    t, face = _intersect_local(solid, ox, oy, oz, dx, dy, dz)
    if face < 0:
        return t, face, 0.0, 0.0, 0.0
    return t, face, ox + t * dx, oy + t * dy, oz + t * dz


@inlined
def surface_normal(
    solid: np.void, face: int, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """Return the outward unit normal in world axes at a hit given in unit coordinates."""
    kind = solid.kind
    if kind == BOX:
        nx, ny, nz, _ = _box_plane(solid, face)
    elif kind == ELLIPSOID:
        nx, ny, nz = x, y, z
    elif face == 4:
        nx, ny, nz = 0.0, 0.0, 1.0
    elif face == 5:
        nx, ny, nz = 0.0, 0.0, -1.0
    else:
        nx, ny = x, y
        nz = solid.taper[0] / 2 * math.sqrt(x * x + y * y)
    axes, half_size = solid.axes, solid.half_size
    nx, ny, nz = nx / half_size[0], ny / half_size[1], nz / half_size[2]
    world_x = axes[0, 0] * nx + axes[0, 1] * ny + axes[0, 2] * nz
    world_y = axes[1, 0] * nx + axes[1, 1] * ny + axes[1, 2] * nz
    world_z = axes[2, 0] * nx + axes[2, 1] * ny + axes[2, 2] * nz
    length = math.sqrt(world_x * world_x + world_y * world_y + world_z * world_z)
    return world_x / length, world_y / length, world_z / length


@inlined
def rotate(rotation: np.ndarray, vector: Sequence[float]) -> tuple[float, float, float]:
    """Return the product of a matrix (3, 3) and a vector."""
    x, y, z = vector[0], vector[1], vector[2]
    return (
        rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z,
        rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z,
        rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z,
    )


@inlined
def road_coordinates(road: RoadRaster, x: float, y: float) -> tuple[float, float]:
    """Return metres along and across the road at a world point; (0, 1000) off the raster."""
    column = (x - road.origin_x) / road.cell
    row = (y - road.origin_y) / road.cell
    left, bottom = math.floor(column), math.floor(row)
    if left < 0 or bottom < 0 or left + 1 >= road.along.shape[1]:
        return 0.0, 1e3
    if bottom + 1 >= road.along.shape[0]:
        return 0.0, 1e3
    fx, fy = column - left, row - bottom
    w00, w01 = (1 - fy) * (1 - fx), (1 - fy) * fx
    w10, w11 = fy * (1 - fx), fy * fx
    along = (
        w00 * road.along[bottom, left]
        + w01 * road.along[bottom, left + 1]
        + w10 * road.along[bottom + 1, left]
        + w11 * road.along[bottom + 1, left + 1]
    )
    across = (
        w00 * road.across[bottom, left]
        + w01 * road.across[bottom, left + 1]
        + w10 * road.across[bottom + 1, left]
        + w11 * road.across[bottom + 1, left + 1]
    )
    return along, across


@inlined
def intersect_ground(
    road: RoadRaster, origin: np.ndarray, direction: np.ndarray
) -> tuple[float, int, float, float]:
    """Intersect a ray with the carriageway, the kerbs and the raised ground beside them.

    Args:
        road: Road coordinates.
        origin: Ray origin above the ground, (3,) world metres.
        direction: Ray direction, (3,).

    Returns:
        `t` (infinite for a miss), the kind of ground, and metres along and across the road.
    """
    if direction[2] >= -1e-9:
        return np.inf, NOTHING, 0.0, 0.0
    t_raised = (KERB_HEIGHT - origin[2]) / direction[2]
    along, across = road_coordinates(
        road, origin[0] + t_raised * direction[0], origin[1] + t_raised * direction[1]
    )
    if abs(across) >= CARRIAGEWAY_HALF_WIDTH:
        return t_raised, RAISED, along, across
    t_road = -origin[2] / direction[2]
    along_road, across_road = road_coordinates(
        road, origin[0] + t_road * direction[0], origin[1] + t_road * direction[1]
    )
    if abs(across_road) <= CARRIAGEWAY_HALF_WIDTH:
        return t_road, ROADWAY, along_road, across_road
    # Between the two heights the ray passed the kerb: its face is where it crossed the edge.
    share = (CARRIAGEWAY_HALF_WIDTH - abs(across)) / (abs(across_road) - abs(across))
    t = t_raised + share * (t_road - t_raised)
    return t, KERB_FACE, along, math.copysign(CARRIAGEWAY_HALF_WIDTH, across)


@compiled
def _corners_in_sensor(
    solid: np.void,
    origin: np.ndarray,
    world_to_sensor: np.ndarray,
    corners: np.ndarray,
) -> None:
    """Write the eight corners of a solid's bounding box, in the sensor frame, into (8, 3)."""
    for corner in range(8):
        for row in range(3):
            value = 0.0
            for component in range(3):
                offset = solid.centre[component] - origin[component]
                for axis in range(3):
                    sign = 1.0 if (corner >> axis) & 1 else -1.0
                    step = solid.half_size[axis] * solid.axes[component, axis]
                    offset += sign * step
                value += world_to_sensor[row, component] * offset
            corners[corner, row] = value


@compiled
def _image_window(
    corners: np.ndarray, intrinsic: np.ndarray, width: int, height: int
) -> tuple[int, int, int, int]:
    """Return the first and last column and row that a box given in camera axes can touch.

    The first is beyond the last where the box is outside the image.
    """
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for corner in range(8):
        # The corner itself (axis 3) and where the three edges from it meet the near plane.
        for axis in range(4):
            other = corner if axis == 3 else corner ^ (1 << axis)
            z, other_z = corners[corner, 2], corners[other, 2]
            if z < _NEAR:
                continue
            x, y = corners[corner, 0], corners[corner, 1]
            if axis < 3:
                if other_z >= _NEAR:
                    continue
                share = (z - _NEAR) / (z - other_z)
                x += share * (corners[other, 0] - x)
                y += share * (corners[other, 1] - y)
                z = _NEAR
            u = intrinsic[0, 0] * x / z + intrinsic[0, 2]
            v = intrinsic[1, 1] * y / z + intrinsic[1, 2]
            left, right = min(left, u), max(right, u)
            top, bottom = min(top, v), max(bottom, v)
    if right < 0 or bottom < 0 or left > width or top > height:
        return 1, 0, 1, 0
    # A pixel is touched when its centre, half a pixel in, is.
    first_u = math.ceil(max(left, 0.5) - 0.5)
    last_u = math.floor(min(right, width - 0.5) - 0.5)
    first_v = math.ceil(max(top, 0.5) - 0.5)
    last_v = math.floor(min(bottom, height - 0.5) - 0.5)
    return first_u, last_u, first_v, last_v


@compiled
def cast_lidar(
    solids: np.ndarray,
    road: RoadRaster,
    origin: np.ndarray,
    rotation: np.ndarray,
    sensor_directions: np.ndarray,
    max_range: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Cast every ray of a LiDAR turn.

    Args:
        solids: Records of the solids in the world, none of them above or around the sensor.
        road: Road coordinates for the ground.
        origin: Sensor position, (3,) world metres.
        rotation: Sensor-to-world rotation, (3, 3).
        sensor_directions: (A, B, 3) unit directions in the sensor frame; column `a` has azimuth
            ``pi - 2 pi a / A``.
        max_range: Hits beyond this many metres are dropped.

    Returns:
        (A, B) ranges in metres, infinite without a hit, and (A, B) solid indices, `GROUND` for
        the ground and `NOTHING` without a hit.
    """
    columns, beams = sensor_directions.shape[:2]
    directions = np.empty_like(sensor_directions)
    for a in range(columns):
        for b in range(beams):
            x, y, z = rotate(rotation, sensor_directions[a, b])
            directions[a, b, 0], directions[a, b, 1], directions[a, b, 2] = x, y, z
    ranges = np.full((columns, beams), np.inf)
    hits = np.full((columns, beams), NOTHING)
    for a in range(columns):
        for b in range(beams):
            t, _, _, _ = intersect_ground(road, origin, directions[a, b])
            if t <= max_range:
                ranges[a, b] = t
                hits[a, b] = GROUND
    world_to_sensor = np.ascontiguousarray(rotation.T)
    corners = np.empty((8, 3))
    for index in range(len(solids)):
        solid = solids[index]
        _corners_in_sensor(solid, origin, world_to_sensor, corners)
        middle_x, middle_y = np.mean(corners[:, 0]), np.mean(corners[:, 1])
        reach = 0.0
        for corner in range(8):
            from_middle = math.hypot(corners[corner, 0] - middle_x, corners[corner, 1] - middle_y)
            reach = max(reach, from_middle)
        if math.hypot(middle_x, middle_y) - reach > max_range:
            continue
        middle = math.atan2(middle_y, middle_x)
        low, high = np.inf, -np.inf
        for corner in range(8):
            turn = math.atan2(corners[corner, 1], corners[corner, 0]) - middle
            turn = (turn + math.pi) % (2 * math.pi) - math.pi
            low, high = min(low, turn), max(high, turn)
        # Columns run clockwise, so the larger azimuth comes first.
        step = 2 * math.pi / columns
        first = math.floor((math.pi - (middle + high)) / step)
        last = math.ceil((math.pi - (middle + low)) / step)
        lowest, highest = np.min(corners[:, 2]), np.max(corners[:, 2])
        nearest = max(math.hypot(middle_x, middle_y) - reach, 1e-6)
        ox, oy, oz = _origin_to_local(solid, origin)
        for unwrapped in range(first, last + 1):
            a = unwrapped % columns
            for b in range(beams):
                # No point of the solid is seen under a steeper slope than these.
                flat = math.hypot(sensor_directions[a, b, 0], sensor_directions[a, b, 1])
                rise = sensor_directions[a, b, 2] * nearest
                if rise > max(highest, 0.0) * flat or rise < min(lowest, 0.0) * flat:
                    continue
                dx, dy, dz = _to_local(
                    solid, directions[a, b, 0], directions[a, b, 1], directions[a, b, 2]
                )
                t, face = _intersect_local(solid, ox, oy, oz, dx, dy, dz)
                if face >= 0 and t < ranges[a, b] and t <= max_range:
                    ranges[a, b] = t
                    hits[a, b] = index
    return ranges, hits


@compiled
def _prepare_planes(
    solid: np.void,
    ox: float,
    oy: float,
    oz: float,
    ray_axes: np.ndarray,
    planes: np.ndarray,
) -> None:
    """Express how fast a pixel's ray nears each plane of a box, which is linear in the pixel.

    A ray through (x, y, 1) in camera axes nears plane p at ``planes[p, 3] + x planes[p, 1] +
    y planes[p, 2]`` and has ``planes[p, 0]`` to go.
    """
    for face in range(6):
        a, b, c, d = _box_plane(solid, face)
        planes[face, 0] = d - (a * ox + b * oy + c * oz)
        for slot, row in ((1, 0), (2, 1), (3, 2)):
            planes[face, slot] = a * ray_axes[0, row] + b * ray_axes[1, row] + c * ray_axes[2, row]


@compiled
def _cross_planes(planes: np.ndarray, x: float) -> float:
    """Return where a ray enters the box whose planes were prepared, infinity for a miss."""
    enter, leave = 0.0, np.inf
    for face in range(6):
        speed = planes[face, 4] + x * planes[face, 1]
        room = planes[face, 0]
        if speed > 1e-12:
            leave = min(leave, room / speed)
        elif speed < -1e-12:
            enter = max(enter, room / speed)
        elif room < 0:
            return np.inf
        if enter >= leave:
            return np.inf
    return enter if enter > 0 else np.inf


@compiled
def rasterize(
    solids: np.ndarray,
    object_count: int,
    origin: np.ndarray,
    world_to_camera: np.ndarray,
    intrinsic: np.ndarray,
    width: int,
    height: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the nearest solid in every pixel.

    Args:
        solids: Records of the solids in the world, those of one object next to each other.
        object_count: Number of objects, one more than the largest object index.
        origin: Camera position, (3,) world metres.
        world_to_camera: Rotation, (3, 3); the camera looks along +z with y down.
        intrinsic: Camera matrix, (3, 3), for pixels whose first centre is (0.5, 0.5).
        width: Image width in pixels.
        height: Image height in pixels.

    Returns:
        Depth along the optical axis (height, width), infinite where nothing is hit; index of
        the solid (height, width), `NOTHING` where none is; and for each object the number of
        pixels it would cover if nothing stood before it.
    """
    depth = np.full((height, width), np.inf)
    nearest = np.full((height, width), NOTHING)
    last_object = np.full((height, width), -1)
    covered = np.zeros(object_count, dtype=np.int64)
    fx, fy = intrinsic[0, 0], intrinsic[1, 1]
    cx, cy = intrinsic[0, 2], intrinsic[1, 2]
    corners = np.empty((8, 3))
    ray_axes = np.empty((3, 3))
    planes = np.zeros((6, 5))
    for index in range(len(solids)):
        solid = solids[index]
        _corners_in_sensor(solid, origin, world_to_camera, corners)
        first_u, last_u, first_v, last_v = _image_window(corners, intrinsic, width, height)
        if first_u > last_u or first_v > last_v:
            continue
        ox, oy, oz = _origin_to_local(solid, origin)
        for axis in range(3):
            for row in range(3):
                ray_axes[axis, row] = _along_axis(
                    solid,
                    axis,
                    world_to_camera[row, 0],
                    world_to_camera[row, 1],
                    world_to_camera[row, 2],
                )
        is_box = solid.kind == BOX
        if is_box:
            _prepare_planes(solid, ox, oy, oz, ray_axes, planes)
        owner = solid.object_index
        for v in range(first_v, last_v + 1):
            y = (v + 0.5 - cy) / fy
            for plane in range(6):
                planes[plane, 4] = planes[plane, 3] + y * planes[plane, 2]
            for u in range(first_u, last_u + 1):
                x = (u + 0.5 - cx) / fx
                if is_box:
                    t = _cross_planes(planes, x)
                else:
                    t, _ = _intersect_local(
                        solid,
                        ox,
                        oy,
                        oz,
                        ray_axes[0, 2] + x * ray_axes[0, 0] + y * ray_axes[0, 1],
                        ray_axes[1, 2] + x * ray_axes[1, 0] + y * ray_axes[1, 1],
                        ray_axes[2, 2] + x * ray_axes[2, 0] + y * ray_axes[2, 1],
                    )
                if t == np.inf:
                    continue
                if owner >= 0 and last_object[v, u] != owner:
                    last_object[v, u] = owner
                    covered[owner] += 1
                if t < depth[v, u]:
                    depth[v, u] = t
                    nearest[v, u] = index
    return depth, nearest, covered
