"""The experiments on the bottleneck's view and on the loss: what is trained, and with what."""

import json
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import ttest_ind
from test_detection_gap import PROJECT, SEEDS, options_of

from ciba_bev.reproduction.detection_choices import (
    CELL_MEANS,
    LOSS_REDUCTIONS,
    Choice,
    plan_choices,
    tabulate_cell_means,
    tabulate_reductions,
)
from ciba_bev.reproduction.detection_gap import BOTTLENECK, CIBA, METHODS, plan_detection_gap
from ciba_bev.reproduction.plan import Plan, Run


def new_plan(tmp_path):
    return Plan(PROJECT, tmp_path / 'runs')


def trainings(plan, config):
    return {
        step.name: step for step in plan.steps if step.resumes and Path(step.config).stem == config
    }


@pytest.mark.parametrize(
    ('choices', 'bottlenecks', 'students'), [(CELL_MEANS, 3 * 3, 3 * 3), (LOSS_REDUCTIONS, 0, 8)]
)
def test_only_what_the_detection_gap_lacks_is_added(tmp_path, choices, bottlenecks, students):
    gap = new_plan(tmp_path)
    plan_detection_gap(gap, SEEDS)
    plan = new_plan(tmp_path)
    plans = plan_choices(plan, SEEDS, choices)
    assert len(plans) == len(choices)
    shared = {step.name: step.command for step in gap.steps}
    assert shared.items() <= {step.name: step.command for step in plan.steps}.items()
    added = Counter(
        Path(step.config).stem for step in plan.steps if step.resumes and step.name not in shared
    )
    expected = {BOTTLENECK: bottlenecks, METHODS[CIBA]: students * len(SEEDS)}
    assert added == {config: count for config, count in expected.items() if count}
    folders = [step.folder for step in plan.steps if step.resumes]
    assert len(folders) == len(set(folders))
    names = [step.name for step in plan.steps]
    for index, step in enumerate(plan.steps):
        assert set(step.after) <= set(names[:index]), step.name
        assert step.usual_minutes > 0


def test_each_student_follows_its_own_bottleneck(tmp_path):
    plan = new_plan(tmp_path)
    plans = plan_choices(plan, SEEDS, CELL_MEANS)
    bottlenecks = {str(step.folder): step for step in trainings(plan, BOTTLENECK).values()}
    for choice, part in plans.items():
        student = part.step_name(Run(METHODS[CIBA], 1))
        options = options_of(trainings(plan, METHODS[CIBA])[student])
        bottleneck = bottlenecks[str(Path(options['model.bottleneck.checkpoint']).parent)]
        seen = options_of(bottleneck)
        assert seen.get('model.bottleneck.kernel_size', '3') == str(choice.kernel_size)
        subtracted = seen.get('model.subtract_cell_means', 'False')
        assert subtracted == str(choice.subtract_cell_means)
        # Fog of this air, for the student and for the features that its bottleneck saw.
        root = options['train_dataloader.dataset.data_root']
        assert seen['train_dataloader.dataset.data_root'] == root


def test_reductions_change_the_loss_alone(tmp_path):
    plan = new_plan(tmp_path)
    plans = plan_choices(plan, SEEDS, LOSS_REDUCTIONS)
    found = {}
    for choice, part in plans.items():
        run = Run(METHODS[CIBA], 2, None if choice.size == 8 else choice.size)
        options = options_of(trainings(plan, METHODS[CIBA])[part.step_name(run)])
        found[choice.reduction, choice.size] = (
            options.get('model.loss.reduction', 'mean'),
            options.get('model.loss_weight', '5.0'),
            options.get('model.bottleneck.size', '8'),
        )
        assert 'fog_20m' in options['model.bottleneck.checkpoint']
        assert '/sum' not in options['model.bottleneck.checkpoint']
    for size in (2, 8, 32):
        assert found['mean x 5', size] == ('mean', '5.0', str(size))
        assert found['sum x 1', size] == ('sum', '1.0', str(size))
        assert found['sum x 0.01', size] == ('sum', '0.01', str(size))


def write_scores(plan, run, values):
    folder = plan.folder(run)
    (folder / 'spectrum').mkdir(parents=True)
    (folder / 'metrics.json').write_text(json.dumps({'NuScenes/NDS': values[0] / 100}))
    collapse = {'models': [{'effective_rank': values[3]}]}
    (folder / 'spectrum' / 'collapse.json').write_text(json.dumps(collapse))
    results = folder / 'predictions' / 'pred_instances_3d' / 'results_nusc.json'
    results.parent.mkdir(parents=True)
    results.touch()
    distances = [value / 100 for value in values[1:3]]
    (folder / 'map_by_distance.json').write_text(json.dumps(distances))


def test_tables(tmp_path):
    """Means, and p-values against the choice that differs in one thing."""
    kept, subtracted = (Choice(20.0, subtract_cell_means=value) for value in (False, True))
    plans = plan_choices(new_plan(tmp_path), SEEDS, [kept, subtracted])
    nds = {kept: (20.0, 21.0, 22.0), subtracted: (24.0, 25.5, 24.5)}
    for choice, part in plans.items():
        for seed in SEEDS:
            values = (nds[choice][seed], 12.0 + seed, 3.0 + seed, 7.0 + seed)
            write_scores(part, Run(METHODS[CIBA], seed), values)
        folder = part.folder(Run(BOTTLENECK, 0))
        folder.mkdir(parents=True)
        metrics = {'h8/explained': 0.51, 'h8/explained_dynamic': 0.1}
        (folder / 'bottlenecks.json').write_text(json.dumps({'metrics': metrics}))
    header, body = tabulate_cell_means(plans, SEEDS)
    first, second = (dict(zip(header, row)) for row in body)
    assert (first['Means'], second['Means']) == ('kept', 'subtracted')
    assert first['NDS'].startswith('21.00')
    assert second['NDS'].startswith('24.67')
    expected = ttest_ind(nds[subtracted], nds[kept], equal_var=False).pvalue
    assert float(second['NDS: p']) == pytest.approx(expected, abs=5e-4)
    assert float(second['Effective rank: p']) == 1
    assert first['NDS: p'] != second['NDS: p']
    assert first['explained'] == '0.510'

    own, wide = Choice(20.0), Choice(20.0, reduction='sum x 1')
    plans = plan_choices(new_plan(tmp_path / 'other'), SEEDS, [own, wide])
    for choice, part in plans.items():
        for seed in SEEDS:
            values = (20.0 + seed + choice.size, 12.0, 3.0, 7.0)
            write_scores(part, Run(METHODS[CIBA], seed), values)
    header, body = tabulate_reductions(plans, SEEDS)
    assert [row[:3] for row in body] == [['8', 'mean', '5'], ['8', 'sum', '1']]
    assert float(dict(zip(header, body[1]))['NDS: p']) == 1
