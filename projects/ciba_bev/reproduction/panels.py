"""The look of the paper's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from ..analysis.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = COLOURS[:3]


def new_panels(
    rows: int, columns: int, size: tuple[float, float], share_x: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, with a faint grid and without a frame.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        size: Width and height of a panel, in inches.
        share_x: Whether the panels of a column have the same x axis.

    Returns:
        The figure and its axes, row by row.
    """
    # Not pyplot, which needs a display and keeps figures alive.
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width * columns, height * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharex='col' if share_x else False)
    for axes in panels.flat:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(color='#DDDDDD', linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, list(panels.flat)


def draw_means(
    axes: Axes, x: Sequence[float], scores: Sequence[Sequence[float]], **style: object
) -> None:
    """Draw a line through means over seeds, with sample deviations as bars if all have several.

    Args:
        axes: Where to draw.
        x: Position of each point.
        scores: For each point, the scores over seeds.
        **style: Arguments of :meth:`Axes.errorbar`.
    """
    several = all(len(values) > 1 for values in scores)
    deviations = [np.std(values, ddof=1) for values in scores] if several else None
    axes.errorbar(x, [np.mean(values) for values in scores], deviations, capsize=3, **style)
