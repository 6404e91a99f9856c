"""Compiled kernels that colour what the cameras see: light, textures, ground, sky and haze."""

from __future__ import annotations

import math
from typing import NamedTuple

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
    Primitives,
)
from .ray_casting import (
    KERB_FACE,
    RAISED,
    compiled,
    inlined,
    intersect,
    intersect_ground,
    surface_normal,
)
from .road import (
    EDGE_LINE_OFFSET,
    LANE_WIDTH,
    SIDEWALK_OUTER_OFFSET,
    RoadRaster,
)


class Daylight(NamedTuple):
    """Light and air of a scene.

    Attributes:
        sun_direction: (3,) unit vector towards the sun.
        sun_strength: Share of light that comes from the sun.
        sky_strength: Share of light that comes from the whole sky.
        zenith: (3,) RGB of the sky overhead.
        horizon: (3,) RGB of the sky at the horizon, which distant things fade into.
        cloudiness: 0 for a clear sky, 1 for an overcast one.
        haze_distance: Metres after which about two thirds of a colour has faded.
        fog_extinction: Extinction coefficient of a layer of fog on the ground, 1/m; 0 without fog.
        texture_seed: Offset of the noise textures.
    """

    sun_direction: np.ndarray
    sun_strength: float
    sky_strength: float
    zenith: np.ndarray
    horizon: np.ndarray
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
    for middle in crosswalks:
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


@compiled
def _ground_colour(
    kind: int,
    along: float,
    across: float,
    distance: float,
    crosswalks: np.ndarray,
    seed: int,
    colour: np.ndarray,
) -> None:
    side = abs(across)
    if kind == KERB_FACE:
        colour[:] = 0.56
        return
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
            colour[0], colour[1], colour[2] = tone * joint, tone * joint * 0.97, tone * joint * 0.93
        else:
            patch = _noise(along * 0.25, across * 0.25, seed + 3)
            blade = 0.0
            if grain > 0.05:
                blade = grain * (_noise(along * 6, across * 6, seed + 4) - 0.5)
            tone = 0.8 + 0.35 * patch + 0.5 * blade
            colour[0], colour[1], colour[2] = 0.27 * tone, 0.36 * tone, 0.16 * tone
        return
    patch = _noise(along * 0.15, across * 0.4, seed)
    fine = 0.0
    if grain > 0.05:
        fine = grain * (_noise(along * 9, across * 9, seed + 1) - 0.5)
    tone = 0.27 + 0.05 * patch + 0.09 * fine
    # Tyres polish two tracks in each lane.
    if side < EDGE_LINE_OFFSET:
        in_lane = abs(side % LANE_WIDTH - LANE_WIDTH / 2)
        tone -= 0.025 * math.exp(-(((in_lane - 0.8) / 0.25) ** 2))
    paint, is_yellow = marking_strength(along, across, crosswalks)
    colour[0], colour[1], colour[2] = tone, tone, tone * 1.03
    if paint == 0.0:
        return
    wear = paint * (0.75 + 0.2 * _noise(along * 2, across * 5, seed + 2))
    colour[0] = tone * (1 - wear) + wear * (0.80 if is_yellow else 0.82)
    colour[1] = tone * (1 - wear) + wear * (0.62 if is_yellow else 0.82)
    colour[2] = tone * 1.03 * (1 - wear) + wear * (0.20 if is_yellow else 0.80)


