import json

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from ciba_bev.analysis import FeatureCovariance, SpectrumHook
from ciba_bev.errors import CibaError, ConfigError
from ciba_bev.registry import HOOKS, MODELS

SAMPLES, CHANNELS = 12, 6


class Vectors(Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return {'inputs': torch.sin(torch.arange(3.0) * (index + 1))}


@MODELS.register_module()
class VectorNetwork(BaseModel):
    def __init__(self, bad=False):
        super().__init__()
        torch.manual_seed(0)
        self.bad = bad
        self.hidden = nn.Linear(3, CHANNELS)
        self.output = nn.Linear(CHANNELS, 1)

    def forward(self, inputs, mode):
        return {'loss': self.output(self.hidden(inputs) / (0 if self.bad else 1)).square().mean()}


@HOOKS.register_module()
class KeepFeatures(Hook):
    """Computes what the network's hidden layer gives, before each step changes it."""

    def before_train(self, runner):
        self.features = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = getattr(runner.model, 'module', runner.model)
        self.features.append(model.hidden(data_batch['inputs']).detach())


def train(folder, spectrum_hook=None, launcher='none', epochs=2, bad=False, name='run'):
    custom_hooks = [dict(type='ciba_bev.KeepFeatures')]
    if spectrum_hook is not None:
        custom_hooks.append(dict(type='ciba_bev.SpectrumHook', **spectrum_hook))
    runner = Runner(
        model=dict(type='ciba_bev.VectorNetwork', bad=bad),
        work_dir=str(folder),
        experiment_name=name,
        train_dataloader=dict(
            batch_size=4 if launcher == 'none' else 2,
            num_workers=0,
            dataset=Vectors(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=100)),
        custom_hooks=custom_hooks,
        launcher=launcher,
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name=name),
        cfg=Config(dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None))),
        log_level='WARNING',
    )
    runner.train()
    return runner


def logged(folder):
    """The lines of scalars that the local backend wrote, by name of the feature."""
    (file,) = folder.rglob('scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if any(key.startswith('spectrum/') for key in line)]


def expected_of(batches):
    covariance = FeatureCovariance()
    for batch in batches:
        covariance.update(batch)
    return covariance


def features_of(runner):
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, KeepFeatures))
    return hook.features


def test_each_epoch_is_logged(tmp_path):
    tap = dict(module='hidden')
    runner = train(tmp_path, dict(tap=tap, bottleneck_size=2), name='epochs')
    features, lines = features_of(runner), logged(tmp_path)
    assert [line['step'] for line in lines] == [3, 6]
    for line, batches in zip(lines, (features[:3], features[3:])):
        expected = expected_of(batches)
        energy = expected.channel_energy(2)
        assert line['spectrum/hidden/effective_rank'] == pytest.approx(expected.effective_rank())
        assert line['spectrum/hidden/variance_in_first_channels'] == pytest.approx(energy.variance)
        assert line['spectrum/hidden/second_moment_in_first_channels'] == pytest.approx(
            energy.second_moment
        )
    np.testing.assert_allclose(
        runner.message_hub.get_info('spectrum/hidden/singular_values'),
        expected_of(features[3:]).singular_values(),
    )
    history = runner.message_hub.get_scalar('spectrum/hidden/effective_rank')
    assert history.current() == pytest.approx(lines[-1]['spectrum/hidden/effective_rank'])
    assert {path.name for path in tmp_path.rglob('*.png')} == {
        'spectrum_hidden_3.png',
        'spectrum_hidden_6.png',
    }


def test_an_interval_counts_iterations_and_the_rest_is_logged_at_the_end(tmp_path):
    # The input of the last layer is the output of the one before.
    tap = dict(module='output', source='input')
    runner = train(tmp_path, dict(tap=tap, interval=4), name='interval')
    features, lines = features_of(runner), logged(tmp_path)
    assert [line['step'] for line in lines] == [4, 6]
    for line, batches in zip(lines, (features[:4], features[4:])):
        assert line['spectrum/output/effective_rank'] == pytest.approx(
            expected_of(batches).effective_rank()
        )
        assert set(line) == {'spectrum/output/effective_rank', 'step'}


def test_training_is_not_changed(tmp_path):
    watched = train(tmp_path / 'a', dict(tap=dict(module='hidden')), name='watched').model
    plain = train(tmp_path / 'b', name='plain').model
    for name, value in watched.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])
    assert not watched.hidden._forward_hooks


def train_as_one_of_two(rank, folder):
    """What each of the two processes does in the test below."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    hook = dict(tap=dict(module='hidden'), bottleneck_size=2)
    train(f'{folder}/two', hook, launcher='pytorch', name='two')
    torch.distributed.destroy_process_group()


def test_two_processes_log_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    torch.multiprocessing.start_processes(
        train_as_one_of_two, args=(str(tmp_path),), nprocs=2, start_method='fork'
    )
    train(tmp_path / 'one', dict(tap=dict(module='hidden'), bottleneck_size=2), name='one')
    for two, one in zip(logged(tmp_path / 'two'), logged(tmp_path / 'one')):
        assert two == pytest.approx(one, rel=1e-4)


def test_mistakes_are_told(tmp_path):
    with pytest.raises(ConfigError, match='interval is 0'):
        SpectrumHook(tap=dict(module='hidden'), interval=0)
    with pytest.raises(ConfigError, match=r"no submodule 'hiden' to tap.*hidden"):
        train(tmp_path, dict(tap=dict(module='hiden')), name='name')
    with pytest.raises(ConfigError, match=r'bottleneck_size is 7, but .* has 6 channels'):
        train(tmp_path, dict(tap=dict(module='hidden'), bottleneck_size=7), name='size')
    with pytest.raises(CibaError, match=r'iteration 1, feature output.*NaN or infinite'):
        train(tmp_path, dict(tap=dict(module='output')), bad=True, name='bad')
