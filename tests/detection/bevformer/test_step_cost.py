"""What keeps a training step fast on a GPU, checked on a CPU."""

import contextlib
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from test_bevformer_detector import CAMERAS, CAR, QUEUE, build, images, model_config, prepare
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ciba_bev.detection import set_prediction_head
from ciba_bev.finiteness import postpone_checks, postponed_checks
from ciba_bev.ops import voxelization
from ciba_bev.registry import MODELS

VIEWS = (
    *('view', '_unsafe_view', 'detach', 't', 'transpose', 'expand', 'slice', 'select', 'permute'),
    *('unsqueeze', 'squeeze', 'alias', 'unbind', 'split', 'split_with_sizes', 'as_strided'),
)

RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
EXTENT = [-51.2, -51.2, 51.2, 51.2]
VOXEL = [1.6, 1.6, 8]


class CallCounter(TorchDispatchMode):
    """Counts the operators that a pass calls and that touch memory: launches on a GPU."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in VIEWS:
            self.calls[name] += 1
        return function(*args, **(kwargs or {}))


def count_calls(model, make_sample, steps):
    sample = make_sample([CAR], [1], frames=QUEUE[-steps:])
    batch = prepare(model.train(), [images(steps)], [sample], training=True)
    with CallCounter() as counter:
        losses = model.loss(*batch)
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    return counter.calls


def test_calls_of_a_training_step(make_sample):
    one = count_calls(build(), make_sample, 1)
    three = count_calls(build(), make_sample, 3)
    assert sum(one.values()) < 1080
    # Frames of the past share the backbone's pass and have no backward pass.
    assert (sum(three.values()) - sum(one.values())) / 2 < 232
    assert three['convolution'] == 2 * one['convolution']


def test_the_encoder_adds_gradients_without_sorting(make_sample):
    """``index_put_`` that accumulates sorts its indices first, and adds equal ones in turn."""

    class Accumulations(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket.__name__
            if name in ('index_put_', 'index_put', '_index_put_impl_') and args[3:4] == (True,):
                found.append(name)
            return function(*args, **(kwargs or {}))

    found = []
    model = build().train()
    batch = prepare(model, [images(1)], [make_sample(frames=QUEUE[-1:])], training=True)
    with Accumulations():
        model.extract_feat(*batch).sum().backward()
    assert not found


def test_layers_share_the_geometry(make_sample):
    calls = [count_calls(build(encoder_layers=n), make_sample, 1) for n in (1, 3)]
    for name in ('nonzero', '_local_scalar_dense', 'sort', 'arange'):
        assert calls[0][name] == calls[1][name], name


@pytest.mark.parametrize('steps', [1, 3])
def test_forward_and_backward_do_not_wait_for_the_device(make_sample, steps, monkeypatch):
    """On the meta device a value cannot be read: every wait for the device is an error.

    The matching of boxes, which reads the costs, comes after this.
    """
    # The meta device has no mixed precision to be switched off.
    monkeypatch.setattr(torch, 'autocast', lambda **options: contextlib.nullcontext())
    model = build().train().to('meta')
    samples = [make_sample([CAR], [1], frames=QUEUE[-steps:])] * 2
    imgs = torch.empty(2, steps * CAMERAS, 3, 32, 64, device='meta')
    bev_embed = model.extract_feat(dict(imgs=imgs), samples)
    outputs = model.pts_bbox_head(bev_embed)
    sum(value.float().sum() for value in outputs.values()).backward()
    assert bev_embed.shape == (2, 64, 16)
    missing = [name for name, value in model.named_parameters() if value.grad is None]
    assert not [name for name in missing if value_is_used(name)], missing


def value_is_used(name):
    """The first stage of the backbone is frozen."""
    return not name.startswith(('img_backbone.conv1', 'img_backbone.bn1', 'img_backbone.layer1'))


class CalledFunctions(TorchFunctionMode):
    """Count the functions of PyTorch that are called, and the indices that are Python lists."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls[func.__name__] += 1
        if func is torch.Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else args[1:]
            self.calls['lists'] += any(isinstance(part, (list, np.ndarray)) for part in index)
        return func(*args, **(kwargs or {}))


def test_losses_wait_for_the_device_once(make_sample, monkeypatch):
    """Layers and samples are matched together, and no Python list becomes an index on a GPU."""
    reduced = []

    def reduce_mean(value):
        reduced.append(value)
        return value

    monkeypatch.setattr(set_prediction_head, 'reduce_mean', reduce_mean)
    model = build().train()
    samples = [make_sample([CAR] * count, [1] * count) for count in (2, 1)]
    bev_embed = torch.randn(2, 64, 16, requires_grad=True)
    with CalledFunctions() as found:
        losses = model.pts_bbox_head.loss(bev_embed, samples)
    assert len(losses) == 2 * len(model.pts_bbox_head.cls_branches)
    assert len(reduced) == found.calls['cpu'] == 1
    assert found.calls['__getitem__'] > 0
    for name in ('item', 'tolist', '__bool__', 'any', 'lists'):
        assert found.calls[name] == 0, name


