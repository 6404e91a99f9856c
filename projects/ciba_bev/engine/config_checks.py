"""Mistakes in a config that can be told before anything is built from it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Iterator, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from ..errors import CibaError
from ..shell import shell_command, training_command

_VERSIONS = ('v1.0-trainval', 'v1.0-mini')
_RANGE_FIELDS = ('point_cloud_range', 'pc_range')
# Sparse encoders are customarily given one cell more in height than the range has.
_EXTRA_HEIGHT_CELLS = (0, 1)
# Of the number of cells: sizes such as 0.1 have no exact binary form.
_CELL_TOLERANCE = 1e-5
_REMOTE_PREFIXES = (
    'http://',
    'https://',
    'torchvision://',
    'modelzoo://',
    'open-mmlab://',
    'openmmlab://',
    'mmcls://',
    's3://',
    'petrel://',
)


def check_config(cfg: Config, stages: Sequence[str] = ('train', 'val')) -> None:
    """Check a config's grids, ranges, class names and paths against each other and the disk.

    Args:
        cfg: The config.
        stages: Which dataloaders will be used, of ``'train'``, ``'val'`` and ``'test'``.

    Raises:
        CibaError: The first mistake found, naming the config file and the field.
    """
    name = cfg.filename or 'config'
    datasets = [
        found
        for stage in stages
        if cfg.get(f'{stage}_dataloader')
        for found in _dicts_with(cfg[f'{stage}_dataloader'], 'ann_file', f'{stage}_dataloader')
    ]
    if cfg.get('model'):
        check_grids(cfg.model, name)
        check_ranges(cfg.model, datasets, name)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    for field, dataset in datasets:
        check_class_names(dataset, field, name)
        check_data_paths(dataset, field, name)
    check_weight_paths(cfg, name)
    if 'train' in stages:
        check_earlier_runs(cfg, name)


def check_grids(model: dict[str, Any], config_name: str) -> None:
    """Check every grid size in a model config against voxel size and point-cloud range.

    Args:
        model: The model config, of any nesting.
        config_name: The config file, for messages.

    Raises:
        CibaError: A grid does not match.
    """
    for field, part in _dicts_with(model, 'voxel_size', 'model'):
        bounds = _first_of(part, _RANGE_FIELDS)
        if bounds is None or len(bounds) != 6 or len(part['voxel_size']) != 3:
            continue
        cells = _count_cells(bounds, part['voxel_size'], f'{config_name}: {field}')
        _check_grid_fields(model, cells, f'{field}.voxel_size', config_name)
    for field, part in _dicts_with(model, 'bev_h', 'model'):
        _check_bev_sizes(part, field, config_name)


def _count_cells(bounds: Sequence[float], voxel_size: Sequence[float], place: str) -> list[int]:
    """Number of cells along x, y, z; an error where the range is no whole number of them."""
    cells = []
    for axis, low, high, size in zip('xyz', bounds[:3], bounds[3:], voxel_size):
        if high <= low or size <= 0:
            raise CibaError(f'{place}: along {axis} the range {low}..{high} m is empty.')
        count = (high - low) / size
        if abs(count - round(count)) > _CELL_TOLERANCE * max(1.0, count):
            raise CibaError(
                f'{place}: along {axis} the range {low}..{high} m is {count:.3f} cells of {size} '
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
        for field, part in _dicts_with(model, key, 'model'):
            value = list(part[key])
            if key == 'grid_size' and len(value) == 3 and value[2] == 1:
                # A pillar grid counts one cell in height whatever the voxel size says.
                value[2] = z
            if value not in accepted:
                raise CibaError(
                    f'{config_name}: {field}.{key} is {list(part[key])}, but {origin} and the '
                    f'point-cloud range make {" or ".join(map(str, accepted))}.\n'
                    'Change one of the three so that voxel size x grid = range.'
                )


def _check_bev_sizes(head: dict[str, Any], field: str, config_name: str) -> None:
    """Compare the rows and columns of everything inside a head with its ``bev_h``, ``bev_w``."""
    for key, aliases in (('bev_h', ('row_num_embed',)), ('bev_w', ('col_num_embed',))):
        for alias in (key, *aliases):
            for inner_field, part in _dicts_with(head, alias, field):
                if key in head and part[alias] != head[key]:
                    raise CibaError(
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
        CibaError: Two of them differ.
    """
    found = [
        (f'{field}.{key}', [float(bound) for bound in part[key]])
        for where, tree in [('model', model), *datasets]
        for key in _RANGE_FIELDS
        for field, part in _dicts_with(tree, key, where)
        if part[key] is not None
    ]
    for field, bounds in found[1:]:
        if bounds != found[0][1]:
            raise CibaError(
                f'{config_name}: {field} is {bounds}, but {found[0][0]} is {found[0][1]}.\n'
                'The model and the filters of its data must use the same range.'
            )


