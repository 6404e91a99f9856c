"""MM-IMDB: networks, reader, synthetic data, and the whole chain on it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mmengine.config import Config
from tool_processes import run_tool

from ciba_bev.classification.mm_imdb import MMIMDBDataset, MMIMDBFusionNetwork, MMIMDBNetwork
from ciba_bev.classification.mm_imdb.networks import Maxout
from ciba_bev.classification.mm_imdb.synthetic_data import count_rows, write_synthetic_data
from ciba_bev.errors import CibaError
from ciba_bev.registry import MODELS

PROJECT = Path(__file__).resolve().parents[2]
ROWS = 120


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """A synthetic data set of few rows."""
    return str(write_synthetic_data(tmp_path_factory.mktemp('mm_imdb'), rows=ROWS))


def test_maxout_as_it_is_defined():
    layer = Maxout(3, 4, pool_size=2)
    x = torch.randn(5, 3)
    weight, bias = layer.linear.weight, layer.linear.bias
    for sample in range(5):
        for unit in range(4):
            pieces = [weight[2 * unit + k] @ x[sample] + bias[2 * unit + k] for k in range(2)]
            assert layer(x)[sample, unit].item() == pytest.approx(max(pieces).item(), rel=1e-5)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('channels_in', [300, 4096])
def test_the_encoder_is_the_public_maxout_network(channels_in):
    """BN on the input, then twice (Maxout, BN, Dropout 0.3), written out; 64 wide."""
    torch.manual_seed(0)
    network = MMIMDBNetwork('text', channels_in).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                for value in (module.running_mean, module.running_var, module.weight, module.bias):
                    value.uniform_(0.5, 1.5)
    # A maxout layer's pieces of one output are next to each other.
    input_norm, first, norm, dropout, second, last_norm = network.feature.layers

    def maxout(layer, x):
        return (x @ layer.linear.weight.T + layer.linear.bias).view(len(x), 64, 2).max(2).values

    def normalise(layer, x, eps):
        scale = layer.weight / (layer.running_var + eps).sqrt()
        return (x - layer.running_mean) * scale + layer.bias

    x = torch.randn(5, channels_in)
    hidden = normalise(norm, maxout(first, normalise(input_norm, x, 1e-4)), 1e-5)
    feature = normalise(last_norm, maxout(second, hidden), 1e-5)
    torch.testing.assert_close(network.feature(x), feature)
    head = network.head
    logits = torch.relu(feature @ head[0].weight.T + head[0].bias) @ head[2].weight.T + head[2].bias
    torch.testing.assert_close(network(text=x), logits)
    assert dropout.p == network.dropout.p == 0.3
    linear = (channels_in + 1) * 128 + 65 * 128 + 65 * 64 + 65 * 23
    assert parameters(network) == linear + 2 * (channels_in + 64 + 64)


@pytest.mark.parametrize('network', [MMIMDBNetwork('image', 4096), MMIMDBFusionNetwork()])
def test_dropout_leaves_input_and_feature_alone(network):
    """All that is dropped is half way through an encoder and behind it."""
    network.train()
    sizes, dropped = [], []
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[1]))
    network.feature.register_forward_hook(lambda *call: dropped.append((call[2] == 0).any()))
    network(image=torch.randn(64, 4096), text=torch.randn(64, 300))
    assert sizes == ([64, 64] if isinstance(network, MMIMDBNetwork) else [64, 64, 128])
    assert dropped == [False]


def test_a_feature_of_one_modality_is_normalised():
    network = MMIMDBNetwork('text', 300).train()
    feature = network.feature(3 + 5 * torch.randn(256, 300))
    torch.testing.assert_close(feature.mean(0), torch.zeros(64), rtol=0, atol=1e-5)
    torch.testing.assert_close(feature.std(0, unbiased=False), torch.ones(64), rtol=1e-2, atol=0)


@pytest.mark.parametrize('teacher', ['image', 'fusion'])
def test_every_size_attends(teacher):
    """With other queries and keys each code is another one: there is more than one token."""
    path = PROJECT / 'configs' / f'mm_imdb_bottleneck_self_attention_{teacher}_to_text.py'
    model = Config.fromfile(path, import_custom_modules=False).model
    assert model.bottleneck_sizes == [2, 4, 8, 16, 32, 64]
    for size in model.bottleneck_sizes:
        torch.manual_seed(0)
        bottleneck = MODELS.build(dict(model.bottleneck, bottleneck_size=size))
        feature = torch.randn(8, 64)
        before = bottleneck.encode(feature)
        with torch.no_grad():
            rows = bottleneck.attention.query_key_value.weight
            rows[: 2 * len(rows) // 3].normal_(0, 3)
        assert (bottleneck.encode(feature) - before).abs().max() > 1e-3, size


def test_networks_have_a_feature_of_64():
    image, text = torch.randn(4, 4096), torch.randn(4, 300)
    found = []
    for network, inputs in (
        (MMIMDBNetwork('image', 4096), {'image': image}),
        (MMIMDBNetwork('text', 300), {'text': text}),
        (MMIMDBFusionNetwork(), {'image': image, 'text': text}),
    ):
        network.feature.register_forward_hook(lambda *call: found.append(call[2].shape))
        assert network(**inputs).shape == (4, 23)
    assert found == [(4, 64)] * 3


def test_rows_are_those_of_the_file(file):
    with h5py.File(file) as content:
        first, last = content.attrs['val']
        text = content['features'][first:last]
        genres = content['genres'][first:last]
    data = MMIMDBDataset(file, 'val', inputs=['text'])
    assert list(data.inputs) == ['text']
    batch = data.__getitems__([3, 0])
    np.testing.assert_allclose(batch['inputs']['text'], text[[3, 0]])
    np.testing.assert_array_equal(batch['labels'], genres[[3, 0]])
    assert batch['names'] == [f'row {first + 3}', f'row {first}']
    torch.testing.assert_close(data[3]['inputs']['text'], batch['inputs']['text'][0])


def test_splits_are_the_published_ones(tmp_path):
    """Without attributes, the row numbers of the real file count; this one ends before them."""
    path = tmp_path / 'multimodal_imdb.hdf5'
    with h5py.File(path, 'w') as content:
        content['features'] = np.zeros((18160, 2), np.float32)
        content['genres'] = np.zeros((18160, 3), np.int32)
    assert len(MMIMDBDataset(str(path), 'train', ['text'])) == 15552
    assert len(MMIMDBDataset(str(path), 'val', ['text'])) == 2608
    with pytest.raises(CibaError, match=r'genres has shape \(18160, 3\).*rows 18160 to 25958'):
        MMIMDBDataset(str(path), 'test', ['text'])


def test_the_synthetic_data_has_the_training_rows_asked_for(tmp_path):
    assert count_rows(15552) == 25959
    for training in (40, 101):
        path = write_synthetic_data(tmp_path, rows=count_rows(training))
        assert len(MMIMDBDataset(str(path), 'train', ['text'])) == training


def test_errors_name_file_key_and_row(file, tmp_path):
    def damaged(change):
        path = tmp_path / 'damaged.hdf5'
        path.write_bytes(Path(file).read_bytes())
        with h5py.File(path, 'a') as content:
            change(content)
        return str(path)

    def set_value(key, row, value):
        def change(content):
            content[key][row, 1] = value

        return damaged(change)

    with pytest.raises(CibaError, match=r'damaged\.hdf5: features, row 7: .*NaN'):
        MMIMDBDataset(set_value('features', 7, np.nan))
    with pytest.raises(CibaError, match=r'genres, row 5: labels must be 0 or 1'):
        MMIMDBDataset(set_value('genres', 5, 2))
    with pytest.raises(CibaError, match=r'has no vgg_features; it has features, genres'):
        MMIMDBDataset(damaged(lambda content: content.pop('vgg_features')))
    with pytest.raises(CibaError, match='no such file'):
        MMIMDBDataset(str(tmp_path / 'missing.hdf5'))
    (tmp_path / 'text.hdf5').write_text('not HDF5')
    with pytest.raises(CibaError, match='not a readable HDF5'):
        MMIMDBDataset(str(tmp_path / 'text.hdf5'))
    with pytest.raises(CibaError, match="'sound'"):
        MMIMDBDataset(file, inputs=['sound'])


@pytest.mark.parametrize('shared', [0.0, 1.0])
def test_the_synthetic_data_shares_what_it_is_told_to(tmp_path, shared):
    """Of the image's variance the text predicts nothing, or all but the noise."""
    with h5py.File(write_synthetic_data(tmp_path, shared=shared, rows=3000)) as content:
        text, image = content['features'][:], content['vgg_features'][:, :40]
    train, test = slice(0, 2000), slice(2000, None)
    weight = np.linalg.lstsq(text[train], image[train], rcond=None)[0]
    error = ((text[test] @ weight - image[test]) ** 2).mean()
    explained = 1 - error / image[test].var()
    assert explained == pytest.approx(0.7 if shared else 0.0, abs=0.2)


