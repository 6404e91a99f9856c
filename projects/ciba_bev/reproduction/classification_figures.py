"""Figures 1, 5(c), 7, 11 and 12: features and scores of distilled classifiers."""

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

from ..analysis.figures import GREY, draw_sizes
from ..distillation.frozen_model import FrozenModel
from .panels import BLUE, GREEN, ORANGE, draw_means, new_panels
from .plan import Plan, Run, existing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def read_features(
    plan: Plan, run: Run, tap: dict, samples: int | None = None, part: str = 'train'
) -> np.ndarray:
    """Compute a trained classifier's features of the first samples, in the data set's order.

    Args:
        plan: The plan that has the run.
        run: A classifier or a distilled one.
        tap: Arguments of :class:`FeatureTap`: where the feature is read.
        samples: Number of samples; None for all.
        part: The data set: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        (D, N) float32, N at most ``samples``.

    Raises:
        CibaError: The run is not complete.
    """
    config = existing(plan.trained_config(run))
    cfg = Config.fromfile(str(config))
    model = cfg.model.get('student', cfg.model)
    frozen = FrozenModel(run.name, model, str(plan.checkpoint(run)), tap, precision='float32')
    frozen.load(allow_distilled=True)
    init_default_scope(cfg.default_scope)
    loader = dict(cfg[f'{part}_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))
    rows, count = [], 0
    with _working_in(plan.root):
        for batch in Runner.build_dataloader(loader, seed=0):
            # Data of a distillation have both modalities; each model reads its own.
            rows.append(frozen.feature(batch))
            count += len(rows[-1])
            if samples is not None and count >= samples:
                break
    return torch.cat(rows)[:samples].T.numpy()


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Resolve the relative paths of configs against a folder while the context lasts."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def draw_feature_map(features: Mapping[str, np.ndarray]) -> Figure:
    """Draw Figure 1: the feature dimensions of several models in one plane (Appendix D.6).

    Every point is a feature dimension, at the position that t-SNE gives its values over the
    samples. The teacher's are repeated in grey behind each student's.

    Args:
        features: By title, (D, N) over the same samples; the teacher first.

    Returns:
        The figure, one panel for each model.
    """
    from sklearn.manifold import TSNE

    stacked = np.concatenate(list(features.values()))
    # Dimensions are compared by shape, not by scale.
    deviation = stacked.std(1, keepdims=True)
    stacked = (stacked - stacked.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
    perplexity = min(30.0, (len(stacked) - 1) / 3)
    plane = TSNE(2, perplexity=perplexity, init='pca', random_state=0).fit_transform(stacked)
    ends = np.cumsum([len(values) for values in features.values()])
    parts = np.split(plane, ends[:-1])
    colours = (GREY, BLUE, ORANGE, GREEN)
    figure, panels = new_panels(1, len(features), (4, 4.2))
    for index, (axes, title, points) in enumerate(zip(panels, features, parts)):
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
    """Draw Figures 5(c) and 11: the score over the bottleneck size, beside MSE on all channels.

    Args:
        scores: By panel title, for each size H the scores over seeds.
        baselines: By panel title, the scores of MSE over seeds.
        y_label: Name and unit of the scores.

    Returns:
        The figure, one panel for each title.
    """
    figure, panels = new_panels(1, len(scores), (5.2, 4))
    for axes, (title, by_size) in zip(panels, scores.items()):
        _draw_sweep(axes, by_size, baselines[title], y_label)
        axes.set_title(title, loc='left')
    return figure


def draw_spectra_above_sweeps(
    decoded: Mapping[str, Mapping[int, Sequence[float]]],
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    baselines: Mapping[str, Sequence[float]],
    y_label: str,
) -> Figure:
    """Draw Figure 12: spectra of the bottlenecks' outputs, and below the score over the size.

    Args:
        decoded: By panel title, for each size H the singular values of the decoded features'
            covariance, largest first.
        scores: By the same titles, for each size H the scores over seeds.
        baselines: By the same titles, the scores of MSE over seeds.
        y_label: Name and unit of the scores.

    Returns:
        The figure, one column of panels for each title.
    """
    figure, panels = new_panels(2, len(decoded), (4.4, 3.8))
    for axes, (title, by_size) in zip(panels, decoded.items()):
        draw_sizes(axes, by_size)
        axes.set_yscale('log')
        # Values further below the largest are rounding errors.
        axes.set_ylim(bottom=1e-8 * max(max(values) for values in by_size.values()))
        axes.set_xlabel('Singular value rank index')
        axes.set_ylabel('Singular value')
        axes.set_title(title, loc='left')
        axes.legend(frameon=False, fontsize=8)
    for axes, title in zip(panels[len(decoded) :], decoded):
        _draw_sweep(axes, scores[title], baselines[title], y_label)
    return figure


def _draw_sweep(
    axes: Axes,
    by_size: Mapping[int, Sequence[float]],
    baseline: Sequence[float],
    y_label: str,
) -> None:
    sizes = sorted(by_size)
    scores = [by_size[size] for size in sizes]
    draw_means(axes, range(len(sizes)), scores, color=BLUE, marker='o', label='CIBA')
    axes.axhline(np.mean(baseline), color='black', linewidth=1.2, label='MSE')
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel('Bottleneck size H')
    axes.set_ylabel(y_label)
    axes.legend(frameon=False)


def draw_boxes(groups: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw Figure 7: box plots of scores over seeds.

    Args:
        groups: By panel title, the scores of each row of the table, in percent.

    Returns:
        The figure, one panel for each title.
    """
    figure, panels = new_panels(-(-len(groups) // 2), 2, (6.2, 4.2))
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    for axes, (title, boxes) in zip(panels, groups.items()):
        drawn = axes.boxplot(list(boxes.values()), patch_artist=True, widths=0.6)
        for name, patch in zip(boxes, drawn['boxes']):
            patch.set_facecolor(BLUE if 'CIBA' in name else '#BFD9EA')
            patch.set_edgecolor(GREY)
        for line in drawn['medians']:
            line.set_color('black')
        axes.set_xticks(range(1, len(boxes) + 1), list(boxes), rotation=30, ha='right', fontsize=9)
        axes.set_title(title, loc='left')
        axes.set_ylabel('%')
    return figure
