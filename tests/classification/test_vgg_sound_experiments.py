"""The VGG-Sound configs say what the paper says, and run one after the other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from tool_processes import run_tool

from ciba_bev.analysis import welch_p_value
from ciba_bev.classification.vgg_sound.synthetic_data import write_synthetic_data
from ciba_bev.engine.config_checks import check_earlier_runs
from ciba_bev.errors import CibaError
from ciba_bev.reproduction.classification_figures import draw_spectra_above_sweeps
from ciba_bev.reproduction.data_sets import DATA_SETS, find_missing_data
from ciba_bev.reproduction.paper_tables import TABLES
from ciba_bev.reproduction.plan import Plan
from ciba_bev.reproduction.targets import TARGETS, Reproduction

PROJECT = Path(__file__).resolve().parents[2]
BASELINES = {
    'vgg_sound_video_r18': ('video', 18, 512),
    'vgg_sound_video_r50': ('video', 50, 2048),
    'vgg_sound_audio_r18': ('audio', 18, 512),
    'vgg_sound_audio_r50': ('audio', 50, 2048),
}
# The four pairs of Table 3.
PAIRS = [
    ('video_r18', 'audio_r18'),
    ('video_r50', 'audio_r18'),
    ('audio_r18', 'video_r18'),
    ('audio_r50', 'video_r18'),
]
METHODS = ('mse', 'bottleneck', 'ciba')
TRAINED = [*BASELINES, *(f'vgg_sound_{m}_{t}_to_{s}' for m in ('mse', 'ciba') for t, s in PAIRS)]
STAGES = ('train', 'val', 'test')
SHORT = [
    *(option for option in DATA_SETS['vgg_sound'].demo if 'epochs' not in option),
    'train_cfg.max_epochs=2',
    'default_hooks.checkpoint.interval=1',
    'train_dataloader.batch_size=8',
]


def read(name):
    return Config.fromfile(PROJECT / 'configs' / f'{name}.py', import_custom_modules=False)


def test_all_configs_are_known_here():
    names = {path.stem for path in (PROJECT / 'configs').glob('vgg_sound_*.py')}
    assert names == {
        *BASELINES,
        *(f'vgg_sound_{method}_{t}_to_{s}' for method in METHODS for t, s in PAIRS),
    }


@pytest.mark.parametrize('name', TRAINED)
def test_schedule_of_the_paper(name):
    config = read(name)
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3, weight_decay=5e-5)
    assert config.train_dataloader.batch_size == 32
    assert config.train_cfg.max_epochs == 50
    assert config.default_hooks.checkpoint.save_best == 'accuracy/top1'
    for stage in STAGES:
        dataset = config[f'{stage}_dataloader'].dataset
        assert dataset.csv_file == f'{stage}.csv'
        assert (dataset.audio_size, dataset.frame_size) == ([513, 313], [256, 256])
        assert dataset.classes == 100


@pytest.mark.parametrize('name', list(BASELINES))
def test_baselines(name):
    modality, depth, width = BASELINES[name]
    config = read(name)
    network = config.model.network
    assert (network.modality, network.depth, network.feature_size) == (modality, depth, width)
    assert config.model.inputs == [modality]
    assert all(config[f'{stage}_dataloader'].dataset.inputs == [modality] for stage in STAGES)


@pytest.mark.parametrize(('teacher', 'student'), PAIRS)
@pytest.mark.parametrize('method', ['mse', 'ciba'])
def test_students_and_their_teachers(method, teacher, student):
    config = read(f'vgg_sound_{method}_{teacher}_to_{student}')
    model = config.model
    assert model.loss.type == 'ciba_bev.MSELoss'
    assert model.loss_weight == 1.0
    assert model.student == read(f'vgg_sound_{student}').model
    assert model.student_inputs == [student[:5]]
    assert model.student_tap == dict(module='network.feature')
    assert model.teacher.config == f'configs/vgg_sound_{teacher}.py'
    assert model.teacher.checkpoint == f'work_dirs/vgg_sound_{teacher}/best.pth'
    assert model.teacher.inputs == [teacher[:5]]
    assert set(config.train_dataloader.dataset.inputs) == {'audio', 'video'}
    # Testing needs the student's modality only.
    assert config.test_dataloader.dataset.inputs == [student[:5]]
    # Only MSE on all channels needs a teacher's feature as wide as the student's.
    narrowed = method == 'mse' and teacher.endswith('r50')
    assert model.teacher.tap.module == ('network.narrowed' if narrowed else 'network.feature')
    if narrowed:
        assert read(f'vgg_sound_{teacher}').model.network.narrowed_size == 512
    if method == 'mse':
        assert 'bottleneck' not in model
        return
    made_by = Path(model.bottleneck.config).stem
    assert model.bottleneck.size == 16
    assert made_by == f'vgg_sound_bottleneck_{teacher}_to_{student}'
    assert model.bottleneck.checkpoint == f'work_dirs/{made_by}/best.pth'
    assert read(made_by).model.teacher == model.teacher


@pytest.mark.parametrize(('teacher', 'student'), PAIRS)
def test_bottlenecks(teacher, student):
    config = read(f'vgg_sound_bottleneck_{teacher}_to_{student}')
    model = config.model
    assert model.bottleneck_sizes == [2**k for k in range(1, 10)]
    assert model.bottleneck.in_channels == BASELINES[f'vgg_sound_{teacher}'][2]
    assert model.bottleneck.out_channels == 512
    assert model.student.config == f'configs/vgg_sound_{student}.py'
    assert model.student.inputs == [student[:5]]
    for stage in STAGES:
        assert set(config[f'{stage}_dataloader'].dataset.inputs) == {'audio', 'video'}


def test_table_3_has_the_papers_rows():
    rows = {(row.method, row.modality): row for row in TABLES['table3'].rows}
    assert len(rows) == 12
    # As Table 5 prints them; None for "< 0.001".
    printed = {'V18 -> A18': None, 'V50 -> A18': None, 'A50 -> V18': 0.001, 'A18 -> V18': 0.015}
    for modality, expected in printed.items():
        mse, ciba = rows['MSE', modality], rows['MSE + CIBA (16)', modality]
        assert ciba.size == 16
        assert ciba.compared_with is mse
        teacher, student = re.sub(r'([VA])(\d\d)', r'\1_r\2', modality).split(' -> ')
        names = [name.replace('V', 'video').replace('A', 'audio') for name in (teacher, student)]
        assert mse.config == f'vgg_sound_mse_{names[0]}_to_{names[1]}'
        assert ciba.config == f'vgg_sound_ciba_{names[0]}_to_{names[1]}'
        found = welch_p_value(*ciba.paper[0], 5, *mse.paper[0], 5)
        if expected is None:
            assert found < 0.001
        else:
            assert found == pytest.approx(expected, rel=0.05, abs=0.0005)


def test_figure_12_takes_every_size_of_every_pair(tmp_path):
    job = Reproduction(Plan(PROJECT, tmp_path), tmp_path, [0, 1], False, None)
    TARGETS['fig12'](job)
    names = {step.name for step in job.plan.steps}
    for seed in (0, 1):
        for teacher, student in PAIRS:
            pair = f'{teacher}_to_{student}'
            assert f'vgg_sound_mse_{pair}_seed{seed}' in names
            assert f'vgg_sound_bottleneck_{pair}_seed{seed}' in names
            for size in (2, 4, 8, 16, 32, 64, 128, 256, 512):
                assert f'vgg_sound_ciba_{pair}_h{size}_seed{seed}' in names
    assert len(names) == 2 * (4 + 4 * (1 + 1 + 9))


def test_figure_12_shows_what_it_is_given():
    decoded = {'one': {2: [4.0, 0.1, 0.0], 8: [5.0, 2.0, 1.0]}, 'two': {2: [1.0], 8: [2.0]}}
    scores = {title: {2: [50.0, 52.0], 8: [60.0, 62.0]} for title in decoded}
    figure = draw_spectra_above_sweeps(decoded, scores, dict(one=[40.0], two=[45.0]), 'Score')
    assert isinstance(figure, Figure)
    upper_one, upper_two, lower_one, lower_two = figure.axes
    assert [line.get_label() for line in upper_one.lines] == ['H = 2', 'H = 8']
    assert upper_one.lines[1].get_ydata().tolist() == [5.0, 2.0, 1.0]
    assert (upper_one.get_title('left'), upper_two.get_title('left')) == ('one', 'two')
    means = [list(line.get_ydata()) for line in lower_two.lines]
    assert [51.0, 61.0] in means
    assert [45.0, 45.0] in means
    assert lower_one.get_ylabel() == 'Score'


def test_missing_data_are_explained(tmp_path):
    (message,) = find_missing_data(tmp_path, ['configs/vgg_sound_audio_r18.py'])
    assert re.search(r'data/vgg_sound/train\.csv.*\n.*prepare_vgg_sound\.py', message)


@pytest.mark.slow
def test_from_the_teacher_to_the_student(tmp_path, monkeypatch):
    """Teacher, student, bottleneck, CIBA and MSE, each from the checkpoints before it."""
    write_synthetic_data(
        tmp_path / 'data' / 'vgg_sound', dict(train=16, val=8, test=8), seconds=0.5
    )
    (tmp_path / 'configs').symlink_to(PROJECT / 'configs')
    monkeypatch.chdir(tmp_path)
    pair = 'audio_r50_to_video_r18'
    missing = rf'vgg_sound_audio_r50\.py 8\n.*vgg_sound_bottleneck_{pair}\.py 8'
    with pytest.raises(CibaError, match=missing):
        check_earlier_runs(read(f'vgg_sound_ciba_{pair}'), 'config')

    names = ['vgg_sound_audio_r50', 'vgg_sound_video_r18']
    names += [f'vgg_sound_{method}_{pair}' for method in ('bottleneck', 'ciba', 'mse')]
    plan = Plan(PROJECT, tmp_path, {'vgg_sound': SHORT})
    for name in names:
        options = plan.options_of(name)
        # Earlier runs as they were trained, with their overrides.
        for role in ('teacher', 'student', 'bottleneck'):
            part = plan.read(name).model.get(role, {})
            if 'checkpoint' in part:
                trained = Path(part.checkpoint).with_name(Path(part.config).name)
                options.append(f'model.{role}.config={trained}')
        done = run_tool(tmp_path, 'train.py', f'configs/{name}.py', '--cfg-options', *options)
        assert done.returncode == 0, done.stdout
    weights = {
        name: torch.load(Path('work_dirs', name, 'best.pth'), weights_only=False)['state_dict']
        for name in names
    }
    plain, ciba, mse = (weights[names[place]] for place in (1, 3, 4))
    # A distilled student is the same network, with other weights.
    assert plain.keys() == ciba.keys() == mse.keys()
    weight = 'network.classifier.weight'
    assert not torch.equal(plain[weight], ciba[weight])
    assert not torch.equal(mse[weight], ciba[weight])
    assert weights[names[2]]['bottlenecks.h16.encoder.0.weight'].shape[0] == 128
    for name in (names[1], names[3], names[4]):
        scores = json.loads(Path('work_dirs', name, 'metrics.json').read_text())
        assert 0 <= scores['test']['accuracy/top1'] <= 100
    spectra = json.loads(Path('work_dirs', names[2], 'bottlenecks.json').read_text())
    assert {len(values) for values in spectra['decoded_spectra'].values()} == {128}
