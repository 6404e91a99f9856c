"""Figures 1, 5, 6, 7, 11 and 12: what distillation does to classifiers, drawn as the paper does."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..distillation.frozen_model import FrozenModel
from ..errors import CibaError
from .plan import Plan, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN, _GREY = '#0072B2', '#D55E00', '#009E73', '#555555'


def read_features(
    plan: Plan, run: Run, tap: dict, samples: int | None = None, part: str = 'train'
) -> np.ndarray:
    """A trained classifier's features of the first samples, in the data set's order.

    Args:
        plan: Where the runs are.
        run: A classifier or a distilled one.
        tap: Where the feature is read; arguments of :class:`FeatureTap`.
        samples: How many; None for all.
        part: Whose samples: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        (D, N) float32, N at most ``samples``.

    Raises:
        CibaError: The run is not complete.
    """
    config = plan.trained_config(run)
    if not config.is_file():
        raise CibaError(f'there is no {config}; run it again.')
    cfg = Config.fromfile(str(config))
    model = cfg.model.get('student', cfg.model)
    frozen = FrozenModel(run.name, model, str(plan.checkpoint(run)), tap, precision='float32')
    frozen.load(allow_distilled=True)
    init_default_scope(cfg.default_scope)
    loader = dict(cfg[f'{part}_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))
    rows, count = [], 0
    with _working_in(plan.root):
        for batch in Runner.build_dataloader(loader, seed=0):
            # A distilled student's data have both modalities; it reads its own.
            rows.append(frozen.feature(batch))
            count += len(rows[-1])
            if samples is not None and count >= samples:
                break
    return torch.cat(rows)[:samples].T.numpy()


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """For a while, what configs name without a leading slash is looked for in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def draw_feature_map(features: Mapping[str, np.ndarray], seed: int = 0) -> Figure:
    """Figure 1: the dimensions of four models' features in one plane (Appendix D.6).

    Every point is a feature dimension, placed by t-SNE of its values over the samples. The teacher
    is repeated in grey behind each student.

    Args:
        features: By title, (D, N) over the same samples; the teacher first.
        seed: Of t-SNE.

    Returns:
        The figure, one panel a model.
    """
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    stacked = np.concatenate(list(features.values()))
    # Dimensions are compared by shape, not by scale.
    deviation = stacked.std(1, keepdims=True)
    stacked = (stacked - stacked.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    perplexity = min(30.0, (len(stacked) - 1) / 3)
    plane = TSNE(2, perplexity=perplexity, init='pca', random_state=seed).fit_transform(stacked)
    figure = Figure(figsize=(4 * len(features), 4.2), layout='constrained')
    ends = np.cumsum([len(values) for values in features.values()])
    parts = np.split(plane, ends[:-1])
    colours = (_GREY, _BLUE, _ORANGE, _GREEN)
    for index, (title, points) in enumerate(zip(features, parts)):
        axes = figure.add_subplot(1, len(features), index + 1)
        if index:
            axes.scatter(*parts[0].T, s=5, color='#BBBBBB', linewidths=0)
        axes.scatter(*points.T, s=6, color=colours[index % len(colours)], linewidths=0)
        axes.set_title(f'({"abcdefgh"[index]}) {title}', loc='left')
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlim(plane[:, 0].min() - 3, plane[:, 0].max() + 3)
        axes.set_ylim(plane[:, 1].min() - 3, plane[:, 1].max() + 3)
    return figure


def draw_size_sweep(
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    baselines: Mapping[str, Sequence[float]],
    y_label: str,
) -> Figure:
    """Figures 5(c), 11 and 12: the score over the bottleneck size, beside MSE on all channels.

    Args:
        scores: By panel title, for each size H the scores over seeds.
        baselines: By panel title, the scores of MSE over seeds.
        y_label: What the scores are.

    Returns:
        The figure, one panel a title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(scores), 4), layout='constrained')
    for index, (title, by_size) in enumerate(scores.items()):
        axes = figure.add_subplot(1, len(scores), index + 1)
        _draw_sweep(axes, by_size, baselines[title], y_label)
        axes.set_title(title, loc='left')
    return figure


def draw_spectra_above_sweeps(
    decoded: Mapping[str, Mapping[int, Sequence[float]]],
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    baselines: Mapping[str, Sequence[float]],
    y_label: str,
) -> Figure:
    """Figure 12: above, the spectra of the bottlenecks' outputs; below, the score over the size.

    Args:
        decoded: By panel title, for each size H the singular values of the decoded features'
            covariance, largest first.
        scores: By the same titles, see :func:`draw_size_sweep`.
        baselines: Likewise.
        y_label: What the scores are.

    Returns:
        The figure, one column a title.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = len(decoded)
    figure = Figure(figsize=(4.4 * columns, 7.6), layout='constrained')
    for index, (title, by_size) in enumerate(decoded.items()):
        axes = figure.add_subplot(2, columns, index + 1)
        # The lightest end of the map would vanish on white.
        shades = colormaps['viridis_r'](np.linspace(0.18, 1.0, len(by_size)))
        for shade, size in zip(shades, sorted(by_size)):
            values = np.asarray(by_size[size], np.float64)
            axes.plot(
                np.arange(1, len(values) + 1),
                np.where(values > 0, values, np.nan),
                color=shade,
                linewidth=1.4,
                label=f'H = {size}',
            )
        largest = max(max(values) for values in by_size.values())
        axes.set_yscale('log')
        # What is further below is rounding.
        axes.set_ylim(bottom=largest * 1e-8)
        axes.set_xlabel('Singular value rank index')
        axes.set_ylabel('Singular value')
        axes.set_title(title, loc='left')
        clean_axes(axes)
        axes.legend(frameon=False, fontsize=8)
        axes = figure.add_subplot(2, columns, columns + index + 1)
        _draw_sweep(axes, scores[title], baselines[title], y_label)
    return figure


def _draw_sweep(
    axes: Axes,
    by_size: Mapping[int, Sequence[float]],
    baseline: Sequence[float],
    y_label: str,
) -> None:
    sizes = sorted(by_size)
    means = [np.mean(by_size[size]) for size in sizes]
    many = all(len(by_size[size]) > 1 for size in sizes)
    deviations = [np.std(by_size[size], ddof=1) for size in sizes] if many else None
    axes.errorbar(
        range(len(sizes)), means, deviations, color=_BLUE, marker='o', capsize=3, label='CIBA'
    )
    axes.axhline(np.mean(baseline), color='black', linewidth=1.2, label='MSE')
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel('Bottleneck size H')
    axes.set_ylabel(y_label)
    clean_axes(axes)
    axes.legend(frameon=False)


def draw_boxes(groups: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Figure 7: box plots of scores over seeds.

    Args:
        groups: By panel title, for each row of the table its scores.

    Returns:
        The figure, one panel a title.
    """
    from matplotlib.figure import Figure

    columns = 2
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(6.2 * columns, 4.2 * rows), layout='constrained')
    for index, (title, boxes) in enumerate(groups.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        drawn = axes.boxplot(list(boxes.values()), patch_artist=True, widths=0.6)
        for name, patch in zip(boxes, drawn['boxes']):
            with_ciba = 'CIBA' in name
            patch.set_facecolor(_BLUE if with_ciba else '#BFD9EA')
            patch.set_edgecolor(_GREY)
        for line in drawn['medians']:
            line.set_color('black')
        axes.set_xticks(range(1, len(boxes) + 1), list(boxes), rotation=30, ha='right', fontsize=9)
        axes.set_title(title, loc='left')
        axes.set_ylabel('%')
        clean_axes(axes)
    return figure


def clean_axes(axes: Axes) -> None:
    """Take away what carries no data, and put a faint grid behind the rest."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(color='#DDDDDD', linewidth=0.7)
    axes.set_axisbelow(True)


def existing(path: Path) -> Path:
    """The path, if there is such a file.

    Raises:
        CibaError: There is none.
    """
    if not path.is_file():
        raise CibaError(f'there is no {path}; run it again.')
    return path
