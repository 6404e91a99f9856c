"""Hand-made ground truth, so that the models' tests need no data set."""

from __future__ import annotations

import pytest
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData


@pytest.fixture
def make_sample():
    """Makes a data sample of boxes around their gravity centre, (N, 9), and their labels."""

    def make(boxes=(), labels=(), **metainfo):
        boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 9)
        sample = Det3DDataSample(metainfo=dict(box_type_3d=LiDARInstance3DBoxes, **metainfo))
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5)),
            labels_3d=torch.as_tensor(labels, dtype=torch.long),
        )
        return sample

    return make


@pytest.fixture(autouse=True)
def _same_random_numbers_every_time():
    torch.manual_seed(0)
