"""Taps read models that know nothing of them."""

import pytest
import torch
from torch import nn

from ciba_bev.distillation import FeatureTap
from ciba_bev.errors import ConfigError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)
        self.pyramid = Pyramid()
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(1, 1)
        self.finished = 0

    def forward(self, *frames):
        for frame in frames:
            levels = self.pyramid(features=self.body(frame))
        tokens = levels['fine'][0].flatten(2).transpose(1, 2)
        result = self.head(tokens)
        self.finished += 1
        return result


class Pyramid(nn.Module):
    def forward(self, features):
        return {'fine': [features * 2], 'coarse': [features[..., ::2, ::2]]}


def read(tap, *frames, stop=False):
    model = Model()
    with tap.attach(model, stop=stop) as reader:
        model(*frames)
    return model, reader.feature


def test_output_of_a_submodule():
    frame = torch.randn(2, 3, 4, 6)
    model, feature = read(FeatureTap('body'), frame)
    torch.testing.assert_close(feature, model.body(frame))


def test_index_goes_down_into_the_output():
    frame = torch.randn(2, 3, 4, 6)
    model, feature = read(FeatureTap('pyramid', index=('coarse', 0)), frame)
    torch.testing.assert_close(feature, model.body(frame)[..., ::2, ::2])


def test_keyword_input():
    frame = torch.randn(2, 3, 4, 6)
    model, feature = read(FeatureTap('pyramid', source='input', index='features'), frame)
    torch.testing.assert_close(feature, model.body(frame))


def test_tokens_become_a_grid():
    frame = torch.randn(2, 3, 4, 6)
    tap = FeatureTap('head', source='input', layout='tokens', grid=(4, 6))
    model, feature = read(tap, frame)
    torch.testing.assert_close(feature, model.body(frame) * 2)


def test_channels_last():
    tap = FeatureTap('head', source='input', layout='channels_last')
    _, feature = read(tap, torch.randn(2, 3, 4, 6))
    assert feature.shape == (2, 4, 24)


def test_the_last_call_counts():
    old, new = torch.randn(2, 1, 3, 4, 4)
    model, feature = read(FeatureTap('body'), old, new)
    torch.testing.assert_close(feature, model.body(new))


def test_stop_ends_the_forward_pass_at_the_tap():
    model, feature = read(FeatureTap('body'), torch.randn(1, 3, 4, 4), stop=True)
    assert model.finished == 0
    assert feature.shape == (1, 4, 4, 4)


def test_the_feature_keeps_its_gradient():
    model, feature = read(FeatureTap('body'), torch.randn(1, 3, 4, 4))
    feature.sum().backward()
    assert model.body.weight.grad.abs().sum() > 0


def test_no_hook_stays_behind():
    model = Model()
    tap = FeatureTap('body')
    with pytest.raises(ZeroDivisionError), tap.attach(model):
        1 / 0  # noqa: B018
    with tap.attach(model) as reader:
        model(torch.randn(1, 3, 4, 4))
    model(torch.randn(5, 3, 4, 4))
    assert len(reader.feature) == 1
    assert not model.body._forward_hooks


def test_attaching_does_not_go_through_all_modules(monkeypatch):
    """Two taps are attached in every step of a distillation, to models of hundreds of modules."""
    model = Model()
    monkeypatch.setattr(model, 'named_modules', None)
    with FeatureTap('body').attach(model) as reader:
        model(torch.randn(1, 3, 4, 4))
    assert len(reader.feature) == 1


@pytest.mark.parametrize(
    ('tap', 'message'),
    [
        (FeatureTap(''), "no submodule '' to tap"),
        (FeatureTap('body.weight'), 'Similar names: body'),
        (FeatureTap('pyramd'), 'Similar names: pyramid'),
        (FeatureTap('nothing.like.it'), 'body, pyramid, head'),
    ],
)
def test_unknown_submodule_lists_similar_names(tap, message):
    with pytest.raises(ConfigError, match=message):
        tap.attach(Model())


@pytest.mark.parametrize(
    ('tap', 'message'),
    [
        (FeatureTap('pyramid'), 'found a dict of 2; index must say which'),
        (FeatureTap('pyramid', index='middle'), r"nothing at index 'middle'.*fine.*coarse"),
        (FeatureTap('body', grid=(5, 5)), r'found a grid of \(4, 4\), the tap says \(5, 5\)'),
        (FeatureTap('head', layout='tokens', grid=(5, 5)), r'tokens of a 5x5 grid'),
        (FeatureTap('unused'), 'never called'),
    ],
)
def test_what_was_read_is_not_what_the_tap_says(tap, message):
    with pytest.raises(ConfigError, match=message):
        read(tap, torch.randn(1, 3, 4, 4))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(source='middle'),
        dict(layout='sideways'),
        dict(layout='tokens'),
        dict(extent=(1, 0, 0, 1)),
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(ConfigError, match='tap body'):
        FeatureTap('body', **arguments)
