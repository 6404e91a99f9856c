"""Published weights: real names at small width, and the same boxes before and after."""

from __future__ import annotations

import math
import runpy
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.registry import init_default_scope

import ciba_bev  # noqa: F401
from ciba_bev.checkpoints import conversion
from ciba_bev.checkpoints.conversion import METADATA_KEY, convert_checkpoint
from ciba_bev.checkpoints.files import load_from_file
from ciba_bev.checkpoints.matching import get_state_dict, load_weights
from ciba_bev.checkpoints.published import NUSCENES_CLASSES, convert_weights, guess_architecture
from ciba_bev.detection.box_coding import decode_boxes
from ciba_bev.errors import CibaError
from ciba_bev.registry import MODELS as MODEL_REGISTRY

PROJECT = Path(__file__).resolve().parents[2]
RECORDINGS = PROJECT.parent / 'shared' / 'parity'
WIDTH, HIDDEN, CLASSES = 16, 32, 10
OLD_META = dict(mmdet3d_version='0.17.1', CLASSES=NUSCENES_CLASSES)


class Names(OrderedDict):
    """Random weights, written down module by module as the published models have them."""

    def add(self, name, *shape):
        self[name] = torch.randn(*shape) * 0.2

    def linear(self, name, inputs, outputs, bias=True):
        self.add(f'{name}.weight', outputs, inputs)
        if bias:
            self.add(f'{name}.bias', outputs)

    def conv(self, name, inputs, outputs, size, bias=False):
        self.add(f'{name}.weight', outputs, inputs, size, size)
        if bias:
            self.add(f'{name}.bias', outputs)

    def layer_norm(self, name, channels):
        self.add(f'{name}.weight', channels)
        self.add(f'{name}.bias', channels)

    def batch_norm(self, name, channels):
        self.layer_norm(name, channels)
        self.add(f'{name}.running_mean', channels)
        self[f'{name}.running_var'] = torch.rand(channels) + 0.5
        self[f'{name}.num_batches_tracked'] = torch.tensor(3)

    def attention(self, name, samples, query=WIDTH, output=True):
        self.linear(f'{name}.sampling_offsets', query, samples * 2)
        self.linear(f'{name}.attention_weights', query, samples)
        self.linear(f'{name}.value_proj', WIDTH, WIDTH)
        if output:
            self.linear(f'{name}.output_proj', WIDTH, WIDTH)

    def feed_forward(self, name, norms):
        self.linear(f'{name}.ffns.0.layers.0.0', WIDTH, HIDDEN)
        self.linear(f'{name}.ffns.0.layers.1', HIDDEN, WIDTH)
        for index in range(norms):
            self.layer_norm(f'{name}.norms.{index}', WIDTH)

    def branches(self, layers):
        for layer in range(layers):
            for step in (0, 3):
                self.linear(f'pts_bbox_head.cls_branches.{layer}.{step}', WIDTH, WIDTH)
                self.layer_norm(f'pts_bbox_head.cls_branches.{layer}.{step + 1}', WIDTH)
            self.linear(f'pts_bbox_head.cls_branches.{layer}.6', WIDTH, CLASSES)
            for step in (0, 2):
                self.linear(f'pts_bbox_head.reg_branches.{layer}.{step}', WIDTH, WIDTH)
            self.linear(f'pts_bbox_head.reg_branches.{layer}.4', WIDTH, 10)

    def resnet(self, name, base, blocks, deformable_stages=()):
        self.conv(f'{name}.conv1', 3, base, 7)
        self.batch_norm(f'{name}.bn1', base)
        inputs = base
        for stage, count in enumerate(blocks):
            planes = base * 2**stage
            for block in range(count):
                part = f'{name}.layer{stage + 1}.{block}'
                self.conv(f'{part}.conv1', inputs, planes, 1)
                self.conv(f'{part}.conv2', planes, planes, 3)
                if stage + 1 in deformable_stages:
                    self.conv(f'{part}.conv2.conv_offset', planes, 27, 3, bias=True)
                self.conv(f'{part}.conv3', planes, planes * 4, 1)
                for index, channels in enumerate((planes, planes, planes * 4)):
                    self.batch_norm(f'{part}.bn{index + 1}', channels)
                if block == 0:
                    self.conv(f'{part}.downsample.0', inputs, planes * 4, 1)
                    self.batch_norm(f'{part}.downsample.1', planes * 4)
                inputs = planes * 4

    def fpn(self, name, inputs, outputs, with_norm=False):
        for kind, channels, size in (
            ('lateral_convs', inputs, 1),
            ('fpn_convs', [WIDTH] * outputs, 3),
        ):
            for index, channel in enumerate(channels):
                self.conv(f'{name}.{kind}.{index}.conv', channel, WIDTH, size, bias=not with_norm)
                if with_norm:
                    self.batch_norm(f'{name}.{kind}.{index}.bn', WIDTH)


