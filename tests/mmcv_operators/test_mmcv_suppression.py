from __future__ import annotations

import pytest
import shapely
import torch

from mmcv_operators.box_overlap import pairwise_overlaps

NAMES = ('random', 'no boxes', 'one box', 'zero size', 'all equal', 'equal scores')


def upright(name: str):
    """Lower and upper corners, and scores."""
    generator = torch.Generator().manual_seed(0)
    lower = torch.rand(300, 2, generator=generator) * 50
    boxes = torch.cat((lower, lower + torch.rand(300, 2, generator=generator) * 15), 1)
    scores = torch.rand(300, generator=generator)
    return degenerate(name, boxes, scores, slice(2, 4), lower)


def rotated(name: str):
    """x, y, width, height and angle, and scores."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(300, 5, generator=generator) * torch.tensor([40, 40, 9, 4, 6.3])
    scores = torch.rand(300, generator=generator)
    return degenerate(name, boxes, scores, slice(2, 4), 0)


def degenerate(name, boxes, scores, sizes, zero):
    if name == 'no boxes':
        return boxes[:0], scores[:0]
    if name == 'one box':
        return boxes[:1], scores[:1]
    if name == 'zero size':
        boxes[::2, sizes] = zero[::2] if isinstance(zero, torch.Tensor) else zero
    elif name == 'all equal':
        boxes[:] = boxes[0]
    elif name == 'equal scores':
        scores = (scores * 4).round()
    return boxes, scores


def greedily(overlapping, order):
    """Indices that stay, when ``overlapping`` (N, N) says which boxes may not stay together."""
    kept = []
    for i in order.tolist():
        if not any(overlapping[j, i] for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('threshold', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('name', NAMES)
def test_nms_keeps_the_boxes_that_the_compiled_one_keeps(compiled, ours, name, offset, threshold):
    boxes, scores = upright(name)
    options = dict(iou_threshold=threshold, offset=offset)
    got = ours.nms(boxes, scores, **options)
    assert got.dtype == torch.long
    assert torch.equal(got, compiled.nms(boxes, scores, **options))


def test_nms_keeps_what_exact_areas_ask_for(ours):
    boxes, scores = upright('random')
    shapes = shapely.box(*boxes.double().T.numpy())
    shared = shapely.area(shapely.intersection(shapes, shapes[:, None]))
    areas = shapely.area(shapes)
    overlapping = torch.from_numpy(shared / (areas[:, None] + areas - shared) > 0.3)
    expected = greedily(overlapping, scores.argsort(descending=True))
    assert ours.nms(boxes, scores, 0.3, 0).tolist() == expected


def nms_rotated(extension, boxes, scores, threshold, labels=None):
    multi_label = labels is not None
    dets = torch.cat((boxes, labels[:, None]), 1) if multi_label else boxes
    order = scores.sort(0, descending=True)[1]
    labels = labels if multi_label else torch.empty(0, dtype=torch.int)
    return extension.nms_rotated(dets, scores, order, dets[order], labels, threshold, multi_label)


@pytest.mark.parametrize('threshold', [0.05, 0.3, 0.9])
@pytest.mark.parametrize('name', NAMES)
def test_rotated_nms_keeps_the_boxes_that_the_compiled_one_keeps(compiled, ours, name, threshold):
    boxes, scores = rotated(name)
    got = nms_rotated(ours, boxes, scores, threshold)
    assert got.dtype == torch.long
    assert torch.equal(got, nms_rotated(compiled, boxes, scores, threshold))


def test_rotated_nms_compares_boxes_of_one_label_only(ours):
    boxes, scores = rotated('random')
    labels = torch.arange(300.0) % 3
    expected = []
    for label in range(3):
        members = (labels == label).nonzero()[:, 0]
        expected.append(members[nms_rotated(ours, boxes[members], scores[members], 0.1)])
    expected = torch.cat(expected)
    expected = expected[scores[expected].argsort(descending=True)]
    assert torch.equal(nms_rotated(ours, boxes, scores, 0.1, labels), expected)


def in_three_dimensions(boxes):
    """x, y, z, dx, dy, dz, yaw of x, y, dx, dy, yaw."""
    one = torch.ones(len(boxes), 1)
    return torch.cat((boxes[:, :2], one, boxes[:, 2:4], one, boxes[:, 4:]), 1)


@pytest.mark.parametrize('turned', [True, False])
@pytest.mark.parametrize('name', NAMES)
def test_nms_in_birds_eye_view(ours, name, turned):
    boxes, scores = rotated(name)
    boxes = boxes[scores.argsort(descending=True)]
    operator = ours.iou3d_nms3d_forward if turned else ours.iou3d_nms3d_normal_forward
    keep, found = torch.full((len(boxes),), 7), torch.tensor(7)
    operator(in_three_dimensions(boxes), keep, found, nms_overlap_thresh=0.2)
    boxes = boxes.double()
    if not turned:
        boxes[:, 4] = 0
    areas = boxes[:, 2] * boxes[:, 3]
    shared = pairwise_overlaps(boxes, boxes)
    overlapping = shared / (areas[:, None] + areas - shared).clamp(min=1e-8) > 0.2
    assert keep[:found].tolist() == greedily(overlapping, torch.arange(len(boxes)))


def test_a_long_chain_of_suppressions(ours):
    # Each box overlaps the next one only: every second one stays.
    left = torch.arange(0, 600.0, 3)
    boxes = torch.stack((left, left * 0, left + 4, left * 0 + 1), 1)
    kept = ours.nms(boxes, torch.linspace(1, 0, 200), 0.1, 0)
    assert torch.equal(kept, torch.arange(0, 200, 2))


def test_mmcv_suppresses_with_it(ours_in_mmcv):
    from mmcv.ops import batched_nms, nms3d

    boxes = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 2.1], [0, 0, 2, 2], [5, 5, 6, 6]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    _, kept = batched_nms(
        boxes, scores, torch.tensor([0, 0, 1, 0]), dict(type='nms', iou_threshold=0.5)
    )
    assert kept.tolist() == [0, 2, 3]
    boxes = in_three_dimensions(
        torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2], boxes[:, :1]), 1)
    )
    assert nms3d(boxes, scores, 0.5).tolist() == [0, 3]
