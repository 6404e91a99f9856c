"""Draw figures of spectra and losses.

They are matplotlib ``Figure`` objects made without pyplot, so drawing needs no display, leaves no
state behind, and matplotlib is imported only when a figure is drawn.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from ..files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Key = TypeVar('_Key', str, int)
# Okabe and Ito's colours, which people with any colour vision can tell apart, without the yellow,
# which is too light for a line. Line styles tell them apart in print.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
_LINE_STYLES = ('-', '--', '-.', (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2, 1, 1.2)))
GREY = '#555555'
_SIZE_INCHES = (6.6, 4.9)
_PIXELS_PER_INCH = 150
# Below this there is little but rounding error, and directions that a normalisation removes.
_DECADES_SHOWN = 7
_INDEX_LABEL = 'Singular value index (largest first)'
_VALUE_LABEL = 'Singular value of the feature covariance\n(variance along the direction, log scale)'


def draw_spectra(spectra: Mapping[str, ArrayLike], title: str = '') -> Figure:
    """Compare the log singular-value spectra of several feature sets (Figures 5(a) and 6).

    Args:
        spectra: For each feature set, by the name for the legend, the (C,) singular values of its
            covariance, largest first (:meth:`FeatureCovariance.singular_values`). The legend adds
            the effective rank.
        title: Above the figure; none by default.

    Returns:
        The figure, one line for each feature set.

    Raises:
        ConfigError: There is nothing to draw.
    """
    from .spectra import effective_rank

    figure, axes = _new_figure(title)
    values = _positive_values(spectra)
    for i, (name, spectrum) in enumerate(values.items()):
        axes.plot(
            np.arange(1, spectrum.size + 1),
            spectrum,
            color=COLOURS[i % len(COLOURS)],
            linestyle=_LINE_STYLES[i % len(_LINE_STYLES)],
            linewidth=2,
            label=f'{name} (effective rank {effective_rank(np.asarray(spectra[name])):.1f})',
        )
    _finish_spectra(axes, values)
    _add_legend_below(axes)
    return figure


def draw_decoded_spectra(
    spectra: Mapping[int, ArrayLike], proposed: int | None = None, title: str = ''
) -> Figure:
    """Show how the spectrum of decoded features saturates with the bottleneck size (Figure 5(b)).

    Args:
        spectra: For each size H, the (C,) singular values of the covariance of its decoded
            features, largest first.
        proposed: The size to mark (:func:`measure_saturation`); none by default.
        title: Above the figure; none by default.

    Returns:
        The figure, one line for each size, from light to dark.

    Raises:
        ConfigError: There is nothing to draw, or the size to mark is not among the sizes.
    """
    if proposed is not None and proposed not in spectra:
        raise ConfigError(f'cannot mark H = {proposed}: there are only H = {sorted(spectra)}.')
    figure, axes = _new_figure(title)
    draw_sizes(axes, spectra, proposed)
    _finish_spectra(axes, _positive_values(spectra))
    _add_legend(axes, loc='upper left', bbox_to_anchor=(1.0, 1.0))
    return figure


def draw_sizes(axes: Axes, spectra: Mapping[int, ArrayLike], proposed: int | None = None) -> None:
    """Draw a line for each bottleneck size, from light to dark.

    Args:
        axes: Where to draw.
        spectra: For each size H, (C,) singular values, largest first; those of zero are left out.
        proposed: The size to mark; none by default.
    """
    from matplotlib import colormaps

    values = _positive_values({size: spectra[size] for size in sorted(spectra)})
    # The lightest colours would vanish on white.
    shades = colormaps['viridis_r'](np.linspace(0.18, 1.0, len(values)))
    for shade, (size, spectrum) in zip(shades, values.items()):
        marked = size == proposed
        axes.plot(
            np.arange(1, spectrum.size + 1),
            spectrum,
            color='#E69F00' if marked else shade,
            # A wide band beneath the others, so that lines that coincide with it stay visible.
            linewidth=6 if marked else 1.4,
            solid_capstyle='butt',
            zorder=1.5 if marked else 2,
            label=f'H = {size} (proposed)' if marked else f'H = {size}',
        )


def draw_loss_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    y_label: str = 'Loss',
) -> Figure:
    """Draw losses over training.

    Args:
        curves: For each line, by the name for the legend, its steps and its values, equally many.
            The value axis is logarithmic where all values are positive and they span more than a
            decade. Values that are not finite leave a gap.
        y_label: What the values are.

    Returns:
        The figure, one line for each curve.

    Raises:
        ConfigError: There is nothing to draw, or a curve's steps and values differ in number.
    """
    arrays = {}
    for name, (steps, values) in curves.items():
        if len(steps) != len(values):
            raise ConfigError(f'curve {name} has {len(steps)} steps but {len(values)} values.')
        arrays[name] = (np.asarray(steps, np.float64), np.asarray(values, np.float64))
    drawn = np.concatenate([values for _, values in arrays.values()] or [np.empty(0)])
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size == 0:
        raise ConfigError('no loss curves to draw: there is not one finite value.')
    figure, axes = _new_figure()
    for i, (name, (x, y)) in enumerate(arrays.items()):
        axes.plot(
            x,
            np.where(np.isfinite(y), y, np.nan),
            color=COLOURS[i % len(COLOURS)],
            linestyle=_LINE_STYLES[i % len(_LINE_STYLES)],
            linewidth=1.8,
            # A single value would be an invisible line.
            marker='o' if len(x) == 1 else None,
            label=name,
        )
    if drawn.min() > 0 and drawn.max() > 10 * drawn.min():
        axes.set_yscale('log')
        y_label = f'{y_label} (log scale)'
    axes.set_xlabel('Iteration')
    axes.set_ylabel(y_label)
    axes.margins(x=0.01)
    _add_legend_below(axes)
    return figure


def save_figure(figure: Figure, path_stem: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as PNG and as SVG, each atomically.

    Args:
        figure: The figure.
        path_stem: Path without the ending; its folder is made if it is missing.

    Returns:
        The PNG and the SVG file.
    """
    stem = Path(path_stem)
    files = []
    for kind in ('png', 'svg'):
        # Not with_suffix: a name such as "lambda_0.5" has a dot of its own.
        path = stem.with_name(f'{stem.name}.{kind}')
        # Without its date the same figure gives the same picture.
        metadata = {'Date': None} if kind == 'svg' else None
        with atomic_write(path) as partial:
            figure.savefig(partial, format=kind, dpi=_PIXELS_PER_INCH, metadata=metadata)
        files.append(path)
    return files[0], files[1]


