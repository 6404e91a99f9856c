"""The nuScenes dataset of single frames, with checks and error messages."""

from __future__ import annotations

from typing import Any, Iterable, Iterator

from mmdet3d.datasets import NuScenesDataset

from ...registry import DATASETS
from .data_checks import (
    DataError,
    DataProblem,
    NeededFields,
    create_data_command,
    data_error,
    field_problems,
    file_problems,
    files_of_info,
)
from .file_contents import content_problems
from .info_files import load_info_file
from .value_checks import value_problems


@DATASETS.register_module()
class NuScenesFrameDataset(NuScenesDataset):
    """mmdet3d's nuScenes dataset, with its info file checked on construction.

    There are two other differences: the nuScenes version is that of the info file unless the config
    states one, and labels are mapped by the class names in the info file, not by their order.

    Args:
        ann_file: Info file, relative to ``data_root``.
        metainfo: ``classes`` in the order of the model's outputs.
        **kwargs: See :class:`mmdet3d.datasets.NuScenesDataset`.

    Raises:
        DataError: The info file does not exist, lacks a required field or a class, or has
            impossible values. While loading: a file of the sample is missing or damaged.
    """

    METAINFO = {key: value for key, value in NuScenesDataset.METAINFO.items() if key != 'version'}

    def __init__(self, *, ann_file: str, metainfo: dict | None = None, **kwargs: Any) -> None:
        classes = (metainfo or {}).get('classes', self.METAINFO['classes'])
        unknown = [name for name in classes if name not in self.METAINFO['classes']]
        if unknown:
            raise _unknown_class_error(ann_file, unknown, self.METAINFO['classes'])
        super().__init__(ann_file=ann_file, metainfo=metainfo, **kwargs)

    @property
    def needed_fields(self) -> NeededFields:
        """The parts of an info that this dataset reads."""
        names = {type(transform).__name__ for transform in iterate_transforms(self.pipeline)}
        instance_fields: tuple[str, ...] = ()
        if not self.test_mode or self.load_eval_anns:
            visible = 'bbox_3d_isvalid' if self.use_valid_flag else 'num_lidar_pts'
            instance_fields = ('bbox_3d', 'bbox_label_3d', visible)
            if self.with_velocity:
                instance_fields += ('velocity',)
        return NeededFields(
            lidar=self.modality['use_lidar'],
            sweeps=self.modality['use_lidar'] and 'LoadPointsFromMultiSweeps' in names,
            cameras=self.modality['use_camera'],
            instance_fields=instance_fields,
        )

    def load_data_list(self) -> list[dict]:
        """Read and check the info file.

        Returns:
            The parsed infos, in the order of the file.

        Raises:
            DataError: See the class.
        """
        content = load_info_file(self.ann_file, self.data_root)
        metainfo, infos = content['metainfo'], content['data_list']
        version = metainfo.get('version', 'v1.0-trainval')
        problems = field_problems(infos, self.needed_fields, self.ann_file, version, self.data_root)
        if not infos:
            command = create_data_command(self.ann_file, version, data_root=self.data_root)
            remedy = f'Write the info file again: {command}'
            problems = [DataProblem(self.ann_file, '', 'data_list', 'it lists no samples', remedy)]
        if problems:
            raise data_error(problems)
        asked = self._metainfo.get('version', version)
        if asked != version:
            raise DataError(
                f'{self.ann_file}: the info file is of {version} (field metainfo.version), but the '
                f'configuration says {asked}, against which it could not be scored. Remove version '
                "from the dataset's metainfo, or use an info file of that version."
            )
        for key, value in metainfo.items():
            self._metainfo.setdefault(key, value)
        self.label_mapping = self._map_labels_by_name()
        categories = metainfo.get('categories')
        problems = value_problems(infos, self.needed_fields, self.ann_file, categories)
        if problems:
            raise data_error(problems)
        return [self.parse_data_info(info) for info in infos]

    def prepare_data(self, index: int) -> dict | None:
        """Load a sample with the pipeline.

        Args:
            index: Index of the sample.

        Returns:
            The packed sample; None in training if it has no objects.

        Raises:
            DataError: The pipeline fails, or there are no points or not finite ones, because a file
                of the sample is missing or damaged.
        """
        try:
            packed = super().prepare_data(index)
        except Exception:
            self._explain_failure(index)
            raise
        points = None if packed is None else packed['inputs'].get('points')
        if points is not None and not (len(points) and points.isfinite().all()):
            self._explain_failure(index)
        return packed

    def _explain_failure(self, index: int) -> None:
        # Only for local files; a remote storage raises its own error.
        if self.backend_args is None:
            files = list(files_of_info(self.get_data_info(index), self.needed_fields))
            problems = file_problems(files) or content_problems(files)
            if problems:
                raise data_error(problems) from None

    def _map_labels_by_name(self) -> dict[int, int]:
        classes = self._metainfo['classes']
        categories = self._metainfo.get(
            'categories', {name: label for label, name in enumerate(self.METAINFO['classes'])}
        )
        unknown = [name for name in classes if name not in categories]
        if unknown:
            raise _unknown_class_error(self.ann_file, unknown, categories)
        mapping = {
            label: classes.index(name) if name in classes else -1
            for name, label in categories.items()
        }
        mapping[-1] = -1
        return mapping


def iterate_transforms(pipeline: Any) -> Iterator[Any]:
    """Iterate over the transforms of a pipeline, including wrapped ones.

    Args:
        pipeline: A ``Compose``, a transform or a list of these.

    Yields:
        Every transform, wrappers before their contents.
    """
    if isinstance(pipeline, (list, tuple)):
        for transform in pipeline:
            yield from iterate_transforms(transform)
        return
    if type(pipeline).__name__ != 'Compose':
        yield pipeline
    yield from iterate_transforms(getattr(pipeline, 'transforms', []))


def _unknown_class_error(info_file: str, unknown: list[str], known: Iterable[str]) -> DataError:
    return DataError(
        f'{info_file}: the info file does not have the class names {", ".join(unknown)} of the '
        f'configuration (field metainfo.categories). Use some of: {", ".join(sorted(known))}.'
    )
