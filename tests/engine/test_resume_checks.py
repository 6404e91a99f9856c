import math
from pathlib import Path

import pytest
import torch

from ciba_bev.errors import CibaError

MILESTONES = dict(type='MultiStepLR', begin=0, end=2, by_epoch=True, milestones=[1], gamma=0.1)
COSINE = dict(
    type='CosineAnnealingLR', T_max=2, eta_min=0.001, begin=0, end=2, convert_to_iter_based=True
)
LONGER = {'train_cfg.max_epochs': 4}


@pytest.fixture
def resume(make_runner):
    """A function that trains by one schedule for two epochs and goes on with other options."""

    def run(schedulers, changed, **first):
        options = {'param_scheduler': schedulers, **first}
        runner = make_runner('first', **options)
        runner.train()
        checkpoint = str(Path(runner.work_dir, 'epoch_2.pth'))
        resumed = make_runner(
            'resumed', **{**options, **LONGER, **changed}, load_from=checkpoint, resume=True
        )
        resumed.train()
        return resumed

    return run


@pytest.mark.parametrize(
    ('schedulers', 'changed', 'expected'),
    [
        (
            [MILESTONES],
            [dict(MILESTONES, milestones=[3], end=4)],
            [
                'param_scheduler[0] (MultiStepLR), end: 2 in the checkpoint, 4 in the config',
                'param_scheduler[0] (MultiStepLR), milestones: [1] in the checkpoint, [3] in',
            ],
        ),
        # Four steps an epoch.
        (
            [COSINE],
            [dict(COSINE, T_max=4, end=4)],
            ['T_max: 8 in the checkpoint, 16 in the config', 'end: 8 in the checkpoint, 16 in'],
        ),
        ([MILESTONES], [MILESTONES, COSINE], ['param_scheduler: 1 in the checkpoint, 2 in the']),
        ([MILESTONES], [COSINE], ['T_max: None in the checkpoint, 8 in the config']),
    ],
)
def test_another_schedule_is_refused_with_both(resume, schedulers, changed, expected):
    with pytest.raises(CibaError) as caught:
        resume(schedulers, {'param_scheduler': changed})
    message = str(caught.value)
    for words in expected:
        assert words in message
    assert 'The checkpoint has priority over the config' in message
    assert 'load_from=' in message.splitlines()[-1]


def test_another_rate_or_decay_is_refused(resume):
    changed = {'optim_wrapper.optimizer.lr': 0.2, 'optim_wrapper.optimizer.weight_decay': 0.5}
    with pytest.raises(CibaError) as caught:
        resume([MILESTONES], changed)
    message = str(caught.value)
    assert 'optimizer, lr: 0.1 in the checkpoint, 0.2 in the config' in message
    assert 'optimizer, weight_decay: 0 in the checkpoint, 0.5 in the config' in message


def test_another_total_batch_is_refused(resume):
    with pytest.raises(CibaError) as caught:
        resume([COSINE], {'train_dataloader.batch_size': 1})
    message = str(caught.value)
    assert 'steps an epoch: 4 (processes x batch size: 1 x 2) in the checkpoint, 8 ' in message
    assert 'total batch size' in message
    assert 'param_scheduler' not in message, 'which follows from the other'


def test_a_checkpoint_without_a_record_of_its_steps_tells_by_its_counts(make_runner):
    runner = make_runner('first')
    runner.train()
    path = Path(runner.work_dir, 'epoch_2.pth')
    content = torch.load(path, weights_only=False)
    del content['meta']['steps']
    torch.save(content, path)
    options = {**LONGER, 'load_from': str(path), 'resume': True}
    with pytest.raises(CibaError, match='steps an epoch: 4 in the checkpoint, 8 '):
        make_runner('other', **options, **{'train_dataloader.batch_size': 1}).train()
    same = make_runner('same', **options)
    same.train()
    assert same.epoch == 4


# The cosine's last value is that of its eighth step.
LAST_OF_COSINE = 0.001 + (0.1 - 0.001) * (1 + math.cos(math.pi * 7 / 8)) / 2


@pytest.mark.parametrize(('scheduler', 'last'), [(MILESTONES, 0.01), (COSINE, LAST_OF_COSINE)])
def test_more_epochs_by_the_same_schedule_are_fine(resume, scheduler, last):
    runner = resume([scheduler], {})
    assert runner.epoch == 4
    # It ends after the second epoch and leaves the rate where it is.
    assert runner.optim_wrapper.get_lr()['lr'] == [pytest.approx(last, rel=1e-6)]


def test_the_scaled_rate_is_compared(resume):
    """The same rate by another way is the same; the same words for another rate are not."""
    scaling = {'auto_scale_lr': dict(base_batch_size=1, enable=True)}
    assert resume([MILESTONES], {}, **scaling).epoch == 4
    with pytest.raises(CibaError, match=r'lr: 0\.2 in the checkpoint, 0\.1 in the config'):
        resume([MILESTONES], {'auto_scale_lr.enable': False}, **scaling)