def test_the_synthetic_data_is_reproducible_and_long_tailed(file, tmp_path):
    with h5py.File(file) as one, h5py.File(write_synthetic_data(tmp_path, rows=ROWS)) as other:
        for key in ('features', 'vgg_features', 'genres'):
            np.testing.assert_array_equal(one[key][:], other[key][:])
        shares = one['genres'][:].mean(0)
    assert shares[0] > 0.4
    assert shares[-1] < 0.05


@pytest.mark.parametrize('teacher', ['image', 'fusion'])
@pytest.mark.parametrize('bottleneck', ['dvib', 'self_attention', 'vq_vae'])
def test_configs_name_each_other(teacher, bottleneck):
    def read(name):
        path = PROJECT / 'configs' / f'{name}.py'
        return Config.fromfile(path, import_custom_modules=False)

    ciba = read(f'mm_imdb_ciba_{bottleneck}_{teacher}_to_text').model
    assert ciba.bottleneck.size == {'image': 16, 'fusion': 32}[teacher]
    assert ciba.student == read('mm_imdb_text').model
    made_by = read(Path(ciba.bottleneck.config).stem)
    assert ciba.bottleneck.size in made_by.model.bottleneck_sizes
    assert made_by.model.teacher == ciba.teacher
    assert ciba.teacher.inputs == list(read(f'mm_imdb_{teacher}').model.inputs)
    assert Path(made_by.val_evaluator.out_file).parent.name == Path(ciba.bottleneck.config).stem


@pytest.mark.slow
def test_from_the_teacher_to_the_student(file, tmp_path):
    """Teacher, student, bottleneck and CIBA, each from the checkpoints before it."""
    (tmp_path / 'configs').symlink_to(PROJECT / 'configs')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'mm_imdb').symlink_to(Path(file).parent)
    for name in (
        'mm_imdb_image',
        'mm_imdb_text',
        'mm_imdb_bottleneck_dvib_image_to_text',
        'mm_imdb_ciba_dvib_image_to_text',
    ):
        options = ['train_cfg.max_epochs=2', 'train_cfg.val_interval=1']
        ended = run_tool(tmp_path, 'train.py', f'configs/{name}.py', '--cfg-options', *options)
        assert ended.returncode == 0, ended.stdout
    folder = tmp_path / 'work_dirs' / 'mm_imdb_ciba_dvib_image_to_text'
    scores = json.loads((folder / 'metrics.json').read_text())
    assert set(scores['test']) == {'f1/micro', 'f1/macro'}
    # The student comes out plain.
    plain = MMIMDBNetwork('text', 300).state_dict()
    weights = torch.load(folder / 'best.pth', weights_only=False)['state_dict']
    assert set(weights) == {f'network.{name}' for name in plain}
