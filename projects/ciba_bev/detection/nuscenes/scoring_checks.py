"""Check the requirements of nuScenes' scorer before the first frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.evaluation import NuScenesMetric

from .data_checks import DataError
from .info_files import load_info_file
from .metric import EVALUATED_SPLITS, split_tokens
from .tables import TABLES, check_maps, explained_failures, read_table


def check_scoring(dataset: NuScenesDataset, metric: NuScenesMetric) -> None:
    """Check that a metric can score the predictions for a data set.

    Args:
        dataset: The data set.
        metric: mmdet3d's nuScenes metric or one derived from it. Files in a remote storage
            (``backend_args``) are not checked.

    Raises:
        DataError: The metric reads other frames than the data set, or its scorer would refuse the
            predictions.
    """
    if dataset.backend_args is not None or metric.backend_args is not None:
        return
    _check_same_frames(dataset, metric)
    if metric.format_only:
        return
    version = dataset.metainfo.get('version')
    if version not in EVALUATED_SPLITS or version == 'v1.0-test':
        raise DataError(
            f'{dataset.ann_file}: the info file is of {version}, which cannot be scored here: '
            'there are no annotations to score against. To write the result file alone, '
            'take tools/test.py --format-only.'
        )
    root = Path(metric.data_root)
    _check_tables(root / version)
    check_maps(root, read_table(root, version, 'map'))
    with explained_failures(root, version):
        scored = split_tokens(str(root), version)
    _check_split(dataset, EVALUATED_SPLITS[version], scored)


def _check_same_frames(dataset: NuScenesDataset, metric: NuScenesMetric) -> None:
    """Check that metric and data set have the same frames: the metric finds them by index."""
    same = os.path.realpath(dataset.ann_file) == os.path.realpath(metric.ann_file)
    if same and dataset._indices is None:
        return
    theirs = load_info_file(metric.ann_file)['data_list']
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if index >= len(theirs) or not _is_same_frame(info, theirs[index]):
            other = theirs[index]['token'] if index < len(theirs) else 'missing'
            if same:
                remedy = (
                    'The frames of the data set are a part of its info file that does not begin at '
                    'its start. Take indices out.'
                )
            else:
                remedy = (
                    f"The data set reads {dataset.ann_file}, the evaluator's ann_file is "
                    f'{metric.ann_file}. Give both the same.'
                )
            raise DataError(
                'Predictions would be scored against other frames than they are made for: frame '
                f'{index} is {info["token"]} in the data set and {other} in the evaluator, or has '
                f'another pose there. {remedy}'
            )


def _is_same_frame(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours['token'] == theirs['token'] and np.allclose(
        ours['ego2global'], theirs['ego2global'], rtol=0, atol=1e-3
    )


def _check_tables(tables: Path) -> None:
    if not tables.is_dir():
        raise DataError(
            f'{tables}: there is no such folder of tables, and scoring needs it. Unpack the '
            "archive of the metadata there, or set the evaluator's data_root to where it is."
        )
    for name in TABLES:
        path = tables / f'{name}.json'
        if not path.is_file():
            raise DataError(
                f'{path}: the table is missing, and scoring needs it. Unpack the archive of the '
                'metadata again.'
            )
        with open(path, 'rb') as stream:
            stream.seek(-min(os.stat(path).st_size, 16), os.SEEK_END)
            whole = stream.read().rstrip().endswith(b']')
        if not whole:
            raise DataError(
                f'{path}: the table is truncated or damaged. Unpack the archive of the metadata '
                'again.'
            )


def _check_split(dataset: NuScenesDataset, split: str, scored: set[str]) -> None:
    predicted = {dataset.get_data_info(index)['token'] for index in range(len(dataset))}
    if predicted == scored:
        return
    missing, further = len(scored - predicted), len(predicted - scored)
    found = [f'{missing} of its {len(scored)} frames are missing'] if missing else []
    found += [f'{further} frames are not of it'] if further else []
    hint = ' Take indices out of the data set.' if dataset._indices is not None else ''
    raise DataError(
        f"{dataset.ann_file}: nuScenes' scorer takes exactly the frames of the split {split}, and "
        f'{" and ".join(found)}.{hint} To predict other frames without a score, '
        'take tools/test.py --format-only.'
    )
