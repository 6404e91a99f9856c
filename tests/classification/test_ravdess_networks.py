"""The RAVDESS networks have the paper's sizes, and their feature can be tapped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ciba_bev.classification import (
    Classifier,
    RavdessAudioNetwork,
    RavdessFusionNetwork,
    RavdessImageNetwork,
)
from ciba_bev.distillation import FeatureTap

TINY = dict(channels=(2, 3, 4), feature_size=5, hidden_size=6)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def of_full_size(network):
    """A network of the paper's sizes, without memory for its weights."""
    with torch.device('meta'):
        return network()


def test_image_network_has_the_papers_parameters():
    assert parameters(of_full_size(RavdessImageNetwork)) == 13_071_560


def test_audio_network_differs_by_its_kernels_and_channel():
    image = 3 * 9 * 32 + 9 * 32 * 64 + 9 * 64 * 128
    audio = 49 * 32 + 25 * 32 * 64 + 25 * 64 * 128
    assert parameters(of_full_size(RavdessAudioNetwork)) == 13_071_560 - image + audio


def test_fusion_network_has_both_convolutions_and_one_set_of_linear_layers():
    network = of_full_size(RavdessFusionNetwork)
    convolutions = sum(
        parameters(of_full_size(other).convolutions)
        for other in (RavdessImageNetwork, RavdessAudioNetwork)
    )
    linear = [(2 * 12_544, 1024), (1024, 128), (128, 8)]
    assert parameters(network) == convolutions + sum((a + 1) * b for a, b in linear)


@pytest.mark.parametrize('size', [(40, 173), (64, 64)])
def test_audio_network_takes_any_size(size):
    assert RavdessAudioNetwork(**TINY)(audio=torch.randn(2, 1, *size)).shape == (2, 8)


@pytest.mark.parametrize(
    ('network', 'inputs'),
    [
        ('RavdessImageNetwork', ['image']),
        ('RavdessAudioNetwork', ['audio']),
        ('RavdessFusionNetwork', ['image', 'audio']),
    ],
)
def test_feature_is_the_first_linear_layer_before_its_activation(network, inputs):
    torch.manual_seed(0)
    model = Classifier(dict(type=f'ciba_bev.{network}', **TINY), inputs)
    batch = {'image': torch.randn(3, 3, 28, 56), 'audio': torch.randn(3, 1, 40, 44)}
    with FeatureTap(module='network.feature').attach(model) as reader:
        logits = model(batch)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert linear[0] is model.network.feature
    assert reader.feature.shape == (3, 5)
    assert (reader.feature < 0).any()
    by_hand = linear[2](torch.relu(linear[1](torch.relu(reader.feature))))
    torch.testing.assert_close(logits, by_hand)
