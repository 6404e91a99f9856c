"""Random annotated objects on the road, and their motion."""

from __future__ import annotations

import dataclasses

import numpy as np

from .object_shapes import build_object_shape, random_size
from .primitives import Primitives
from .road import KERB_HEIGHT, LANE_WIDTH, Road

VEHICLE_CLASSES = ('car', 'truck', 'construction_vehicle', 'bus', 'trailer')
CYCLE_CLASSES = ('motorcycle', 'bicycle')
_PARKING_OFFSET = 8.6
_EGO_OFFSET = -LANE_WIDTH / 2
# Classes on the parking strips and the lanes. Each deck is dealt completely before it is shuffled
# again, so that no class is missing by chance.
_PARKING_DECK = (
    'car',
    'construction_vehicle',
    'barriers',
    'bus',
    'cones',
    'construction_vehicle',
    'motorcycles',
    'trailer',
    'barriers',
    'truck',
    'bicycles',
    'pedestrians',
)
_LANE_DECK = ('car', 'bicycle', 'bus', 'motorcycle', 'car', 'truck', 'bicycle', 'motorcycle')
# Without large vehicles, which would occlude half of the view all the time.
_EGO_SIDE_DECK = ('car', 'bicycle', 'motorcycle', 'car', 'bicycle', 'motorcycle')
_ONCOMING_DECK = ('car', 'bus', 'motorcycle', 'truck with trailer', 'car', 'bicycle', 'truck')


@dataclasses.dataclass(frozen=True)
class Motion:
    """Distance travelled over time, shared by everything in one lane.

    Attributes:
        times: (T,) seconds, increasing.
        distances: (T,) metres travelled since time zero.
    """

    times: np.ndarray
    distances: np.ndarray

    def distance(self, time: float) -> float:
        """Return the distance travelled at a time.

        Args:
            time: Seconds.

        Returns:
            Metres.
        """
        return float(np.interp(time, self.times, self.distances))

    def speed(self, time: float) -> float:
        """Return the mean speed over a tenth of a second around a time.

        Args:
            time: Seconds.

        Returns:
            Metres per second.
        """
        return (self.distance(time + 0.05) - self.distance(time - 0.05)) / 0.1


@dataclasses.dataclass(frozen=True)
class TrafficObject:
    """An annotated object and its path.

    Attributes:
        class_name: Detection class.
        size: (3,) length, width, height in metres.
        shape: Its solids in its own frame.
        start: Station on the road at time zero, metres.
        across: Metres to the left of the centreline.
        direction: 1 along the road, -1 against it.
        motion: Its motion, or None if it never moves.
        yaw_offset: Heading relative to its direction of travel, radians.
        base_height: Height of the ground it stands on, metres.
        has_rider: Whether it has a rider (two-wheelers only).
    """

    class_name: str
    size: np.ndarray
    shape: Primitives
    start: float
    across: float
    direction: int
    motion: Motion | None
    yaw_offset: float
    base_height: float
    has_rider: bool

    def pose(self, road: Road, time: float) -> tuple[np.ndarray, float]:
        """Return the pose at a time.

        Args:
            road: The road.
            time: Seconds.

        Returns:
            Position of the point on the ground below its centre, world frame, (3,) metres, and
            heading in radians.
        """
        travelled = self.motion.distance(time) if self.motion else 0.0
        x, y, heading = road.place(self.start + self.direction * travelled, self.across)
        if self.direction < 0:
            heading = heading + np.pi
        yaw = float((heading + self.yaw_offset + np.pi) % (2 * np.pi) - np.pi)
        return np.array([x, y, self.base_height]), yaw

    def attribute(self, time: float) -> str:
        """Return the nuScenes attribute at a time.

        Args:
            time: Seconds.

        Returns:
            The attribute; '' for classes without attributes.
        """
        speed = self.motion.speed(time) if self.motion else 0.0
        if self.class_name in VEHICLE_CLASSES:
            if self.motion is None:
                return 'vehicle.parked'
            return 'vehicle.moving' if speed > 0.3 else 'vehicle.stopped'
        if self.class_name in CYCLE_CLASSES:
            return 'cycle.with_rider' if self.has_rider else 'cycle.without_rider'
        if self.class_name == 'pedestrian':
            return 'pedestrian.moving' if speed > 0.2 else 'pedestrian.standing'
        return ''