def test_waits_are_seen():
    values = torch.ones(3)
    with CalledFunctions() as found:
        assert values.any().item()
        assert values[[0, 1]].cpu().sum()
    expected = {'any', 'item', '__getitem__', 'lists', 'cpu', 'sum', '__bool__'}
    assert {name for name, count in found.calls.items() if count} == expected


def test_the_meta_device_does_tell():
    with pytest.raises((RuntimeError, NotImplementedError)):
        int(torch.ones(3, device='meta').sum())


@pytest.fixture
def distiller(monkeypatch):
    """A BEVFormer that is distilled from an Object-DGCNN with pillars, as in the quickstart."""
    # As on a GPU.
    monkeypatch.setattr(voxelization, '_by_table', voxelization._by_sorting)
    init_default_scope('mmdet3d')
    torch.manual_seed(0)
    layer = dict(max_num_points=8, voxel_size=VOXEL, max_voxels=[2000] * 2, point_cloud_range=RANGE)
    teacher = dict(
        type='ciba_bev.ObjectDGCNN',
        data_preprocessor=dict(
            type='ciba_bev.DetectionDataPreprocessor', voxel=True, voxel_layer=layer
        ),
        pts_voxel_encoder=dict(
            type='PillarFeatureNet',
            in_channels=4,
            feat_channels=[8],
            voxel_size=VOXEL,
            point_cloud_range=RANGE,
            legacy=False,
        ),
        pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=8, output_shape=[64, 64]),
        pts_backbone=dict(
            type='SECOND',
            in_channels=8,
            out_channels=[8],
            layer_nums=[0],
            layer_strides=[2],
            norm_cfg=dict(type='BN'),
        ),
        pts_neck=dict(type='mmdet.FPN', in_channels=[8], out_channels=16, num_outs=1),
        pts_bbox_head=dict(
            type='ciba_bev.ObjectDGCNNHead',
            num_classes=3,
            embed_dims=16,
            num_levels=1,
            num_query=10,
            point_cloud_range=RANGE,
            num_heads=2,
        ),
    )
    bottleneck = dict(
        type='ciba_bev.VariationalBottleneck', in_channels=16, out_channels=16, bottleneck_size=4
    )
    model = MODELS.build(
        dict(
            type='ciba_bev.Distiller',
            student=model_config(),
            student_inputs=['img'],
            student_tap=dict(
                module='pts_bbox_head',
                source='input',
                layout='tokens',
                grid=[8, 8],
                extent=EXTENT,
            ),
            teacher=dict(
                config=teacher,
                checkpoint='none',
                inputs=['points'],
                tap=dict(module='pts_neck', index=0, grid=[32, 32], extent=EXTENT),
            ),
            bottleneck=dict(config='none', checkpoint='none', size=4),
        )
    )
    model.teacher.fingerprint = 'random weights'
    model.teacher.encoder = MODELS.build(bottleneck).eval().requires_grad_(False)
    model.student.init_weights()
    # As in a training: numbers are looked at when the step is over.
    postpone_checks()
    yield model.train()
    postponed_checks()


def count(function):
    with CallCounter() as counter:
        function()
    return counter.calls


def test_calls_of_a_distillation_step(distiller, make_sample):
    """It costs the student's step, the teacher's feature and little more."""

    def batch():
        points = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 40 - 20
        sample = make_sample([CAR], [1], frames=QUEUE[-1:])
        return dict(inputs=dict(img=[images()], points=[points]), data_samples=[sample])

    def step(model, inputs):
        data = batch()
        data['inputs'] = {name: data['inputs'][name] for name in inputs}
        if model is distiller.student:
            data = model.data_preprocessor(data, True)
        losses = model(**data, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()

    # Constants are made once and kept.
    step(distiller, ['img', 'points'])
    whole = count(lambda: step(distiller, ['img', 'points']))
    student = count(lambda: step(distiller.student, ['img']))
    teacher = count(lambda: distiller.teacher.feature(batch()))
    own = {name: whole[name] - student[name] - teacher[name] for name in whole}
    print(*(sum(calls.values()) for calls in (whole, student, teacher)))
    assert sum(whole.values()) < 1465
    assert sum(teacher.values()) < 150
    assert 0 < sum(own.values()) < 42
    # The teacher runs once and as far as its tap, its code is a perceptron's.
    assert teacher['convolution'] == 3
    assert own['convolution'] == 0
    # To learn the number of voxels.
    assert teacher['_local_scalar_dense'] == 1


@pytest.mark.parametrize('normalize', [False, True])
def test_distillation_does_not_wait_for_the_device(distiller, make_sample, normalize, monkeypatch):
    """On the meta device, as above: alignment, code, loss and their backward pass."""
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: contextlib.nullcontext())
    distiller.to('meta').normalize_target = normalize
    teacher_feature = torch.empty(2, 16, 32, 32, device='meta')
    monkeypatch.setattr(distiller.teacher, 'feature', lambda data, device: teacher_feature)
    student_feature = torch.empty(2, 16, 8, 8, device='meta', requires_grad=True)
    loss = distiller._distillation_loss(student_feature, dict(data_samples=[make_sample()] * 2))
    loss.backward()
    assert student_feature.grad.shape == student_feature.shape
