"""How configs inherit: not deep, no block twice, and the project's hooks by default."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import lru_cache

import pytest
import torch
from config_files import CONFIGS, read_config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import ciba_bev  # noqa: F401
from ciba_bev.engine import CheckedRunner, FiniteLossHook, LossAveragingHook

EXPERIMENTS = sorted(CONFIGS.glob('*.py'))
FILES = sorted(CONFIGS.rglob('*.py'))


@lru_cache(maxsize=None)
def levels(path):
    """Number of files on the longest way from a config to one without a base."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == '_base_':
            bases = ast.literal_eval(statement.value)
            return 1 + max(levels((path.parent / base).resolve()) for base in bases)
    return 1


@pytest.mark.parametrize('path', EXPERIMENTS, ids=[path.stem for path in EXPERIMENTS])
def test_no_config_is_deeper_than_four_levels(path):
    assert levels(path) <= 4


def test_no_long_block_is_written_twice():
    """Ten equal lines in two files, but for lists of bases, should be one file's."""
    places = defaultdict(set)
    for path in FILES:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        for start in range(len(lines) - 9):
            block = '\n'.join(lines[start : start + 10])
            if '_base_/' not in block:
                places[block].add(path.name)
    assert {block: names for block, names in places.items() if len(names) > 1} == {}


def test_the_optimizer_of_algorithm_1_is_written_once():
    name = "type='ciba_bev.BottleneckOptimWrapper'"
    assert [path.name for path in FILES if name in path.read_text()] == ['bottleneck_optimizer.py']
    trainings = [path for path in EXPERIMENTS if 'bottleneck' in path.stem]
    wrappers = [read_config(path.stem).optim_wrapper for path in trainings]
    assert len(wrappers) == 19
    assert all(wrapper == wrappers[0] for wrapper in wrappers)


@pytest.mark.parametrize('path', EXPERIMENTS, ids=[path.stem for path in EXPERIMENTS])
def test_hooks_of_every_experiment(path):
    config = read_config(path.stem)
    given = [hook.type for hook in config.default_hooks.values()]
    given += [hook.type for hook in config.get('custom_hooks') or []]
    found = {name for name in given if name.startswith('ciba_bev.')}
    bottlenecks = config.model.type == 'ciba_bev.BottleneckTraining'
    if path.stem.startswith('synthetic'):
        assert found == set()
    elif config.default_scope == 'mmdet3d':
        expected = {'CheckDataHook', 'LossAveragingHook', 'DistillationRecordHook', 'CellMeansHook'}
        if config.model.type == 'ciba_bev.Distiller':
            expected.add('SpectrumHook')
        assert found == {f'ciba_bev.{name}' for name in expected}
    else:
        keeper = 'BestBottleneckHook' if bottlenecks else 'BestEpochHook'
        expected = {'CheckInputsHook', 'DistillationRecordHook', keeper}
        assert found == {f'ciba_bev.{name}' for name in expected}


@pytest.mark.parametrize('name', ['ciba_bevformer_r50_h4', 'ravdess_ciba_mse_audio_to_image'])
def test_hooks_are_called_in_their_order(name, tmp_path):
    config = read_config(name)
    init_default_scope(config.default_scope)
    runner = CheckedRunner(
        model=torch.nn.Linear(1, 1),
        work_dir=str(tmp_path),
        default_hooks=config.default_hooks,
        custom_hooks=config.get('custom_hooks'),
        default_scope=config.default_scope,
        experiment_name=name,
    )
    order = [type(hook).__name__ for hook in runner.hooks]
    if name.startswith('ciba'):
        # Each process's own losses, then their average, then the log.
        first = ['FiniteLossHook', 'LossAveragingHook', 'RuntimeInfoHook', 'CheckDataHook']
        assert order[:4] == first
        assert order.index('SpectrumHook') < order.index('LoggerHook')
    else:
        assert order[:3] == ['FiniteLossHook', 'RuntimeInfoHook', 'CheckInputsHook']
        # The best epoch is the one that the checkpoint hook has noted.
        assert order[-1] == 'BestEpochHook'
    assert order.index('DistillationRecordHook') < len(order) - 2


def test_mmengines_own_runner_averages_after_the_check_too():
    runner = object.__new__(Runner)
    runner._hooks = []
    for hook in (LossAveragingHook(), FiniteLossHook()):
        runner.register_hook(hook)
    assert [type(hook) for hook in runner.hooks] == [FiniteLossHook, LossAveragingHook]