@compiled
def _sky_colour(direction: np.ndarray, light: Daylight, colour: np.ndarray) -> None:
    flat = math.sqrt(direction[0] ** 2 + direction[1] ** 2)
    length = math.sqrt(flat * flat + direction[2] ** 2)
    height = direction[2] / length
    mix = min(1.0, max(0.0, height) * 2.2) ** 0.7
    for channel in range(3):
        colour[channel] = light.horizon[channel] * (1 - mix) + light.zenith[channel] * mix
    seed = light.texture_seed
    if height < _SKYLINE_TOP:
        # Distant hills and roofs, their height a function of the azimuth only.
        azimuth = math.atan2(direction[1], direction[0])
        roof = math.floor(azimuth * 28)
        skyline = 0.012 + 0.05 * _noise(azimuth * 5 + 50, 0.5, seed + 7) ** 2
        if height < skyline + 0.02 * _lattice(roof, 0, seed + 8):
            tone = 0.72 + 0.1 * _lattice(roof, 1, seed + 8)
            for channel in range(3):
                colour[channel] = light.horizon[channel] * tone
            colour[2] = min(1.0, colour[2] * 1.06)
            return
    if height > 0.02:
        # Clouds lie on a plane overhead, so they shrink towards the horizon.
        cx, cy = direction[0] / direction[2], direction[1] / direction[2]
        cloud = 0.6 * _noise(cx * 0.9, cy * 0.9, seed + 9) + 0.4 * _noise(cx * 2.3, cy * 2.3, seed)
        cover = min(1.0, max(0.0, (cloud - 0.62 + 0.45 * light.cloudiness) * 3.0))
        cover *= min(1.0, (height - 0.02) * 8)
        for channel in range(3):
            colour[channel] += cover * (0.92 - 0.18 * light.cloudiness - colour[channel]) * 0.8
    towards_sun = max(0.0, (direction @ light.sun_direction) / length)
    if towards_sun > 0.8:
        glow = (0.35 * towards_sun**24 + 0.9 * towards_sun**800) * (1 - light.cloudiness)
        for channel in range(3):
            colour[channel] += glow


@compiled
def _vehicle_ends(
    face: int, y: float, z: float, colour: np.ndarray, low: float, high: float
) -> bool:
    """Paint lights and number plate; return whether the point was one of them."""
    if face > 1:
        return False
    if low < z < high and 0.62 < abs(y) < 0.95:
        if face == 0:
            colour[0], colour[1], colour[2] = 1.0, 0.98, 0.88
        else:
            colour[0], colour[1], colour[2] = 0.85, 0.05, 0.04
        return True
    middle = (low + high) / 2
    if abs(y) < 0.28 and abs(z - middle + 0.35) < 0.14:
        colour[0], colour[1], colour[2] = 0.95, 0.95, 0.85
        return True
    if face == 0 and abs(y) < 0.5 and abs(z - middle) < 0.16:
        colour[0], colour[1], colour[2] = 0.06, 0.06, 0.07
        return True
    return False


@compiled
def _glazed(
    solids: Primitives, index: int, along_face: float, z: float, pillars: float, colour: np.ndarray
) -> None:
    """Paint a window band between pillars on a wall."""
    for channel in range(3):
        colour[channel] = solids.accent[index, channel] * (0.8 + 0.5 * max(0.0, z))
    if abs((along_face * pillars) % 1.0 - 0.5) > 0.44:
        for channel in range(3):
            colour[channel] = 0.6 * solids.colour[index, channel]


