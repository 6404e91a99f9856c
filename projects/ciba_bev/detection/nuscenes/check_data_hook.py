"""Check nuScenes data before a run."""

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
    """Check that the infos of a dataset are complete and its files complete and undamaged.

    All infos are checked, and existence, size and end of all files. The content is checked for a
    random sample of the files.

    Args:
        dataset: mmdet3d's nuScenes dataset or one derived from it. Files in a remote storage
            (``backend_args``) are not checked.
        max_seconds: After this time, the remaining images are checked only for existence and size,
            and no further file is read.
        show_progress: Whether to show a progress bar.
        read_files: Number of files to read: those of the first frame, and a random sample of the
            others; -1 for all.
        max_center_offset: Maximum distance of the principal point from the middle of the image, as
            a fraction of width and height; None for no limit.
        num_cameras: Number of cameras that the model expects; None if unknown.

    Raises:
        DataError: There are problems; the first ten are listed.
    """
    deadline = time.monotonic() + max_seconds
    problems: list[DataProblem] = []
    version = dataset.metainfo.get('version', 'v1.0-trainval')
    categories = dataset.metainfo.get('categories', {})
    unknown = [name for name in dataset.metainfo['classes'] if name not in categories]
    if unknown and categories:
        finding = f'the info file does not have the classes {", ".join(unknown)}'
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
                # Report only one of several equal problems.
                sizes.setdefault((problem.field, problem.finding), problem)
            # The datasets of this package check them on construction.
            if not isinstance(dataset, NuScenesFrameDataset):
                missing = value_problems([info], needed, dataset.ann_file, categories or None)
        problems += missing
        if local and not missing:
            for file in files_of_info(info, needed):
                # Consecutive samples share sweeps.
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
    """Yield contradictions of an info to the number of cameras or point features."""
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
                'number of cameras, or remove incomplete frames from the info file.',
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
                    'Set both to the number of features of a point in the LiDAR files; use_dim '
                    "and the model's input channels depend on it.",
                )
                return


def _sample(files: list[DataFile], count: int) -> list[DataFile]:
    """Return the files of the first frame and a fixed random sample of the others."""
    if count < 0 or len(files) <= count:
        return files
    first = [file for file in files if file.sample_token == files[0].sample_token][:count]
    others = files[len(first) :]
    drawn = np.random.default_rng(0).choice(len(others), count - len(first), replace=False)
    return first + [others[index] for index in sorted(drawn)]


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Stop a run before its first step if its nuScenes data cannot be used or scored.

    Training and validation data are checked before training, each dataset once. With a
    :class:`mmdet3d.evaluation.NuScenesMetric`, the requirements of its scorer are checked as well.
    The main process checks; all processes stop.

    Args:
        max_seconds: After this time for a dataset, the remaining images are checked only for
            existence and size, and no further file is read.
        show_progress: Whether to show a progress bar.
        read_files: Number of files of a dataset to read; -1 for all.
        max_center_offset: Maximum distance of the principal point from the middle of the image, as
            a fraction of width and height; None for no limit.
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
            DataError: There are problems.
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
            DataError: There are problems.
        """
        self._check(runner.val_dataloader.dataset, _model_of(runner), runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        """Check the test data and their scoring.

        Args:
            runner: The runner.

        Raises:
            DataError: There are problems.
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
            # The long message is printed once.
            other = 'Stopped: the main process reports problems in the data.'
            raise DataError(messages[0] if is_main_process() else other)
        self._checked.append(checked)


def _model_of(runner: Runner) -> Any:
    return runner.cfg.get('model')


def _is_validated(runner: Runner) -> bool:
    """Return whether the training reaches its first validation."""
    loop = runner.train_loop
    by_iteration = isinstance(loop, IterBasedTrainLoop)
    return loop.val_begin <= (loop.max_iters if by_iteration else loop.max_epochs)


def _number_of_cameras(model: Any) -> int | None:
    """Return the first ``num_cams`` in a model's config; config_checks compares them all."""
    if isinstance(model, dict):
        if isinstance(model.get('num_cams'), int):
            return model['num_cams']
        model = list(model.values())
    if isinstance(model, (list, tuple)):
        found = map(_number_of_cameras, model)
        return next((number for number in found if number is not None), None)
    return None


def _nuscenes_datasets(dataset: Any) -> Iterator[NuScenesDataset]:
    """Yield the nuScenes datasets inside wrappers that repeat, balance or join datasets."""
    if isinstance(dataset, NuScenesDataset):
        yield dataset
    for part in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if part is not None:
            yield from _nuscenes_datasets(part)


def _needed_fields(dataset: NuScenesDataset) -> NeededFields:
    fallback = NeededFields(dataset.modality['use_lidar'], True, dataset.modality['use_camera'])
    return getattr(dataset, 'needed_fields', fallback)
