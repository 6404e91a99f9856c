"""What a result takes, from the configs alone."""

import argparse
from pathlib import Path

import pytest
from mmengine.config import DictAction

from ciba_bev.reproduction.plan import Plan, Run

PROJECT = Path(__file__).resolve().parents[2]
CIBA = Run('ravdess_ciba_mse_audio_to_image', seed=3, size=16)


@pytest.fixture
def plan(tmp_path):
    return Plan(PROJECT, tmp_path)


def options_of(step):
    words = step.command[step.command.index('--cfg-options') + 1 :]
    return dict(word.split('=', 1) for word in words)


def test_distillation_comes_after_teacher_student_and_bottleneck(plan):
    plan.add(CIBA)
    names = [step.name for step in plan.steps]
    assert names == [
        'ravdess_audio_seed3',
        'ravdess_image_seed3',
        'ravdess_bottleneck_audio_to_image_seed3',
        'ravdess_ciba_mse_audio_to_image_h16_seed3',
    ]
    assert plan.steps[2].after == names[:2]
    assert plan.steps[3].after == [names[0], names[2]]
    # Steps wait for earlier ones only.
    for index, step in enumerate(plan.steps):
        assert set(step.after) <= set(names[:index])


def test_a_run_uses_what_its_own_seed_has_made(plan, tmp_path):
    plan.add(CIBA)
    options = options_of(plan.steps[3])
    assert options['randomness.seed'] == '3'
    assert options['model.bottleneck.size'] == '16'
    folder = tmp_path / 'ravdess_audio_seed3'
    assert options['model.teacher.checkpoint'] == str(folder / 'best.pth')
    assert options['model.teacher.config'] == str(folder / 'ravdess_audio.py')
    bottleneck = options_of(plan.steps[2])
    assert bottleneck['model.seed'] == '3'
    assert bottleneck['model.student.checkpoint'].endswith('ravdess_image_seed3/best.pth')
    assert Path(bottleneck['val_evaluator.out_file']) in plan.steps[2].outputs


def test_shared_runs_are_planned_once(plan):
    for size in (8, 16):
        plan.add(Run(CIBA.config, 3, size))
    plan.add(Run('ravdess_mse_audio_to_image', 3))
    names = [step.name for step in plan.steps]
    assert len(names) == len(set(names)) == 6


def test_overrides_reach_the_configs_that_have_their_key(tmp_path):
    options = {'ravdess': ['train_cfg.max_epochs=2', 'model.network.width=3', 'model.seed=9']}
    plan = Plan(PROJECT, tmp_path, options)
    assert plan.options_of('ravdess_image') == ['train_cfg.max_epochs=2']
    assert plan.options_of('synthetic_mse') == []


def test_overrides_may_replace_a_part_instead_of_merging_with_it(tmp_path):
    chosen = ['_delete_=True', 'type=AdamW', 'lr=1e-3']
    options = {'ravdess': [f'optim_wrapper.optimizer.{option}' for option in chosen]}
    plan = Plan(PROJECT, tmp_path, options)
    assert plan.options_of('ravdess_image') == options['ravdess']
    config = plan.read('ravdess_image')
    assert 'momentum' in config.optim_wrapper.optimizer
    # Read as tools/train.py reads its command line.
    parser = argparse.ArgumentParser()
    parser.add_argument('options', nargs='+', action=DictAction)
    config.merge_from_dict(parser.parse_args(plan.options_of('ravdess_image')).options)
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3)


def test_several_processes_are_launched_by_torch(tmp_path):
    plan = Plan(PROJECT, tmp_path, processes=8)
    scores = plan.add_score(Run('mse_bevformer_r50', 0), 'bevformer_r50')
    last = plan.steps[-1]
    assert scores == tmp_path / 'mse_bevformer_r50_seed0' / 'metrics.json'
    assert last.command[:3] == ['-m', 'torch.distributed.run', '--nproc_per_node=8']
    assert last.command[-2:] == ['--launcher', 'pytorch']
    assert str(tmp_path / 'mse_bevformer_r50_seed0' / 'epoch_24.pth') in last.command
