import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from ciba_bev.detection.box_coding import encode_boxes
from ciba_bev.detection.set_prediction_head import SetPredictionHead

RANGE = (-50.0, -40.0, -5.0, 50.0, 60.0, 3.0)
CAR = [10.0, -5.0, 0.0, 4.5, 2.0, 1.6, 0.3, 5.0, 0.5]
BUS = [-20.0, 30.0, 1.0, 12.0, 3.0, 3.5, -1.2, 0.0, 0.0]
LABELS = [1, 2]


@pytest.fixture
def head():
    return build_head()


def build_head(**options):
    torch.manual_seed(0)
    return SetPredictionHead(
        num_classes=3,
        embed_dims=8,
        num_query=6,
        num_decoder_layers=3,
        point_cloud_range=RANGE,
        **options,
    )


def codes_of(*boxes):
    return encode_boxes(torch.tensor(boxes))


def near_boxes(boxes, queries=6, layers=1):
    """Codes whose first queries are each closest to one of the boxes, the others far away."""
    codes = torch.full((queries, 10), 200.0)
    if boxes:
        codes[: len(boxes)] = codes_of(*boxes) + 0.1
    return codes.repeat(layers, 1, 1, 1).requires_grad_()


def random_logits(queries=6, layers=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(layers, 1, queries, 3, generator=generator).requires_grad_()


def outputs_of(logits, codes):
    return dict(all_cls_scores=logits, all_bbox_preds=codes)


def last_layer_losses(head, logits, codes, samples):
    """The losses of a single layer, as if it were the last of three."""
    layers = [head.loss_by_outputs(outputs_of(logits, codes), samples)]
    return layers[0]['d0.loss_cls'], layers[0]['d0.loss_bbox']


def focal_sum(logits, labels, alpha=0.25, gamma=2):
    """Focal loss (Lin et al., 2017, Eq. 5), summed query by query and class by class."""
    total = 0.0
    for row, label in zip(logits.detach().double().numpy(), labels):
        for index, logit in enumerate(row):
            p = 1 / (1 + np.exp(-logit))
            if index == label:
                total -= alpha * (1 - p) ** gamma * np.log(p)
            else:
                total -= (1 - alpha) * p**gamma * np.log(1 - p)
    return total


def test_loss_values(head, make_sample):
    logits, codes = random_logits(), near_boxes([CAR, BUS])
    loss_cls, loss_bbox = last_layer_losses(head, logits, codes, [make_sample([CAR, BUS], LABELS)])
    assert loss_cls.item() == pytest.approx(2 * focal_sum(logits[0, 0], [*LABELS, *[3] * 4]) / 2)
    # Eight numbers of weight 1 and two velocities of weight 0.2 are off by 0.1, on each box.
    assert loss_bbox.item() == pytest.approx(0.25 * 0.1 * (8 + 2 * 0.2), rel=1e-4)


@pytest.mark.parametrize('kind', ['mmdet.L1Loss', 'mmdet.SmoothL1Loss'])
def test_box_losses_are_those_of_mmdet(make_sample, kind):
    """Matched by hand, layer by layer: the queries of ``near_boxes`` are in the order of boxes."""
    init_default_scope('mmdet3d')
    head = build_head(loss_bbox=dict(type=kind, loss_weight=0.5))
    logits, codes = random_logits(layers=3), near_boxes([CAR, BUS], layers=3)
    with torch.no_grad():
        codes *= torch.tensor([1.0, 1.001, 1.002]).view(3, 1, 1, 1)
    losses = head.loss_by_outputs(outputs_of(logits, codes), [make_sample([CAR, BUS], LABELS)])
    for layer, prefix in enumerate(('d0.', 'd1.', '')):
        weights = head.code_weights.expand(2, 10)
        expected = head.loss_bbox(codes[layer, 0, :2], codes_of(CAR, BUS), weights, avg_factor=2)
        torch.testing.assert_close(losses[f'{prefix}loss_bbox'], expected)


def test_every_layer_is_supervised(head, make_sample):
    logits, codes = random_logits(layers=3), near_boxes([CAR], layers=3)
    losses = head.loss_by_outputs(outputs_of(logits, codes), [make_sample([CAR], [1])])
    names = {f'{prefix}loss_{part}' for prefix in ('d0.', 'd1.', '') for part in ('cls', 'bbox')}
    assert set(losses) == names
    alone = last_layer_losses(head, logits[2:], codes[2:], [make_sample([CAR], [1])])
    torch.testing.assert_close((losses['loss_cls'], losses['loss_bbox']), alone)
    sum(losses.values()).backward()
    assert (logits.grad.flatten(1).abs().sum(1) > 0).all()
    assert (codes.grad[:, 0, 0].abs().sum(1) > 0).all()


def test_a_perfect_prediction_costs_nothing(head, make_sample):
    logits = torch.full((1, 1, 6, 3), -20.0)
    logits[0, 0, 4, 1] = logits[0, 0, 2, 2] = 20.0
    codes = torch.zeros(1, 1, 6, 10)
    codes[0, 0, [4, 2]] = codes_of(CAR, BUS)
    loss_cls, loss_bbox = last_layer_losses(head, logits, codes, [make_sample([CAR, BUS], LABELS)])
    assert loss_cls < 1e-6
    assert loss_bbox < 1e-6


def test_an_empty_scene_has_a_loss_with_gradients(head, make_sample):
    logits, codes = random_logits(), near_boxes([])
    loss_cls, loss_bbox = last_layer_losses(head, logits, codes, [make_sample()])
    assert loss_cls.item() == pytest.approx(2 * focal_sum(logits[0, 0], [3] * 6), rel=1e-5)
    assert loss_bbox.item() == 0
    (loss_cls + loss_bbox).backward()
    # Distributed training waits for the gradient of every parameter, even a zero one.
    assert torch.count_nonzero(codes.grad) == 0
    assert torch.count_nonzero(logits.grad) == logits.numel()


def test_an_unknown_velocity_leaves_the_rest_of_the_box(head, make_sample):
    unknown = [*CAR[:7], float('nan'), float('nan')]
    logits, codes = random_logits(), near_boxes([CAR, BUS])
    losses = last_layer_losses(head, logits, codes, [make_sample([unknown, BUS], LABELS)])
    assert losses[1].item() == pytest.approx(0.25 * 0.1 * (2 * 8 + 2 * 0.2) / 2, rel=1e-4)
    sum(losses).backward()
    assert torch.isfinite(codes.grad).all()
    assert torch.count_nonzero(codes.grad[0, 0, 0, 8:]) == 0
    assert torch.count_nonzero(codes.grad[0, 0, 0, :8]) == 8


@pytest.mark.parametrize(
    ('first', 'second'), [([CAR], [BUS]), ([CAR, BUS], []), ([CAR, BUS], [CAR])]
)
def test_a_batch_is_normalised_by_all_of_its_boxes(head, make_sample, first, second):
    scenes = [first, second]
    samples = [make_sample(boxes, LABELS[: len(boxes)]) for boxes in scenes]
    logits = torch.cat([random_logits(seed=seed) for seed in (1, 2)], dim=1)
    codes = torch.cat([near_boxes(boxes) for boxes in scenes], dim=1)
    together = last_layer_losses(head, logits, codes, samples)
    count = len(first) + len(second)
    for index, part in enumerate(together):
        total = sum(
            last_layer_losses(head, logits[:, [i]], codes[:, [i]], [samples[i]])[index]
            * max(len(scenes[i]), 1)
            for i in range(2)
        )
        assert part.item() == pytest.approx(total.item() / count, rel=1e-5)


def test_centres_start_at_their_reference_points(head):
    for branch in head.reg_branches:
        torch.nn.init.zeros_(branch[-1].weight)
        branch[-1].bias.data = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 0.6, 0.8, 4.0, 5.0])
    states = torch.randn(3, 2, 6, 8)
    references = torch.rand(3, 2, 6, 3)
    codes = head.predict_codes(states, references)['all_bbox_preds']
    lower, upper = torch.tensor(RANGE[:3]), torch.tensor(RANGE[3:])
    centers = references * (upper - lower) + lower
    torch.testing.assert_close(codes[..., [0, 1, 4]], centers, rtol=1e-4, atol=1e-3)
    rest = torch.tensor([1.0, 2.0, 3.0, 0.6, 0.8, 4.0, 5.0]).expand(3, 2, 6, 7)
    torch.testing.assert_close(codes[..., [2, 3, 5, 6, 7, 8, 9]], rest)

    # References on the ground leave the height to the branch.
    flat = head.predict_codes(states, references[..., :2])['all_bbox_preds']
    torch.testing.assert_close(flat[..., :2], codes[..., :2])
    assert torch.count_nonzero(flat[..., 4]) == 0


