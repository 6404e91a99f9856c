"""Targets: the runs they plan, and the files they write from finished runs."""

import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from ciba_bev.errors import CibaError
from ciba_bev.reproduction.plan import Plan
from ciba_bev.reproduction.targets import TARGETS, Reproduction

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def job(tmp_path):
    return Reproduction(
        Plan(PROJECT, tmp_path / 'runs'), tmp_path / 'out', [0, 1], False, Console(quiet=True)
    )


def finish(job, scores):
    """Write the scores of every planned step that has some."""
    for step in job.plan.steps:
        for output in step.outputs:
            if output.name == 'metrics.json':
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_text(json.dumps(scores(step.name)))


def seed_scores(name):
    accuracy = 80.0 + int(name[-1])
    return {part: {'accuracy/top1': accuracy} for part in ('validation', 'test')}


@pytest.mark.parametrize('demo', [False, True])
def test_a_table_over_seeds(job, demo):
    job.demo = demo
    write = TARGETS['table7'](job)
    finish(job, seed_scores)
    write()
    frame = pd.read_csv(job.out / 'table7.csv')
    assert frame['Method'].tolist()[:3] == ['Audio-baseline', 'Image-baseline', 'Fusion-baseline']
    assert set(frame['Test']) == {'80.50 ± 0.71'}
    assert frame['Test (paper)'].tolist()[2] == '87.31 ± 1.46'
    for ending in ('txt', 'html'):
        text = (job.out / f'table7.{ending}').read_text(encoding='utf-8')
        assert 'accuracy (%); 2 seeds.' in text
        assert ('Synthetic data and short trainings' in text) == demo


def test_table_2_scores_every_row_as_a_plain_detector(job):
    write = TARGETS['table2'](job)
    scored = {step.name: step for step in job.plan.steps if step.name.startswith('score_')}
    assert len(scored) == 11
    for name, step in scored.items():
        teacher = 'objectdgcnn' in name
        assert step.config == f'configs/{"objectdgcnn_voxel01" if teacher else "bevformer_r50"}.py'
        assert step.after == [name[len('score_') :]]
    nds = {name: 0.3 + index / 100 for index, name in enumerate(scored)}
    finish(job, lambda name: {'NuScenes metric/pred_instances_3d_NuScenes/NDS': nds[name]})
    write()
    frame = pd.read_csv(job.out / 'table2.csv')
    assert frame['NDS (%)'].tolist() == pytest.approx([100 * value for value in nds.values()])
    row = frame.set_index('Method').loc['MSE + CIBA (4)']
    assert row['NDS (%)'] == pytest.approx(100 * nds['score_ciba_bevformer_r50_h4_seed0'])
    assert row['NDS (%, paper)'] == 44.8


def test_figure_7_compares_the_rows_of_each_distillation(job, monkeypatch):
    write = TARGETS['fig7'](job)
    finish(job, lambda name: {**seed_scores(name), 'test': dict.fromkeys(METRICS, 50.0)})
    monkeypatch.setattr(
        'ciba_bev.reproduction.targets.draw_boxes', lambda groups: drawn.update(groups)
    )
    monkeypatch.setattr(job, 'save_figure', lambda name, figure: names.append(name))
    drawn, names = {}, []
    write()
    assert names == ['fig7']
    assert list(drawn) == [
        *(f'RAVDESS, {column}' for column in ('Val.', 'Test')),
        *(f'MM-IMDB, {pair}, F1-{kind}' for pair in ('I -> T', 'F -> T') for kind in KINDS),
    ]
    assert drawn['RAVDESS, Val.']['MSE + CIBA (8)'] == [80.0, 81.0]
    assert len(drawn['RAVDESS, Test']) == 8
    assert len(drawn['MM-IMDB, F -> T, F1-micro']) == 4


KINDS = ('micro', 'macro')
METRICS = ('accuracy/top1', 'f1/micro', 'f1/macro')


def test_every_target_but_the_gaps_plans_real_data(job):
    chosen = {'gap', 'detection_gap', 'cell_means', 'reductions'}
    for name, target in TARGETS.items():
        if name in chosen:
            with pytest.raises(CibaError, match='add --demo'):
                target(job)
        else:
            target(job)
    assert not [step for step in job.plan.steps if 'synthetic_data' in step.name]
    configs = {step.config for step in job.plan.steps if step.config}
    assert all((PROJECT / config).is_file() for config in configs)
