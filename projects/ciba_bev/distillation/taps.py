"""Read a feature of a model as (B, C, *grid), and align the grids of two features."""

from __future__ import annotations

import difflib
import math
from functools import lru_cache
from typing import Any, Sequence, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError

LAYOUTS = ('channels_first', 'channels_last', 'tokens')
SOURCES = ('output', 'input')
_SUGGESTIONS = 5

Index = Union[int, str, Sequence[Union[int, str]], None]
# Which cells of the student's grid take part: one slice for each of its axes.
Window = Tuple[slice, ...]


class TapReached(BaseException):
    """Ends a forward pass at a tap. Not an Exception, so that no handler in a model catches it."""


class FeatureTap:
    r"""A position in a model: the input or the output of one of its submodules.

    A submodule that is called several times in a forward pass is read at its last call, so the
    BEV feature of the current frame of a temporal model is read as the *input* of its head, which
    sees that feature only.

    Args:
        module: Dotted name of the submodule, as in ``model.named_modules()``.
        source: ``'output'`` or ``'input'`` of that submodule.
        index: Part of it to read, where it is a sequence or a mapping: an index, a key, or several
            of them for nested ones. Positional inputs have indices, keyword inputs have keys; None
            means the whole output, or the first input.
        layout: ``'channels_first'`` (B, C, \*grid), ``'channels_last'`` (B, \*grid, C), or
            ``'tokens'`` (B, N, C), N = product of ``grid``, last axis fastest.
        grid: Shape of the grid; needed for ``'tokens'``, otherwise a check.
        extent: (x_min, y_min, x_max, y_max) that a two-dimensional grid covers, in metres in a
            frame that teacher and student share, rows along y and columns along x. If both taps
            of a pair state it, grids are matched by position instead of by index.

    Raises:
        ConfigError: A value is not allowed.
    """

    def __init__(
        self,
        module: str,
        source: str = 'output',
        index: Index = None,
        layout: str = 'channels_first',
        grid: Sequence[int] | None = None,
        extent: Sequence[float] | None = None,
    ) -> None:
        if source not in SOURCES:
            raise ConfigError(f'tap {module}: source is {source!r}; it must be one of {SOURCES}.')
        if layout not in LAYOUTS:
            raise ConfigError(f'tap {module}: layout is {layout!r}; it must be one of {LAYOUTS}.')
        if layout == 'tokens' and grid is None:
            raise ConfigError(f"tap {module}: layout 'tokens' needs grid=(rows, columns).")
        if extent is not None and not (
            len(extent) == 4 and extent[0] < extent[2] and extent[1] < extent[3]
        ):
            raise ConfigError(
                f'tap {module}: extent is {extent}; it must be (x_min, y_min, x_max, y_max).'
            )
        self.module = module
        self.source = source
        self.index = index
        self.layout = layout
        self.grid = None if grid is None else tuple(int(size) for size in grid)
        self.extent = None if extent is None else tuple(float(bound) for bound in extent)

    def describe(self) -> dict[str, Any]:
        """Return what defines the feature as plain values, for checkpoints and messages."""
        index = self.index
        return {
            'module': self.module,
            'source': self.source,
            'index': list(index) if isinstance(index, (list, tuple)) else index,
            'layout': self.layout,
            'grid': None if self.grid is None else list(self.grid),
            'extent': None if self.extent is None else list(self.extent),
        }

    def attach(self, model: nn.Module, stop: bool = False) -> TapReader:
        """Return a reader of the feature in the next forward pass.

        Args:
            model: The model, unwrapped.
            stop: End the forward pass once the feature is read, with :class:`TapReached`.

        Returns:
            A context manager; run the model within it.

        Raises:
            ConfigError: The model has no such submodule; the message lists similar names.
        """
        module = _find_submodule(model, self.module)
        if module is None:
            names = [name for name, _ in model.named_modules()]
            raise ConfigError(
                f'{type(model).__name__} has no submodule {self.module!r} to tap. '
                f'Similar names: {", ".join(_similar_names(self.module, names))}.'
            )
        return TapReader(self, module, stop)

    @torch.no_grad()
    def read(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        r"""Run a model as far as the tap and return the feature.

        Args:
            model: The model, unwrapped.
            *args: Positional arguments of its forward pass.
            **kwargs: Keyword arguments of its forward pass.

        Returns:
            (B, C, \*grid), without gradient.

        Raises:
            ConfigError: As :meth:`attach` and :attr:`TapReader.feature`.
        """
        with self.attach(model, stop=True) as reader:
            model(*args, **kwargs)
        return reader.feature

    def to_feature(self, value: Any) -> Tensor:
        r"""Convert what was read to (B, C, \*grid).

        Args:
            value: The submodule's output, or the part of its input.

        Returns:
            (B, C, \*grid), a view where possible, dtype and device as read.

        Raises:
            ConfigError: It is not a tensor, or does not have the stated layout or grid.
        """
        if not isinstance(value, Tensor):
            content = (
                f'{type(value).__name__} of {len(value)}; index must say which'
                if isinstance(value, (list, tuple, dict))
                else type(value).__name__
            )
            raise ConfigError(f'tap {self.module} ({self.source}): found a {content}.')
        shape = tuple(value.shape)
        if self.layout == 'tokens' and self.grid is not None:
            if value.dim() != 3 or shape[1] != math.prod(self.grid):
                raise ConfigError(
                    f'tap {self.module} ({self.source}): found shape {shape}, but tokens of a '
                    f'{"x".join(map(str, self.grid))} grid have shape '
                    f'(B, {math.prod(self.grid)}, C).'
                )
            return torch.unflatten(value.transpose(1, 2), -1, self.grid)
        if value.dim() < 2:
            raise ConfigError(
                f'tap {self.module} ({self.source}): found shape {shape}; a feature has at least '
                'batch and channels.'
            )
        feature = value.movedim(-1, 1) if self.layout == 'channels_last' else value
        if self.grid is not None and tuple(feature.shape[2:]) != self.grid:
            raise ConfigError(
                f'tap {self.module} ({self.source}): found a grid of {tuple(feature.shape[2:])}, '
                f'the tap says {self.grid}.'
            )
        return feature


class TapReader:
    """Read a tap while a model runs; made by :meth:`FeatureTap.attach`.

    It reads only within its ``with`` block, so layers that run again in the backward pass
    (activation checkpointing) are not read twice.
    """

    def __init__(self, tap: FeatureTap, module: nn.Module, stop: bool) -> None:
        self._tap = tap
        self._module = module
        self._stop = stop
        self._values: list[Any] = []

    @property
    def feature(self) -> Tensor:
        r"""The feature read at the last call, (B, C, \*grid), attached to the autograd graph.

        Raises:
            ConfigError: The submodule was not called, or its value does not match the tap.
        """
        if not self._values:
            raise ConfigError(
                f'tap {self._tap.module}: the forward pass never called this submodule. '
                'Tap one that takes part in it.'
            )
        return self._tap.to_feature(self._values[-1])

    def __enter__(self) -> TapReader:
        self._values.clear()
        if self._tap.source == 'input':
            self._handle = self._module.register_forward_pre_hook(
                self._read_input, with_kwargs=True
            )
        else:
            self._handle = self._module.register_forward_hook(self._read_output)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> bool:
        self._handle.remove()
        return kind is TapReached

    def _read_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        path = _as_path(0 if self._tap.index is None else self._tap.index)
        self._keep(self._descend(kwargs if isinstance(path[0], str) else args, path))

    def _read_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._keep(self._descend(output, _as_path(self._tap.index)))

    def _descend(self, value: Any, path: Sequence[int | str]) -> Any:
        for step in path:
            try:
                value = value[step]
            except (IndexError, KeyError, TypeError) as error:
                content = list(value) if isinstance(value, dict) else type(value).__name__
                raise ConfigError(
                    f'tap {self._tap.module} ({self._tap.source}): nothing at index '
                    f'{self._tap.index!r}; found {content}.'
                ) from error
        return value

    def _keep(self, value: Any) -> None:
        # Only the last call counts; features of earlier ones (past frames) are released.
        self._values[:] = [value]
        if self._stop:
            raise TapReached


def _as_path(index: Index) -> list[int | str]:
    if index is None:
        return []
    return [index] if isinstance(index, (int, str)) else list(index)


def _find_submodule(model: nn.Module, name: str) -> nn.Module | None:
    """Return a submodule, found without a list of all modules, which every step would make."""
    try:
        return model.get_submodule(name) if name else None
    except AttributeError:
        return None


def _similar_names(name: str, known: Sequence[str]) -> list[str]:
    """Return submodules with names like this one, or else those of the top level."""
    close = difflib.get_close_matches(name, known, n=_SUGGESTIONS, cutoff=0.5)
    last = name.rsplit('.', 1)[-1]
    same_end = [other for other in known if last and other.rsplit('.', 1)[-1] == last]
    found = list(dict.fromkeys([*close, *same_end]))[:_SUGGESTIONS]
    return found or [other for other in known if other and '.' not in other]


def align_to_student(
    teacher_feature: Tensor,
    student_feature: Tensor,
    teacher_tap: FeatureTap,
    student_tap: FeatureTap,
) -> tuple[Tensor, Window]:
    r"""Resample a teacher's feature on the student's grid.

    Grids of the same shape and extent are left unchanged. Otherwise both taps must state their
    extent, and the teacher's feature is interpolated bilinearly at the centres of the student's
    cells that it covers. The student's feature is never interpolated, only cropped (:func:`crop`).

    Args:
        teacher_feature: (B, C', \*grid').
        student_feature: (B, C, \*grid).
        teacher_tap: Where ``teacher_feature`` was read; states its extent.
        student_tap: Where ``student_feature`` was read; states its extent.

    Returns:
        The teacher's feature on the covered cells, (B, C', \*covered), in its own dtype, and
        the window of these cells in the student's grid.

    Raises:
        ConfigError: The batches differ, the grids differ and an extent is missing, or they do not
            overlap.
    """
    if len(teacher_feature) != len(student_feature):
        raise ConfigError(
            f'the teacher gave features of {len(teacher_feature)} samples and the student of '
            f'{len(student_feature)}; both must give one feature per sample, in the same order.'
        )
    shapes = tuple(teacher_feature.shape[2:]), tuple(student_feature.shape[2:])
    teacher_extent, student_extent = teacher_tap.extent, student_tap.extent
    if teacher_extent is None or student_extent is None:
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"the teacher's grid at {teacher_tap.module} is {shapes[0]}, the student's at "
                f'{student_tap.module} is {shapes[1]}. Choose taps of one grid, or state extent='
                '(x_min, y_min, x_max, y_max) in both taps to match them by position.'
            )
        return teacher_feature, _whole(shapes[1])
    if len(shapes[0]) != 2 or len(shapes[1]) != 2:
        raise ConfigError(
            f'only two-dimensional grids have an extent; found {shapes[0]}, {shapes[1]}.'
        )
    if shapes[0] == shapes[1] and teacher_extent == student_extent:
        return teacher_feature, _whole(shapes[1])
    window, positions = _covered_cells(
        shapes[1], tuple(student_extent), tuple(teacher_extent), teacher_feature.device
    )
    if positions.numel() == 0:
        raise ConfigError(
            f"the teacher's grid at {teacher_tap.module} covers {teacher_extent} and the "
            f"student's at {student_tap.module} covers {student_extent}: "
            'they have no cell in common.'
        )
    aligned = F.grid_sample(
        teacher_feature.float(),
        positions.expand(len(teacher_feature), -1, -1, -1),
        padding_mode='border',
        align_corners=False,
    )
    return aligned.to(teacher_feature.dtype), window