def test_autocast_does_not_round_boxes(head):
    exact = torch.tensor(
        [0.7001, -0.3003, 1.0001, 2.0003, 0.1001, 3.0001, 0.6001, 0.8001, 4.003, 5.1]
    )
    for branch in head.reg_branches:
        torch.nn.init.zeros_(branch[-1].weight)
        branch[-1].bias.data = exact
    states, references = torch.randn(3, 2, 6, 8), torch.rand(3, 2, 6, 3)
    expected = head.predict_codes(states, references)['all_bbox_preds']
    with torch.autocast('cpu', torch.bfloat16):
        codes = head.predict_codes(states, references)['all_bbox_preds']
        assert head.cls_branches[0](states[0]).dtype == torch.bfloat16
    assert torch.equal(codes, expected)
    rest = [2, 3, 5, 6, 7, 8, 9]
    assert torch.equal(codes[..., rest], exact[rest].expand(3, 2, 6, 7))


def test_centres_stay_inside_the_range(head):
    states, references = torch.randn(3, 2, 6, 8) * 100, torch.rand(3, 2, 6, 3)
    centers = head.predict_codes(states, references)['all_bbox_preds'][..., [0, 1, 4]]
    assert (centers >= torch.tensor(RANGE[:3]) - 1e-4).all()
    assert (centers <= torch.tensor(RANGE[3:]) + 1e-4).all()


def test_scores_start_low(head):
    scores = head.predict_codes(torch.randn(3, 1, 6, 8), torch.rand(3, 1, 6, 3))['all_cls_scores']
    assert scores.shape == (3, 1, 6, 3)
    for branch in head.cls_branches:
        np.testing.assert_allclose(branch[-1].bias.detach().sigmoid(), 0.01, rtol=1e-4)


def test_predictions_are_boxes_of_the_last_layer(head, make_sample):
    logits = torch.full((2, 1, 6, 3), -20.0)
    logits[1, 0, 3, 2] = 4.0
    codes = torch.zeros(2, 1, 6, 10)
    codes[1, 0, 3] = codes_of(CAR)
    [result] = head.predict_by_outputs(outputs_of(logits, codes), [make_sample()])
    assert result.labels_3d[0] == 2
    assert result.scores_3d[0].item() == pytest.approx(1 / (1 + np.exp(-4)))
    box = result.bboxes_3d[0]
    np.testing.assert_allclose(box.gravity_center[0], CAR[:3], atol=1e-5)
    np.testing.assert_allclose(box.tensor[0, 3:], CAR[3:], rtol=1e-5)
