"""Count the objects that the pipeline of a training data set keeps."""

from __future__ import annotations

from collections import Counter

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.transforms import ObjectRangeFilter
from mmengine.logging import print_log

from .data_checks import DataError
from .frame_dataset import iterate_transforms


class ObjectCounter:
    """Count the objects of a training data set after the filters of its pipeline.

    In training, mmdet3d replaces a frame without objects by another one, and fails after a thousand
    attempts with a message about images.

    Args:
        dataset: The data set. Test data, and data sets that keep empty frames
            (``filter_empty_gt=False``), are not counted.
    """

    def __init__(self, dataset: NuScenesDataset) -> None:
        self.dataset = dataset
        self.is_used = not dataset.test_mode and dataset.filter_empty_gt
        self.ranges = [
            np.asarray(transform.pcd_range, np.float32)
            for transform in iterate_transforms(dataset.pipeline)
            if isinstance(transform, ObjectRangeFilter)
        ]
        self.counts: Counter[int] = Counter()
        self.frames = 0
        self.filled = 0

    def add(self, info: dict) -> None:
        """Count the objects of a frame.

        Args:
            info: The parsed info of the frame.
        """
        if not self.is_used:
            return
        labels = np.asarray(info['ann_info']['gt_labels_3d'])
        centers = info['ann_info']['gt_bboxes_3d'].tensor[:, :2].numpy()
        kept = labels >= 0
        for bounds in self.ranges:
            kept &= ((centers > bounds[[0, 1]]) & (centers < bounds[[3, 4]])).all(1)
        self.frames += 1
        self.filled += bool(kept.any())
        self.counts.update(labels[kept].tolist())

    def check(self) -> None:
        """Log the number of frames with objects, and absent classes.

        Raises:
            DataError: No frame has an object.
        """
        if not self.is_used:
            return
        classes = self.dataset.metainfo['classes']
        if not self.filled:
            within = ' within the range of ObjectRangeFilter' if self.ranges else ''
            raise DataError(
                f'{self.dataset.ann_file}: none of the {self.frames} training frames has a usable '
                f'object of the classes {", ".join(classes)}{within}, so there is nothing to train '
                'on. Check that the frames are annotated and that metainfo.classes and '
                'point_cloud_range are right. Training without objects needs '
                'filter_empty_gt=False in the data set.'
            )
        if self.filled < self.frames:
            print_log(
                f'{self.filled} of {self.frames} training frames have an object; the others are '
                'not used.',
                logger='current',
            )
        absent = [name for label, name in enumerate(classes) if not self.counts[label]]
        if absent:
            print_log(f'No training frame has an object of: {", ".join(absent)}.', logger='current')
