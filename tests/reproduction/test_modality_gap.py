"""The experiment on the modality gap: which runs it takes, and what its table says of them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from tool_processes import run_tool

from ciba_bev.classification.mm_imdb.networks import MMIMDBNetwork
from ciba_bev.errors import CibaError
from ciba_bev.reproduction.command import reproduce
from ciba_bev.reproduction.data_sets import demo_options, make_demo_root
from ciba_bev.reproduction.modality_gap import (
    EXPERIMENTS,
    SHARES,
    Measured,
    draw_gap,
    measure_gap,
    measure_rank,
    plan_gap,
    plan_share,
    tabulate_gap,
)
from ciba_bev.reproduction.plan import Plan, Run

PROJECT = Path(__file__).resolve().parents[2]
MM_IMDB, RAVDESS = EXPERIMENTS
# Effective ranks and scores of three seeds by share, then by method.
RANKS = {
    0.25: {
        'teacher': (18, 19, 20),
        'without distillation': (15.5, 15.1, 15.2),
        'MSE': (7.1, 6.8, 6.9),
        'CIBA (16)': (13.4, 13.6, 13.1),
    },
    1.0: {
        'teacher': (14, 13, 15),
        'without distillation': (13.7, 13.4, 13.5),
        'MSE': (10.4, 10.2, 10.7),
        'CIBA (16)': (11.4, 11.6, 11.9),
    },
}
SCORES = {
    0.25: {
        'teacher': (51, 52, 50),
        'without distillation': (52.5, 52.6, 52.0),
        'MSE': (35.1, 35.9, 36.5),
        'CIBA (16)': (49.0, 50.1, 48.2),
    },
    1.0: {
        'teacher': (77, 78, 76),
        'without distillation': (71.7, 71.4, 72.0),
        'MSE': (74.0, 74.5, 74.2),
        'CIBA (16)': (72.0, 72.9, 72.5),
    },
}


@pytest.fixture
def plan(tmp_path):
    return Plan(PROJECT, tmp_path / 'runs', demo_options())


@pytest.fixture
def measured():
    return [
        Measured(MM_IMDB, share, method, ranks, SCORES[share][method])
        for share, methods in RANKS.items()
        for method, ranks in methods.items()
    ]


def options_of(step):
    words = step.command[step.command.index('--cfg-options') + 1 :]
    return dict(word.split('=', 1) for word in words)


def test_every_share_has_its_own_data_and_runs(plan):
    plan_gap(plan, seeds=[0, 1])
    names = [step.name for step in plan.steps]
    # The data, and for each seed teacher, student, MSE, bottleneck and CIBA.
    assert len(names) == len(set(names)) == len(EXPERIMENTS) * len(SHARES) * (1 + 2 * 5)
    for index, step in enumerate(plan.steps):
        assert set(step.after) <= set(names[:index])
    folders = [step.folder for step in plan.steps if step.folder]
    assert len(folders) == len(set(folders)) == len(EXPERIMENTS) * len(SHARES) * 2 * 5


@pytest.mark.parametrize('experiment', EXPERIMENTS, ids=lambda e: e.data_set)
def test_trainings_read_the_data_of_their_share(plan, experiment):
    plan_gap(plan, [0], [experiment], [0.25])
    made, *trainings = plan.steps
    words = made.command
    assert words[words.index('--shared') + 1] == '0.25'
    folder = words[words.index('--out') + 1]
    assert made.outputs == [PROJECT / folder / experiment.file]
    key, path = experiment.data_option.format(folder=folder).split('=')
    assert path in (folder, f'{folder}/{experiment.file}')
    for step in trainings:
        assert made.name in step.after
        options = options_of(step)
        for stage in ('train', 'val', 'test'):
            assert options[f'{stage}_dataloader.dataset.{key}'] == path


def test_all_methods_are_trained_alike(plan):
    plan_gap(plan, [0], [RAVDESS], [0.5])
    trainings = {step.config: options_of(step) for step in plan.steps[1:]}
    lengths = {options['train_cfg.max_epochs'] for options in trainings.values()}
    assert len(lengths) == 1
    for config, part in (
        ('ravdess_audio', ''),
        ('ravdess_image', ''),
        ('ravdess_mse_audio_to_image', 'student.'),
        ('ravdess_ciba_mse_audio_to_image', 'student.'),
    ):
        options = trainings[f'configs/{config}.py']
        assert options[f'model.{part}network.feature_size'] == '128'
    # What the experiment says comes after what the demo says, once.
    assert trainings['configs/ravdess_bottleneck_audio_to_image.py']['model.bottleneck_sizes'] == (
        '[8]'
    )


def test_plans_of_real_data_are_named_as_before(plan):
    plan_gap(plan, [0], [MM_IMDB], [1.0])
    real = Plan(PROJECT, plan.work_dir)
    real.add(Run('mm_imdb_text', 0))
    assert [step.name for step in real.steps] == ['mm_imdb_text_seed0']
    assert 'gap_mm_imdb_shared100_mm_imdb_text_seed0' in [step.name for step in plan.steps]


def test_p_values_are_scipys(measured):
    header, body = tabulate_gap(measured)
    rows = {(row[1], row[2]): dict(zip(header, row)) for row in body}
    for name, values in (('Effective rank', RANKS), ('Score', SCORES)):
        ciba, mse = values[0.25]['CIBA (16)'], values[0.25]['MSE']
        for method, other, key in (
            ('CIBA (16)', mse, 'p, MSE'),
            ('CIBA (16)', values[1.0]['CIBA (16)'], 'p, smallest gap'),
        ):
            expected = ttest_ind(ciba, other, equal_var=False).pvalue
            shown = rows[method, '25%'][f'{name}: {key}']
            assert shown == ('< 0.001' if expected < 0.001 else f'{expected:.3f}')
        # MSE is what the others are compared with, and the largest share with nothing.
        assert rows['MSE', '25%'][f'{name}: p, MSE'] == ''
        assert rows['MSE', '100%'][f'{name}: p, smallest gap'] == ''
    assert rows['MSE', '25%']['Effective rank'] == '6.93 ± 0.15'


def test_the_figure_shows_what_the_table_says(measured):
    upper, lower = draw_gap(measured).axes
    for axes, values in ((upper, RANKS), (lower, SCORES)):
        for container in axes.containers:
            method = container.get_label()
            xs, ys = container.lines[0].get_data()
            expected = [sum(values[share][method]) / 3 for share in (0.25, 1.0)]
            assert list(xs) == [0.25, 1.0]
            assert list(ys) == pytest.approx(expected)
        assert {container.get_label() for container in axes.containers} == set(RANKS[1.0])


def test_a_missing_run_is_named(plan):
    plans = plan_gap(plan, [0], [MM_IMDB], [0.5])
    with pytest.raises(CibaError, match=r'mm_imdb_image_seed0/mm_imdb_image\.py'):
        measure_gap(plans, [0])


def test_real_data_are_refused(tmp_path):
    with pytest.raises(CibaError, match='--demo') as error:
        reproduce(tmp_path, ['gap'], [0])
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'work_dirs' / 'reproduce').exists()


@pytest.mark.slow
def test_ranks_are_those_of_the_test_samples(tmp_path):
    """Data, teacher and MSE student as the command makes them, measured again by hand."""
    root = make_demo_root(PROJECT, tmp_path / 'root')
    options = {'mm_imdb': ['train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1']}
    plan = plan_share(Plan(root, tmp_path / 'runs', options), MM_IMDB, 0.25)
    run = plan.add(Run(MM_IMDB.mse, 0))
    for step in plan.steps:
        tool, *words = step.command
        ended = run_tool(root, Path(tool).name, *words)
        assert ended.returncode == 0, ended.stdout

    network = MMIMDBNetwork('text', 300)
    weights = torch.load(plan.checkpoint(run), weights_only=False)['state_dict']
    network.load_state_dict({name.replace('network.', '', 1): w for name, w in weights.items()})
    file = root / 'data' / 'gap' / 'mm_imdb_shared025' / 'multimodal_imdb.hdf5'
    with h5py.File(file) as content:
        first, last = content.attrs['test']
        text = torch.from_numpy(content['features'][first:last])
    with torch.no_grad():
        feature = network.eval().feature(text).double().numpy()
    # The squares of the centred features' singular values are those of their covariance.
    variances = np.linalg.svd(feature - feature.mean(0), compute_uv=False) ** 2
    shares = variances / variances.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert measure_rank(plan, MM_IMDB, run) == pytest.approx(expected, rel=1e-4)
    scores = json.loads((plan.folder(run) / 'metrics.json').read_text())
    assert plan.score(run, 'test', MM_IMDB.metric) == scores['test']['f1/micro']
