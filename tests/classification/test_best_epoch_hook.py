"""What is kept and scored is the best epoch, of a network and of each size of bottleneck."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from ciba_bev.classification import BestBottleneckHook
from ciba_bev.distillation import BottleneckTraining
from ciba_bev.engine import CheckedRunner
from ciba_bev.errors import CibaError

PROJECT = Path(__file__).resolve().parents[2]
NAN = float('nan')


class EpochNumber(BaseModel):
    """One number, which every step of the rate 1 makes larger by 1."""

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))

    def forward(self, inputs, mode):
        return {'loss': -self.number} if mode == 'loss' else [int(self.number.detach())]


class Scores(BaseMetric):
    """Scores that depend on the epoch that the weights are from."""

    default_prefix = 'accuracy'

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        (epoch,) = results
        return {'top1': self.scores[epoch - 1]}


def make_network_runner(folder, name, **options):
    """A training of three epochs of one step, of which the second is the best in validation."""
    loader = dict(
        dataset=[torch.zeros(1)],
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=lambda samples: dict(inputs=samples),
        num_workers=0,
    )
    return CheckedRunner(
        model=EpochNumber(),
        work_dir=str(folder),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=3),
        val_cfg=dict(),
        test_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
        val_evaluator=[Scores([50, 70, 60])],
        test_evaluator=[Scores([10, 20, 30])],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy/top1')
        ),
        custom_hooks=[dict(type='ciba_bev.BestEpochHook')],
        experiment_name=f'{folder.name}_{name}',
        **options,
    )


@pytest.mark.parametrize('stopped', [None, 1, 2])
def test_the_best_epoch_is_kept_and_scored(tmp_path, stopped):
    """Also if the training was stopped after an epoch and resumed."""
    runner = make_network_runner(tmp_path, 'whole')
    runner.train()
    # Nothing is left of the last epoch, but for its checkpoint.
    assert runner.model.number == 2
    if stopped:
        (tmp_path / 'best.pth').unlink()
        (tmp_path / 'metrics.json').unlink()
        checkpoint = str(tmp_path / f'epoch_{stopped}.pth')
        make_network_runner(tmp_path, 'rest', load_from=checkpoint, resume=True).train()
    best = torch.load(tmp_path / 'best.pth', weights_only=False)
    assert best['state_dict'] == {'number': 2}
    assert json.loads((tmp_path / 'metrics.json').read_text()) == {
        'checkpoint': 'best_accuracy_top1_epoch_2.pth',
        'validation': {'accuracy/top1': 70},
        'test': {'accuracy/top1': 20},
    }


class Trained(BottleneckTraining):
    """Two bottlenecks of one number, which says from which epoch it is."""

    def __init__(self):
        nn.Module.__init__(self)
        self.bottlenecks = nn.ModuleDict({name: nn.Linear(1, 1, False) for name in ('h2', 'h64')})

    def set(self, value):
        for bottleneck in self.bottlenecks.values():
            bottleneck.weight.data.fill_(value)

    def values(self):
        return {name: part.weight.item() for name, part in self.bottlenecks.items()}


@pytest.fixture
def runner(tmp_path):
    runner = SimpleNamespace(model=Trained(), work_dir=str(tmp_path), epoch=0)
    loop = SimpleNamespace(run=lambda: {'sum': sum(runner.model.values().values())})
    runner.val_loop = runner.test_loop = loop

    def save(folder, name, **options):
        assert options == dict(save_optimizer=False, save_param_scheduler=False)
        torch.save(runner.model.values(), Path(folder, name))

    runner.save_checkpoint = save
    return runner


def train(runner, hook, losses):
    """Epochs whose validation gives these losses of both sizes."""
    hook.before_train(runner)
    for small, large in losses:
        runner.epoch += 1
        runner.model.set(runner.epoch)
        metrics = {'bottleneck/h2/generation': small, 'bottleneck/h64/generation': large}
        hook.after_val_epoch(runner, metrics)


LOSSES = [(3.0, NAN), (1.0, 5.0), (NAN, 4.0), (2.0, 2.0), (1.5, 3.0)]
BEST = {'h2': 2.0, 'h64': 4.0}


def test_each_size_has_its_own_best_epoch(runner, tmp_path):
    hook = BestBottleneckHook()
    train(runner, hook, LOSSES)
    assert runner.model.values() == {'h2': 5.0, 'h64': 5.0}
    hook.after_train(runner)
    assert torch.load(tmp_path / 'best.pth') == BEST
    scores = json.loads((tmp_path / 'metrics.json').read_text())
    assert scores == {'epochs': BEST, 'validation': {'sum': 6.0}, 'test': {'sum': 6.0}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['best.pth', 'metrics.json']


@pytest.mark.parametrize('stopped', [1, 2, 3, 4])
def test_resumed_equals_uninterrupted(runner, tmp_path, stopped):
    """Also if it was stopped an epoch after the checkpoint that it goes on from."""
    train(runner, BestBottleneckHook(), LOSSES[: stopped + 1])
    runner.epoch = stopped
    hook = BestBottleneckHook()
    train(runner, hook, LOSSES[stopped:])
    hook.after_train(runner)
    assert torch.load(tmp_path / 'best.pth') == BEST


def test_a_new_training_forgets_the_one_before(runner, tmp_path):
    train(runner, BestBottleneckHook(), [(0.1, 0.1)] * 3)
    runner.epoch = 0
    hook = BestBottleneckHook()
    train(runner, hook, LOSSES)
    hook.after_train(runner)
    assert torch.load(tmp_path / 'best.pth') == BEST


def test_what_cannot_be_the_best(runner, tmp_path):
    hook = BestBottleneckHook()
    train(runner, hook, [(1.0, NAN), (1.0, NAN)])
    with pytest.raises(CibaError, match='no epoch is the best for h64'):
        hook.after_train(runner)
    (tmp_path / 'best_so_far.pth').write_bytes(b'')
    with pytest.raises(CibaError, match=r'best_so_far\.pth cannot be read'):
        hook.before_train(runner)
    runner.model = nn.Linear(1, 1)
    with pytest.raises(CibaError, match='is for bottleneck training'):
        hook.before_train(runner)


def test_all_classification_bottlenecks_are_kept_so():
    paths = [
        path
        for name in ('mm_imdb', 'ravdess', 'vgg_sound')
        for path in (PROJECT / 'configs').glob(f'{name}_bottleneck_*.py')
    ]
    assert len(paths) == 13
    for path in paths:
        config = Config.fromfile(path, import_custom_modules=False)
        hooks = [hook.type for hook in config.default_hooks.values()]
        assert 'ciba_bev.BestBottleneckHook' in hooks
        assert 'ciba_bev.BestEpochHook' not in hooks
        # No size is preferred.
        assert config.default_hooks.checkpoint.save_best is None