def bevformer_head(weights, grid, levels, encoder_layers, decoder_layers=2, queries=20):
    """BEVFormer's head; its level embeddings are four whatever the neck gives."""
    head = 'pts_bbox_head'
    weights.add(f'{head}.code_weights', 10)
    weights.add(f'{head}.transformer.level_embeds', 4, WIDTH)
    weights.add(f'{head}.transformer.cams_embeds', 6, WIDTH)
    for index in range(encoder_layers):
        layer = f'{head}.transformer.encoder.layers.{index}'
        weights.attention(f'{layer}.attentions.0', 8 * 2 * 4, query=2 * WIDTH)
        spatial = f'{layer}.attentions.1'
        weights.attention(f'{spatial}.deformable_attention', 8 * levels * 8, output=False)
        weights.linear(f'{spatial}.output_proj', WIDTH, WIDTH)
        weights.feed_forward(layer, 3)
    for index in range(decoder_layers):
        layer = f'{head}.transformer.decoder.layers.{index}'
        weights.add(f'{layer}.attentions.0.attn.in_proj_weight', 3 * WIDTH, WIDTH)
        weights.add(f'{layer}.attentions.0.attn.in_proj_bias', 3 * WIDTH)
        weights.linear(f'{layer}.attentions.0.attn.out_proj', WIDTH, WIDTH)
        weights.attention(f'{layer}.attentions.1', 8 * 4)
        weights.feed_forward(layer, 3)
    weights.linear(f'{head}.transformer.reference_points', WIDTH, 3)
    weights.linear(f'{head}.transformer.can_bus_mlp.0', 18, WIDTH // 2)
    weights.linear(f'{head}.transformer.can_bus_mlp.2', WIDTH // 2, WIDTH)
    weights.layer_norm(f'{head}.transformer.can_bus_mlp.norm', WIDTH)
    for axis in ('row', 'col'):
        weights.add(f'{head}.positional_encoding.{axis}_embed.weight', grid, WIDTH // 2)
    weights.add(f'{head}.bev_embedding.weight', grid * grid, WIDTH)
    weights.add(f'{head}.query_embedding.weight', queries, 2 * WIDTH)
    weights.branches(decoder_layers)


def bevformer(config):
    """Published weights for a BEVFormer config, and that config at the same small width."""
    model = Config.fromfile(PROJECT / 'configs' / f'{config}.py', import_custom_modules=False).model
    base, deep = 4, model.img_backbone.depth == 101
    stages = (3, 4) if 'dcn' in model.img_backbone else ()
    levels = model.pts_bbox_head.num_levels
    channels = [base * 4 * 2**index for index in model.img_backbone.out_indices]
    model.img_backbone.update(base_channels=base)
    model.img_neck.update(in_channels=channels, out_channels=WIDTH)
    model.pts_bbox_head.update(
        embed_dims=WIDTH, num_query=20, decoder_layers=2, feedforward_channels=HIDDEN
    )
    weights = Names()
    weights.resnet('img_backbone', base, (3, 4, 23 if deep else 6, 3), stages)
    weights.fpn('img_neck', channels, levels)
    grid = model.pts_bbox_head.bev_h
    bevformer_head(weights, grid, levels, model.pts_bbox_head.encoder_layers)
    return weights, model


def dgcnn_head(weights, queries=20, layers=2):
    head = 'pts_bbox_head'
    weights.add(f'{head}.code_weights', 10)
    weights.add(f'{head}.transformer.level_embeds', 4, WIDTH)
    for index in range(2):
        layer = f'{head}.transformer.encoder.layers.{index}'
        weights.attention(f'{layer}.attentions.0', 8 * 4 * 4)
        weights.feed_forward(layer, 2)
    for index in range(layers):
        layer = f'{head}.transformer.decoder.layers.{index}'
        for step in ('conv1', 'conv2'):
            weights.conv(f'{layer}.attentions.0.{step}.0', 2 * WIDTH, WIDTH, 1)
            weights.batch_norm(f'{layer}.attentions.0.{step}.1', WIDTH)
        weights.attention(f'{layer}.attentions.1', 8 * 4 * 4)
        weights.feed_forward(layer, 3)
    weights.linear(f'{head}.transformer.reference_points', WIDTH, 2)
    weights.add(f'{head}.query_embedding.weight', queries, 2 * WIDTH)
    weights.branches(layers)


def second(weights, inputs, outputs, layers):
    """The 2D backbone behind the voxels: a strided convolution and a few more per stage."""
    for stage, (channels, count) in enumerate(zip(outputs, layers)):
        for index in range(count + 1):
            part = f'pts_backbone.blocks.{stage}'
            weights.conv(f'{part}.{3 * index}', inputs, channels, 3)
            weights.batch_norm(f'{part}.{3 * index + 1}', channels)
            inputs = channels


def object_dgcnn(config):
    """Published weights for an Object-DGCNN config, and that config at the same small width."""
    model = Config.fromfile(PROJECT / 'configs' / f'{config}.py', import_custom_modules=False).model
    weights = Names()
    if 'voxel' in config:
        encoder = 'pts_middle_encoder'
        # Kernels in the layout of spconv 1: the two channel dimensions come last.
        weights.add(f'{encoder}.conv_input.0.weight', 3, 3, 3, 5, 16)
        weights.batch_norm(f'{encoder}.conv_input.1', 16)
        inputs = 16
        for stage, blocks in enumerate(((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128))):
            for block, channels in enumerate(blocks):
                part = f'{encoder}.encoder_layers.encoder_layer{stage + 1}.{block}'
                if block == 2:
                    weights.add(f'{part}.0.weight', 3, 3, 3, inputs, channels)
                    weights.batch_norm(f'{part}.1', channels)
                else:
                    for step in (1, 2):
                        weights.add(f'{part}.conv{step}.weight', 3, 3, 3, channels, channels)
                        weights.batch_norm(f'{part}.bn{step}', channels)
                inputs = channels
        weights.add(f'{encoder}.conv_out.0.weight', 3, 1, 1, 128, 128)
        weights.batch_norm(f'{encoder}.conv_out.1', 128)
        inputs, outputs, layers = 256, [8, 16], [1, 1]
    else:
        # Five point features, three and two offsets: mmdet3d counts a sixth offset since 1.0.
        weights.linear('pts_voxel_encoder.pfn_layers.0.linear', 10, 64, bias=False)
        weights.batch_norm('pts_voxel_encoder.pfn_layers.0.norm', 64)
        inputs, outputs, layers = 64, [8, 16, 16], [1, 1, 1]
    second(weights, inputs, outputs, layers)
    # Levels beyond the backbone's are pooled and have no weights.
    weights.fpn('pts_neck', outputs, len(outputs), with_norm=True)
    dgcnn_head(weights)
    model.pts_backbone.update(in_channels=inputs, out_channels=outputs, layer_nums=layers)
    model.pts_neck.update(in_channels=outputs, out_channels=WIDTH)
    model.pts_bbox_head.update(
        embed_dims=WIDTH, num_query=20, decoder_layers=2, feedforward_channels=HIDDEN
    )
    return weights, model


def center_head(weights, tasks=(1, 2), shared=8, deformable=False):
    weights.conv('pts_bbox_head.shared_conv.conv', 12, shared, 3)
    weights.batch_norm('pts_bbox_head.shared_conv.bn', shared)
    for index, classes in enumerate(tasks):
        task = f'pts_bbox_head.task_heads.{index}'
        outputs = dict(reg=2, height=1, dim=3, rot=2, vel=2)
        if not deformable:
            outputs['heatmap'] = classes
        part = f'{task}.task_head' if deformable else task
        for name, channels in outputs.items():
            weights.conv(f'{part}.{name}.0.conv', shared, 64, 3)
            weights.batch_norm(f'{part}.{name}.0.bn', 64)
            weights.conv(f'{part}.{name}.1', 64, channels, 3, bias=True)


def fcos3d(blocks=(3, 4, 6, 3), prefix=''):
    weights = Names()
    weights.resnet(f'{prefix}backbone', 4, blocks, (3, 4))
    for index, channels in enumerate((32, 64, 128)):
        weights.conv(f'{prefix}neck.lateral_convs.{index}.conv', channels, 16, 1, bias=True)
    weights.conv('bbox_head.conv_dir_cls', 16, 2, 1, bias=True)
    weights.conv('bbox_head.conv_cls', 16, 10, 1, bias=True)
    return weights


def build(model):
    init_default_scope('mmdet3d')
    return MODEL_REGISTRY.build(model).eval()


def save(path, weights, **meta):
    torch.save(dict(state_dict=OrderedDict(weights), meta=meta), path)
    return str(path)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


BEVFORMERS = [
    'bevformer_tiny',
    'bevformer_small',
    'bevformer_base',
    'bevformer_r50',
    'bevformer_r50_dcn_fcos3d',
]
DGCNNS = ['objectdgcnn_voxel01', 'objectdgcnn_pillar02']


@pytest.mark.parametrize('config', [*BEVFORMERS, *DGCNNS])
def test_converted_weights_load_whole(tmp_path, config):
    model = 'bevformer' if config in BEVFORMERS else 'object_dgcnn'
    published, small = (bevformer if config in BEVFORMERS else object_dgcnn)(config)
    source = save(tmp_path / 'published.pth', published, **OLD_META)
    convert_checkpoint(source, str(tmp_path / 'out' / 'converted.pth'), model)
    content = load_from_file(tmp_path / 'out' / 'converted.pth')
    assert content['meta'][METADATA_KEY]['source'] == 'published.pth'
    assert content['meta'][METADATA_KEY]['box_convention'] == 'mmdet3d >= 1.0'
    detector = build(small)
    comparison = load_weights(detector, get_state_dict(content))
    assert comparison.is_complete, comparison.describe()
    loaded = detector.state_dict()
    # Everything but the levels, the boxes and the pillars' columns went over as it was.
    changed = {
        name
        for name, value in published.items()
        if name in loaded
        and not name.startswith('pts_middle_encoder.')
        and not torch.equal(loaded[name], value)
    }
    expected = {
        f'pts_bbox_head.reg_branches.{layer}.4.{kind}'
        for layer in (0, 1)
        for kind in ('weight', 'bias')
    }
    if config in ('bevformer_tiny', 'bevformer_small'):
        expected.add('pts_bbox_head.transformer.level_embeds')
    if config == 'objectdgcnn_pillar02':
        expected.add('pts_voxel_encoder.pfn_layers.0.linear.weight')
    assert changed == expected
    assert set(published) - set(loaded) == {'pts_bbox_head.code_weights'}


def test_the_names_here_are_those_of_the_reference_implementations():
    if not RECORDINGS.is_dir():
        pytest.skip(f'the recordings of the reference implementations are not at {RECORDINGS}')
    ours = Names()
    bevformer_head(ours, grid=10, levels=2, encoder_layers=2)
    others = Names()
    dgcnn_head(others)
    for weights, recording in (
        (ours, 'bevformer_single_frame.pt'),
        (ours, 'bevformer_temporal.pt'),
        (others, 'object_dgcnn.pt'),
    ):
        recorded = torch.load(RECORDINGS / recording, weights_only=True)['state_dict']
        assert set(recorded) == set(weights) - {'pts_bbox_head.code_weights'}


def old_corners(boxes):
    """Corners and front of boxes (cx, cy, cz, w, l, h, yaw) as mmdet3d had them before 1.0.

    At yaw 0 a box's width lies along x, its length along y and it faces -y; a positive yaw turns
    it clockwise as seen from above.
    """
    corners, fronts = [], []
    for x, y, z, width, length, height, yaw in boxes.tolist():
        cosine, sine = math.cos(yaw), math.sin(yaw)

        def place(along_x, along_y, x=x, y=y, cosine=cosine, sine=sine):
            return x + along_x * cosine + along_y * sine, y - along_x * sine + along_y * cosine

        corners.append(
            [
                (*place(sign_x * width / 2, sign_y * length / 2), z + sign_z * height / 2)
                for sign_x in (-1, 1)
                for sign_y in (-1, 1)
                for sign_z in (-1, 1)
            ]
        )
        fronts.append((*place(0.0, -length / 2), z))
    return torch.tensor(corners), torch.tensor(fronts)


def assert_same_boxes(old, new):
    """Old boxes (N, 7) and new ones (N, 7), both around their centre, fill the same space."""
    corners, fronts = old_corners(old)
    boxes = LiDARInstance3DBoxes(new, origin=(0.5, 0.5, 0.5))
    distance = torch.cdist(corners, boxes.corners)
    # Every old corner is some new one, and the other way round.
    assert distance.min(1).values.max() < 1e-3
    assert distance.min(2).values.max() < 1e-3
    center, length, yaw = boxes.gravity_center, boxes.dims[:, 0], boxes.yaw
    ahead = torch.stack((yaw.cos(), yaw.sin(), torch.zeros_like(yaw)), dim=-1)
    torch.testing.assert_close(center + ahead * length[:, None] / 2, fronts, rtol=0, atol=1e-3)


def decode_old(codes):
    """(cx, cy, log w, log l, cz, log h, sin, cos, ...) to (cx, cy, cz, w, l, h, yaw)."""
    x, y, width, length, z, height, sine, cosine = codes[:, :8].unbind(-1)
    yaw = torch.atan2(sine, cosine)
    return torch.stack((x, y, z, width.exp(), length.exp(), height.exp(), yaw), dim=-1)


@pytest.mark.parametrize('kind', ['bevformer', 'object_dgcnn'])
def test_the_same_boxes_before_and_after(kind):
    published, small = (
        bevformer('bevformer_tiny') if kind == 'bevformer' else object_dgcnn('objectdgcnn_pillar02')
    )
    converted = convert_weights(published, kind)
    outputs = []
    # The old weights run as they are: only what the outputs mean has changed.
    for old_boxes in (True, False):
        head = build(small.pts_bbox_head)
        weights = convert_weights(published, kind, old_boxes=False).weights
        if not old_boxes:
            weights = converted.weights
        prefix = 'pts_bbox_head.'
        weights = {n[len(prefix) :]: w for n, w in weights.items() if n.startswith(prefix)}
        head.load_state_dict(weights)
        generator = torch.Generator().manual_seed(1)
        if kind == 'bevformer':
            inputs = torch.randn(1, 50 * 50, WIDTH, generator=generator)
        else:
            inputs = [torch.randn(1, WIDTH, n, n, generator=generator) for n in (16, 8, 4, 2)]
        with torch.no_grad():
            outputs.append(head(inputs))
    old, new = outputs
    assert torch.equal(old['all_cls_scores'], new['all_cls_scores'])
    for before, after in zip(old['all_bbox_preds'], new['all_bbox_preds']):
        boxes = decode_boxes(after[0])
        assert_same_boxes(decode_old(before[0]), boxes[:, :7])
        # The boxes are no squares that would hide an exchange, and velocity is as it was.
        assert ((boxes[:, 3] / boxes[:, 4]).log().abs() > 0.1).any()
        torch.testing.assert_close(boxes[:, 7:], before[0, :, 8:])


@pytest.mark.parametrize('deformable', [False, True])
def test_center_heads_give_the_same_boxes(deformable):
    published = Names()
    second(published, 4, [6], [1])
    center_head(published, deformable=deformable)
    if deformable:
        published.conv('pts_bbox_head.task_heads.0.feature_adapt_cls.conv_offset', 8, 72, 1)
    converted = convert_weights(published, 'centerpoint').weights
    assert list(converted) == list(published)
    features = torch.randn(1, 64, 6, 6)
    part = 'pts_bbox_head.task_heads.1.' + ('task_head.' if deformable else '')

    def run(weights, name):
        weight, bias = weights[f'{part}{name}.1.weight'], weights[f'{part}{name}.1.bias']
        return torch.conv2d(features, weight * 0.3, bias)[0].flatten(1).T

    def box(weights, dims):
        yaw = torch.atan2(*run(weights, 'rot').unbind(-1))[:, None]
        return torch.cat((torch.zeros(len(yaw), 3), dims.exp(), yaw), dim=-1)

    old = box(published, run(published, 'dim'))
    assert_same_boxes(old, box(converted, run(converted, 'dim')))
    untouched = [name for name in published if '.dim.1' not in name and '.rot.1' not in name]
    assert all(torch.equal(published[name], converted[name]) for name in untouched)


def test_center_head_loads_into_mmdet3d(tmp_path):
    published = Names()
    second(published, 4, [6], [1])
    center_head(published)
    source = save(tmp_path / 'old.pth', published, mmdet3d_version='0.16.0')
    convert_checkpoint(source, str(tmp_path / 'new.pth'), 'centerpoint')
    init_default_scope('mmdet3d')
    head = MODEL_REGISTRY.build(
        dict(
            type='mmdet3d.CenterHead',
            in_channels=12,
            share_conv_channel=8,
            tasks=[
                dict(num_class=1, class_names=['car']),
                dict(num_class=2, class_names=['truck', 'bus']),
            ],
            common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
            separate_head=dict(type='SeparateHead', init_bias=-2.19, final_kernel=3),
            bbox_coder=dict(
                type='CenterPointBBoxCoder',
                pc_range=[-51.2, -51.2],
                out_size_factor=4,
                voxel_size=[0.2, 0.2],
            ),
        )
    )
    weights = get_state_dict(load_from_file(tmp_path / 'new.pth'))
    prefix = 'pts_bbox_head.'
    head.load_state_dict({n[len(prefix) :]: w for n, w in weights.items() if n.startswith(prefix)})


def test_pillar_features_are_as_they_were():
    published, small = object_dgcnn('objectdgcnn_pillar02')
    name = 'pts_voxel_encoder.pfn_layers.0.linear.weight'
    new = convert_weights(published, 'object_dgcnn').weights[name]
    assert new.shape == (64, 11)
    points = torch.randn(7, 11)
    torch.testing.assert_close(points @ new.T, points[:, :10] @ published[name].T)
    assert build(small).pts_voxel_encoder.pfn_layers[0].linear.weight.shape == (64, 11)


def test_sparse_kernels_end_up_where_they_belong(tmp_path):
    published, small = object_dgcnn('objectdgcnn_voxel01')
    source = save(tmp_path / 'old.pth', published, **OLD_META)
    convert_checkpoint(source, str(tmp_path / 'new.pth'), 'object_dgcnn')
    detector = build(small)
    load_weights(detector, get_state_dict(load_from_file(tmp_path / 'new.pth')))
    kernel = detector.pts_middle_encoder.conv_input[0].weight
    wanted = published['pts_middle_encoder.conv_input.0.weight']
    # spconv 2 puts the output channels first, mmcv keeps them last.
    if kernel.shape[0] == 16:
        wanted = wanted.permute(4, 0, 1, 2, 3)
    assert torch.equal(kernel, wanted)


def test_versions_of_modules_follow_their_names(tmp_path):
    published = OrderedDict(fcos3d())
    published._metadata = OrderedDict({'backbone.layer3.0.conv2': dict(version=2), '': dict()})
    torch.save(dict(state_dict=published), tmp_path / 'fcos3d.pth')
    convert_checkpoint(str(tmp_path / 'fcos3d.pth'), str(tmp_path / 'new.pth'), 'fcos3d_r50')
    weights = load_from_file(tmp_path / 'new.pth')['state_dict']
    assert weights._metadata == {'img_backbone.layer3.0.conv2': dict(version=2)}


@pytest.mark.parametrize('prefix', ['', 'img_'])
def test_fcos3d_gives_its_image_backbone(tmp_path, prefix):
    published = fcos3d(prefix=prefix)
    source = save(tmp_path / 'fcos3d.pth', published, mmdet3d_version='0.17.1')
    converted = convert_checkpoint(source, str(tmp_path / 'new.pth'), 'fcos3d_r50')
    _, small = bevformer('bevformer_r50_dcn_fcos3d')
    comparison = load_weights(build(small), converted.weights)
    assert not comparison.unexpected
    assert not comparison.mismatched
    assert not any(name.startswith('img_backbone.') for name in comparison.missing)
    assert not converted.boxes_converted
    for name, value in converted.weights.items():
        assert torch.equal(value, published[f'{prefix}backbone.' + name.split('.', 1)[1]])


def test_early_names_of_deformable_offsets():
    published = fcos3d()
    early = OrderedDict(
        (name.replace('.conv2.conv_offset.', '.conv2_offset.'), value)
        for name, value in published.items()
    )
    assert set(early) != set(published)
    converted = convert_weights(early, 'fcos3d_r50').weights
    assert set(converted) == set(convert_weights(published, 'fcos3d_r50').weights)


def test_a_distilled_student_is_taken_from_beside_its_teacher():
    student, small = bevformer('bevformer_tiny')
    student.conv('pts_bbox_head.shared_conv.conv', 16, 16, 3)
    student.conv('pts_bbox_head.task_heads.0.heatmap.0.conv', 16, 10, 3)
    published = OrderedDict((f'student.{name}', value) for name, value in student.items())
    published['teacher.pts_backbone.blocks.0.0.weight'] = torch.zeros(1)
    published['cl_head.mlp.0.weight'] = torch.zeros(1)
    converted = convert_weights(published, 'bevformer')
    assert load_weights(build(small), converted.weights).is_complete
    dropped = '2 dropped (teacher.pts_backbone.blocks.0.0.weight, cl_head.mlp.0.weight)'
    assert dropped in converted.changes


def test_classes_come_in_the_order_of_the_configs():
    published, _ = bevformer('bevformer_tiny')
    order = ('car', 'truck', 'trailer', 'bus', 'construction_vehicle', 'bicycle')
    order += ('motorcycle', 'pedestrian', 'traffic_cone', 'barrier')
    name = 'pts_bbox_head.cls_branches.1.6.bias'
    converted = convert_weights(published, 'bevformer', classes=order)
    for label in order:
        old = published[name][order.index(label)]
        assert converted.weights[name][NUSCENES_CLASSES.index(label)] == old
    assert any('classes' in change for change in converted.changes)
    others = convert_weights(published, 'bevformer', classes=['car', 'tram'])
    assert torch.equal(others.weights[name], published[name])
    assert 'tram' in others.notes[-1]


@pytest.mark.parametrize(
    ('meta', 'boxes', 'is_old'),
    [
        (dict(), None, True),
        (dict(mmdet3d_version='0.18.1'), None, True),
        (dict(mmdet3d_version='1.0.0rc6'), None, False),
        (dict(mmengine_version='0.10.7', cfg=''), None, False),
        (dict(mmdet3d_version='0.18.1'), 'new', False),
        (dict(mmdet3d_version='1.0.0rc6'), 'old', True),
    ],
)
def test_which_box_convention_a_file_has(tmp_path, meta, boxes, is_old):
    published, _ = bevformer('bevformer_tiny')
    source = save(tmp_path / 'published.pth', published, **meta)
    converted = convert_checkpoint(source, str(tmp_path / 'new.pth'), 'bevformer', boxes)
    assert converted.boxes_converted == is_old
    name = 'pts_bbox_head.reg_branches.0.4.bias'
    assert torch.equal(converted.weights[name], published[name]) != is_old
    assert ('mmdet3d < 1.0' in converted.notes[0]) == is_old


def test_a_converted_file_is_recognised(tmp_path):
    published, _ = bevformer('bevformer_tiny')
    once, twice = str(tmp_path / 'once.pth'), tmp_path / 'twice.pth'
    convert_checkpoint(save(tmp_path / 'published.pth', published), once, 'bevformer')
    with pytest.raises(CibaError, match=r'(?s)once\.pth: .*converted already, from published\.pth'):
        convert_checkpoint(once, str(twice), 'bevformer')
    assert not twice.exists()


def test_weights_that_need_no_conversion_are_not_copied(tmp_path):
    published, _ = bevformer('bevformer_tiny')
    ours = convert_weights(published, 'bevformer').weights
    source = save(tmp_path / 'epoch_24.pth', ours, mmengine_version='0.10.7')
    with pytest.raises(CibaError, match=r'nothing to convert\..*written by mmengine'):
        convert_checkpoint(source, str(tmp_path / 'new.pth'), 'bevformer')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['epoch_24.pth']


def names_of(*names):
    return OrderedDict((name, torch.zeros(1)) for name in names)


WRONG = {
    'DETR3D': names_of(
        'img_backbone.layer4.0.conv1.weight',
        'pts_bbox_head.transformer.decoder.layers.0.attentions.1.position_encoder.0.weight',
    ),
    'PETR': names_of('pts_bbox_head.position_encoder.0.weight'),
    'BEVDet': names_of('img_view_transformer.depthnet.weight'),
    'BEVFormer v2': names_of('fcos3d_bbox_head.conv_cls.weight', 'pts_bbox_head.code_weights'),
    'TransFusion or BEVFusion': names_of('pts_bbox_head.heatmap_head.0.conv.weight'),
    'an anchor-based LiDAR detector': names_of(
        'backbone.blocks.0.0.weight', 'bbox_head.conv_dir_cls.weight'
    ),
    'a two-stage image detector': names_of('backbone.layer1.0.conv1.weight', 'rpn_head.rpn.weight'),
    'an image classifier': names_of('layer4.0.conv1.weight', 'fc.weight'),
    'an unknown model with encoder, decoder': names_of('encoder.0.weight', 'decoder.0.weight'),
}


@pytest.mark.parametrize('architecture', WRONG)
@pytest.mark.parametrize('model', ['bevformer', 'object_dgcnn', 'centerpoint', 'fcos3d_r50'])
def test_weights_of_another_architecture_are_refused(tmp_path, architecture, model):
    source = save(tmp_path / 'other.pth', WRONG[architecture])
    with pytest.raises(CibaError) as refused:
        convert_checkpoint(source, str(tmp_path / 'new.pth'), model)
    message = str(refused.value)
    assert message.startswith(f'{source}: these are weights of {architecture}, but --model {model}')
    assert not (tmp_path / 'new.pth').exists()


def test_weights_of_another_family_that_can_be_converted_name_it():
    center = Names()
    second(center, 4, [6], [1])
    center_head(center)
    known = {
        'bevformer': bevformer('bevformer_tiny')[0],
        'object_dgcnn': object_dgcnn('objectdgcnn_pillar02')[0],
        'centerpoint': center,
        'fcos3d_r50': fcos3d(),
    }
    for found, weights in known.items():
        for model in known:
            if model != found:
                with pytest.raises(CibaError, match=f'Convert it with --model {found}'):
                    convert_weights(weights, model)
    with pytest.raises(CibaError, match='has 23 blocks, that of a ResNet-50 has 6'):
        convert_weights(fcos3d((3, 4, 23, 3)), 'fcos3d_r50')
    assert len(convert_weights(fcos3d((3, 4, 23, 3)), 'fcos3d_r101').weights) > 500
    assert guess_architecture([]) == 'nothing'


def test_the_source_is_left_as_it_is():
    published, _ = bevformer('bevformer_tiny')
    copies = {name: value.clone() for name, value in published.items()}
    convert_weights(published, 'bevformer', classes=NUSCENES_CLASSES[::-1])
    assert list(published) == list(copies)
    assert all(torch.equal(published[name], value) for name, value in copies.items())


def test_the_tool_checks_against_a_config_and_says_what_it_did(tmp_path, capsys):
    published, small = bevformer('bevformer_tiny')
    config = tmp_path / 'small.py'
    Config(dict(model=small, default_scope='mmdet3d')).dump(str(config))
    source, out = save(tmp_path / 'published.pth', published, **OLD_META), tmp_path / 'new.pth'
    words = [source, str(out), '--model', 'bevformer', '--config', str(config)]
    conversion.main(words)
    printed = capsys.readouterr().out
    for text in (str(out), 'boxes converted', 'mmdet3d 0.17.1', 'rotate_center=[100, 100]'):
        assert text in printed
    del published['img_backbone.conv1.weight']
    out.unlink()
    save(tmp_path / 'published.pth', published)
    with pytest.raises(SystemExit):
        conversion.main(words)
    assert 'img_backbone.conv1.weight' in capsys.readouterr().err
    assert not out.exists()


def test_nothing_that_is_read_is_replaced(tmp_path):
    published, small = bevformer('bevformer_tiny')
    config = tmp_path / 'small.py'
    Config(dict(model=small, default_scope='mmdet3d')).dump(str(config))
    source = save(tmp_path / 'published.pth', published, **OLD_META)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for destination in before:
        with pytest.raises(CibaError, match=f'{destination}: this file is read'):
            convert_checkpoint(source, str(destination), 'bevformer', config=str(config))
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_the_tool_refuses_in_one_message(tmp_path, monkeypatch, capsys):
    source = save(tmp_path / 'resnet50.pth', WRONG['an image classifier'])
    tool = str(PROJECT / 'tools' / 'convert_checkpoint.py')
    command = [tool, source, str(tmp_path / 'new.pth'), '--model', 'bevformer']
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(tool, run_name='__main__')
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert 'weights of an image classifier' in printed
    assert 'Traceback' not in printed
