"""Checking the data once before they are used."""

from __future__ import annotations

from typing import Any, Iterator

from mmdet3d.datasets import NuScenesDataset
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...registry import HOOKS
from .data_checks import (
    DataError,
    DataProblem,
    NeededFields,
    data_error,
    field_problems,
    file_problems,
    files_of_info,
)


def check_nuscenes_data(
    dataset: NuScenesDataset, max_seconds: float = 60.0, show_progress: bool = False
) -> None:
    """Checks that a dataset's infos are complete and its files there and whole.

    Args:
        dataset: mmdet3d's nuScenes dataset or one derived from it. Files in a storage other than
            the local disk (``backend_args``) are not checked.
        max_seconds: After this time the images still to come are checked for presence and size
            only.
        show_progress: Whether to show a progress bar with the time left.

    Raises:
        DataError: If something is wrong; up to ten problems are spelled out.
    """
    problems: list[DataProblem] = []
    version = dataset.metainfo.get('version', 'v1.0-trainval')
    categories = dataset.metainfo.get('categories', {})
    unknown = [name for name in dataset.metainfo['classes'] if name not in categories]
    if unknown and categories:
        finding = f'the info file does not know the classes {", ".join(unknown)}'
        remedy = f'Use some of: {", ".join(categories)}.'
        field = 'metainfo.categories'
        problems.append(DataProblem(dataset.ann_file, '', field, finding, remedy))
    needed = _needed_fields(dataset)
    local = dataset.backend_args is None
    files = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        missing = field_problems([info], needed, dataset.ann_file, version, dataset.data_root)
        problems += missing
        if local and not missing:
            for file in files_of_info(info, needed):
                # Neighbouring samples share sweeps.
                files.setdefault(file.path, file)
    print_log(f'Checking {len(files)} files of {dataset.ann_file}.', logger='current')
    problems += file_problems(
        list(files.values()),
        max_seconds,
        show_progress,
        log=lambda text: print_log(text, logger='current'),
    )
    if problems:
        raise data_error(problems)


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Stops a run before its first step if its nuScenes data are incomplete.

    Training and validation data are checked before training, and each dataset once. The main
    process checks; all processes stop.

    Args:
        max_seconds: After this time for a dataset, the images still to come are checked for
            presence and size only.
        show_progress: Whether to show a progress bar with the time left.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_seconds: float = 60.0, show_progress: bool = True) -> None:
        self.max_seconds = max_seconds
        self.show_progress = show_progress
        self._checked: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Checks the training data and, if there is validation, its data.

        Args:
            runner: The runner.

        Raises:
            DataError: If something is wrong.
        """
        self._check(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            self._check(runner.val_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        """Checks the validation data.

        Args:
            runner: The runner.

        Raises:
            DataError: If something is wrong.
        """
        self._check(runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Checks the test data.

        Args:
            runner: The runner.

        Raises:
            DataError: If something is wrong.
        """
        self._check(runner.test_dataloader.dataset)

    def _check(self, dataset: Any) -> None:
        for part in _nuscenes_datasets(dataset):
            if any(part is checked for checked in self._checked):
                continue
            message = ''
            if is_main_process():
                try:
                    check_nuscenes_data(part, self.max_seconds, self.show_progress)
                except DataError as error:
                    message = str(error)
            messages = [message]
            broadcast_object_list(messages)
            if messages[0]:
                # One copy of a long message is enough.
                other = 'Stopped: the main process found problems in the data and names them.'
                raise DataError(messages[0] if is_main_process() else other)
            self._checked.append(part)


def _nuscenes_datasets(dataset: Any) -> Iterator[NuScenesDataset]:
    """Looks into the wrappers that repeat, balance or join datasets."""
    if isinstance(dataset, NuScenesDataset):
        yield dataset
    for part in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if part is not None:
            yield from _nuscenes_datasets(part)


def _needed_fields(dataset: NuScenesDataset) -> NeededFields:
    fallback = NeededFields(dataset.modality['use_lidar'], True, dataset.modality['use_camera'])
    return getattr(dataset, 'needed_fields', fallback)
