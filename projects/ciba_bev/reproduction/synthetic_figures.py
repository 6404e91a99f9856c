"""Figures 3, 8, 9 and 10: distilled linear networks, in the synthetic experiments (Section 3.5)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from ..analysis.figures import COLOURS, GREY
from ..classification.synthetic import TASKS
from ..errors import CibaError
from .panels import BLUE, ORANGE, draw_means, new_panels
from .plan import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIMIT_COLOUR = '#C00000'
_PANEL_SIZE = (4.6, 3.9)
# Of float32 weights, and their squares; lower values are rounding errors.
_LOWEST_WEIGHT, _LOWEST_VARIANCE = 1e-9, 1e-16


@dataclass(frozen=True)
class SyntheticResults:
    """Results of a synthetic experiment, for G values of D_g and R repeats.

    Attributes:
        general_dims: The values of D_g.
        weight_spectra: (2, G, R, F) singular values of the students' weights, largest first, for
            distillation alone and with the task.
        feature_spectra: (2, G, R, F) the same of the covariance of their features on test data.
        accuracy: (2, G, R), on test data, in percent.
        teacher_accuracy: (G, R), on test data, in percent.
        distillation_loss: (G, R), Eq. 1 of the students that are only distilled, on test data.
        limiting_loss: (G, R), the same by Eq. 6.
        curves: By name (``general_<D_g>``, ``specific_<D_g>``), steps and Eq. 1 in training.
    """

    general_dims: tuple[int, ...]
    weight_spectra: np.ndarray
    feature_spectra: np.ndarray
    accuracy: np.ndarray
    teacher_accuracy: np.ndarray
    distillation_loss: np.ndarray
    limiting_loss: np.ndarray
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]


def read_synthetic_results(work_dir: Path) -> SyntheticResults:
    """Read a finished synthetic experiment.

    Args:
        work_dir: Its folder, with ``synthetic.json`` and mmengine's ``scalars.json``.

    Returns:
        The results.

    Raises:
        CibaError: A file is missing.
    """
    content = read_json(work_dir / 'synthetic.json')
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not logs:
        raise CibaError(f'{work_dir}/*/vis_data/scalars.json is missing: train it again.')
    shape = (len(content['general_dims']), content['repeats'])

    def grouped(name: str, *leading: int) -> np.ndarray:
        values = np.asarray(content[name])
        return values.reshape(*leading, *shape, *values.shape[len(leading) + 1 :])

    return SyntheticResults(
        general_dims=tuple(content['general_dims']),
        weight_spectra=grouped('weight_singular_values', 2),
        feature_spectra=grouped('feature_singular_values', 2),
        accuracy=grouped('accuracy', 2),
        teacher_accuracy=grouped('teacher_accuracy'),
        distillation_loss=grouped('distillation_loss'),
        limiting_loss=grouped('limiting_loss'),
        curves=_read_curves(logs),
    )


def _read_curves(logs: list[Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    points: dict[str, dict[int, float]] = {}
    for log in logs:
        for line in log.read_text(encoding='utf-8').splitlines():
            entry: dict[str, Any] = json.loads(line)
            for name, value in entry.items():
                if name.startswith(('general_', 'specific_')):
                    points.setdefault(name, {})[entry['step']] = value
    return {
        name: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for name, values in points.items()
    }


def draw_figure_3(results: SyntheticResults) -> Figure:
    """Draw Figure 3: spectra of the students' weights, and the two parts of the loss.

    Args:
        results: Results with MSE.

    Returns:
        The figure, three panels.
    """
    figure, panels = new_panels(1, 3, _PANEL_SIZE)
    for axes, spectra, task in zip(panels, results.weight_spectra, TASKS):
        _draw_spectra(axes, results, spectra, _LOWEST_WEIGHT)
        axes.set_title(f'weights, {task}', loc='left')
    _draw_losses(panels[2], results, with_limit=True)
    _number(panels)
    return figure


def draw_six_panels(results: SyntheticResults, with_limit: bool = False) -> Figure:
    """Draw Figures 8, 9 and 10: spectra of weights and features, accuracy, and the loss.

    Args:
        results: Results of the experiment.
        with_limit: Draw the limit of Corollary 1.1, which holds for MSE on orthogonal data.

    Returns:
        The figure, six panels.
    """
    figure, panels = new_panels(2, 3, _PANEL_SIZE)
    for first, kind, spectra, lowest in (
        (0, 'weights', results.weight_spectra, _LOWEST_WEIGHT),
        (2, 'features', results.feature_spectra, _LOWEST_VARIANCE),
    ):
        for axes, values, task in zip(panels[first:], spectra, TASKS):
            _draw_spectra(axes, results, values, lowest)
            axes.set_title(f'{kind}, {task}', loc='left')
    _draw_accuracy(panels[4], results)
    _draw_losses(panels[5], results, with_limit)
    _number(panels)
    return figure


def tabulate_synthetic_results(results: SyntheticResults) -> tuple[list[str], list[list[str]]]:
    """Arrange the numbers behind the figures, one row for each D_g.

    Args:
        results: Results of the experiment.

    Returns:
        Header and rows, of means over repeats. A rank is the number of singular values of the
        student's weight above a thousandth of the largest; ``loss ratio`` is Eq. 1 at the end over
        Eq. 6, on test data; accuracies are in percent.
    """
    weights = results.weight_spectra
    ranks = (weights > 1e-3 * weights[..., :1]).sum(-1)
    columns = {
        'rank alone': (ranks[0], '.1f'),
        'rank with task': (ranks[1], '.1f'),
        'loss ratio': (results.distillation_loss / results.limiting_loss, '.3f'),
        'accuracy alone': (results.accuracy[0], '.2f'),
        'accuracy with task': (results.accuracy[1], '.2f'),
        'teacher accuracy': (results.teacher_accuracy, '.2f'),
    }
    body = [
        [str(dims), *(f'{values[i].mean():{digits}}' for values, digits in columns.values())]
        for i, dims in enumerate(results.general_dims)
    ]
    return ['general dims', *columns], body


def _number(panels: list[Axes]) -> None:
    for letter, axes in zip('abcdef', panels):
        axes.set_title(f'({letter}) {axes.get_title("left")}', loc='left')


def _draw_spectra(
    panel: Axes, results: SyntheticResults, spectra: np.ndarray, lowest: float
) -> None:
    """Draw the mean over repeats of the logarithms, and their range."""
    index = np.arange(1, spectra.shape[-1] + 1)
    for i, shared in enumerate(results.general_dims):
        logarithms = np.log10(np.maximum(spectra[i], lowest))
        colour = COLOURS[i % len(COLOURS)]
        panel.axvline(shared + 0.5, color=colour, linewidth=0.8, linestyle=(0, (2, 2)))
        panel.fill_between(
            index, logarithms.min(0), logarithms.max(0), color=colour, alpha=0.2, linewidth=0
        )
        panel.plot(index, logarithms.mean(0), color=colour, linewidth=1.8)
        # At the line itself: a legend would hide one of the drops.
        panel.annotate(
            f'$D_g$ = {shared}',
            (shared, 0.03),
            xycoords=panel.get_xaxis_transform(),
            rotation=90,
            va='bottom',
            ha='right',
            color=colour,
        )
    panel.set_xlabel('Singular value index')
    panel.set_ylabel('log10 of the singular value')


def _draw_accuracy(panel: Axes, results: SyntheticResults) -> None:
    for values, name, colour, marker in (
        (results.teacher_accuracy, 'teacher', GREY, 's'),
        (results.accuracy[1], f'student, {TASKS[1]}', BLUE, 'o'),
        (results.accuracy[0], f'student, {TASKS[0]}', ORANGE, '^'),
    ):
        draw_means(panel, results.general_dims, values, color=colour, marker=marker, label=name)
    panel.set_title('accuracy on test data', loc='left')
    panel.set_xticks(results.general_dims)
    panel.set_xlabel('Shared dimensions $D_g$')
    panel.set_ylabel('Accuracy (%)')
    panel.legend(frameon=False, fontsize=9)


def _draw_losses(panel: Axes, results: SyntheticResults, with_limit: bool) -> None:
    """Draw the two parts of the loss of a middle D_g: only the general part vanishes."""
    middle = len(results.general_dims) // 2
    shared = results.general_dims[middle]
    for name, label, colour in (
        (f'specific_{shared}', 'specific part', ORANGE),
        (f'general_{shared}', 'general part', BLUE),
    ):
        panel.plot(*results.curves[name], color=colour, linewidth=1.8, label=label)
    if with_limit:
        panel.axhline(
            results.limiting_loss[middle].mean(),
            color=_LIMIT_COLOUR,
            linewidth=1.2,
            linestyle='--',
            label='limit of Corollary 1.1',
        )
    panel.set_title('distillation loss, by part', loc='left')
    panel.set_yscale('symlog', linthresh=1)
    panel.set_ylim(bottom=0)
    panel.set_xlabel('Iteration')
    panel.set_ylabel(f'Loss of Eq. 1, $D_g$ = {shared}')
    panel.legend(frameon=False, fontsize=9)
