"""Pairs of models that know nothing of distillation, joined by config files of a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS as MMENGINE_MODELS

from ciba_bev.engine import training

CONFIGS = Path(__file__).with_name('configs')
PLUGIN = Path(__file__).with_name('plugin')
# Name of the pair to its student and the metric that the student is scored by.
PAIRS = {
    'centerpoint_pillar_bevformer': ('bevformer', 'NDS'),
    'centerpoint_voxel_bevformer': ('bevformer', 'NDS'),
    'object_dgcnn_lift_splat': ('lift_splat', 'NDS'),
    'camera_lidar_bevformer': ('bevformer', 'NDS'),
    'sound_picture': ('picture_classifier', 'accuracy'),
}
MOST_LINES = 40
H = 4


def needs_sparse_convolution(name: str) -> bool:
    return 'voxel' in name


def build(name: str) -> torch.nn.Module:
    """The model of a config of this folder, with random weights that follow from its name."""
    cfg = Config.fromfile(str(CONFIGS / f'{name}.py'))
    torch.manual_seed(len(name))
    with MMENGINE_MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg.model)


def save_weights(*names: str) -> None:
    Path('work_dirs').mkdir(exist_ok=True)
    for name in names:
        torch.save({'state_dict': build(name).state_dict()}, f'work_dirs/{name}.pth')


def train(config: str, *options: str) -> dict[str, list[float]]:
    """Run tools/train.py's body within this process; all values of everything it logged."""
    cfg = training.read_config(training.parse_args([str(CONFIGS / f'{config}.py'), *options]))
    cfg.experiment_name = f'{config}_{Path.cwd().name}'
    training.train(cfg)
    scalars = MessageHub.get_current_instance().log_scalars
    return {name: history.data[0].tolist() for name, history in scalars.items()}


@pytest.mark.slow
@pytest.mark.parametrize('pair', PAIRS)
def test_pair_trains_and_evaluates(pair, workplace):
    """Algorithm 1, then Algorithm 2 with the student scored, each in one short epoch."""
    if needs_sparse_convolution(pair):
        pytest.importorskip('spconv', reason='sparse convolutions on a CPU need spconv')
    student, metric = PAIRS[pair]
    teacher = Config.fromfile(str(CONFIGS / f'ciba_{pair}.py')).model.teacher
    save_weights(Path(teacher.config).stem, student)

    values = train(f'bottleneck_{pair}')
    losses = [values[f'train/h{size}.loss_generation'] for size in (2, H)]

    detects = metric == 'NDS'
    options = ['--cfg-options', 'val_evaluator.jsonfile_prefix=predictions'] if detects else []
    values = train(f'ciba_{pair}', *options)
    for loss in (*losses, values['train/loss_distillation']):
        # Seven frames in batches of two, or sixteen clips in batches of four.
        assert len(loss) == 4
        assert min(loss) > 0
    (score,) = (value for name, value in values.items() if name.endswith(f'/{metric}'))
    assert len(score) == 1
    if detects:
        results = Path('predictions', 'pred_instances_3d', 'results_nusc.json')
        boxes = json.loads(results.read_text())['results']
        assert len(boxes) == 7
        assert any(boxes.values())
    # What is left is the plain student, by its own names.
    (checkpoint,) = Path('work_dirs', f'ciba_{pair}').glob('epoch_*.pth')
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    build(student).load_state_dict(weights)


def test_pair_configs_are_short():
    """Beyond the two model configs, no config of a pair takes more than forty lines."""
    files = [*CONFIGS.glob('ciba_*.py'), *CONFIGS.glob('bottleneck_*.py')]
    assert len(files) == 2 * len(PAIRS)
    for file in files:
        assert len(file.read_text().splitlines()) <= MOST_LINES, file.name


def test_plugins_know_nothing_of_distillation():
    sources = list(PLUGIN.rglob('*.py'))
    assert sources
    for source in sources:
        assert 'ciba' not in source.read_text(), source
