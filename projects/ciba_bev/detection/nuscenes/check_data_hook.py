"""Checking the data once before they are used."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.evaluation import NuScenesMetric
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner

from ...registry import HOOKS
from .data_checks import (
    DataError,
    DataFile,
    DataProblem,
    NeededFields,
    data_error,
    field_problems,
    file_problems,
    files_of_info,
)
from .file_contents import content_problems
from .frame_dataset import NuScenesFrameDataset, iterate_transforms
from .object_counts import ObjectCounter
from .scoring_checks import check_scoring
from .value_checks import value_problems

READ_FILES = 200
MAX_CENTER_OFFSET = 0.25


def check_nuscenes_data(
    dataset: NuScenesDataset,
    max_seconds: float = 60.0,
    show_progress: bool = False,
    read_files: int = READ_FILES,
    max_center_offset: float | None = MAX_CENTER_OFFSET,
    num_cameras: int | None = None,
) -> None:
    """Check that a dataset's infos are complete and its files there and whole.

    Every info and the presence, size and ends of every file are checked; of the files' contents, a
    sample.

    Args:
        dataset: mmdet3d's nuScenes dataset or one derived from it. Files in a storage other than
            the local disk (``backend_args``) are not checked.
        max_seconds: After this time the images still to come are checked for presence and size
            only, and no further file is read.
        show_progress: Whether to show a progress bar with the time left.
        read_files: How many files are read whole: those of the first frame and others drawn from
            all; -1 for all.
        max_center_offset: How far the middle of an image according to its calibration may lie from
            where it is, as a share of width and height; None for anywhere.
        num_cameras: Cameras that the model expects; None if it says nothing.

    Raises:
        DataError: If something is wrong; up to ten problems are spelled out.
    """
    deadline = time.monotonic() + max_seconds
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
    files: dict[str, DataFile] = {}
    sizes: dict[tuple[str, str], DataProblem] = {}
    objects = ObjectCounter(dataset)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        missing = field_problems([info], needed, dataset.ann_file, version, dataset.data_root)
        if not missing:
            objects.add(info)
            for problem in _size_problems(dataset, info, num_cameras):
                # Usually all frames are alike: one of them is enough.
                sizes.setdefault((problem.field, problem.finding), problem)
            # Our own datasets have checked them when they were built.
            if not isinstance(dataset, NuScenesFrameDataset):
                missing = value_problems([info], needed, dataset.ann_file, categories or None)
        problems += missing
        if local and not missing:
            for file in files_of_info(info, needed):
                # Neighbouring samples share sweeps.
                files.setdefault(file.path, file)
    problems += sizes.values()
    print_log(f'Checking {len(files)} files of {dataset.ann_file}.', logger='current')
    every_file = list(files.values())
    file_findings = file_problems(
        every_file,
        max_seconds,
        show_progress,
        log=lambda text: print_log(text, logger='current'),
    )
    bad = {problem.file for problem in file_findings}
    problems += file_findings
    problems += content_problems(
        [file for file in _sample(every_file, read_files) if file.path not in bad],
        deadline - time.monotonic(),
        max_center_offset,
    )
    if problems:
        raise data_error(problems)
    objects.check()


def _size_problems(
    dataset: NuScenesDataset, info: dict, num_cameras: int | None
) -> Iterator[DataProblem]:
    """What an info has another number of than the pipeline or the model expects."""
    token = info.get('token', '')
    if num_cameras is not None and dataset.modality['use_camera']:
        cameras = list(info['images'])
        if len(cameras) != num_cameras:
            yield DataProblem(
                dataset.ann_file,
                token,
                'images',
                f'it has {len(cameras)} cameras ({", ".join(cameras)}), but the model expects '
                f'{num_cameras} (num_cams)',
                'Set num_cams everywhere in the model and num_views of the image loaders to the '
                'number of cameras, or leave incomplete frames out of the info file.',
            )
    if dataset.modality['use_lidar']:
        stated = info['lidar_points']['num_pts_feats']
        for transform in iterate_transforms(dataset.pipeline):
            load_dim = getattr(transform, 'load_dim', stated)
            if load_dim != stated:
                yield DataProblem(
                    dataset.ann_file,
                    token,
                    'lidar_points.num_pts_feats',
                    f'it is {stated}, but {type(transform).__name__} in the pipeline has '
                    f'load_dim={load_dim}',
                    'Make them equal to how many numbers a point has in the LiDAR files; use_dim '
                    "and the model's input channels depend on it.",
                )
                return


def _sample(files: list[DataFile], count: int) -> list[DataFile]:
    """The files of the first frame and others from all over, the same at every call."""
    if count < 0 or len(files) <= count:
        return files
    first = [file for file in files if file.sample_token == files[0].sample_token][:count]
    others = files[len(first) :]
    drawn = np.random.default_rng(0).choice(len(others), count - len(first), replace=False)
    return first + [others[index] for index in sorted(drawn)]


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Stop a run before its first step if its nuScenes data cannot be used or scored.

    Training and validation data are checked before training, and each dataset once; where there is
    a :class:`mmdet3d.evaluation.NuScenesMetric`, also what its scorer would refuse after the last
    frame. The main process checks; all processes stop.

    Args:
        max_seconds: After this time for a dataset, the images still to come are checked for
            presence and size only, and no further file is read.
        show_progress: Whether to show a progress bar with the time left.
        read_files: How many files of a dataset are read whole; -1 for all.
        max_center_offset: How far the middle of an image according to its calibration may lie from
            where it is, as a share of width and height; None for anywhere.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self,
        max_seconds: float = 60.0,
        show_progress: bool = True,
        read_files: int = READ_FILES,
        max_center_offset: float | None = MAX_CENTER_OFFSET,
    ) -> None:
        self.max_seconds = max_seconds
        self.show_progress = show_progress
        self.read_files = read_files
        self.max_center_offset = max_center_offset
        self._checked: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Check the training data and, if there is validation, its data and scoring.

        Args:
            runner: The runner.

        Raises:
            DataError: If something is wrong.
        """
        self._check(runner.train_dataloader.dataset, _model_of(runner))
        if runner.val_loop is not None:
            evaluator = runner.val_evaluator if _is_validated(runner) else None
            self._check(runner.val_dataloader.dataset, _model_of(runner), evaluator)

    def before_val(self, runner: Runner) -> None:
        """Check the validation data and their scoring.

        Args:
            runner: The runner.

        Raises:
            DataError: If something is wrong.
        """
        self._check(runner.val_dataloader.dataset, _model_of(runner), runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        """Check the test data and their scoring.

        Args:
            runner: The runner.

        Raises:
            DataError: If something is wrong.
        """
        self._check(runner.test_dataloader.dataset, _model_of(runner), runner.test_evaluator)

    def _check(self, dataset: Any, model: Any = None, evaluator: Any = None) -> None:
        parts = list(_nuscenes_datasets(dataset))
        for metric in getattr(evaluator, 'metrics', ()):
            if isinstance(metric, NuScenesMetric) and len(parts) == 1:
                # Before the files, which take longer.
                self._check_once(metric, lambda m=metric: check_scoring(parts[0], m))
        num_cameras = _number_of_cameras(model)
        for part in parts:
            self._check_once(
                part,
                lambda p=part: check_nuscenes_data(
                    p,
                    self.max_seconds,
                    self.show_progress,
                    self.read_files,
                    self.max_center_offset,
                    num_cameras,
                ),
            )

    def _check_once(self, checked: Any, check: Callable[[], None]) -> None:
        if any(checked is other for other in self._checked):
            return
        message = ''
        if is_main_process():
            try:
                check()
            except DataError as error:
                message = str(error)
        messages = [message]
        broadcast_object_list(messages)
        if messages[0]:
            # One copy of a long message is enough.
            other = 'Stopped: the main process found problems in the data and names them.'
            raise DataError(messages[0] if is_main_process() else other)
        self._checked.append(checked)


def _model_of(runner: Runner) -> Any:
    return runner.cfg.get('model')


def _is_validated(runner: Runner) -> bool:
    """Whether the training reaches its first validation."""
    loop = runner.train_loop
    by_iteration = isinstance(loop, IterBasedTrainLoop)
    return loop.val_begin <= (loop.max_iters if by_iteration else loop.max_epochs)


def _number_of_cameras(model: Any) -> int | None:
    """The first ``num_cams`` in a model's config; that all are equal is checked with the config."""
    if isinstance(model, dict):
        if isinstance(model.get('num_cams'), int):
            return model['num_cams']
        model = list(model.values())
    if isinstance(model, (list, tuple)):
        found = map(_number_of_cameras, model)
        return next((number for number in found if number is not None), None)
    return None


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
