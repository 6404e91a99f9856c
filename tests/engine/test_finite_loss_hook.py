import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy_training
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ciba_bev.engine.finite_loss_hook import FiniteLossHook
from ciba_bev.errors import CibaError
from ciba_bev.finiteness import postponed_checks, require_finite
from ciba_bev.registry import DATASETS, MODELS


@DATASETS.register_module()
class NamedToyDataset(toy_training.ToyDataset):
    def __init__(self, bad: int = -1) -> None:
        self.bad = bad

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        if index == self.bad:
            item['inputs'][1] = math.inf
        return {**item, 'names': f'frame-{index}'}


@MODELS.register_module()
class NamedToyModel(toy_training.ToyModel):
    """Checks a feature of its own; from a given step on its gradient is NaN, its loss is not."""

    def __init__(self, width: int, bad_step: int = -1) -> None:
        super().__init__(width)
        self.bad_step = bad_step
        self.step = 0

    def forward(self, inputs, target, names, mode):
        if mode == 'loss':
            feature = self.hidden(inputs)
            require_finite(feature, 'the feature', {'names': names})
        losses = super().forward(inputs, target, mode)
        self.step += 1
        if self.step == self.bad_step:
            # Zero, with the derivative 0 * inf.
            losses['loss_root'] = (0 * self.output.weight).sum().abs().sqrt()
        return losses


@MODELS.register_module()
class UnboundedToyModel(toy_training.ToyModel):
    """Linear in what it learns: with too high a rate its error grows by a factor each step."""

    def forward(self, inputs, target, mode):
        feature = torch.tanh(self.hidden(inputs)).detach()
        return {'loss': (self.output(feature) - target).square().mean()}


def named(**model):
    return {'model.type': 'NamedToyModel', 'train_dataloader.dataset.type': 'NamedToyDataset'} | {
        f'model.{key}': value for key, value in model.items()
    }


def test_losses_are_looked_at_together():
    """Each would cost a GPU four kernels; a detector has a dozen."""

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.append(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    hook, runner = FiniteLossHook(), SimpleNamespace(model=nn.Linear(2, 2), epoch=0)
    counts = []
    for number in (1, 11):
        called = []
        outputs = {f'loss_{index}': torch.rand(()) for index in range(number)}
        hook.before_train_iter(runner, 0)
        with Operators():
            hook.after_train_iter(runner, 0, {}, {**outputs, 'loss': torch.rand(())})
        counts.append(sum(name not in ('detach', 'unbind', 'alias') for name in called))
    assert counts[1] - counts[0] == 10


def checkpoints(runner):
    return sorted(path.name for path in Path(runner.work_dir).rglob('*.pth*'))


def test_a_frame_that_is_not_finite_is_named(make_runner):
    runner = make_runner(**named(), **{'train_dataloader.dataset.bad': 5})
    with pytest.raises(CibaError) as caught:
        runner.train()
    assert 'epoch 1, step ' in str(caught.value)
    assert 'the feature holds NaN or infinity, for samples ' in str(caught.value)
    samples = str(caught.value).split('for samples ')[1].split('.')[0].split(', ')
    assert 'frame-5' in samples
    assert len(samples) == 2
    assert checkpoints(runner) == []
    assert postponed_checks() == []
    with pytest.raises(CibaError):
        require_finite(torch.tensor(math.nan), 'what is looked at after it', {})


def test_a_training_that_diverges_keeps_its_good_checkpoints(make_runner):
    options = {
        'train_cfg.max_epochs': 9,
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'optim_wrapper.optimizer.lr': 10.0,
        'model.type': 'UnboundedToyModel',
    }
    runner = make_runner(**options)
    with pytest.raises(CibaError, match='holds NaN or infinity, for samples unknown'):
        runner.train()
    [kept] = Path(runner.work_dir).glob('*.pth')
    state = torch.load(kept, weights_only=False)['state_dict']
    assert kept.name == f'epoch_{runner.epoch}.pth'
    assert all(value.isfinite().all() for value in state.values())


def test_a_gradient_that_is_not_finite_ends_its_own_step(make_runner):
    runner = make_runner(**named(bad_step=3))
    with pytest.raises(CibaError) as caught:
        runner.train()
    message = str(caught.value)
    assert message.startswith('epoch 1, step 3: the model after this step holds NaN or infinity')
    assert message.count('frame-') == 2


def test_weights_that_are_not_finite_are_not_saved(make_runner, monkeypatch):
    """Whatever has changed them since the last look."""
    runner = make_runner(**{'default_hooks.checkpoint.max_keep_ckpts': 1})
    write = runner.save_checkpoint

    def spoil(*args, **kwargs):
        if runner.epoch == 1:
            runner.model.output.weight.data[0, 1] = math.nan
        write(*args, **kwargs)

    monkeypatch.setattr(runner, 'save_checkpoint', spoil)
    with pytest.raises(CibaError, match=r'epoch_2\.pth is not written: 1 of 4 .*output\.weight'):
        runner.train()
    assert checkpoints(runner) == ['epoch_1.pth']
    state = torch.load(Path(runner.work_dir, 'epoch_1.pth'), weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='a scaled loss needs a GPU')
def test_a_step_that_its_scaler_leaves_out_is_no_fault(make_runner):
    runner = make_runner(**named(bad_step=3), **{'optim_wrapper.type': 'AmpOptimWrapper'})
    runner.train()
    assert runner.epoch == 2
