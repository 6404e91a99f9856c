import os

import pytest
import toy_training
from mmengine.config import Config

from ciba_bev.checkpoints.files import read_checkpoints_safely
from ciba_bev.engine import CheckedRunner


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
def make_runner(tmp_path):
    """A function that makes a runner of the toy in a work folder of its own name."""

    def make(name: str = 'toy', **options):
        config_file = toy_training.write_config(tmp_path / f'{name}.py')
        cfg = Config.fromfile(str(config_file))
        cfg.work_dir = str(tmp_path / 'work' / name)
        cfg.launcher = 'none'
        cfg.experiment_name = f'{tmp_path.name}_{name}_{len(os.listdir(tmp_path))}'
        cfg.merge_from_dict(options)
        return CheckedRunner.from_cfg(cfg)

    return make
