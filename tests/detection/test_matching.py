import itertools

import numpy as np
import pytest
import torch

from ciba_bev.detection.matching import HungarianMatcher3D


def random_case(queries, boxes, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(queries, classes, generator=generator) * 2,
        torch.randn(queries, 10, generator=generator) * 5,
        torch.randint(classes, (boxes,), generator=generator),
        torch.randn(boxes, 10, generator=generator) * 5,
    )


def pair_cost(matcher, logit, code, gt_code):
    """The cost of one pair, number by number."""
    probability = 1 / (1 + np.exp(-float(logit)))
    positive = -matcher.alpha * (1 - probability) ** matcher.gamma * np.log(probability)
    negative = -(1 - matcher.alpha) * probability**matcher.gamma * np.log(1 - probability)
    distance = sum(abs(float(a) - float(b)) for a, b in zip(code[:8], gt_code[:8]))
    return matcher.classification_weight * (positive - negative) + matcher.box_weight * distance


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize(('queries', 'boxes'), [(6, 3), (4, 4), (3, 5)])
def test_no_other_assignment_costs_less(queries, boxes, seed):
    matcher = HungarianMatcher3D()
    logits, codes, labels, gt_codes = random_case(queries, boxes, seed=seed)
    query, target = matcher.match(logits, codes, labels, gt_codes)
    pairs = min(queries, boxes)
    assert len(query) == len(target) == pairs
    assert len(set(query.tolist())) == len(set(target.tolist())) == pairs
    cost = np.array(
        [
            [pair_cost(matcher, logits[q, labels[t]], codes[q], gt_codes[t]) for t in range(boxes)]
            for q in range(queries)
        ]
    )
    if queries >= boxes:
        every = itertools.permutations(range(queries), boxes)
        least = min(sum(cost[q, t] for t, q in enumerate(chosen)) for chosen in every)
    else:
        every = itertools.permutations(range(boxes), queries)
        least = min(sum(cost[q, t] for q, t in enumerate(chosen)) for chosen in every)
    assert cost[query, target].sum() == pytest.approx(least, rel=1e-5)


def test_layers_and_samples_are_matched_as_each_alone():
    matcher, layers, queries, boxes = HungarianMatcher3D(), 3, 5, (4, 0, 7)
    cases = [random_case(layers * queries, count, seed=count) for count in boxes]
    logits, codes = (
        torch.stack([case[part].view(layers, queries, -1) for case in cases], dim=1)
        for part in (0, 1)
    )
    matched, found = matcher.match_layers(logits, codes, [case[2:] for case in cases])
    assert matched.shape == found.shape == (layers, 4 + 0 + 5)
    for layer in range(layers):
        expected = []
        for sample, case in enumerate(cases):
            query, box = matcher.match(logits[layer, sample], codes[layer, sample], *case[2:])
            place = (layer * len(cases) + sample) * queries
            expected += zip((query + place).tolist(), (box + sum(boxes[:sample])).tolist())
        assert list(zip(matched[layer].tolist(), found[layer].tolist())) == expected


def test_velocity_does_not_decide():
    logits, codes, labels, gt_codes = random_case(6, 4)
    expected = HungarianMatcher3D().match(logits, codes, labels, gt_codes)
    codes[:, 8:] = torch.randn(6, 2) * 1000
    gt_codes[:, 8:] = float('nan')
    result = HungarianMatcher3D().match(logits, codes, labels, gt_codes)
    assert torch.equal(result[0], expected[0])
    assert torch.equal(result[1], expected[1])


def test_no_boxes():
    logits, codes, labels, gt_codes = random_case(6, 0)
    query, target = HungarianMatcher3D().match(logits, codes, labels, gt_codes)
    assert (query.shape, target.shape) == ((0,), (0,))
    assert (query.dtype, target.dtype) == (torch.int64, torch.int64)


def test_an_overflown_prediction_loses():
    logits, codes, labels, gt_codes = random_case(5, 2)
    codes[1] = float('nan')
    codes[3] = float('inf')
    logits[4] = float('nan')
    query, target = HungarianMatcher3D().match(logits, codes, labels, gt_codes)
    assert sorted(query.tolist()) == [0, 2]
    assert sorted(target.tolist()) == [0, 1]


def test_saturated_scores_are_no_obstacle():
    logits, codes, labels, gt_codes = random_case(3, 3)
    codes[:] = gt_codes[[0]]
    # All boxes are alike, so that classification alone decides.
    labels = torch.tensor([0, 1, 2])
    logits = torch.where(torch.eye(3)[[1, 2, 0]].bool(), 200.0, -200.0)
    query, target = HungarianMatcher3D().match(logits, codes, labels, gt_codes)
    assert {int(q): int(t) for q, t in zip(query, target)} == {0: 1, 1: 2, 2: 0}
