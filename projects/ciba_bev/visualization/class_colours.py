"""Colours of the detection classes."""

from __future__ import annotations

CLASS_COLOURS = {
    'car': (255, 158, 0),
    'truck': (255, 99, 71),
    'construction_vehicle': (233, 210, 60),
    'bus': (255, 69, 160),
    'trailer': (190, 120, 255),
    'barrier': (150, 165, 190),
    'motorcycle': (0, 200, 170),
    'bicycle': (90, 220, 60),
    'pedestrian': (60, 140, 255),
    'traffic_cone': (200, 90, 60),
}
OTHER_COLOUR = (200, 200, 200)


def class_colour(class_name: str) -> tuple[int, int, int]:
    """Return the colour of a detection class.

    Args:
        class_name: Name of the class.

    Returns:
        RGB, 0 to 255; grey for unknown names.
    """
    return CLASS_COLOURS.get(class_name, OTHER_COLOUR)
