"""Counting what is left to train on once a pipeline has filtered the objects."""

from __future__ import annotations

from collections import Counter

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.transforms import ObjectRangeFilter
from mmengine.logging import print_log

from .data_checks import DataError
from .frame_dataset import iterate_transforms


class ObjectCounter:
    """Counts the objects that a training data set has once its pipeline has filtered them.

    In training mmdet3d draws another frame for one without objects, and after a thousand draws
    gives up with a message about images.

    Args:
        dataset: The data set. One that is tested on, or that keeps empty frames
            (``filter_empty_gt=False``), is not looked at.
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
        """Count a frame's objects.

        Args:
            info: The data set's parsed info.
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
        """Say how many frames have objects, and which classes do not occur.

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