def random_motion(
    generator: np.random.Generator, cruise_speed: float, duration: float, may_stop: bool
) -> Motion:
    """Draw the motion of the traffic in a lane.

    Args:
        generator: Source of randomness.
        cruise_speed: Typical speed in metres a second.
        duration: Seconds covered.
        may_stop: Whether the lane may come to a halt for a while, as before a red light.

    Returns:
        The motion, from one second before time zero to one after the end.
    """
    times = np.arange(-1.0, duration + 1.0, 0.02)
    swing = generator.uniform(0.05, 0.2) * np.sin(
        2 * np.pi * times / generator.uniform(8, 15) + generator.uniform(0, 2 * np.pi)
    )
    speed = cruise_speed * (1 + swing)
    if may_stop:
        halt, length = generator.uniform(0.15, 0.7) * duration, generator.uniform(2.5, 4.5)
        # Three seconds of braking before the halt and three of accelerating after it.
        outside = np.maximum(halt - times, times - halt - length)
        speed = speed * np.clip(outside / 3.0, 0.0, 1.0)
    distances = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(times))])
    return Motion(times, distances - np.interp(0.0, times, distances))


class _Population:
    """Collect the objects on a road."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.objects: list[TrafficObject] = []

    def add(
        self,
        class_name: str,
        start: float,
        across: float,
        *,
        direction: int = 1,
        motion: Motion | None = None,
        yaw_offset: float = 0.0,
        base_height: float = 0.0,
        size: np.ndarray | None = None,
    ) -> None:
        has_rider = class_name in CYCLE_CLASSES and motion is not None
        size = random_size(class_name, has_rider, self.generator) if size is None else size
        shape = build_object_shape(class_name, size, has_rider, self.generator)
        self.objects.append(
            TrafficObject(
                class_name,
                size,
                shape,
                start,
                across,
                direction,
                motion,
                yaw_offset,
                base_height,
                has_rider,
            )
        )

    def deal(self, deck: tuple[str, ...]) -> list[str]:
        return [deck[index] for index in self.generator.permutation(len(deck))]

    def fill_parking_strip(self, side: int, start: float, end: float) -> None:
        """Put parked vehicles and roadworks on one side (1 left, -1 right) of the road."""
        generator = self.generator
        across = side * _PARKING_OFFSET
        # Right-hand traffic: vehicles on the right side face along the road.
        direction = -side
        position = start
        cards: list[str] = []
        while position < end:
            cards = cards or self.deal(_PARKING_DECK)
            card = cards.pop()
            if card in VEHICLE_CLASSES:
                size = random_size(card, False, generator)
                self.add(
                    card,
                    position + size[0] / 2,
                    across + generator.normal(0, 0.08),
                    direction=direction,
                    yaw_offset=generator.normal(0, 0.015),
                    size=size,
                )
                position += size[0]
            elif card == 'barriers':
                # Rows along the edge line; a barrier faces across the road.
                for _ in range(generator.integers(2, 4)):
                    size = random_size('barrier', False, generator)
                    self.add(
                        'barrier',
                        position + size[1] / 2,
                        side * (7.7 + generator.normal(0, 0.08)),
                        direction=direction,
                        yaw_offset=np.pi / 2 + generator.normal(0, 0.05),
                        size=size,
                    )
                    position += size[1] + 0.25
            elif card == 'cones':
                for _ in range(generator.integers(3, 5)):
                    self.add(
                        'traffic_cone',
                        position + 0.3,
                        side * (7.6 + generator.normal(0, 0.15)),
                        yaw_offset=generator.uniform(-np.pi, np.pi),
                    )
                    position += generator.uniform(1.6, 2.4)
            elif card in ('motorcycles', 'bicycles'):
                for _ in range(generator.integers(2, 4)):
                    self.add(
                        card[:-1],
                        position + 0.5,
                        side * (8.4 + generator.normal(0, 0.1)),
                        direction=direction,
                        yaw_offset=side * np.pi / 2 + generator.normal(0, 0.12),
                    )
                    position += generator.uniform(1.2, 1.6)
            else:
                for _ in range(2):
                    self.add(
                        'pedestrian',
                        position + 0.5,
                        side * generator.uniform(7.7, 9.2),
                        yaw_offset=generator.uniform(-np.pi, np.pi),
                    )
                    position += generator.uniform(1.2, 2.0)
            position += generator.uniform(2.5, 6.5)

    def fill_lane(
        self,
        deck: tuple[str, ...],
        across: float,
        direction: int,
        motion: Motion,
        start: float,
        end: float,
    ) -> None:
        """Put a stream of vehicles into a lane, all with the same motion."""
        generator = self.generator
        position = start
        cards: list[str] = []
        while position < end:
            cards = cards or self.deal(deck)
            card = cards.pop()
            class_name = 'truck' if card == 'truck with trailer' else card
            size = random_size(class_name, class_name in CYCLE_CLASSES, generator)
            followers = [(class_name, size)]
            if card == 'truck with trailer':
                followers.append(('trailer', random_size('trailer', False, generator)))
            # Positions count along the direction of travel, so the last of a train comes first.
            for name, follower_size in reversed(followers):
                centre = position + follower_size[0] / 2
                self.add(
                    name,
                    direction * centre,
                    across + generator.normal(0, 0.1),
                    direction=direction,
                    motion=motion,
                    yaw_offset=generator.normal(0, 0.01),
                    size=follower_size,
                )
                position += follower_size[0] + 0.9
            position += generator.uniform(10.0, 26.0)

    def fill_sidewalk(self, side: int, start: float, end: float, duration: float) -> None:
        """Put people on one sidewalk: two rows walking in opposite directions, one standing."""
        generator = self.generator
        rows = ((11.7, 1), (12.7, -1), (13.8, 0))
        for offset, direction in rows:
            motion = None
            if direction:
                motion = random_motion(generator, generator.uniform(1.0, 1.6), duration, False)
            position = start + generator.uniform(0, 15)
            while position < end:
                self.add(
                    'pedestrian',
                    position,
                    side * (offset + generator.normal(0, 0.08)),
                    direction=direction or 1,
                    motion=motion,
                    yaw_offset=0.0 if direction else generator.uniform(-np.pi, np.pi),
                    base_height=KERB_HEIGHT,
                )
                position += generator.uniform(25, 60)


def random_traffic(
    generator: np.random.Generator, ego_motion: Motion, duration: float, visible: float = 65.0
) -> list[TrafficObject]:
    """Fill a road around the stretch the ego vehicle drives, which starts at station 0.

    Args:
        generator: Source of randomness.
        ego_motion: How the ego vehicle moves.
        duration: Seconds.
        visible: Metres around the ego vehicle that must be populated at all times.

    Returns:
        Objects that never touch each other or the ego vehicle.
    """
    population = _Population(generator)
    travelled = ego_motion.distance(duration)
    start, end = -visible, travelled + visible
    for side in (-1, 1):
        population.fill_parking_strip(side, start + generator.uniform(0, 5), end)
        population.fill_sidewalk(side, start - 2 * duration, end + 2 * duration, duration)

    # The ego lane: one stream ahead and one behind, both with the ego vehicle's own motion.
    population.fill_lane(_LANE_DECK, _EGO_OFFSET, 1, ego_motion, generator.uniform(11, 18), visible)
    population.fill_lane(_LANE_DECK, _EGO_OFFSET, 1, ego_motion, -visible, -30.0)
    beside = random_motion(
        generator, max(3.5, travelled / duration + generator.uniform(-1, 1)), duration, False
    )
    gained = travelled - beside.distance(duration)
    population.fill_lane(
        _EGO_SIDE_DECK,
        _EGO_OFFSET - LANE_WIDTH,
        1,
        beside,
        start + min(0.0, gained),
        visible + max(0.0, gained),
    )
    for lane in (1, 2):
        motion = random_motion(
            generator, generator.uniform(4, 8), duration, bool(generator.random() < 0.4)
        )
        # Against the road, stations count backwards.
        population.fill_lane(
            _ONCOMING_DECK,
            (lane - 0.5) * LANE_WIDTH,
            -1,
            motion,
            -end - motion.distance(duration),
            -start,
        )
    return population.objects


def ego_pose(road: Road, motion: Motion, time: float) -> tuple[np.ndarray, float]:
    """Return the pose of the ego vehicle's rear axle at a time.

    Args:
        road: The road.
        motion: Motion of the ego vehicle.
        time: Seconds.

    Returns:
        Position in the world frame, (3,) metres, and heading in radians.
    """
    x, y, heading = road.place(motion.distance(time), _EGO_OFFSET)
    return np.array([x, y, 0.0]), float((heading + np.pi) % (2 * np.pi) - np.pi)
