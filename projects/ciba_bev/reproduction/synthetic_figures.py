"""Figures 3, 8, 9 and 10: what distillation does to linear networks, drawn as the paper does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from ..errors import CibaError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One colour for each D_g, from Okabe and Ito's palette, which any colour vision tells apart.
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
_LIMIT_COLOUR = '#C00000'
_GREY = '#555555'
# Of float32 weights; what lies below is rounding.
_LOWEST_WEIGHT, _LOWEST_VARIANCE = 1e-9, 1e-16


@dataclass(frozen=True)
class SyntheticResults:
    """What a synthetic experiment measured and logged.

    Attributes:
        general_dims: Values of D_g.
        weight_spectra: (2, D_g values, repeats, F) singular values of the students' weights, for
            distillation alone and with the task.
        feature_spectra: The same of the covariance of their features on test data.
        accuracy: (2, D_g values, repeats), percent.
        teacher_accuracy: (D_g values, repeats), percent.
        distillation_loss: (D_g values, repeats), Eq. 1 of the students that only distil, on test
            data.
        limiting_loss: The same by Eq. 6.
        curves: Steps, and by name (``general_<D_g>``, ``specific_<D_g>``) Eq. 1 in training.
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
        work_dir: Its work folder, with ``synthetic.json`` and mmengine's scalars.

    Returns:
        The results.

    Raises:
        CibaError: A file is missing.
    """
    file = work_dir / 'synthetic.json'
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not file.is_file() or not logs:
        raise CibaError(
            f'{work_dir} holds no finished synthetic experiment (synthetic.json and the logged '
            'losses). Run python tools/reproduce.py fig3.'
        )
    content = json.loads(file.read_text(encoding='utf-8'))
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
    """Figure 3: spectra of the students' weights, and the two parts of the loss.

    Args:
        results: Of the experiment with MSE.

    Returns:
        The figure, three panels.
    """
    figure, axes = _new_figure(1, 3)
    _draw_spectra(axes[0], results, results.weight_spectra[0], _LOWEST_WEIGHT)
    axes[0].set_title('(a) weights, distillation alone', loc='left')
    _draw_spectra(axes[1], results, results.weight_spectra[1], _LOWEST_WEIGHT)
    axes[1].set_title('(b) weights, distillation and task', loc='left')
    _draw_losses(axes[2], results, with_limit=True)
    axes[2].set_title('(c) distillation loss, by part', loc='left')
    return figure


def draw_six_panels(results: SyntheticResults, with_limit: bool) -> Figure:
    """Figures 8, 9 and 10: spectra of weights and features, accuracy, and the loss.

    Args:
        results: Of the experiment.
        with_limit: Draw the limit of Corollary 1.1, which is one of MSE on separated data.

    Returns:
        The figure, six panels.
    """
    figure, axes = _new_figure(2, 3)
    panels = (
        (axes[0], 'weight', 0, '(a) weights, distillation alone'),
        (axes[1], 'weight', 1, '(b) weights, distillation and task'),
        (axes[2], 'feature', 0, '(c) features, distillation alone'),
        (axes[3], 'feature', 1, '(d) features, distillation and task'),
    )
    for panel, kind, task, title in panels:
        spectra = results.weight_spectra if kind == 'weight' else results.feature_spectra
        lowest = _LOWEST_WEIGHT if kind == 'weight' else _LOWEST_VARIANCE
        _draw_spectra(panel, results, spectra[task], lowest)
        panel.set_title(title, loc='left')
    _draw_accuracy(axes[4], results)
    axes[4].set_title('(e) accuracy on test data', loc='left')
    _draw_losses(axes[5], results, with_limit)
    axes[5].set_title('(f) distillation loss, by part', loc='left')
    return figure


def describe_synthetic_results(results: SyntheticResults) -> list[dict[str, Any]]:
    """The numbers behind the figures, for each D_g.

    Args:
        results: Of the experiment.

    Returns:
        For each D_g: ``general_dims``; ``rank_alone`` and ``rank_with_task``, the mean number of
        singular values of the weight above a thousandth of the largest; ``loss_ratio``, Eq. 1 at
        the end over Eq. 6, on test data; mean ``accuracy_alone``, ``accuracy_with_task`` and
        ``teacher_accuracy`` in percent.
    """
    weights = results.weight_spectra
    ranks = (weights > 1e-3 * weights[..., :1]).sum(-1).mean(-1)
    ratios = (results.distillation_loss / results.limiting_loss).mean(-1)
    return [
        {
            'general_dims': shared,
            'rank_alone': float(ranks[0, i]),
            'rank_with_task': float(ranks[1, i]),
            'loss_ratio': float(ratios[i]),
            'accuracy_alone': float(results.accuracy[0, i].mean()),
            'accuracy_with_task': float(results.accuracy[1, i].mean()),
            'teacher_accuracy': float(results.teacher_accuracy[i].mean()),
        }
        for i, shared in enumerate(results.general_dims)
    ]


def _new_figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * columns, 3.9 * rows), layout='constrained')
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
    for panel in axes:
        panel.spines[['top', 'right']].set_visible(False)
        panel.spines[['left', 'bottom']].set_color(_GREY)
        panel.tick_params(colors=_GREY)
        panel.grid(color='#DDDDDD', linewidth=0.7)
        panel.set_axisbelow(True)
    return figure, axes


def _draw_spectra(
    panel: Axes, results: SyntheticResults, spectra: np.ndarray, lowest: float
) -> None:
    """The mean of the logarithms over repeats, and their range."""
    index = np.arange(1, spectra.shape[-1] + 1)
    for i, shared in enumerate(results.general_dims):
        logarithms = np.log10(np.maximum(spectra[i], lowest))
        colour = _COLOURS[i % len(_COLOURS)]
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
        (results.teacher_accuracy, 'teacher', _GREY, 's'),
        (results.accuracy[1], 'student, distillation and task', _COLOURS[0], 'o'),
        (results.accuracy[0], 'student, distillation alone', _COLOURS[1], '^'),
    ):
        deviation = values.std(-1, ddof=1) if values.shape[-1] > 1 else None
        panel.errorbar(
            results.general_dims,
            values.mean(-1),
            deviation,
            color=colour,
            marker=marker,
            capsize=3,
            label=name,
        )
    panel.set_xticks(results.general_dims)
    panel.set_xlabel('Shared dimensions $D_g$')
    panel.set_ylabel('Accuracy (%)')
    panel.legend(frameon=False, fontsize=9)


def _draw_losses(panel: Axes, results: SyntheticResults, with_limit: bool) -> None:
    """Of a middle D_g: what the student can learn vanishes, what it cannot stays."""
    middle = len(results.general_dims) // 2
    shared = results.general_dims[middle]
    for name, label, colour in (
        (f'specific_{shared}', 'specific part', _COLOURS[1]),
        (f'general_{shared}', 'general part', _COLOURS[0]),
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
    panel.set_yscale('symlog', linthresh=1)
    panel.set_ylim(bottom=0)
    panel.set_xlabel('Iteration')
    panel.set_ylabel(f'Loss of Eq. 1, $D_g$ = {shared}')
    panel.legend(frameon=False, fontsize=9)
