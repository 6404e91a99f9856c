"""The RAVDESS configs say what the paper says, and run one after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from config_files import read_config as read
from tool_processes import run_tool

from ciba_bev.classification.ravdess.synthetic_data import write_synthetic_data
from ciba_bev.engine.config_checks import check_earlier_runs
from ciba_bev.errors import CibaError

PROJECT = Path(__file__).resolve().parents[2]
# Loss and H of Tables 1(a) and 7; without H the whole feature is distilled.
STUDENTS = {
    'ravdess_mse_audio_to_image': ('MSELoss', None),
    'ravdess_ciba_mse_audio_to_image': ('MSELoss', 8),
    'ravdess_ce_audio_to_image': ('CrossEntropyLoss', None),
    'ravdess_ciba_ce_audio_to_image': ('CrossEntropyLoss', 8),
    'ravdess_clip_audio_to_image': ('CLIPLoss', None),
    'ravdess_ciba_clip_audio_to_image': ('CLIPLoss', 64),
    'ravdess_margin_audio_to_image': ('MarginLoss', None),
    'ravdess_ciba_margin_audio_to_image': ('MarginLoss', 128),
    'ravdess_mse_fusion_to_image': ('MSELoss', None),
    'ravdess_ciba_mse_fusion_to_image': ('MSELoss', 8),
    'ravdess_mse_image_to_audio': ('MSELoss', None),
    'ravdess_ciba_mse_image_to_audio': ('MSELoss', 2),
}
BASELINES = ['ravdess_audio', 'ravdess_fusion', 'ravdess_image']
BOTTLENECKS = [
    'ravdess_bottleneck_audio_to_image',
    'ravdess_bottleneck_fusion_to_image',
    'ravdess_bottleneck_image_to_audio',
]
SHORT = [
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
    'train_dataloader.batch_size=8',
    *(
        f'{stage}_dataloader.{option}'
        for stage in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False', 'dataset.image_size=[28,56]')
    ),
]

SMALLER = """
model = dict(network=dict(channels=[2, 3, 4], feature_size=16, hidden_size=8))
"""


def test_all_configs_are_known_here():
    names = {path.stem for path in (PROJECT / 'configs').glob('ravdess_*.py')}
    assert names == {*STUDENTS, *BASELINES, *BOTTLENECKS}


@pytest.mark.parametrize('name', [*STUDENTS, *BASELINES])
def test_schedule_of_the_paper(name):
    config = read(name)
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9)
    assert config.train_dataloader.batch_size == 64
    assert config.train_cfg.max_epochs == 100
    assert config.default_hooks.checkpoint.save_best == 'accuracy/top1'
    files = [
        config[f'{part}_dataloader'].dataset.csv_file.rsplit('_', 1)[1]
        for part in ('train', 'val', 'test')
    ]
    assert files == ['dl.csv', 'val.csv', 'test.csv']


@pytest.mark.parametrize('name', list(STUDENTS))
def test_students_and_their_teachers(name):
    config = read(name)
    loss, size = STUDENTS[name]
    teacher, student = name.split('_to_')[0].rsplit('_', 1)[1], name.rsplit('_', 1)[1]
    model = config.model
    assert model.loss.type == f'ciba_bev.{loss}'
    assert model.loss_weight == 1.0
    assert model.student == read(f'ravdess_{student}').model
    assert model.student_inputs == [student]
    assert model.teacher.config == f'configs/ravdess_{teacher}.py'
    assert model.teacher.checkpoint == f'work_dirs/ravdess_{teacher}/best.pth'
    assert model.teacher.inputs == list(read(f'ravdess_{teacher}').model.inputs)
    assert set(config.train_dataloader.dataset.inputs) == {'audio', 'image'}
    # Testing needs the student's modality only.
    assert config.test_dataloader.dataset.inputs == [student]
    if size is None:
        assert 'bottleneck' not in model
        return
    assert model.bottleneck.size == size
    made_by = Path(model.bottleneck.config).stem
    assert made_by == f'ravdess_bottleneck_{teacher}_to_{student}'
    assert model.bottleneck.checkpoint == f'work_dirs/{made_by}/best.pth'
    assert size in read(made_by).model.bottleneck_sizes


@pytest.mark.parametrize('name', BOTTLENECKS)
def test_bottlenecks(name):
    config = read(name)
    teacher, student = name[len('ravdess_bottleneck_') :].split('_to_')
    assert config.model.bottleneck_sizes == [2**k for k in range(1, 11)]
    assert config.model.teacher.config == f'configs/ravdess_{teacher}.py'
    assert config.model.student.config == f'configs/ravdess_{student}.py'
    assert config.model.student.inputs == [student]
    for stage in ('train', 'val', 'test'):
        assert set(config[f'{stage}_dataloader'].dataset.inputs) == {'audio', 'image'}


@pytest.mark.slow
def test_from_the_teacher_to_the_student(tmp_path, monkeypatch):
    """Teacher, student, bottleneck and CIBA on synthetic data, each from earlier checkpoints."""
    write_synthetic_data(tmp_path / 'data' / 'ravdess', dict(train=16, val=8, test=8), seconds=0.5)
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / '_base_').symlink_to(PROJECT / 'configs' / '_base_')
    for path in (PROJECT / 'configs').glob('ravdess_*.py'):
        smaller = SMALLER if path.stem in BASELINES else ''
        (tmp_path / 'configs' / path.name).write_text(path.read_text() + smaller)
    monkeypatch.chdir(tmp_path)

    missing = r'configs/ravdess_audio\.py 8\n.*configs/ravdess_bottleneck_audio_to_image\.py 8'
    with pytest.raises(CibaError, match=missing):
        check_earlier_runs(read('ravdess_ciba_mse_audio_to_image'), 'config')
    for name, *options in (
        ('ravdess_audio',),
        ('ravdess_image',),
        (
            'ravdess_bottleneck_audio_to_image',
            'model.bottleneck_sizes=[2,8]',
            'model.bottleneck.in_channels=16',
            'model.bottleneck.out_channels=16',
        ),
        ('ravdess_ciba_mse_audio_to_image',),
    ):
        words = [f'configs/{name}.py', '--cfg-options', *SHORT, *options]
        ended = run_tool(tmp_path, 'train.py', *words)
        assert ended.returncode == 0, ended.stdout[-3000:]
        assert (tmp_path / 'work_dirs' / name / 'best.pth').is_file()
    # The scores are those of the student that is kept.
    work_dir = tmp_path / 'work_dirs' / 'ravdess_ciba_mse_audio_to_image'
    words = ['configs/ravdess_ciba_mse_audio_to_image.py', str(work_dir / 'best.pth')]
    words += ['--work-dir', 'again', '--out', 'scores.json', '--cfg-options', *SHORT]
    ended = run_tool(tmp_path, 'test.py', *words)
    assert ended.returncode == 0, ended.stdout[-3000:]
    scores = json.loads((work_dir / 'metrics.json').read_text())
    assert json.loads((tmp_path / 'scores.json').read_text()) == scores['test']
    student, plain = (
        torch.load(tmp_path / 'work_dirs' / name / 'best.pth', weights_only=False)['state_dict']
        for name in ('ravdess_ciba_mse_audio_to_image', 'ravdess_image')
    )
    # A distilled student is the same network, with other weights.
    assert student.keys() == plain.keys()
    weight = 'network.feature.weight'
    assert not torch.equal(student[weight], plain[weight])
