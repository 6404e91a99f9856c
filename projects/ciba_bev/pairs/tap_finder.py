"""Find the features of a model that can be tapped, by running it once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Iterator, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..distillation.taps import FeatureTap
from ..engine.config_checks.nested import dicts_with
from ..errors import CibaError, ConfigError

Path = Tuple[Union[int, str], ...]

# A feature with fewer cells is a pooled feature or a few queries.
_MIN_CELLS = 16
# Relative, for the ratio of rows to columns: strides round the sizes.
_RATIO_TOLERANCE = 0.05
# Packages of basic layers, which are listed only at the top of the module tree.
_BASIC_LAYERS = ('torch.', 'mmcv.cnn', 'mmengine.model', 'spconv')
_QUERY_FIELDS = ('num_query', 'num_queries', 'num_proposals')


@dataclass(frozen=True)
class TapCandidate:
    """A feature that can be tapped.

    Attributes:
        module: Dotted name of the submodule.
        source: ``'output'`` or ``'input'`` of it.
        index: Indices and keys that lead to the tensor; empty if it is the output itself.
        shape: Its shape on the batch.
        layout: ``'channels_first'`` or ``'tokens'``.
        grid: Rows and columns; empty for a feature without a grid.
        order: Its number in the order of computation.
        read_by_head: Whether it is an input of a head at the top of the model.
    """

    module: str
    source: str
    index: Path
    shape: tuple[int, ...]
    layout: str
    grid: tuple[int, ...]
    order: int
    read_by_head: bool = False

    @property
    def name(self) -> str:
        """Its name on the command line: ``MODULE[:input][:INDEX]...``."""
        source = [] if self.source == 'output' else [self.source]
        return ':'.join([self.module, *source, *map(str, self.index)])

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[2] if self.layout == 'tokens' else self.shape[1]

    def arguments(self, extent: Sequence[float] | None) -> dict[str, Any]:
        """Return the arguments of :class:`FeatureTap` that differ from its defaults.

        Args:
            extent: (x_min, y_min, x_max, y_max) of the grid in metres; None if it is not known.

        Returns:
            Name to value.
        """
        arguments: dict[str, Any] = dict(module=self.module)
        if self.source != 'output':
            arguments['source'] = self.source
        if self.index:
            arguments['index'] = self.index[0] if len(self.index) == 1 else list(self.index)
        if self.layout != 'channels_first':
            arguments['layout'] = self.layout
        if self.grid:
            arguments['grid'] = list(self.grid)
            if extent is not None:
                arguments['extent'] = list(extent)
        return arguments


@dataclass
class _CapturedTensor:
    """An input or output tensor of the last call of a submodule."""

    index: Path
    shape: tuple[int, ...]
    # None if a tensor of this shape cannot be tapped.
    candidate: TapCandidate | None
    # Kept if it can be tapped, so that no later tensor gets the same id.
    tensor: Tensor | None


class TapFinder:
    """Find the features of a model that can be tapped, by running it once.

    Args:
        model: The model, in evaluation mode.
        extent: (x_min, y_min, x_max, y_max) of its BEV feature, in metres; None if its features
            have no grid or the extent is not known.
        queries: Numbers of tokens that are no grid, such as the number of object queries.

    Attributes:
        stopped_by: The error that stopped the forward pass, if any. The features before it are
            listed all the same: the post-processing of a detector may fail on the predictions of
            untrained weights.
    """

    def __init__(
        self, model: nn.Module, extent: Sequence[float] | None = None, queries: Sequence[int] = ()
    ) -> None:
        self.model = model
        self.extent = extent
        self.queries = set(queries)
        self.stopped_by: Exception | None = None
        self._captured: dict[tuple[str, str], list[_CapturedTensor]] = {}
        self._batch_size = 0
        self._count = 0

    @torch.no_grad()
    def run(self, batch: dict) -> list[TapCandidate]:
        """Run the model on a batch.

        Args:
            batch: ``inputs`` and ``data_samples``, preprocessed.

        Returns:
            The features that can be tapped, best first: inputs of a head, then features near the
            top of the module tree, then finer grids.

        Raises:
            CibaError: The model fails before the first such feature.
        """
        self._batch_size = len(batch['data_samples'])
        handles = []
        for name, module in self.model.named_modules():
            if name:
                handles.append(module.register_forward_hook(self._capture_hook(name, 'output')))
                if '.' not in name and 'head' in name:
                    handles.append(
                        module.register_forward_pre_hook(
                            self._capture_hook(name, 'input'), with_kwargs=True
                        )
                    )
        try:
            self.model(**batch, mode='predict')
        except Exception as error:
            self.stopped_by = error
        finally:
            for handle in handles:
                handle.remove()
        candidates = self._candidates()
        if self.stopped_by is not None and not candidates:
            raise CibaError(
                f'{type(self.model).__name__} does not run on its own data: '
                f'{type(self.stopped_by).__name__}: {self.stopped_by}'
            ) from self.stopped_by
        return candidates

    def look_up(self, name: str, candidates: Sequence[TapCandidate]) -> TapCandidate:
        """Return the feature with a name.

        Args:
            name: ``MODULE[:input][:INDEX]...``.
            candidates: From :meth:`run`.

        Returns:
            The feature.

        Raises:
            ConfigError: The model has no such submodule, it was not called, or its tensor is no
                feature; the message says what was found.
        """
        module, source, index = parse_tap_name(name)
        # Raises the tap's own error if there is no such submodule.
        FeatureTap(module).attach(self.model)
        captured = [
            tensor
            for tensor in self._captured.get((module, source), [])
            if tensor.index[: len(index)] == index
        ]
        found = [tensor.candidate for tensor in captured if tensor.candidate is not None]
        if len(found) == 1:
            return found[0]
        if not captured:
            what = 'this submodule returned no tensor there, or was never called'
        elif not found:
            shapes = ', '.join(str(tensor.shape) for tensor in captured[:4])
            what = f'found shape {shapes}, expected {self._expectation()}'
        else:
            what = f'several match: {", ".join(candidate.name for candidate in found)}'
        names = ', '.join(candidate.name for candidate in candidates[:8])
        raise ConfigError(f'tap {name}: {what}. Features that can be tapped: {names or "none"}.')

    def _expectation(self) -> str:
        ratio = '' if self.extent is None else f' of the proportions of {tuple(self.extent)}'
        return (
            f'({self._batch_size}, C), or a feature ({self._batch_size}, C, rows, columns) or '
            f'tokens ({self._batch_size}, rows * columns, C){ratio}'
        )

    def _capture_hook(self, name: str, source: str) -> Any:
        """Return a forward hook, or a pre-hook with keyword arguments for ``'input'``."""

        def capture(module: nn.Module, args: tuple, last: Any) -> None:
            captured = []
            for value in [last] if source == 'output' else [args, last]:
                for index, tensor in _tensors_in(value):
                    self._count += 1
                    shape = tuple(tensor.shape)
                    layout = self._layout_of(shape)
                    candidate = None
                    if layout is not None:
                        candidate = TapCandidate(name, source, index, shape, *layout, self._count)
                    kept = None if candidate is None else tensor
                    captured.append(_CapturedTensor(index, shape, candidate, kept))
            self._captured[name, source] = captured

        return capture

    def _layout_of(self, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]] | None:
        """Return layout and grid if a tensor of this shape can be a feature, else None."""
        if len(shape) < 2 or shape[0] != self._batch_size or 0 in shape:
            return None
        if len(shape) == 2:
            return ('channels_first', ()) if self.extent is None else None
        if len(shape) == 4:
            grid = shape[2:]
            is_bev = math.prod(grid) >= _MIN_CELLS and self._has_proportions(grid)
            return ('channels_first', grid) if is_bev else None
        if len(shape) == 3 and self.extent is not None and shape[1] not in self.queries:
            width, height = _size(self.extent)
            columns = round(math.sqrt(shape[1] * width / height))
            rows = shape[1] // max(columns, 1)
            is_grid = rows * columns == shape[1] >= _MIN_CELLS
            if is_grid and self._has_proportions((rows, columns)):
                return 'tokens', (rows, columns)
        return None

    def _has_proportions(self, grid: Sequence[int]) -> bool:
        if self.extent is None:
            return True
        width, height = _size(self.extent)
        return abs(grid[0] * width / (grid[1] * height) - 1) <= _RATIO_TOLERANCE

    def _candidates(self) -> list[TapCandidate]:
        captured = [
            (tensor.candidate, id(tensor.tensor))
            for tensors in self._captured.values()
            for tensor in tensors
            if tensor.candidate is not None
        ]
        inputs_of_heads = {identity for tap, identity in captured if tap.source == 'input'}
        # A tensor with several names gets the one nearest to the top, as an output if possible.
        captured.sort(key=lambda item: (item[0].module.count('.'), item[0].source == 'input'))
        chosen: dict[int, TapCandidate] = {}
        for tap, identity in captured:
            package = type(self.model.get_submodule(tap.module)).__module__
            is_basic = '.' in tap.module and package.startswith(_BASIC_LAYERS)
            if identity not in chosen and not is_basic:
                chosen[identity] = replace(tap, read_by_head=identity in inputs_of_heads)
        return sorted(
            chosen.values(),
            key=lambda candidate: (
                not candidate.read_by_head,
                candidate.module.count('.'),
                # Outputs of heads are predictions.
                'head' in candidate.module and candidate.source == 'output',
                -math.prod(candidate.grid),
                -candidate.order,
            ),
        )


def parse_tap_name(name: str) -> tuple[str, str, Path]:
    """Split the name of a tap on the command line.

    Args:
        name: ``MODULE[:input][:INDEX]...``.

    Returns:
        Module, source and index.
    """
    module, *rest = name.split(':')
    source = 'output'
    if rest and rest[0] in ('input', 'output'):
        source, *rest = rest
    return module, source, tuple(int(step) if step.isdigit() else step for step in rest)


def closest_cell_size(
    candidates: Sequence[TapCandidate],
    extent: Sequence[float] | None,
    other: TapCandidate,
    other_extent: Sequence[float] | None,
) -> TapCandidate:
    """Return the feature whose cell size is nearest to that of another model's feature.

    Args:
        candidates: Best first, at least one.
        extent: (x_min, y_min, x_max, y_max) of their grids, in metres.
        other: The other model's feature.
        other_extent: Extent of its grid.

    Returns:
        One of the inputs of a head, if there are any; else the first.
    """
    read = [candidate for candidate in candidates if candidate.read_by_head]
    if not read or not other.grid:
        return candidates[0]
    wanted = cell_size(other.grid, other_extent)

    def distance(candidate: TapCandidate) -> float:
        if not candidate.grid:
            return math.inf
        return abs(math.log(cell_size(candidate.grid, extent) / wanted))

    return min(read, key=distance)


def cell_size(grid: Sequence[int], extent: Sequence[float] | None) -> float:
    """Return the width of a cell.

    Args:
        grid: Rows and columns.
        extent: (x_min, y_min, x_max, y_max) of the grid, in metres.

    Returns:
        The width in metres, or as a fraction of the whole if the extent is None.
    """
    return (1.0 if extent is None else _size(extent)[0]) / grid[1]


def query_counts(model: dict) -> Iterator[int]:
    """Walk through the numbers of object queries in a model config.

    Args:
        model: The model config.

    Yields:
        Each number.
    """
    for field in _QUERY_FIELDS:
        for _, part in dicts_with(model, field, ''):
            if isinstance(part[field], int):
                yield part[field]


def _size(extent: Sequence[float]) -> tuple[float, float]:
    return extent[2] - extent[0], extent[3] - extent[1]


def _tensors_in(value: Any, index: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in nested sequences and dicts, with the indices that lead to it."""
    if isinstance(value, Tensor):
        yield index, value
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _tensors_in(item, (*index, key))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _tensors_in(item, (*index, number))
