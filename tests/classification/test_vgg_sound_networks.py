"""The VGG-Sound networks are ResNets of the published sizes, and their feature can be tapped."""

from __future__ import annotations

import pytest
import torch

from ciba_bev.classification import Classifier, VGGSoundNetwork
from ciba_bev.distillation import FeatureTap
from ciba_bev.errors import CibaError

# Published for 1000 classes and three channels, and the widths of their features.
PUBLISHED = {18: (11_689_512, 512), 34: (21_797_672, 512), 50: (25_557_032, 2048)}
SMALL = dict(type='ciba_bev.VGGSoundNetwork', classes=5)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('depth', list(PUBLISHED))
def test_published_parameters(depth):
    with torch.device('meta'):
        network = VGGSoundNetwork('video', depth, classes=1000)
    assert parameters(network) == PUBLISHED[depth][0]


@pytest.mark.parametrize('depth', [18, 50])
def test_parameters_for_a_hundred_classes_and_one_channel(depth):
    published, width = PUBLISHED[depth]
    with torch.device('meta'):
        video, audio = (VGGSoundNetwork(name, depth) for name in ('video', 'audio'))
    assert parameters(video) == published - 900 * (width + 1)
    # The first convolution has 64 filters of 7 x 7.
    assert parameters(audio) == parameters(video) - 2 * 64 * 49
    assert audio.backbone.conv1.in_channels == 1


@pytest.mark.parametrize(('depth', 'size'), [(18, 16), (50, 64)])
def test_feature_is_the_average_of_the_last_maps(depth, size):
    torch.manual_seed(0)
    network = dict(SMALL, modality='audio', depth=depth, feature_size=size)
    model = Classifier(network, ['audio']).eval()
    batch = {'audio': torch.rand(2, 1, 70, 40), 'video': torch.rand(2, 3, 32, 32)}
    with FeatureTap(module='network.feature').attach(model) as reader:
        logits = model(batch)
    (maps,) = model.network.backbone(batch['audio'])
    assert maps.shape[1:] == (size, 3, 2)
    torch.testing.assert_close(reader.feature, maps.mean((2, 3)))
    torch.testing.assert_close(logits, model.network.classifier(reader.feature))


def test_narrowed_feature_has_means_of_neighbouring_channels():
    torch.manual_seed(0)
    model = Classifier(
        dict(SMALL, modality='video', depth=50, feature_size=64, narrowed_size=16), ['video']
    ).eval()
    batch = {'video': torch.rand(2, 3, 64, 64)}
    with FeatureTap(module='network.feature').attach(model) as feature:
        model(batch)
    with FeatureTap(module='network.narrowed').attach(model, stop=True) as narrowed:
        model(batch)
    by_hand = [feature.feature[:, 4 * place : 4 * place + 4].mean(1) for place in range(16)]
    torch.testing.assert_close(narrowed.feature, torch.stack(by_hand, 1))
    plain = VGGSoundNetwork('video', 50, feature_size=64, classes=5)
    assert parameters(plain) == parameters(model.network)


@pytest.mark.parametrize('depth', [18, 50])
def test_convolutions_start_as_he_et_al_say(depth):
    """Standard deviation (2 / fan out)^0.5 (He et al. 2015), also within a classifier."""
    torch.manual_seed(0)
    model = Classifier(dict(SMALL, modality='video', depth=depth), ['video'])
    model.init_weights()
    for name, module in model.network.backbone.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            expected = (2 / fan_out) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1), name
    if depth == 18:
        assert model.network.backbone.layer2[0].conv1.weight.std().item() == pytest.approx(
            0.0417, rel=0.02
        )


def test_batch_statistics_are_learned():
    network = VGGSoundNetwork('audio', feature_size=16).train()
    before = network.backbone.bn1.running_mean.clone()
    network(audio=torch.rand(2, 1, 64, 64))
    assert not torch.equal(network.backbone.bn1.running_mean, before)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(modality='image'), "modality is 'image'"),
        (dict(modality='audio', depth=20), 'depth is 20'),
        (dict(modality='audio', feature_size=12), 'must be a multiple of 8'),
        (dict(modality='audio', depth=50, feature_size=24), 'must be a multiple of 32'),
        (dict(modality='audio', feature_size=16, narrowed_size=6), 'cannot be averaged to 6'),
    ],
)
def test_impossible_networks(arguments, message):
    with pytest.raises(CibaError, match=message):
        VGGSoundNetwork(**arguments)
