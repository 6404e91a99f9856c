import os
import random

import pytest
import torch
import toy_pair
from mmengine.config import Config

from ciba_bev.checkpoints.files import read_checkpoints_safely
from ciba_bev.distillation import BottleneckTraining, Distiller
from ciba_bev.engine import CheckedRunner
from ciba_bev.registry import MODELS


@pytest.fixture(autouse=True)
def _safe_checkpoints():
    # Within pytest no launcher says so.
    os.environ.setdefault('LOCAL_RANK', '0')
    read_checkpoints_safely()


@pytest.fixture(autouse=True)
def _configs_as_they_are(monkeypatch):
    """Let trainings write their configs unformatted, which takes longer than all their steps."""
    monkeypatch.setattr('mmengine.config.config.FormatCode', lambda text, **options: (text, True))


@pytest.fixture
def pair(tmp_path):
    """Arguments of the frozen teacher and student, with checkpoints of random weights."""
    arguments = {}
    for role, model, tap, inputs in (
        ('teacher', 'ToyLidarTeacher', toy_pair.TEACHER_TAP, ['lidar']),
        ('student', 'ToyCameraStudent', toy_pair.STUDENT_TAP, ['camera']),
    ):
        torch.manual_seed(len(role))
        checkpoint = tmp_path / f'{role}.pth'
        config = dict(type=f'ciba_bev.{model}')
        torch.save({'state_dict': MODELS.build(config).state_dict()}, checkpoint)
        arguments[role] = dict(config=config, checkpoint=str(checkpoint), tap=tap, inputs=inputs)
    return arguments


@pytest.fixture
def bottleneck_model(pair):
    """Config of an Algorithm 1 model of the toy pair; sizes as given."""

    def make(*sizes: int, **options) -> dict:
        return dict(
            type='ciba_bev.BottleneckTraining',
            **pair,
            bottleneck=dict(
                type='ciba_bev.VariationalBottleneck',
                in_channels=toy_pair.TEACHER_CHANNELS,
                out_channels=toy_pair.STUDENT_CHANNELS,
            ),
            bottleneck_sizes=list(sizes),
            **options,
        )

    return make


@pytest.fixture
def bottleneck_file(tmp_path, bottleneck_model):
    """A checkpoint of bottlenecks of sizes 2 and 4, as an Algorithm 1 run writes it."""
    model: BottleneckTraining = MODELS.build(bottleneck_model(2, 4))
    model.init_weights()
    path = tmp_path / 'bottlenecks.pth'
    record = model.checkpoint_metadata()
    torch.save({'state_dict': model.state_dict(), 'distillation': record}, path)
    return path


@pytest.fixture
def distiller_model(pair, bottleneck_file):
    """Config of an Algorithm 2 model of the toy pair; size None distils without a bottleneck."""

    def make(size: int | None = 4, **options) -> dict:
        bottleneck = dict(checkpoint=str(bottleneck_file), config='bottleneck.py', size=size)
        return dict(
            type='ciba_bev.Distiller',
            student=pair['student']['config'],
            student_inputs=['camera'],
            student_tap=toy_pair.STUDENT_TAP,
            teacher=pair['teacher'],
            bottleneck=None if size is None else bottleneck,
            **options,
        )

    return make


@pytest.fixture
def make_distiller(distiller_model):
    """A function that builds and initialises a distiller."""

    def make(size: int | None = 4, **options) -> Distiller:
        model = MODELS.build(distiller_model(size, **options))
        torch.manual_seed(0)
        model.init_weights()
        return model

    return make


@pytest.fixture
def make_runner(tmp_path):
    """A function that makes a runner of a model in a work folder of its own name."""

    def make(name: str, model: dict, optim_wrapper: dict | None = None, **options):
        path = tmp_path / f'{name}{random.getrandbits(32)}.py'
        config_file = toy_pair.write_config(path, model, optim_wrapper=optim_wrapper)
        cfg = Config.fromfile(str(config_file))
        cfg.work_dir = str(tmp_path / 'work' / name)
        cfg.launcher = 'none'
        cfg.experiment_name = path.stem
        cfg.merge_from_dict(options)
        return CheckedRunner.from_cfg(cfg)

    return make