@compiled
def _surface_colour(
    solids: Primitives,
    index: int,
    face: int,
    x: float,
    y: float,
    z: float,
    seed: int,
    colour: np.ndarray,
) -> float:
    """Write the colour of a solid at a hit in unit coordinates; return its glossiness."""
    texture = solids.texture[index]
    half_size = solids.half_size[index]
    for channel in range(3):
        colour[channel] = solids.colour[index, channel]
    if texture == CAR_BODY:
        if _vehicle_ends(face, y, z, colour, 0.15, 0.65):
            return 0.3
        if z < -0.62:
            for channel in range(3):
                colour[channel] = 0.12
            return 0.1
        if face in (2, 3) and (abs(x - 0.12) < 0.012 or abs(x + 0.42) < 0.012):
            for channel in range(3):
                colour[channel] *= 0.5
        return 0.45
    if texture == CABIN:
        if face == 4:
            return 0.4
        if face <= 1:
            if abs(y) < 0.84 and z > -0.9 and z < 0.78:
                for channel in range(3):
                    colour[channel] = solids.accent[index, channel]
            return 0.6
        if -0.85 < z < 0.72 and abs(x) < 0.93:
            _glazed(solids, index, x * 0.5, z, 2.0, colour)
        return 0.5
    if texture == BUS_BODY:
        if face >= 4:
            return 0.2
        if face <= 1:
            if _vehicle_ends(face, y, z, colour, -0.75, -0.5):
                return 0.3
            if (face == 0 and -0.35 < z < 0.62) or (face == 1 and 0.1 < z < 0.6):
                if abs(y) < 0.9:
                    for channel in range(3):
                        colour[channel] = solids.accent[index, channel]
                return 0.5
            if face == 0 and 0.68 < z < 0.9 and abs(y) < 0.6:
                colour[0], colour[1], colour[2] = 0.95, 0.65, 0.15
            return 0.3
        if 0.0 < z < 0.62:
            _glazed(solids, index, x, z, 4.0, colour)
            return 0.5
        if face == 3 and (abs(x - 0.82) < 0.07 or abs(x) < 0.07) and z < 0.0:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
            return 0.5
        if -0.25 < z < -0.12:
            for channel in range(3):
                colour[channel] = 0.9
        return 0.3
    if texture == CARGO:
        # Ribs every 60 cm; the flanks carry a coloured band.
        across_face = x * half_size[0] if face in (2, 3) else y * half_size[1]
        if face < 4:
            if (across_face + 40.0) % 0.6 < 0.09:
                for channel in range(3):
                    colour[channel] *= 0.78
            if face in (2, 3) and -0.15 < z < 0.25 and abs(x) < 0.7:
                for channel in range(3):
                    colour[channel] = 0.25 * colour[channel] + 0.75 * solids.accent[index, channel]
            if face == 1 and z < -0.86 and abs(y) > 0.55:
                colour[0], colour[1], colour[2] = 0.85, 0.06, 0.05
        return 0.1
    if texture == HORIZONTAL_STRIPES:
        if -0.35 < z < 0.0 or 0.3 < z < 0.6:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
        return 0.05
    if texture == DIAGONAL_STRIPES:
        along_face = y * half_size[1] if face <= 1 else x * half_size[0]
        if (along_face + z * half_size[2] + 20.0) % 0.7 < 0.35:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
        return 0.1
    if texture == FACADE:
        if face >= 4:
            return 0.0
        wall = (x * half_size[0] if face in (2, 3) else y * half_size[1]) + 500.0
        storey = (z + 1.0) * half_size[2]
        if wall % 3.2 > 1.5 and storey % 3.1 > 1.3 and storey > 1.0:
            lit = _lattice(int(wall / 3.2), int(storey / 3.1), seed + index)
            tone = 0.75 + 0.5 * lit
            for channel in range(3):
                colour[channel] = solids.accent[index, channel] * tone
            return 0.3
        if storey < 3.1 and wall % 9.6 > 2.0:
            for channel in range(3):
                colour[channel] *= 0.8
        return 0.0
    if texture == FOLIAGE:
        leaf = _noise(x * 5 + index, (y + z * 1.7) * 5, seed)
        for channel in range(3):
            colour[channel] *= 0.55 + 0.9 * leaf
        return 0.0
    if texture == CLOTHING:
        if z < -0.82:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
        elif face == 0 and abs(y) < 0.1:
            for channel in range(3):
                colour[channel] *= 0.7
        return 0.0
    if texture == WHEEL:
        if face >= 4 and x * x + y * y < 0.4:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
        return 0.1
    if texture == TRUCK_CAB:
        if _vehicle_ends(face, y, z, colour, -0.75, -0.5):
            return 0.3
        if face == 0 and 0.05 < z < 0.78 and abs(y) < 0.88:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
            return 0.6
        if face in (2, 3) and 0.05 < z < 0.72 and -0.1 < x < 0.8:
            for channel in range(3):
                colour[channel] = solids.accent[index, channel]
            return 0.6
        return 0.4
    return 0.0


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
    solids: Primitives,
    index: int,
    light: Daylight,
    origin: np.ndarray,
    direction: np.ndarray,
    colour: np.ndarray,
) -> float:
    """Write the lit colour of the solid a ray meets; return the ray parameter there."""
    t, face, x, y, z = intersect(solids, index, origin, direction)
    nx, ny, nz = surface_normal(solids, index, face, x, y, z)
    gloss = _surface_colour(solids, index, face, x, y, z, light.texture_seed, colour)
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
    for channel in range(3):
        own = colour[channel] * brightness * (1 - mirror)
        colour[channel] = own + mirror * light.horizon[channel]
    return t