def check_class_names(dataset: dict[str, Any], field: str, config_name: str) -> None:
    """Check a dataset config's class names against those its type knows.

    Args:
        dataset: The dataset config.
        field: Where it is in the config.
        config_name: The config file, for messages.

    Raises:
        CibaError: A name is unknown.
    """
    dataset_type = dataset.get('type')
    if isinstance(dataset_type, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            dataset_type = registry.get(dataset_type)
    known = getattr(dataset_type, 'METAINFO', {}).get('classes')
    wanted = (dataset.get('metainfo') or {}).get('classes')
    if not known or not wanted:
        return
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f' Did you mean {close[0]!r}?' if close else ''
            raise CibaError(
                f'{config_name}: {field}.metainfo.classes has {name!r}, which '
                f'{dataset_type.__name__} does not know.{hint}\n'
                f'It knows: {", ".join(known)}.'
            )


def check_data_paths(dataset: dict[str, Any], field: str, config_name: str) -> None:
    """Check that a dataset's folder and annotation file are there.

    Args:
        dataset: The dataset config.
        field: Where it is in the config.
        config_name: The config file, for messages.

    Raises:
        CibaError: One of them is not; the message says how to make it.
    """
    if dataset.get('backend_args'):
        return
    root = Path(dataset.get('data_root') or '')
    simulation = shell_command('python', 'tools/simulate_nuscenes.py', '--out', root)
    making = f'Simulate data with `{simulation}`, or put nuScenes there as data/README.md describes'
    if dataset.get('data_root') and not root.is_dir():
        raise CibaError(
            f'{config_name}: {field}.data_root is {root}, and there is no such folder.\n{making}.'
        )
    if not dataset['ann_file']:
        return
    annotations = root / dataset['ann_file']
    if not annotations.is_file():
        version = next((v for v in _VERSIONS if (root / v).is_dir()), _VERSIONS[0])
        creation = shell_command(
            *('python', 'tools/create_data.py', '--root-path', root, '--version', version)
        )
        raise CibaError(
            f'{config_name}: {field}.ann_file: there is no {annotations}.\n'
            f'Make it from the nuScenes tables with `{creation}`.'
        )


def check_weight_paths(cfg: Config, config_name: str) -> None:
    """Check that the local files a config takes weights from are there.

    Args:
        cfg: The config.
        config_name: The config file, for messages.

    Raises:
        CibaError: One is not.
    """
    sources = [('load_from', cfg.get('load_from'))]
    sources += [
        (f'{field}.checkpoint', part['checkpoint'])
        for field, part in _dicts_with(cfg.get('model') or {}, 'checkpoint', 'model')
        if part.get('type') == 'Pretrained'
    ]
    for field, source in sources:
        if source and not str(source).startswith(_REMOTE_PREFIXES) and not Path(source).is_file():
            raise CibaError(
                f'{config_name}: there is no checkpoint {source} (wanted by {field}).\n'
                'If a training makes it, run that first; if it is published, download it there.'
            )


def check_earlier_runs(cfg: Config, config_name: str) -> None:
    """Check that the checkpoints an experiment takes from earlier ones are there.

    Args:
        cfg: The config. A part of its model with both a ``config`` and a ``checkpoint`` is the
            result of an earlier experiment.
        config_name: The config file, for messages.

    Raises:
        CibaError: Some are not; the message says which commands make them, in order.
    """
    missing = {
        part['checkpoint']: (field, part['config'])
        for field, part in _dicts_with(cfg.get('model') or {}, 'checkpoint', 'model')
        if isinstance(part.get('config'), str)
        and not str(part['checkpoint']).startswith(_REMOTE_PREFIXES)
        and not Path(part['checkpoint']).is_file()
    }
    if missing:
        # A bottleneck comes after the two models it is trained on.
        ordered = sorted(missing.items(), key=lambda item: 'bottleneck' in item[1][0])
        found = '\n'.join(f'{field}.checkpoint: {path}' for path, (field, _) in ordered)
        commands = '\n'.join(training_command(config) for _, (_, config) in ordered)
        raise CibaError(
            f'{config_name}: needs checkpoints that are not there.\n{found}\n'
            f'Make them with\n{commands}\n'
            'or set the paths to weights that you have (--cfg-options '
            f'{ordered[0][1][0]}.checkpoint=FILE).'
        )


def _dicts_with(tree: Any, key: str, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict with this key in a nested config, with the dotted name of its place."""
    if isinstance(tree, dict):
        if key in tree:
            yield field, tree
        for name, branch in tree.items():
            yield from _dicts_with(branch, key, f'{field}.{name}')
    elif isinstance(tree, (list, tuple)):
        for index, branch in enumerate(tree):
            yield from _dicts_with(branch, key, f'{field}[{index}]')


def _first_of(part: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((part[key] for key in keys if part.get(key) is not None), None)
