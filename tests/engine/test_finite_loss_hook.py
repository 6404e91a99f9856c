import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy_training
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from ciba_bev.engine import FiniteLossHook
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
    with pytest.raises(CibaError, match='loss holds NaN or infinity, for samples unknown'):
        runner.train()
    [kept] = Path(runner.work_dir).glob('*.pth')
    state = torch.load(kept, weights_only=False)['state_dict']
    assert kept.name == f'epoch_{runner.epoch}.pth'
    assert all(value.isfinite().all() for value in state.values())


def test_a_gradient_that_is_not_finite_ends_its_own_step(make_runner):
    runner = make_runner(**named(bad_step=3), **{'optim_wrapper.clip_grad': dict(max_norm=1.0)})
    with pytest.raises(CibaError, match=r'epoch 1, step 3: the gradient holds NaN .* frame-\d'):
        runner.train()


def test_weights_that_are_not_finite_are_not_saved(make_runner):
    """Without clipping nobody looks at gradients, and no loss follows the last step."""
    options = {
        'default_hooks.checkpoint.max_keep_ckpts': 1,
        'train_dataloader.batch_size': 4,
    }
    runner = make_runner(**named(bad_step=4), **options)
    with pytest.raises(CibaError, match=r'epoch_2\.pth is not written: 1 of 4 .*output\.weight'):
        runner.train()
    assert checkpoints(runner) == ['epoch_1.pth']
    state = torch.load(Path(runner.work_dir, 'epoch_1.pth'), weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize('kind', [OptimWrapper, AmpOptimWrapper])
def test_with_a_scaled_loss_an_infinite_gradient_is_normal(kind):
    # Built without its scaler, which needs a GPU.
    wrapper = object.__new__(kind)
    wrapper.clip_grad_kwargs = {'max_norm': 1.0}
    wrapper.grad_name = 'grad_norm'
    wrapper._inner_count = wrapper._accumulative_counts = wrapper._max_counts = 1
    hub = MessageHub('a step with an infinite gradient')
    hub.update_scalar('train/grad_norm', math.inf)
    runner = SimpleNamespace(optim_wrapper=wrapper, message_hub=hub, epoch=0)
    hook = FiniteLossHook()
    for loss in (1.0, math.inf):
        hook.before_train_iter(runner, 0)
        if kind is AmpOptimWrapper and loss == 1:
            hook.after_train_iter(runner, 0, {}, {'loss': torch.tensor(loss)})
        else:
            with pytest.raises(CibaError, match='gradient' if loss == 1 else 'loss'):
                hook.after_train_iter(runner, 0, {}, {'loss': torch.tensor(loss)})
