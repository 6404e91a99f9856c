"""One frame from above, as several detectors see it."""

from __future__ import annotations

from typing import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .bird_eye_view import BACKGROUND, DrawnBoxes, draw_bird_eye_view

_PANEL_INCHES = 3.6
_DOTS_PER_INCH = 110
# Half the side of the square that is shown, in metres.
_VIEW_RANGE = 30.0


def draw_comparison(
    points: np.ndarray,
    ground_truth: DrawnBoxes,
    detections: Mapping[str, DrawnBoxes],
) -> np.ndarray:
    """Draw the ground truth and, beside it, what each detector finds.

    Args:
        points: (N, 3 or more) LiDAR points, metres, x right, y forward.
        ground_truth: Annotated boxes, in that frame; outlined in white beneath detections.
        detections: Detected boxes by the name of the detector.

    Returns:
        (H, W, 3) uint8 RGB picture, one panel for the ground truth and one for each detector.
    """
    panels: dict[str, DrawnBoxes | None] = {'ground truth': None, **detections}
    size = (_PANEL_INCHES * len(panels), _PANEL_INCHES + 0.35)
    figure = Figure(size, dpi=_DOTS_PER_INCH, facecolor=BACKGROUND, layout='constrained')
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, detected) in zip(all_axes, panels.items()):
        draw_bird_eye_view(axes, points, ground_truth, detected, _VIEW_RANGE)
        axes.set_title(name, color='white', fontsize=13)
        for spine in axes.spines.values():
            spine.set_color('#3a4250')
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
