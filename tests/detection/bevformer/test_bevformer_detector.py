import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from ciba_bev.detection.bevformer import detector
from ciba_bev.detection.nuscenes.can_bus import can_bus_from_ego_pose
from ciba_bev.errors import CibaError, ConfigError
from ciba_bev.registry import MODELS

CAMERAS = 2
IMAGE = (32, 64)
CAR = [5.0, 10.0, -1.0, 4.0, 2.0, 1.6, 0.3, 1.0, 0.0]
LIDAR2CAM = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
BACKWARD = np.array([[-1.0, 0, 0, 0], [0, 0, -1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
INTRINSIC = np.array([[30.0, 0, 32], [0, 30, 16], [0, 0, 1]])


def model_config(**head):
    settings = dict(
        type='ciba_bev.BEVFormerHead',
        num_classes=3,
        embed_dims=16,
        num_query=12,
        bev_h=8,
        bev_w=8,
        num_cams=CAMERAS,
        num_levels=2,
        encoder_layers=2,
        decoder_layers=2,
        num_heads=2,
        num_spatial_points=4,
        num_temporal_points=2,
        feedforward_channels=32,
        dropout=0.0,
    )
    return dict(
        type='ciba_bev.BEVFormer',
        num_cams=CAMERAS,
        use_grid_mask=False,
        data_preprocessor=dict(
            type='ciba_bev.DetectionDataPreprocessor',
            mean=[120.0] * 3,
            std=[60.0] * 3,
            bgr_to_rgb=True,
            pad_size_divisor=32,
        ),
        img_backbone=dict(
            type='mmdet.ResNet', depth=18, base_channels=8, out_indices=(2, 3), norm_eval=True
        ),
        img_neck=dict(type='mmdet.FPN', in_channels=[32, 64], out_channels=16, num_outs=2),
        pts_bbox_head={**settings, **head},
    )


def build(**head):
    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    model = MODELS.build(model_config(**head))
    model.init_weights()
    # Weights that use every input: the usual start ignores the query when it samples.
    for name, parameter in model.pts_bbox_head.named_parameters():
        if 'sampling_offsets.weight' in name or 'attention_weights.weight' in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def model():
    return build()


def test_learning_starts_where_the_reference_starts():
    """BEVFormer's `init_weights`, as published: biases of all attentions' outputs, embeddings."""
    head = build(bev_h=32, bev_w=32, embed_dims=16).pts_bbox_head
    projections = {
        name: value
        for name, value in head.named_parameters()
        if name.endswith(('output_proj.bias', 'value_proj.bias'))
    }
    # Temporal and spatial attention of two layers each, that of the decoder's two layers.
    assert sum(name.endswith('output_proj.bias') for name in projections) == 6
    assert not any(value.any() for value in projections.values())
    positions = torch.cat(
        [head.positional_encoding.row_embed.weight, head.positional_encoding.col_embed.weight]
    )
    # Standard normal, not uniform in [0, 1]: the mean of 512 numbers is within 0.2.
    for embedding in (positions, head.bev_embedding.weight, head.query_embedding.weight):
        embedding = embedding.detach()
        assert embedding.mean().abs() < 0.2
        assert embedding.std() == pytest.approx(1.0, abs=0.15)


def received_by(module):
    """What a module is given, collected as it runs."""
    received = []
    module.register_forward_pre_hook(lambda module, arguments: received.append(arguments[0]))
    return received


def test_the_layout_of_images_changes_no_feature(model):
    imgs = images()[None]
    expected = model.eval().img_neck(model.img_backbone(imgs.flatten(0, 1)))
    received = received_by(model.img_backbone)
    levels = model.extract_img_feat(imgs)
    assert received[0].is_contiguous(memory_format=torch.channels_last)
    for level, reference in zip(levels, expected):
        torch.testing.assert_close(level[0], reference, atol=1e-4, rtol=1e-4)


def test_layers_that_may_ignore_strides_get_contiguous_images():
    init_default_scope('mmdet3d')
    backbone = dict(
        type='mmdet.ResNet',
        depth=50,
        base_channels=8,
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
    )
    model = detector.BEVFormer(model_config()['pts_bbox_head'], img_backbone=backbone)
    received = received_by(model.img_backbone)
    model.img_neck = torch.nn.Identity()
    model.extract_img_feat(images()[None])
    assert received[0].is_contiguous()


def images(steps=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(steps * CAMERAS, 3, *IMAGE, generator=generator) * 255


def calibration(ego2global=None):
    return dict(
        cam2img=[INTRINSIC] * CAMERAS,
        lidar2cam=[LIDAR2CAM, BACKWARD],
        ego2global=np.eye(4) if ego2global is None else ego2global,
    )


def frame(token, previous='', forward=0.0, turn=0.0):
    can_bus = can_bus_from_ego_pose(np.eye(4))
    can_bus[0], can_bus[-1] = forward, turn
    return dict(calibration(), token=token, previous_token=previous, can_bus=can_bus)


QUEUE = [frame('a'), frame('b', 'a', 5.0, 10.0), frame('c', 'b', 4.0, -5.0)]


def prepare(model, imgs, samples, training=False):
    data = dict(inputs=dict(img=list(imgs)), data_samples=list(samples))
    batch = model.data_preprocessor(data, training)
    return batch['inputs'], batch['data_samples']


def loss_of(model, imgs, samples):
    return model.loss(*prepare(model, imgs, samples, training=True))


def bev_of(model, imgs, samples):
    with torch.no_grad():
        return model.extract_feat(*prepare(model, imgs, samples))


def test_a_plain_sample_of_mmdet3d_works(model, make_sample):
    sample = make_sample([CAR], [1], **calibration())
    losses = loss_of(model.train(), [images()], [sample])
    assert set(losses) == {'d0.loss_cls', 'd0.loss_bbox', 'loss_cls', 'loss_bbox'}
    sum(losses.values()).backward()
    missing = [name for name, value in model.named_parameters() if value.grad is None]
    assert missing == []

    with torch.no_grad():
        [result] = model.eval().predict(*prepare(model, [images()], [sample]))
    assert result.pred_instances_3d.bboxes_3d.tensor.shape[1] == 9
    assert 0 < len(result.pred_instances_3d.scores_3d) <= 36


def test_a_plain_sample_is_a_queue_of_one(model, make_sample):
    model.eval()
    plain = bev_of(model, [images()], [make_sample(**calibration())])
    queue = bev_of(model, [images()], [make_sample(frames=[frame('a')])])
    assert plain.shape == (1, 64, 16)
    torch.testing.assert_close(plain, queue)


def test_history_counts_but_has_no_gradient(model, make_sample):
    model.train()
    sample = make_sample([CAR], [1], frames=QUEUE)
    inputs, samples = prepare(model, [images(3)], [sample], training=True)
    inputs['imgs'] = inputs['imgs'].clone().requires_grad_()
    losses = model.loss(inputs, samples)
    sum(losses.values()).backward()
    per_step = inputs['imgs'].grad.unflatten(1, (3, CAMERAS)).abs().flatten(2).sum((0, 2))
    assert torch.count_nonzero(per_step[:2]) == 0
    assert per_step[2] > 0
    assert model.training
    assert model.img_backbone.conv1.weight.grad.abs().sum() > 0

    with torch.no_grad():
        changed = images(3)
        changed[:CAMERAS] = 255 - changed[:CAMERAS]
        others = loss_of(model, [changed], [sample])
    assert others['loss_cls'].item() != losses['loss_cls'].item()


def test_history_is_encoded_as_in_testing(make_sample):
    """No dropout and no batch statistics: a training queue ends in the map that testing carries."""
    model = build(dropout=0.5).eval()
    imgs = images(3)
    for step in range(2):
        chosen = imgs[step * CAMERAS : (step + 1) * CAMERAS]
        carried = bev_of(model, [chosen], [make_sample(frames=[QUEUE[step]])])
    model.train()
    seen = []
    encode = model.pts_bbox_head.encode_bev
    model.pts_bbox_head.encode_bev = lambda *inputs: seen.append(inputs) or encode(*inputs)
    model.loss(*prepare(model, [imgs], [make_sample([CAR], [1], frames=QUEUE)], training=True))
    assert len(seen) == 3
    torch.testing.assert_close(seen[2][4], carried)


def test_positions_are_encoded_once_and_lie_cell_by_cell(model, make_sample):
    """Not once a time step, and not as mmdet has them, with the cells of a channel together."""
    encoding = model.pts_bbox_head.positional_encoding
    calls = received_by(encoding)
    seen = []
    for layer in model.pts_bbox_head.transformer.encoder.layers:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    loss_of(model.train(), [images(3)], [make_sample([CAR], [1], frames=QUEUE)])
    assert len(calls) == 1
    assert len(seen) == 3 * len(model.pts_bbox_head.transformer.encoder.layers)
    for positions in seen:
        assert positions[0].is_contiguous()
    column, row = encoding.col_embed.weight[5], encoding.row_embed.weight[2]
    torch.testing.assert_close(seen[0][0, 2 * 8 + 5], torch.cat((column, row)))


def test_a_queue_that_starts_a_scene_late_forgets_what_came_before(model, make_sample):
    """Two samples, the second of which has a past for its last step only."""
    model.eval()
    late = [frame('x'), frame('x'), frame('y', 'x', 3.0, 2.0)]
    imgs = images(3), images(3, seed=1)
    together = bev_of(model, imgs, [make_sample(frames=QUEUE), make_sample(frames=late)])
    first = bev_of(model, imgs[:1], [make_sample(frames=QUEUE)])
    shorter = bev_of(model, [imgs[1][CAMERAS:]], [make_sample(frames=late[1:])])
    torch.testing.assert_close(together, torch.cat((first, shorter)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('steps', [1, 2, 4])
def test_images_and_time_steps_must_agree(model, make_sample, steps):
    sample = make_sample(frames=QUEUE, token='0a1b')
    with pytest.raises(CibaError, match=rf'0a1b has {2 * steps} images for 3 time steps of 2 cam'):
        bev_of(model, [images(steps)], [sample])


def run_scene(model, make_sample, frames, seed=0):
    """BEV maps of a scene, frame by frame as in testing."""
    imgs = images(len(frames), seed)
    return [
        bev_of(model, [imgs[i * CAMERAS : (i + 1) * CAMERAS]], [make_sample(frames=[step])])
        for i, step in enumerate(frames)
    ]


def test_testing_carries_the_map_from_frame_to_frame(model, make_sample):
    model.eval()
    maps = run_scene(model, make_sample, QUEUE)
    # The same frames given at once.
    queue = bev_of(model, [images(3)], [make_sample(frames=QUEUE)])
    torch.testing.assert_close(maps[2], queue)
    alone = bev_of(model, [images(3)[2 * CAMERAS :]], [make_sample(frames=[frame('c')])])
    assert not torch.allclose(maps[2], alone, atol=1e-3)


def test_a_scene_start_forgets_what_was_seen_before(model, make_sample):
    model.eval()
    fresh = run_scene(model, make_sample, QUEUE)
    run_scene(model, make_sample, [frame('p'), frame('q', 'p', 3.0)], seed=5)
    again = run_scene(model, make_sample, QUEUE)
    for one, two in zip(fresh, again):
        assert torch.equal(one, two)


def test_a_map_of_another_frame_is_not_used(model, make_sample, monkeypatch):
    """A frame whose predecessor was not the last one seen is treated as a scene start; it is said.

    A sampler that divides scenes among processes would make scores depend on their number.
    """
    lines = []
    monkeypatch.setattr(detector, 'print_log', lambda text, **_: lines.append(text))
    model.eval()
    run_scene(model, make_sample, QUEUE)
    run_scene(model, make_sample, [frame('p')], seed=5)
    assert lines == []
    [lost] = run_scene(model, make_sample, [frame('c', 'b', 4.0, -5.0)])
    run_scene(model, make_sample, [frame('e', 'd', 4.0, -5.0)])
    assert len(lines) == 1
    assert 'sample b' in lines[0]
    assert 'SceneSequenceSampler' in lines[0]
    [start] = run_scene(model, make_sample, [frame('c')])
    assert torch.equal(lost, start)


def test_frames_with_a_past_cannot_be_tested_in_batches(model, make_sample):
    model.eval()
    imgs = [images(), images(seed=1)]
    starts = [make_sample(frames=[frame('a')]), make_sample(frames=[frame('p')])]
    assert bev_of(model, imgs, starts).shape == (2, 64, 16)
    followers = [make_sample(frames=[frame('b', 'a')]), make_sample(frames=[frame('q', 'p')])]
    with pytest.raises(CibaError, match='holds 2 samples; set batch_size=1'):
        bev_of(model, imgs, followers)


def test_each_sample_is_seen_through_its_own_cameras(model, make_sample):
    model.eval()
    swapped = dict(calibration(), lidar2cam=[BACKWARD, LIDAR2CAM])
    imgs = [images(), images(seed=1)]
    samples = [make_sample(**calibration()), make_sample(**swapped)]
    together = bev_of(model, imgs, samples)
    for index in range(2):
        alone = bev_of(model, imgs[index : index + 1], samples[index : index + 1])
        torch.testing.assert_close(together[[index]], alone, rtol=1e-4, atol=1e-5)
    same = bev_of(model, imgs, [samples[0], samples[0]])
    assert not torch.allclose(same[1], together[1], atol=1e-3)


def test_what_one_camera_shows_changes_only_the_cells_it_sees(model, make_sample):
    """Rows are y: the camera that looks along +y changes the rows of the upper half."""
    model.eval()
    for layer in model.pts_bbox_head.transformer.encoder.layers:
        torch.nn.init.zeros_(layer.attentions[0].output_proj.weight)  # cells do not talk
    sample = make_sample(**calibration())
    changed = images()
    changed[0] = 255 - changed[0]
    maps = [bev_of(model, [imgs], [sample]).view(8, 8, 16) for imgs in (images(), changed)]
    difference = (maps[0] - maps[1]).abs().amax(-1)
    assert torch.count_nonzero(difference[:4]) == 0
    assert torch.count_nonzero(difference[4:]) > 8


@pytest.mark.parametrize('steps', [1, 3])
def test_mixed_precision_stays_close(model, make_sample, steps):
    model.train()
    sample = make_sample([CAR], [1], frames=QUEUE[:steps])
    exact = loss_of(model, [images(steps)], [sample])
    with torch.autocast('cpu', torch.bfloat16):
        losses = loss_of(model, [images(steps)], [sample])
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.1)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_checkpointing_changes_no_gradient(make_sample):
    gradients = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp).train()
        sample = make_sample([CAR], [1], frames=QUEUE)
        sum(loss_of(model, [images(3)], [sample]).values()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients):
        torch.testing.assert_close(checkpointed, plain)


def test_missing_calibration_names_the_sample(model, make_sample):
    info = calibration()
    del info['lidar2cam']
    with pytest.raises(ConfigError, match="0a1b has no 'lidar2cam'"):
        bev_of(model, [images()], [make_sample(token='0a1b', **info)])


def test_another_number_of_image_levels_is_refused(make_sample):
    with pytest.raises(ConfigError, match='num_levels=3, but img_neck gives 2'):
        bev_of(build(num_levels=3), [images()], [make_sample(**calibration())])


def test_points_must_be_shared_by_the_pillar_heights():
    with pytest.raises(ConfigError, match='num_spatial_points 6 is not a multiple of the 4'):
        build(num_spatial_points=6)


def test_a_map_is_turned_about_the_lidar():
    shifted = build(bev_h=4, bev_w=8, point_cloud_range=[-10, -30, -5, 30, 10, 3])
    assert shifted.pts_bbox_head.transformer.rotate_center == pytest.approx((2.0, 3.0))