@inlined
def _shade_ground(
    t: float,
    kind: int,
    along: float,
    across: float,
    crosswalks: np.ndarray,
    shadows: GroundShadows,
    light: Daylight,
    origin: np.ndarray,
    direction: np.ndarray,
    distance: float,
    colour: np.ndarray,
) -> None:
    """Write the lit colour of the ground a ray meets."""
    _ground_colour(kind, along, across, distance, crosswalks, light.texture_seed, colour)
    darkness = _darkness_at(shadows, origin[0] + t * direction[0], origin[1] + t * direction[1])
    sunny = light.sun_strength * light.sun_direction[2] * (1 - darkness)
    brightness = light.sky_strength * (1 - 0.45 * darkness) + sunny
    if kind == KERB_FACE:
        brightness *= 0.8
    for channel in range(3):
        colour[channel] *= brightness


@inlined
def _fade(light: Daylight, optical_depth: float, colour: np.ndarray) -> None:
    """Fade a colour to that of the horizon, which is the airlight."""
    faded = 1.0 - math.exp(-optical_depth)
    for channel in range(3):
        colour[channel] += faded * (light.horizon[channel] - colour[channel])


@inlined
def _shade_ray(
    solids: Primitives,
    index: int,
    road: RoadRaster,
    crosswalks: np.ndarray,
    shadows: GroundShadows,
    light: Daylight,
    origin: np.ndarray,
    direction: np.ndarray,
    colour: np.ndarray,
) -> float:
    """Write the colour a ray brings home; return how far it went, infinity for the sky."""
    length = math.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    if index >= 0:
        t = _shade_solid(solids, index, light, origin, direction, colour)
    else:
        t, kind, along, across = intersect_ground(road, origin, direction)
        if t * length > _HORIZON_DISTANCE:
            _sky_colour(direction, light, colour)
            if light.fog_extinction > 0.0:
                rise = max(direction[2] / length, 1e-6)
                _fade(light, light.fog_extinction * _FOG_HEIGHT / rise, colour)
            return np.inf
        _shade_ground(
            t,
            kind,
            along,
            across,
            crosswalks,
            shadows,
            light,
            origin,
            direction,
            t * length,
            colour,
        )
    distance = t * length
    _fade(light, distance / light.haze_distance + light.fog_extinction * distance, colour)
    return t


@compiled
def shade(
    solids: Primitives,
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
        solids: Solids in the world.
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
    colour = np.empty(3)
    total = np.empty(3)
    direction = np.empty(3)
    middle = supersampling // 2
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
            total[:] = 0.0
            rays = 0
            for v in range(top, top + supersampling):
                y = (v + 0.5 - intrinsic[1, 2]) / intrinsic[1, 1]
                for u in range(left, left + supersampling):
                    # On the ground the diagonal does: it samples every row and every column.
                    if alike and (u - left != v - top or (one_for_all and u - left != middle)):
                        continue
                    x = (u + 0.5 - intrinsic[0, 2]) / intrinsic[0, 0]
                    for axis in range(3):
                        direction[axis] = (
                            camera_to_world[axis, 0] * x
                            + camera_to_world[axis, 1] * y
                            + camera_to_world[axis, 2]
                        )
                    index = nearest[v, u]
                    t = _shade_ray(
                        solids, index, road, crosswalks, shadows, light, origin, direction, colour
                    )
                    if index < 0:
                        depth[v, u] = t
                    rays += 1
                    for channel in range(3):
                        total[channel] += colour[channel]
            for channel in range(3):
                image[row, column, channel] = total[channel] / rays
    return image
