"""Check the grids and ranges of a config against each other."""

from __future__ import annotations

import inspect
from typing import Any, Iterator, Sequence

from mmengine.registry import MODELS, TASK_UTILS

from ...errors import ConfigError
from .nested import dicts_with, first_of, registered_class

RANGE_FIELDS = ('point_cloud_range', 'pc_range')
# Names of the range in which mmdet3d's box coders keep boxes.
_KEPT_RANGE_FIELDS = ('post_center_range', 'post_center_limit_range')
# Sparse encoders usually have one cell more in height than the range.
_EXTRA_HEIGHT_CELLS = (0, 1)
# Relative, of the number of cells: sizes such as 0.1 are not exact in binary.
_CELL_TOLERANCE = 1e-5


def check_grids(model: dict[str, Any], config_name: str) -> None:
    """Check every grid size in a model config against voxel size and point-cloud range.

    Args:
        model: The model config, of any nesting.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A grid does not match.
    """
    for field, part in dicts_with(model, 'voxel_size', 'model'):
        bounds = first_of(part, RANGE_FIELDS)
        if bounds is None or len(bounds) != 6 or len(part['voxel_size']) != 3:
            continue
        cells = _count_cells(bounds, part['voxel_size'], f'{config_name}: {field}')
        _check_grid_fields(model, cells, f'{field}.voxel_size', config_name)
    for field, part in dicts_with(model, 'bev_h', 'model'):
        _check_bev_sizes(part, field, config_name)


def _count_cells(bounds: Sequence[float], voxel_size: Sequence[float], field: str) -> list[int]:
    """Return the number of cells along x, y, z; raise an error if it is not an integer."""
    cells = []
    for axis, low, high, size in zip('xyz', bounds[:3], bounds[3:], voxel_size):
        if high <= low or size <= 0:
            raise ConfigError(f'{field}: along {axis} the range {low}..{high} m is empty.')
        count = (high - low) / size
        if abs(count - round(count)) > _CELL_TOLERANCE * max(1.0, count):
            raise ConfigError(
                f'{field}: along {axis} the range {low}..{high} m is {count:.3f} cells of {size} '
                'm, not a whole number. Change point_cloud_range or voxel_size.'
            )
        cells.append(round(count))
    return cells


def _check_grid_fields(
    model: dict[str, Any], cells: Sequence[int], origin: str, config_name: str
) -> None:
    """Compare every grid size in a model config with the number of cells along x, y, z."""
    x, y, z = cells
    for key, accepted in (
        ('grid_size', [[x, y, z]]),
        ('output_shape', [[y, x]]),
        ('sparse_shape', [[z + extra, y, x] for extra in _EXTRA_HEIGHT_CELLS]),
    ):
        for field, part in dicts_with(model, key, 'model'):
            value = list(part[key])
            if key == 'grid_size' and len(value) == 3 and value[2] == 1:
                # A pillar grid counts one cell in height whatever the voxel size says.
                value[2] = z
            if value not in accepted:
                raise ConfigError(
                    f'{config_name}: {field}.{key} is {list(part[key])}, but {origin} and the '
                    f'point-cloud range make {" or ".join(map(str, accepted))}.\n'
                    'Change one of the three so that voxel size x grid = range.'
                )


def _check_bev_sizes(head: dict[str, Any], field: str, config_name: str) -> None:
    """Compare the rows and columns of everything inside a head with its ``bev_h``, ``bev_w``."""
    for key, aliases in (('bev_h', ('row_num_embed',)), ('bev_w', ('col_num_embed',))):
        for alias in (key, *aliases):
            for inner_field, part in dicts_with(head, alias, field):
                if key in head and part[alias] != head[key]:
                    raise ConfigError(
                        f'{config_name}: {inner_field}.{alias} is {part[alias]}, but {field}.{key} '
                        f'is {head[key]}. Both count the same cells: make them equal.'
                    )


def check_ranges(
    model: dict[str, Any], datasets: Sequence[tuple[str, dict[str, Any]]], config_name: str
) -> None:
    """Check that a model and the filters of its data agree on one point-cloud range.

    Args:
        model: The model config.
        datasets: Field name and dataset config, for every dataset in use.
        config_name: The config file, for messages.

    Raises:
        ConfigError: Two of them differ.
    """
    found = [
        (f'{field}.{key}', [float(bound) for bound in part[key]])
        for where, tree in [('model', model), *datasets]
        for key in RANGE_FIELDS
        for field, part in dicts_with(tree, key, where)
        if part[key] is not None
    ]
    for field, bounds in found[1:]:
        if bounds != found[0][1]:
            raise ConfigError(
                f'{config_name}: {field} is {bounds}, but {found[0][0]} is {found[0][1]}.\n'
                'The model and the filters of its data must use the same range.'
            )


def check_kept_range(model: dict[str, Any], config_name: str) -> None:
    """Check that no box coder drops boxes within the point-cloud range.

    A coder drops boxes whose centre is outside its own range; the default is for nuScenes.

    Args:
        model: The model config.
        config_name: The config file, for messages.

    Raises:
        ConfigError: A coder's range does not contain the model's.
    """
    bounds = next(
        (
            list(part[key])
            for key in RANGE_FIELDS
            for _, part in dicts_with(model, key, 'model')
            if part[key] is not None and len(part[key]) == 6
        ),
        None,
    )
    if bounds is None:
        return
    for field, kept, origin in _kept_ranges(model):
        if any(low < limit for low, limit in zip(bounds[:3], kept[:3])) or any(
            high > limit for high, limit in zip(bounds[3:], kept[3:])
        ):
            raise ConfigError(
                f'{config_name}: {field} is {list(kept)}{origin}, which does not contain the '
                f'point-cloud range {bounds}: objects beyond it would be trained on but never '
                f'predicted. Set {field} to a range that is wider than the point-cloud range.'
            )


def _kept_ranges(model: dict[str, Any]) -> Iterator[tuple[str, Sequence[float], str]]:
    """Yield field, range and origin of the range for every box coder in a model config."""
    for key in _KEPT_RANGE_FIELDS:
        for field, coder in dicts_with(model, key, 'model'):
            if coder[key] is not None and len(coder[key]) == 6:
                yield f'{field}.{key}', coder[key], ''
    for field, head in dicts_with(model, 'num_classes', 'model'):
        coder = head.get('bbox_coder') or {}
        kind = registered_class(TASK_UTILS, coder.get('type')) or _default_coder(head.get('type'))
        if kind is None or any(key in coder for key in _KEPT_RANGE_FIELDS):
            continue
        for key in _KEPT_RANGE_FIELDS:
            parameter = inspect.signature(kind).parameters.get(key)
            if parameter is not None and isinstance(parameter.default, (list, tuple)):
                yield f'{field}.bbox_coder.{key}', parameter.default, ' by default'


def _default_coder(head: str | type | None) -> type | None:
    """Return the coder of a head whose config has none."""
    # Imported here because classification configs need no mmdet3d.
    from ...detection.box_coding import TopScoreBoxCoder
    from ...detection.set_prediction_head import SetPredictionHead

    kind = registered_class(MODELS, head)
    ours = isinstance(kind, type) and issubclass(kind, SetPredictionHead)
    return TopScoreBoxCoder if ours else None
