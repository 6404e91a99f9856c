"""mmdet3d's class-balanced sampling, with an error message for absent classes."""

from __future__ import annotations

from mmdet3d.datasets import CBGSDataset as _CBGSDataset
from mmengine.dataset import BaseDataset

from ...registry import DATASETS
from .data_checks import DataError


@DATASETS.register_module()
class CBGSDataset(_CBGSDataset):
    """mmdet3d's CBGSDataset: repeat frames so that all classes are equally frequent.

    The frames and their order are those of mmdet3d.

    Args:
        dataset: The data set to sample from.
        lazy_init: As for :class:`mmdet3d.datasets.CBGSDataset`.

    Raises:
        DataError: A class does not occur in the data.
    """

    def _get_sample_indices(self, dataset: BaseDataset) -> list[int]:
        try:
            return super()._get_sample_indices(dataset)
        except ZeroDivisionError:
            raise self._absent_class_error(dataset) from None

    def _absent_class_error(self, dataset: BaseDataset) -> DataError:
        classes = self.metainfo['classes']
        seen = {label for index in range(len(dataset)) for label in dataset.get_cat_ids(index)}
        absent = [name for label, name in enumerate(classes) if label not in seen]
        what = 'of any class' if len(absent) == len(classes) else f'of {", ".join(absent)}'
        return DataError(
            f'{dataset.ann_file}: no frame has a usable object {what}, and the sampling that '
            'balances the classes (CBGSDataset) needs every class. Remove absent classes '
            "(metainfo.classes of all data sets, and the head's num_classes), or remove the "
            'wrapper: train_dataloader=dict(dataset=dict(_delete_=True, **the data set in '
            'it)).'
        )
