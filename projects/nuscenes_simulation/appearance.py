"""Compiled kernels that colour what the cameras see: light, textures, ground, sky and haze."""

from __future__ import annotations

import math
from typing import NamedTuple, Tuple

import numpy as np

from .primitives import (
    BUS_BODY,
    CABIN,
    CAR_BODY,
    CARGO,
    CLOTHING,
    DIAGONAL_STRIPES,
    FACADE,
    FOLIAGE,
    HORIZONTAL_STRIPES,
    TRUCK_CAB,
    WHEEL,
)
from .ray_casting import (
    KERB_FACE,
    RAISED,
    compiled,
    inlined,
    intersect,
    intersect_ground,
    rotate,
    surface_normal,
)
from .road import (
    EDGE_LINE_OFFSET,
    LANE_WIDTH,
    SIDEWALK_OUTER_OFFSET,
    RoadRaster,
)

Colour = Tuple[float, float, float]
"""Red, green and blue, 0 to 1. Kernels pass tuples: a reference to an array costs more than these
numbers, as it is counted."""


class Daylight(NamedTuple):
    """Light and air of a scene.

    Attributes:
        sun_direction: Unit vector towards the sun, (x, y, z).
        sun_strength: Share of light that comes from the sun.
        sky_strength: Share of light that comes from the whole sky.
        zenith: Colour of the sky overhead.
        horizon: Colour of the sky at the horizon, which distant things fade into.
        cloudiness: 0 for a clear sky, 1 for an overcast one.
        haze_distance: Metres after which about two thirds of a colour has faded.
        fog_extinction: Extinction coefficient of a layer of fog on the ground, 1/m; 0 without fog.
        texture_seed: Offset of the noise textures.
    """

    sun_direction: tuple[float, float, float]
    sun_strength: float
    sky_strength: float
    zenith: Colour
    horizon: Colour
    cloudiness: float
    haze_distance: float
    fog_extinction: float
    texture_seed: int


def add_fog(light: Daylight, visibility: float) -> Daylight:
    """Fill the air with fog.

    Every colour fades to the airlight with the distance its ray has travelled in the fog
    (Koschmieder's law), for all cameras alike.

    Args:
        light: Light and air of a scene.
        visibility: Meteorological optical range, metres: where 5 % of a contrast is left (WMO).
            Infinity for no fog.

    Returns:
        Light and air with the fog.
    """
    return light._replace(fog_extinction=-math.log(0.05) / visibility)


class GroundShadows(NamedTuple):
    """How dark the ground is, on a square grid around the ego vehicle.

    Attributes:
        origin_x: World x of the first cell's centre.
        origin_y: World y of the first cell's centre.
        cell: Cell size in metres.
        darkness: (rows = y, columns = x) float32, 0 in the sun and 1 in full shadow.
    """

    origin_x: float
    origin_y: float
    cell: float
    darkness: np.ndarray


_HORIZON_DISTANCE = 900.0
# Thickness of a layer of fog, metres: dense fog hides the sky, light fog only its lower part.
_FOG_HEIGHT = 100.0
_SKYLINE_TOP = 0.09


@compiled
def _lattice(x: int, y: int, seed: int) -> float:
    value = (x * 73856093) ^ (y * 19349663) ^ (seed * 83492791)
    value = (value ^ (value >> 13)) * 1274126177
    value = value & 0x7FFFFFFF
    value = (value ^ (value >> 16)) & 0xFFFF
    return value / 65535.0


@compiled
def _noise(x: float, y: float, seed: int) -> float:
    """Return smooth noise in [0, 1] with features of about one unit."""
    left, bottom = math.floor(x), math.floor(y)
    fx, fy = x - left, y - bottom
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    ix, iy = int(left), int(bottom)
    low = _lattice(ix, iy, seed) * (1 - fx) + _lattice(ix + 1, iy, seed) * fx
    high = _lattice(ix, iy + 1, seed) * (1 - fx) + _lattice(ix + 1, iy + 1, seed) * fx
    return low * (1 - fy) + high * fy


