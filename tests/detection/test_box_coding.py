import math

import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes

from ciba_bev.detection.box_coding import (
    TopScoreBoxCoder,
    decode_boxes,
    encode_boxes,
    gravity_center_boxes,
)


def random_boxes(count):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(count, 9, generator=generator)
    boxes[:, :3] = boxes[:, :3] * 100 - 50
    boxes[:, 3:6] = boxes[:, 3:6] * 10 + 0.1
    boxes[:, 6] = boxes[:, 6] * 6.2 - 3.1
    boxes[:, 7:] = boxes[:, 7:] * 20 - 10
    return boxes


def test_a_code_in_numbers():
    box = torch.tensor([[1.0, 2.0, 3.0, math.e, 1.0, math.e**2, math.pi / 6, 4.0, 5.0]])
    expected = [1, 2, 1, 0, 3, 2, 0.5, math.sqrt(0.75), 4, 5]
    np.testing.assert_allclose(encode_boxes(box)[0], expected, atol=1e-6)


def test_decoding_inverts_encoding():
    boxes = random_boxes(50)
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes)), boxes, rtol=1e-5, atol=1e-5)
    # A head's sine and cosine need not lie on the unit circle.
    codes = encode_boxes(boxes)
    codes[:, 6:8] *= 3
    torch.testing.assert_close(decode_boxes(codes), boxes, rtol=1e-5, atol=1e-5)


def test_gravity_center_is_the_mean_of_the_corners():
    tensor = random_boxes(10)
    boxes = LiDARInstance3DBoxes(tensor, box_dim=9)
    centered = gravity_center_boxes(boxes)
    torch.testing.assert_close(centered[:, :3], boxes.corners.mean(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(centered[:, 3:], tensor[:, 3:])
    again = LiDARInstance3DBoxes(centered, box_dim=9, origin=(0.5, 0.5, 0.5))
    torch.testing.assert_close(again.tensor, tensor, rtol=1e-5, atol=1e-5)


def test_the_best_pairs_come_first():
    logits = torch.tensor([[0.0, 3.0, -1.0], [2.0, 1.0, -4.0]])
    codes = encode_boxes(random_boxes(2) * torch.tensor([0.5] * 3 + [1] * 6))
    coder = TopScoreBoxCoder(post_center_range=(-100,) * 3 + (100,) * 3, max_num=4)
    boxes, scores, labels = coder.decode(logits, codes)
    assert labels.tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-3.0, -2.0, -1.0, 0.0])), rtol=1e-6)
    torch.testing.assert_close(boxes, decode_boxes(codes)[[0, 1, 1, 0]])


def test_more_pairs_wanted_than_there_are():
    boxes, scores, labels = TopScoreBoxCoder(max_num=300).decode(
        torch.zeros(2, 3), torch.zeros(2, 10)
    )
    assert (boxes.shape, scores.shape, labels.shape) == ((6, 9), (6,), (6,))


def test_limits_hold_for_the_center_alone():
    codes = torch.zeros(6, 10)
    codes[:, 0] = torch.tensor([-61.3, -61.1, 0.0, 0.0, 61.1, 0.0])
    codes[:, 1] = torch.tensor([0.0, 0.0, 61.3, 0.0, 0.0, 0.0])
    codes[:, 4] = torch.tensor([0.0, 0.0, 0.0, 10.1, 0.0, -9.9])
    codes[:, 2] = 5.0  # a length of 148 m
    boxes, _, _ = TopScoreBoxCoder().decode(torch.zeros(6, 1), codes)
    assert sorted(boxes[:, 0].tolist()) == pytest.approx([-61.1, 0.0, 61.1])


def test_threshold_drops_low_scores():
    logits = torch.tensor([[2.0], [-2.0], [0.1]])
    coder = TopScoreBoxCoder(score_threshold=0.5)
    _, scores, _ = coder.decode(logits, torch.zeros(3, 10))
    np.testing.assert_allclose(scores, logits[[0, 2], 0].sigmoid())
