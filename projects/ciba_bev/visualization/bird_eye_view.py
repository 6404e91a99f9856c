"""Draw points and boxes in bird's-eye view."""

from __future__ import annotations

import dataclasses

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, Polygon

from .box_projection import box_corners
from .class_colours import class_colour

BACKGROUND = '#10141a'
GROUND_TRUTH_COLOUR = '#ffffff'
# Extent of nuScenes' vehicle in metres, from behind to in front of the rear axle, and to a side.
_EGO_EXTENT = ((-1.0, 3.9), 0.95)
# Distance of the LiDAR from the rear axle, in metres.
_LIDAR_TO_REAR_AXLE = 0.94


@dataclasses.dataclass(frozen=True)
class DrawnBoxes:
    """Boxes with classes and scores.

    Attributes:
        boxes: (N, 7 or more) in the LiDAR frame (x right, y forward): centre, extents (m), yaw
            (rad).
        class_names: Detection class of each box.
        scores: (N,) scores, or None for ground truth.
    """

    boxes: np.ndarray
    class_names: list[str]
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.class_names)

    def colours(self) -> list[tuple[int, int, int]]:
        """Return the RGB colour of each box."""
        return [class_colour(name) for name in self.class_names]


def draw_bird_eye_view(
    axes: Axes,
    points: np.ndarray,
    ground_truth: DrawnBoxes | None,
    predictions: DrawnBoxes | None = None,
    view_range: float = 51.2,
    show_scores: bool = False,
) -> None:
    """Draw a frame in bird's-eye view, with the ego vehicle heading up.

    Ground truth is filled in class colours; with predictions, it is outlined in white beneath them.

    Args:
        axes: The axes to draw into.
        points: (N, 3 or more) in the LiDAR frame, metres.
        ground_truth: Annotated boxes, or None.
        predictions: Detected boxes, or None.
        view_range: Half the side length of the visible square, in metres.
        show_scores: Whether to print the scores of the predictions.
    """
    axes.set_facecolor(BACKGROUND)
    points = np.asarray(points)
    shown = np.abs(points[:, :2]).max(axis=1) < view_range if len(points) else []
    heights = np.clip(points[shown, 2], -2.0, 3.0)
    axes.scatter(
        points[shown, 0],
        points[shown, 1],
        s=90.0 / view_range,
        c=heights,
        cmap='viridis',
        vmin=-2.5,
        vmax=3.0,
        linewidths=0,
        alpha=0.7,
        zorder=1,
    )
    _draw_range_rings(axes, view_range)
    if ground_truth is not None and predictions is None:
        _draw_boxes(axes, ground_truth, view_range, filled=True, show_scores=False)
    elif ground_truth is not None:
        white = [GROUND_TRUTH_COLOUR] * len(ground_truth)
        _draw_boxes(axes, ground_truth, view_range, filled=False, show_scores=False, colours=white)
    if predictions is not None:
        _draw_boxes(axes, predictions, view_range, filled=True, show_scores=show_scores)
    _draw_ego(axes)
    axes.set_xlim(-view_range, view_range)
    axes.set_ylim(-view_range, view_range)
    axes.set_aspect('equal')
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_range_rings(axes: Axes, view_range: float) -> None:
    step = 10 if view_range > 30 else 5
    for radius in range(step, int(view_range) + 1, step):
        axes.add_patch(Circle((0, 0), radius, fill=False, ec='#ffffff', alpha=0.18, lw=0.7))
        diagonal = radius * np.sqrt(0.5)
        axes.text(
            diagonal,
            -diagonal,
            f'{radius} m',
            color='#ffffff',
            alpha=0.55,
            fontsize=7,
            ha='center',
            va='center',
            zorder=6,
        )


def _draw_ego(axes: Axes) -> None:
    (back, front), half_width = _EGO_EXTENT
    back, front = back - _LIDAR_TO_REAR_AXLE, front - _LIDAR_TO_REAR_AXLE
    outline = [(-half_width, back), (half_width, back), (half_width, front), (-half_width, front)]
    axes.add_patch(Polygon(outline, fc='#e8eef7', ec='#e8eef7', alpha=0.9, zorder=5))
    arrow = [(-half_width * 0.6, front - 1.2), (half_width * 0.6, front - 1.2), (0, front - 0.2)]
    axes.add_patch(Polygon(arrow, fc='#d02030', ec='none', zorder=6))


def _draw_boxes(
    axes: Axes,
    drawn: DrawnBoxes,
    view_range: float,
    *,
    filled: bool,
    show_scores: bool,
    colours: list | None = None,
) -> None:
    """Draw footprints, each with a line from its centre through the middle of its front."""
    if len(drawn) == 0:
        return
    if colours is None:
        colours = [tuple(value / 255 for value in colour) for colour in drawn.colours()]
    corners = box_corners(drawn.boxes)[:, :, :2]
    footprints = corners[:, [0, 1, 5, 4]]
    fronts = (corners[:, 0] + corners[:, 1]) / 2
    centres = np.asarray(drawn.boxes)[:, :2]
    width = 1.4 if filled else 1.0
    style = 'solid' if filled else (0, (3, 2))
    for footprint, colour in zip(footprints, colours):
        axes.add_patch(
            Polygon(footprint, fc=colour if filled else 'none', ec='none', alpha=0.3, zorder=3)
        )
        axes.add_patch(
            Polygon(footprint, fill=False, ec=colour, lw=width, linestyle=style, zorder=4)
        )
    headings = np.stack([centres, fronts + 0.25 * (fronts - centres)], axis=1)
    axes.add_collection(LineCollection(headings, colors=colours, linewidths=width, zorder=4))
    if not show_scores or drawn.scores is None:
        return
    for centre, score, colour in zip(centres, drawn.scores, colours):
        if np.abs(centre).max() < view_range:
            axes.text(
                centre[0],
                centre[1],
                f'{score:.2f}',
                color='white',
                fontsize=6.5,
                ha='center',
                va='center',
                zorder=7,
                bbox={'boxstyle': 'round,pad=0.12', 'fc': BACKGROUND, 'ec': colour, 'lw': 0.6},
            )
