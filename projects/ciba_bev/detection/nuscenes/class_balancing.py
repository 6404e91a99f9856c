"""mmdet3d's class-balanced sampling, with a message where it cannot balance."""

from __future__ import annotations

from mmdet3d.datasets import CBGSDataset as _CBGSDataset
from mmengine.dataset import BaseDataset

from ...registry import DATASETS
from .data_checks import DataError


@DATASETS.register_module()
class CBGSDataset(_CBGSDataset):
    """mmdet3d's CBGSDataset: frames are repeated so that every class is seen about as often.

    The frames and their order are mmdet3d's.

    Args:
        dataset: The data set to sample from.
        lazy_init: As for :class:`mmdet3d.datasets.CBGSDataset`.

    Raises:
        DataError: A class does not occur, so that no repetition would make it frequent.
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
            'balances the classes (CBGSDataset) needs every class. Leave what is absent out of the '
            "classes (metainfo.classes of all data sets, and the head's num_classes), or take the "
            'wrapper away: train_dataloader=dict(dataset=dict(_delete_=True, **the data set in '
            'it)).'
        )