@lru_cache(maxsize=16)
def _covered_cells(
    grid: tuple[int, ...],
    student_extent: tuple[float, ...],
    teacher_extent: tuple[float, ...],
    device: torch.device,
) -> tuple[Window, Tensor]:
    r"""Return the window of the student's cells that the teacher covers, and their centres.

    They are the same in every step, and a copy to the device would wait for it.

    Returns:
        The window, and (\*covered, 2) float32 centres as (x, y) in the teacher's [-1, 1].
    """
    columns, x = _covered_centers(grid[1], student_extent[0::2], teacher_extent[0::2])
    rows, y = _covered_centers(grid[0], student_extent[1::2], teacher_extent[1::2])
    # A tensor made in inference mode could not be saved for a later backward pass.
    with torch.inference_mode(False):
        positions = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], dim=-1)
        # Half precision would shift cells of a large grid by several centimetres.
        return (rows, columns), positions.to(device=device, dtype=torch.float32)


def crop(value: Tensor, window: Window) -> Tensor:
    r"""Return the part of a grid that teacher and student share.

    Args:
        value: (B, C, \*grid).
        window: From :func:`align_to_student`.

    Returns:
        (B, C, \*covered), a view.
    """
    return value[(slice(None), slice(None), *window)]


def _whole(grid: Sequence[int]) -> Window:
    return (slice(None),) * len(grid)


def _covered_centers(
    cells: int, bounds: Sequence[float], source: Sequence[float]
) -> tuple[slice, Tensor]:
    """Return the cells of one axis with centres inside a range, and their positions in [-1, 1]."""
    low, high = bounds
    centres = low + (torch.arange(cells, dtype=torch.float64) + 0.5) * ((high - low) / cells)
    covered = ((centres >= source[0]) & (centres <= source[1])).nonzero().flatten()
    if not len(covered):
        return slice(0, 0), centres[:0]
    chosen = slice(int(covered[0]), int(covered[-1]) + 1)
    return chosen, (centres[chosen] - source[0]) / (source[1] - source[0]) * 2 - 1