@compiled
def marking_strength(along: float, across: float, crosswalks: np.ndarray) -> tuple[float, bool]:
    """Return how much paint there is at a point of the carriageway, and whether it is yellow.

    Args:
        along: Metres along the road.
        across: Metres to the left of the centreline.
        crosswalks: Stations of the zebra crossings.

    Returns:
        0 for bare asphalt to 1 for full paint; True for the yellow centre lines.
    """
    side = abs(across)
    for crosswalk in range(len(crosswalks)):
        middle = crosswalks[crosswalk]
        if abs(along - middle) < 1.7:
            if side < 9.8 and (across + 20.0) % 1.0 < 0.5:
                return 1.0, False
            return 0.0, False
        if abs(abs(along - middle) - 3.0) < 0.2 and side < EDGE_LINE_OFFSET:
            return 1.0, False
    if abs(side - 0.14) < 0.06:
        return 1.0, True
    if abs(side - LANE_WIDTH) < 0.075 and along % 9.0 < 3.5:
        return 1.0, False
    if abs(side - EDGE_LINE_OFFSET) < 0.075:
        return 1.0, False
    if side > EDGE_LINE_OFFSET and along % 12.0 < 0.12:
        return 0.8, False
    return 0.0, False


@inlined
def _scaled(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


@inlined
def _blended(colour: Colour, other: Colour, share: float) -> Colour:
    """Return a colour with a share of another one in it."""
    return (
        colour[0] * (1 - share) + other[0] * share,
        colour[1] * (1 - share) + other[1] * share,
        colour[2] * (1 - share) + other[2] * share,
    )


@compiled
def _ground_colour(
    kind: int, along: float, across: float, distance: float, crosswalks: np.ndarray, seed: int
) -> Colour:
    side = abs(across)
    if kind == KERB_FACE:
        return 0.56, 0.56, 0.56
    # Fine grain would only flicker far away, where a pixel covers many of its features.
    grain = 1.0 / (1.0 + (distance / 12.0) ** 2)
    if kind == RAISED:
        if side < SIDEWALK_OUTER_OFFSET:
            joint = 1.0
            if grain > 0.2 and (along % 1.5 < 0.05 or (side - 10.2) % 1.1 < 0.05):
                joint = 1.0 - 0.25 * grain
            tone = 0.55 + 0.06 * (_lattice(int(along / 1.5), int(side / 1.1), seed) - 0.5)
            if side < 10.45:
                tone, joint = 0.66, 1.0
            return tone * joint, tone * joint * 0.97, tone * joint * 0.93
        patch = _noise(along * 0.25, across * 0.25, seed + 3)
        blade = 0.0
        if grain > 0.05:
            blade = grain * (_noise(along * 6, across * 6, seed + 4) - 0.5)
        tone = 0.8 + 0.35 * patch + 0.5 * blade
        return 0.27 * tone, 0.36 * tone, 0.16 * tone
    patch = _noise(along * 0.15, across * 0.4, seed)
    fine = 0.0
    if grain > 0.05:
        fine = grain * (_noise(along * 9, across * 9, seed + 1) - 0.5)
    tone = 0.27 + 0.05 * patch + 0.09 * fine
    # Tyres polish two tracks in each lane.
    if side < EDGE_LINE_OFFSET:
        # A remainder, without the cost of one: there are two lanes.
        in_lane = side if side < LANE_WIDTH else side - LANE_WIDTH
        in_lane = abs(in_lane - LANE_WIDTH / 2)
        tone -= 0.025 * math.exp(-(((in_lane - 0.8) / 0.25) ** 2))
    asphalt = tone, tone, tone * 1.03
    paint, is_yellow = marking_strength(along, across, crosswalks)
    if paint == 0.0:
        return asphalt
    wear = paint * (0.75 + 0.2 * _noise(along * 2, across * 5, seed + 2))
    return _blended(asphalt, (0.80, 0.62, 0.20) if is_yellow else (0.82, 0.82, 0.80), wear)


@compiled
def _sky_colour(direction: Colour, light: Daylight) -> Colour:
    flat = math.sqrt(direction[0] ** 2 + direction[1] ** 2)
    length = math.sqrt(flat * flat + direction[2] ** 2)
    height = direction[2] / length
    seed = light.texture_seed
    if height < _SKYLINE_TOP:
        # Distant hills and roofs, their height a function of the azimuth only.
        azimuth = math.atan2(direction[1], direction[0])
        roof = math.floor(azimuth * 28)
        skyline = 0.012 + 0.05 * _noise(azimuth * 5 + 50, 0.5, seed + 7) ** 2
        if height < skyline + 0.02 * _lattice(roof, 0, seed + 8):
            red, green, blue = _scaled(light.horizon, 0.72 + 0.1 * _lattice(roof, 1, seed + 8))
            return red, green, min(1.0, blue * 1.06)
    colour = _blended(light.horizon, light.zenith, min(1.0, max(0.0, height) * 2.2) ** 0.7)
    if height > 0.02:
        # Clouds lie on a plane overhead, so they shrink towards the horizon.
        cx, cy = direction[0] / direction[2], direction[1] / direction[2]
        cloud = 0.6 * _noise(cx * 0.9, cy * 0.9, seed + 9) + 0.4 * _noise(cx * 2.3, cy * 2.3, seed)
        cover = min(1.0, max(0.0, (cloud - 0.62 + 0.45 * light.cloudiness) * 3.0))
        cover *= min(1.0, (height - 0.02) * 8)
        tone = 0.92 - 0.18 * light.cloudiness
        colour = (
            colour[0] + cover * (tone - colour[0]) * 0.8,
            colour[1] + cover * (tone - colour[1]) * 0.8,
            colour[2] + cover * (tone - colour[2]) * 0.8,
        )
    sun = light.sun_direction
    towards_sun = direction[0] * sun[0] + direction[1] * sun[1] + direction[2] * sun[2]
    towards_sun = max(0.0, towards_sun / length)
    if towards_sun > 0.8:
        glow = (0.35 * towards_sun**24 + 0.9 * towards_sun**800) * (1 - light.cloudiness)
        colour = colour[0] + glow, colour[1] + glow, colour[2] + glow
    return colour


@compiled
def _vehicle_ends(
    face: int, y: float, z: float, colour: Colour, low: float, high: float
) -> tuple[bool, Colour]:
    """Return whether a point is of the lights or the number plate, and its colour."""
    if face > 1:
        return False, colour
    if low < z < high and 0.62 < abs(y) < 0.95:
        return True, (1.0, 0.98, 0.88) if face == 0 else (0.85, 0.05, 0.04)
    middle = (low + high) / 2
    if abs(y) < 0.28 and abs(z - middle + 0.35) < 0.14:
        return True, (0.95, 0.95, 0.85)
    if face == 0 and abs(y) < 0.5 and abs(z - middle) < 0.16:
        return True, (0.06, 0.06, 0.07)
    return False, colour


@inlined
def _glazed(colour: Colour, accent: Colour, along_face: float, z: float, pillars: float) -> Colour:
    """Return the colour of a window band between pillars on a wall."""
    if abs((along_face * pillars) % 1.0 - 0.5) > 0.44:
        return _scaled(colour, 0.6)
    return _scaled(accent, 0.8 + 0.5 * max(0.0, z))


@compiled
def _surface_colour(
    texture: int,
    half_size: tuple[float, float, float],
    colour: Colour,
    accent: Colour,
    index: int,
    face: int,
    x: float,
    y: float,
    z: float,
    seed: int,
) -> tuple[float, Colour]:
    """Return the glossiness and the colour of a solid at a hit in unit coordinates."""
    if texture == CAR_BODY:
        at_end, end_colour = _vehicle_ends(face, y, z, colour, 0.15, 0.65)
        if at_end:
            return 0.3, end_colour
        if z < -0.62:
            return 0.1, (0.12, 0.12, 0.12)
        if face in (2, 3) and (abs(x - 0.12) < 0.012 or abs(x + 0.42) < 0.012):
            return 0.45, _scaled(colour, 0.5)
        return 0.45, colour
    if texture == CABIN:
        if face == 4:
            return 0.4, colour
        if face <= 1:
            return 0.6, accent if abs(y) < 0.84 and z > -0.9 and z < 0.78 else colour
        if -0.85 < z < 0.72 and abs(x) < 0.93:
            return 0.5, _glazed(colour, accent, x * 0.5, z, 2.0)
        return 0.5, colour
    if texture == BUS_BODY:
        if face >= 4:
            return 0.2, colour
        if face <= 1:
            at_end, end_colour = _vehicle_ends(face, y, z, colour, -0.75, -0.5)
            if at_end:
                return 0.3, end_colour
            if (face == 0 and -0.35 < z < 0.62) or (face == 1 and 0.1 < z < 0.6):
                return 0.5, accent if abs(y) < 0.9 else colour
            if face == 0 and 0.68 < z < 0.9 and abs(y) < 0.6:
                return 0.3, (0.95, 0.65, 0.15)
            return 0.3, colour
        if 0.0 < z < 0.62:
            return 0.5, _glazed(colour, accent, x, z, 4.0)
        if face == 3 and (abs(x - 0.82) < 0.07 or abs(x) < 0.07) and z < 0.0:
            return 0.5, accent
        return 0.3, (0.9, 0.9, 0.9) if -0.25 < z < -0.12 else colour
    if texture == CARGO:
        # Ribs every 60 cm; the flanks carry a coloured band.
        across_face = x * half_size[0] if face in (2, 3) else y * half_size[1]
        if face < 4:
            if (across_face + 40.0) % 0.6 < 0.09:
                colour = _scaled(colour, 0.78)
            if face in (2, 3) and -0.15 < z < 0.25 and abs(x) < 0.7:
                colour = _blended(colour, accent, 0.75)
            if face == 1 and z < -0.86 and abs(y) > 0.55:
                colour = 0.85, 0.06, 0.05
        return 0.1, colour
    if texture == HORIZONTAL_STRIPES:
        return 0.05, accent if -0.35 < z < 0.0 or 0.3 < z < 0.6 else colour
    if texture == DIAGONAL_STRIPES:
        along_face = y * half_size[1] if face <= 1 else x * half_size[0]
        striped = (along_face + z * half_size[2] + 20.0) % 0.7 < 0.35
        return 0.1, accent if striped else colour
    if texture == FACADE:
        if face >= 4:
            return 0.0, colour
        wall = (x * half_size[0] if face in (2, 3) else y * half_size[1]) + 500.0
        storey = (z + 1.0) * half_size[2]
        if wall % 3.2 > 1.5 and storey % 3.1 > 1.3 and storey > 1.0:
            lit = _lattice(int(wall / 3.2), int(storey / 3.1), seed + index)
            return 0.3, _scaled(accent, 0.75 + 0.5 * lit)
        return 0.0, _scaled(colour, 0.8) if storey < 3.1 and wall % 9.6 > 2.0 else colour
    if texture == FOLIAGE:
        leaf = _noise(x * 5 + index, (y + z * 1.7) * 5, seed)
        return 0.0, _scaled(colour, 0.55 + 0.9 * leaf)
    if texture == CLOTHING:
        if z < -0.82:
            return 0.0, accent
        return 0.0, _scaled(colour, 0.7) if face == 0 and abs(y) < 0.1 else colour
    if texture == WHEEL:
        return 0.1, accent if face >= 4 and x * x + y * y < 0.4 else colour
    if texture == TRUCK_CAB:
        at_end, end_colour = _vehicle_ends(face, y, z, colour, -0.75, -0.5)
        if at_end:
            return 0.3, end_colour
        if face == 0 and 0.05 < z < 0.78 and abs(y) < 0.88:
            return 0.6, accent
        if face in (2, 3) and 0.05 < z < 0.72 and -0.1 < x < 0.8:
            return 0.6, accent
        return 0.4, colour
    return 0.0, colour


@inlined
def _darkness_at(shadows: GroundShadows, x: float, y: float) -> float:
    column = (x - shadows.origin_x) / shadows.cell
    row = (y - shadows.origin_y) / shadows.cell
    left, bottom = math.floor(column), math.floor(row)
    rows, columns = shadows.darkness.shape
    if left < 0 or bottom < 0 or left + 1 >= columns or bottom + 1 >= rows:
        return 0.0
    fx, fy = column - left, row - bottom
    low = shadows.darkness[bottom, left] * (1 - fx) + shadows.darkness[bottom, left + 1] * fx
    above = bottom + 1
    high = shadows.darkness[above, left] * (1 - fx) + shadows.darkness[above, left + 1] * fx
    return low * (1 - fy) + high * fy


@inlined
def _shade_solid(
    solid: np.void,
    index: int,
    light: Daylight,
    origin: tuple[float, float, float],
    direction: tuple[float, float, float],
) -> tuple[float, Colour]:
    """Return the ray parameter where a ray meets a solid, and the lit colour there."""
    t, face, x, y, z = intersect(solid, origin, direction)
    nx, ny, nz = surface_normal(solid, face, x, y, z)
    gloss, colour = _surface_colour(
        solid.texture,
        (solid.half_size[0], solid.half_size[1], solid.half_size[2]),
        (solid.colour[0], solid.colour[1], solid.colour[2]),
        (solid.accent[0], solid.accent[1], solid.accent[2]),
        index,
        face,
        x,
        y,
        z,
        light.texture_seed,
    )
    sun = light.sun_direction
    lit = max(0.0, nx * sun[0] + ny * sun[1] + nz * sun[2])
    # Feet of objects get less sky light: the ground hides half of it.
    above_ground = origin[2] + t * direction[2]
    occluded = 0.72 + 0.28 * min(1.0, max(0.0, above_ground) / 0.7)
    ambient = light.sky_strength * (0.8 + 0.2 * nz) * occluded
    brightness = ambient + light.sun_strength * lit
    length = math.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    along_normal = direction[0] * nx + direction[1] * ny + direction[2] * nz
    mirrored_z = (direction[2] - 2 * along_normal * nz) / length
    mirror = gloss * (0.12 + 0.5 * (1 - abs(along_normal) / length) ** 3)
    mirror = mirror if mirrored_z > 0 else 0.3 * mirror
    return t, _blended(_scaled(colour, brightness), light.horizon, mirror)


@inlined
def _shade_ground(
    t: float,
    kind: int,
    along: float,
    across: float,
    crosswalks: np.ndarray,
    shadows: GroundShadows,
    light: Daylight,
    origin: tuple[float, float, float],
    direction: tuple[float, float, float],
    distance: float,
) -> Colour:
    """Return the lit colour of the ground a ray meets."""
    colour = _ground_colour(kind, along, across, distance, crosswalks, light.texture_seed)
    darkness = _darkness_at(shadows, origin[0] + t * direction[0], origin[1] + t * direction[1])
    sunny = light.sun_strength * light.sun_direction[2] * (1 - darkness)
    brightness = light.sky_strength * (1 - 0.45 * darkness) + sunny
    if kind == KERB_FACE:
        brightness *= 0.8
    return _scaled(colour, brightness)


@inlined
def _faded(light: Daylight, optical_depth: float, colour: Colour) -> Colour:
    """Fade a colour to that of the horizon, which is the airlight."""
    faded = 1.0 - math.exp(-optical_depth)
    return (
        colour[0] + faded * (light.horizon[0] - colour[0]),
        colour[1] + faded * (light.horizon[1] - colour[1]),
        colour[2] + faded * (light.horizon[2] - colour[2]),
    )


@inlined
def _shade_ray(
    solids: np.ndarray,
    index: int,
    road: RoadRaster,
    crosswalks: np.ndarray,
    shadows: GroundShadows,
    light: Daylight,
    origin: tuple[float, float, float],
    direction: tuple[float, float, float],
) -> tuple[float, Colour]:
    """Return how far a ray went, infinity for the sky, and the colour it brings home."""
    length = math.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    if index >= 0:
        t, colour = _shade_solid(solids[index], index, light, origin, direction)
    else:
        t, kind, along, across = intersect_ground(road, origin, direction)
        if t * length > _HORIZON_DISTANCE:
            colour = _sky_colour(direction, light)
            if light.fog_extinction > 0.0:
                rise = max(direction[2] / length, 1e-6)
                colour = _faded(light, light.fog_extinction * _FOG_HEIGHT / rise, colour)
            return np.inf, colour
        colour = _shade_ground(
            t, kind, along, across, crosswalks, shadows, light, origin, direction, t * length
        )
    distance = t * length
    optical_depth = distance / light.haze_distance + light.fog_extinction * distance
    return t, _faded(light, optical_depth, colour)


@compiled
def shade(
    solids: np.ndarray,
    nearest: np.ndarray,
    depth: np.ndarray,
    supersampling: int,
    road: RoadRaster,
    crosswalks: np.ndarray,
    shadows: GroundShadows,
    light: Daylight,
    origin: np.ndarray,
    camera_to_world: np.ndarray,
    intrinsic: np.ndarray,
) -> np.ndarray:
    """Colour every pixel of a camera, and complete the depth buffer with the ground.

    A pixel is the mean of its rays; where all of them meet the same solid or the sky, the middle
    one stands for all.

    Args:
        solids: Records of the solids in the world.
        nearest: (H * S, W * S) index of the solid each ray meets, below zero where none is.
        depth: (H * S, W * S) depth of the solids in metres; the ground's depth is written into
            it, at least on the diagonal of each pixel.
        supersampling: Rays S along each side of a pixel.
        road: Road coordinates for the ground.
        crosswalks: Stations of the zebra crossings.
        shadows: Darkness of the ground.
        light: Daylight.
        origin: Camera position, (3,) world metres.
        camera_to_world: Rotation, (3, 3).
        intrinsic: Camera matrix for the rays, (3, 3).

    Returns:
        (H, W, 3) float32 RGB, mostly within [0, 1].
    """
    height, width = nearest.shape[0] // supersampling, nearest.shape[1] // supersampling
    image = np.zeros((height, width, 3), dtype=np.float32)
    middle = supersampling // 2
    position = origin[0], origin[1], origin[2]
    for row in range(height):
        for column in range(width):
            top, left = row * supersampling, column * supersampling
            first = nearest[top, left]
            alike = True
            for v in range(top, top + supersampling):
                for u in range(left, left + supersampling):
                    alike = alike and nearest[v, u] == first
            # Rays that leave upwards meet the sky, which has no edges.
            lowest = (top + supersampling - 0.5 - intrinsic[1, 2]) / intrinsic[1, 1]
            leftmost = (left + 0.5 - intrinsic[0, 2]) / intrinsic[0, 0]
            rising = camera_to_world[2, 0] * leftmost + camera_to_world[2, 1] * lowest
            in_sky = first < 0 and rising + camera_to_world[2, 2] > 0.01
            one_for_all = alike and (first >= 0 or in_sky)
            red, green, blue = 0.0, 0.0, 0.0
            rays = 0
            for v in range(top, top + supersampling):
                y = (v + 0.5 - intrinsic[1, 2]) / intrinsic[1, 1]
                for u in range(left, left + supersampling):
                    # On the ground the diagonal does: it samples every row and every column.
                    if alike and (u - left != v - top or (one_for_all and u - left != middle)):
                        continue
                    x = (u + 0.5 - intrinsic[0, 2]) / intrinsic[0, 0]
                    direction = rotate(camera_to_world, (x, y, 1.0))
                    index = nearest[v, u]
                    t, colour = _shade_ray(
                        solids, index, road, crosswalks, shadows, light, position, direction
                    )
                    if index < 0:
                        depth[v, u] = t
                    rays += 1
                    red, green, blue = red + colour[0], green + colour[1], blue + colour[2]
            image[row, column, 0] = red / rays
            image[row, column, 1] = green / rays
            image[row, column, 2] = blue / rays
    return image
