"""Where a feature is read off a model that need not know, and how it becomes (B, C, *grid)."""

from __future__ import annotations

import difflib
import math
from typing import Any, Sequence, Union

from torch import Tensor, nn

from ..errors import CibaError

LAYOUTS = ('channels_first', 'channels_last', 'tokens')
SOURCES = ('output', 'input')
_SUGGESTIONS = 5

Index = Union[int, str, Sequence[Union[int, str]], None]


class TapReached(BaseException):
    """Ends a forward pass at a tap. Not an Exception, so that no model's own handler eats it."""


class FeatureTap:
    """A place in a model: what goes into or comes out of one of its submodules.

    A submodule that is called several times in a forward pass is read at its last call, so the
    BEV map of the current frame of a temporal model is read as the *input* of its head, which
    sees that map only.

    Args:
        module: Dotted name of the submodule, as in ``model.named_modules()``.
        source: ``'output'`` or ``'input'`` of that submodule.
        index: Which part of it, where it is a sequence or a mapping: an index, a key, or several
            of them to go down. Positional inputs have indices, keyword inputs have keys; None
            means the whole output, or the first input.
        layout: ``'channels_first'`` (B, C, \\*grid), ``'channels_last'`` (B, \\*grid, C), or
            ``'tokens'`` (B, N, C), N = product of ``grid``, last axis fastest.
        grid: Shape of the grid; needed for ``'tokens'``, otherwise a check.
        extent: (x_min, y_min, x_max, y_max) that a two-dimensional grid covers, in metres in a
            frame that teacher and student share, rows along y and columns along x. Where the two
            taps of a pair both state it, grids are matched by place instead of by index.

    Raises:
        CibaError: A value is not one of those above.
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
            raise CibaError(f'tap {module}: source is {source!r}; it must be one of {SOURCES}.')
        if layout not in LAYOUTS:
            raise CibaError(f'tap {module}: layout is {layout!r}; it must be one of {LAYOUTS}.')
        if layout == 'tokens' and grid is None:
            raise CibaError(f"tap {module}: layout 'tokens' needs grid=(rows, columns).")
        if extent is not None and not (
            len(extent) == 4 and extent[0] < extent[2] and extent[1] < extent[3]
        ):
            raise CibaError(
                f'tap {module}: extent is {extent}; it must be (x_min, y_min, x_max, y_max).'
            )
        self.module = module
        self.source = source
        self.index = index
        self.layout = layout
        self.grid = None if grid is None else tuple(int(size) for size in grid)
        self.extent = None if extent is None else tuple(float(bound) for bound in extent)

    def describe(self) -> dict[str, Any]:
        """What defines the feature, as plain values, for records and messages."""
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
        """Prepare to read the feature in the next forward pass.

        Args:
            model: The model, unwrapped.
            stop: End the forward pass once the feature is there, as :class:`TapReached`.

        Returns:
            A context manager, within which the model is run.

        Raises:
            CibaError: The model has no such submodule; the message lists near names.
        """
        modules = dict(model.named_modules())
        if not self.module or self.module not in modules:
            raise CibaError(
                f'{type(model).__name__} has no submodule {self.module!r} to tap. '
                f'Near names: {", ".join(_near_names(self.module, list(modules)))}.'
            )
        return TapReader(self, modules[self.module], stop)

    def to_feature(self, value: Any) -> Tensor:
        """Bring what was read into the form (B, C, \\*grid).

        Args:
            value: The submodule's output, or the part of its input.

        Returns:
            (B, C, \\*grid), a view where possible, dtype and device as read.

        Raises:
            CibaError: It is no tensor, or has not the stated layout or grid.
        """
        if not isinstance(value, Tensor):
            content = (
                f'{type(value).__name__} of {len(value)}; index must say which'
                if isinstance(value, (list, tuple, dict))
                else type(value).__name__
            )
            raise CibaError(f'tap {self.module} ({self.source}): found a {content}.')
        shape = tuple(value.shape)
        if self.layout == 'tokens':
            if value.dim() != 3 or shape[1] != math.prod(self.grid):
                raise CibaError(
                    f'tap {self.module} ({self.source}): found shape {shape}, but tokens of a '
                    f'{"x".join(map(str, self.grid))} grid have shape '
                    f'(B, {math.prod(self.grid)}, C).'
                )
            return value.transpose(1, 2).unflatten(-1, self.grid)
        if value.dim() < 2:
            raise CibaError(
                f'tap {self.module} ({self.source}): found shape {shape}; a feature has at least '
                'batch and channels.'
            )
        feature = value.movedim(-1, 1) if self.layout == 'channels_last' else value
        if self.grid is not None and tuple(feature.shape[2:]) != self.grid:
            raise CibaError(
                f'tap {self.module} ({self.source}): found a grid of {tuple(feature.shape[2:])}, '
                f'the tap says {self.grid}.'
            )
        return feature


class TapReader:
    """Reads a tap while a model runs; made by :meth:`FeatureTap.attach`.

    It listens only within its ``with`` block, so layers that run again in the backward pass
    (activation checkpointing) are not read twice.
    """

    def __init__(self, tap: FeatureTap, module: nn.Module, stop: bool) -> None:
        self._tap = tap
        self._module = module
        self._stop = stop
        self._values: list[Any] = []

    @property
    def feature(self) -> Tensor:
        """What was read at the last call, (B, C, \\*grid), with its gradient if it has one.

        Raises:
            CibaError: The submodule was not called, or gave something else than the tap says.
        """
        if not self._values:
            raise CibaError(
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

    def _read_input(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        index = 0 if self._tap.index is None else self._tap.index
        path = list(index) if isinstance(index, (list, tuple)) else [index]
        self._keep(self._descend(kwargs if isinstance(path[0], str) else args, path))

    def _read_output(self, module: nn.Module, args: tuple, output: Any) -> None:
        index = self._tap.index
        path = [] if index is None else list(index) if isinstance(index, (list, tuple)) else [index]
        self._keep(self._descend(output, path))

    def _descend(self, value: Any, path: Sequence[int | str]) -> Any:
        for step in path:
            try:
                value = value[step]
            except (IndexError, KeyError, TypeError) as error:
                content = list(value) if isinstance(value, dict) else type(value).__name__
                raise CibaError(
                    f'tap {self._tap.module} ({self._tap.source}): nothing at index '
                    f'{self._tap.index!r}; found {content}.'
                ) from error
        return value

    def _keep(self, value: Any) -> None:
        # Only the last call counts; earlier ones (past frames) must not stay alive.
        self._values[:] = [value]
        if self._stop:
            raise TapReached


def _near_names(name: str, known: Sequence[str]) -> list[str]:
    """Submodules whose names resemble this one, or else the top of the tree."""
    close = difflib.get_close_matches(name, known, n=_SUGGESTIONS, cutoff=0.5)
    last = name.rsplit('.', 1)[-1]
    same_end = [other for other in known if last and other.rsplit('.', 1)[-1] == last]
    found = list(dict.fromkeys([*close, *same_end]))[:_SUGGESTIONS]
    return found or [other for other in known if other and '.' not in other]
