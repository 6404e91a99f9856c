"""What keeps a training step fast on a GPU, checked on a CPU."""

import contextlib
from collections import Counter

import pytest
import torch
from test_bevformer_detector import CAMERAS, CAR, QUEUE, build, images, prepare
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = (
    *('view', '_unsafe_view', 'detach', 't', 'transpose', 'expand', 'slice', 'select', 'permute'),
    *('unsqueeze', 'squeeze', 'alias', 'unbind', 'split', 'split_with_sizes', 'as_strided'),
)


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
    assert sum(one.values()) < 1150
    # Frames of the past share the backbone's pass and have no backward pass.
    assert (sum(three.values()) - sum(one.values())) / 2 < 240
    assert three['convolution'] == 2 * one['convolution']


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


def test_the_meta_device_does_tell():
    with pytest.raises((RuntimeError, NotImplementedError)):
        int(torch.ones(3, device='meta').sum())
