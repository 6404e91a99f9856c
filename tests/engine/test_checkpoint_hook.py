import os
import shutil
from pathlib import Path

import pytest
import toy_training
from mmengine.config import Config

from ciba_bev.engine import CheckedRunner

ONE = {'default_hooks.checkpoint.max_keep_ckpts': 1}
BEST = {
    'val_dataloader': dict(
        batch_size=1,
        num_workers=0,
        dataset=dict(type='ToyDataset'),
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    ),
    'val_evaluator': dict(type='ToyMetric'),
    'val_cfg': dict(),
    'default_hooks.checkpoint.save_best': 'toy/error',
    'default_hooks.checkpoint.rule': 'less',
}


class Killed(BaseException):
    pass


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.suffix == '.pth')


def test_the_old_checkpoint_stays_until_the_new_one_is_written(make_runner, monkeypatch):
    runner = make_runner(**ONE)
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append(names(runner.work_dir))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watch)
    runner.train()
    assert seen == [[], ['epoch_1.pth']]
    assert names(runner.work_dir) == ['epoch_2.pth']


def test_a_kill_during_the_second_write_leaves_the_first(make_runner, monkeypatch):
    runner = make_runner(**ONE)
    replace = os.replace

    def killed(source, target):
        if 'epoch_2' in str(target):
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(Killed):
        runner.train()
    assert names(runner.work_dir) == ['epoch_1.pth']


def test_the_best_stays_until_a_better_one_is_written(make_runner, monkeypatch):
    runner = make_runner(**BEST, **{'train_cfg.max_epochs': 4})
    replace = os.replace
    seen = []

    def watch(source, target):
        seen.append([name for name in names(runner.work_dir) if name.startswith('best')])
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watch)
    runner.train()
    first = seen.index(['best_toy_error_epoch_1.pth'])
    assert all(seen[first:]), seen
    assert len([name for name in names(runner.work_dir) if name.startswith('best')]) == 1


def test_a_copied_folder_leaves_the_original_alone(make_runner, tmp_path):
    original = make_runner('original', **BEST, **{'train_cfg.max_epochs': 1})
    original.train()
    before = names(original.work_dir)
    assert 'best_toy_error_epoch_1.pth' in before
    copy = tmp_path / 'work' / 'copy'
    shutil.copytree(original.work_dir, copy)
    cfg = Config.fromfile(str(toy_training.write_config(tmp_path / 'copy.py')))
    cfg.merge_from_dict({**BEST, 'train_cfg.max_epochs': 4})
    cfg.update(work_dir=str(copy), launcher='none', experiment_name=f'{tmp_path.name}_copy')
    cfg.update(resume=True, load_from=str(copy / 'epoch_1.pth'))
    runner = CheckedRunner.from_cfg(cfg)
    runner.train()
    assert names(original.work_dir) == before
    best = Path(runner.message_hub.get_info('best_ckpt'))
    assert best.parent == copy
    assert [name for name in names(copy) if name.startswith('best')] == [best.name]
    assert best.name != 'best_toy_error_epoch_1.pth', 'nothing was replaced: the test shows nothing'
