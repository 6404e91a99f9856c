from itertools import chain
from pathlib import Path

import pytest
import torch
import toy_training

from ciba_bev.engine.epoch_loop import ResumableEpochLoop
from ciba_bev.registry import DATASETS, MODELS

BY_ITERATION = {
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'model.type': 'OrderedToyModel',
    'train_dataloader.dataset.type': 'NumberedToyDataset',
    'default_hooks.sampler_seed': dict(type='DistSamplerSeedHook'),
    'train_cfg.max_epochs': 3,
}
loaded: list = []


@DATASETS.register_module()
class NumberedToyDataset(toy_training.ToyDataset):
    def __getitem__(self, index: int) -> dict:
        loaded.append(index)
        return {**super().__getitem__(index), 'names': index}


@MODELS.register_module()
class OrderedToyModel(toy_training.ToyModel):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.seen = []

    def forward(self, inputs, target, names, mode):
        self.seen.append(names.tolist())
        return super().forward(inputs, target, mode)


@pytest.fixture
def whole(make_runner):
    runner = make_runner('whole', **BY_ITERATION)
    runner.train()
    return runner


# Of twelve steps in three epochs: within the first, at the end of one, within the second.
@pytest.mark.parametrize('step', [1, 4, 6])
@pytest.mark.parametrize('workers', [0, 1])
def test_an_epoch_goes_on_where_the_checkpoint_was_written(make_runner, whole, step, workers):
    checkpoint = str(Path(whole.work_dir, f'iter_{step}.pth'))
    options = {**BY_ITERATION, 'train_dataloader.num_workers': workers}
    runner = make_runner('resumed', load_from=checkpoint, resume=True, **options)
    loaded.clear()
    runner.train()
    seen = whole.bare_model.seen
    assert len(seen) == 12
    assert seen[:4] != seen[4:8], 'epochs must differ in their order'
    assert runner.bare_model.seen == seen[step:]
    assert (runner.iter, runner.epoch) == (12, 3)
    for name, value in whole.bare_model.state_dict().items():
        assert torch.equal(value, runner.bare_model.state_dict()[name]), name
    if workers == 0:
        assert loaded == list(chain.from_iterable(seen[step:])), (
            'what was seen before is not loaded again'
        )


def test_a_loop_over_iterations_goes_on_as_well(make_runner):
    options = {**BY_ITERATION, 'train_dataloader.sampler.type': 'InfiniteSampler'}
    del options['train_cfg.max_epochs']
    loop = dict(_delete_=True, by_epoch=False, max_iters=7)
    whole = make_runner('whole', train_cfg=dict(loop), **options)
    whole.train()
    checkpoint = str(Path(whole.work_dir, 'iter_3.pth'))
    runner = make_runner(
        'resumed', load_from=checkpoint, resume=True, train_cfg=dict(loop), **options
    )
    runner.train()
    assert len(whole.bare_model.seen) == 7
    assert runner.bare_model.seen == whole.bare_model.seen[3:]


def test_other_loops_are_left_alone(make_runner):
    runner = make_runner()
    loop = runner.build_train_loop({'type': 'EpochBasedTrainLoop', 'max_epochs': 1})
    assert type(loop) is ResumableEpochLoop
    loop = runner.build_train_loop({'type': 'IterBasedTrainLoop', 'max_iters': 1})
    assert type(loop).__name__ == 'IterBasedTrainLoop'
    assert runner.build_train_loop(loop) is loop