def figure_to_image(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to an array, as TensorBoard takes it.

    Args:
        figure: The figure.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _new_figure(title: str = '') -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_PIXELS_PER_INCH / 1.5, layout='constrained')
    axes = figure.add_subplot()
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(GREY)
    axes.tick_params(colors=GREY, labelsize=10)
    axes.xaxis.label.set_fontsize(11)
    axes.yaxis.label.set_fontsize(11)
    axes.grid(color='#DDDDDD', linewidth=0.7)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc='left', fontsize=12, fontweight='bold', pad=10)
    return figure, axes


def _positive_values(spectra: Mapping[_Key, ArrayLike]) -> dict[_Key, NDArray[np.float64]]:
    """Return the spectra as arrays, with NaN, which is not drawn, for values without logarithm."""
    arrays = {name: np.asarray(spectrum, np.float64) for name, spectrum in spectra.items()}
    if not any((spectrum > 0).any() for spectrum in arrays.values()):
        raise ConfigError('no spectra to draw: there is not one singular value above 0.')
    return {name: np.where(values > 0, values, np.nan) for name, values in arrays.items()}


def _finish_spectra(axes: Axes, values: Mapping[Any, NDArray[np.float64]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_yscale('log')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    everything = np.concatenate(list(values.values()))
    largest = np.nanmax(everything)
    lowest = max(np.nanmin(everything), largest * 10.0**-_DECADES_SHOWN)
    axes.set_ylim(lowest / 1.6, largest * 1.6)
    length = max(spectrum.size for spectrum in values.values())
    axes.set_xlim(0.5, length + 0.5)
    axes.set_xlabel(_INDEX_LABEL)
    axes.set_ylabel(_VALUE_LABEL)


def _add_legend_below(axes: Axes) -> None:
    # Over the plot it would hide the drop that shows a collapse.
    _add_legend(axes, loc='upper left', bbox_to_anchor=(0.0, -0.14))


def _add_legend(axes: Axes, **position: Any) -> None:
    axes.legend(frameon=False, fontsize=10, handlelength=3, **position)
