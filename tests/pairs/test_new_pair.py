"""tools/new_pair.py: two models that know nothing of each other, as a newcomer gives them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console

from ciba_bev.engine import training
from ciba_bev.errors import CibaError, ConfigError
from ciba_bev.pairs.data import PairModel, add_inputs, read_features_only
from ciba_bev.pairs.new_pair import create_pair, parse_args

CONFIGS = Path(__file__).with_name('configs')
TEACHER, STUDENT = 'object_dgcnn', 'lift_splat'


def new_pair(teacher, student, *words: str) -> tuple[list[Path], str]:
    """What the tool writes, and what it prints on a narrow terminal."""
    console = Console(record=True, width=60)
    args = parse_args([str(teacher), str(student), '--name', 'pair', *words])
    files = create_pair(args, console)
    return files, console.export_text()


def config_of(name: str) -> Path:
    return CONFIGS / f'{name}.py'


def train(file: Path) -> dict[str, float]:
    """The written config as it is, but for one epoch; the last value of all that it logged."""
    cfg = training.read_config(
        training.parse_args([str(file), '--cfg-options', 'train_cfg.max_epochs=1'])
    )
    cfg.experiment_name = f'{file.stem}_{Path.cwd().name}'
    training.train(cfg)
    scalars = MessageHub.get_current_instance().log_scalars
    return {name: float(history.current()) for name, history in scalars.items()}


def test_what_is_printed_and_written(workplace):
    files, text = new_pair(config_of(TEACHER), config_of(STUDENT))
    assert [file.name for file in files] == [
        'ciba_pair_h4.py',
        'bottleneck_pair.py',
        'mse_pair.py',
    ]
    # Of the neck's levels of 2.5 m and 5 m the first has the student's cells.
    cfg = Config.fromfile(str(files[0]))
    teacher, student = cfg.model.teacher.tap, cfg.model.student_tap
    assert (teacher.module, teacher['index'], teacher.grid) == ('pts_neck', 0, [32, 32])
    assert (teacher.extent, student.extent) == ([-40, -40, 40, 40], [-30, -40, 30, 40])
    assert (student.module, student.grid) == ('bev_encoder', [32, 24])
    assert (cfg.model.teacher.inputs, cfg.model.student_inputs) == (['points'], ['img'])
    # Both are loaded for it.
    packing = cfg.train_dataloader.dataset.pipeline[-1]
    assert packing['keys'] == ['points', 'img', 'gt_bboxes_3d', 'gt_labels_3d']

    # What has to be copied is on one line each, however narrow the terminal.
    lines = [re.split(r'\s{2,}', line) for line in text.splitlines()]
    for row in (
        ['→', 'pts_neck:0', '1 x 16 x 32 x 32', 'channels_first', '32 x 32', '2.5 m'],
        ['→', 'bev_encoder', '1 x 16 x 32 x 24', 'channels_first', '32 x 24', '2.5 m'],
    ):
        assert row in lines
    trained = re.findall(r'^  python \S*train\.py (\S+)$', text, re.M)
    assert trained == [
        str(config_of(TEACHER)),
        str(config_of(STUDENT)),
        'configs/bottleneck_pair.py',
        'configs/ciba_pair_h4.py',
        'configs/mse_pair.py',
    ]
    assert f'test.py {config_of(STUDENT)} work_dirs/ciba_pair_h4/epoch_1.pth' in text


@pytest.mark.parametrize('student', [STUDENT, 'bevformer'])
def test_every_hook_is_given_once(workplace, student):
    """Those that a student has by default are not added; one of another project has none."""
    (ciba, bottleneck, *_), _ = new_pair(config_of(TEACHER), config_of(student))
    shared = ['DistillationRecordHook', 'LossAveragingHook']
    for file, expected in ((ciba, [*shared, 'SpectrumHook']), (bottleneck, shared)):
        cfg = Config.fromfile(str(file))
        hooks = [*cfg.default_hooks.values(), *(cfg.get('custom_hooks') or [])]
        names = [hook.type.replace('ciba_bev.', '') for hook in hooks]
        ours = {'DistillationRecordHook', 'LossAveragingHook', 'SpectrumHook'}
        assert sorted(name for name in names if name in ours) == expected


def test_the_written_configs_train(workplace):
    weights = []
    for name in (TEACHER, STUDENT):
        cfg = Config.fromfile(str(config_of(name)))
        torch.manual_seed(len(name))
        with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
            torch.save({'state_dict': registry.build(cfg.model).state_dict()}, f'{name}.pth')
        weights.append(f'{name}.pth')
    (ciba, bottleneck, _), text = new_pair(
        config_of(TEACHER),
        config_of(STUDENT),
        '--teacher-checkpoint',
        weights[0],
        '--student-checkpoint',
        weights[1],
    )
    assert 'whose weights are not at' not in text

    values = train(bottleneck)
    assert all(values[f'train/h{size}.loss_generation'] > 0 for size in (2, 4, 8))
    # The distillation asks for the last of three epochs; one was enough here.
    folder = Path('work_dirs', 'bottleneck_pair')
    (folder / 'epoch_1.pth').rename(folder / 'epoch_3.pth')
    assert train(ciba)['train/loss_distillation'] > 0


def test_a_map_of_the_image_is_not_taken_for_one_of_the_ground(workplace):
    student = workplace / 'image_student.py'
    student.write_text(
        f"""
_base_ = [{str(config_of('picture_classifier'))!r}]
train_dataloader = dict(dataset=dict(inputs=['picture']))
"""
    )
    with pytest.raises(CibaError, match=r'no point_cloud_range, .* which area the') as raised:
        new_pair(config_of(TEACHER), student, '--student-tap', 'backbone.0')
    assert str(student) in str(raised.value)
    assert not (workplace / 'configs').exists()


def test_no_config_that_is_read_is_replaced(workplace):
    mine = Path('configs', 'ciba_pair_h4.py')
    mine.parent.mkdir(exist_ok=True)
    Config.fromfile(config_of(STUDENT)).dump(mine)
    before = mine.read_text()
    with pytest.raises(CibaError, match=r'ciba_pair_h4\.py: this file is read'):
        new_pair(config_of(TEACHER), mine)
    assert mine.read_text() == before
    assert list(mine.parent.iterdir()) == [mine]


def test_taps_are_listed_when_none_fits(workplace):
    console = Console(record=True, width=60)
    args = parse_args(
        [str(config_of(TEACHER)), str(config_of(STUDENT)), '--teacher-tap', 'pts_nek']
    )
    with pytest.raises(CibaError, match="no submodule 'pts_nek'"):
        create_pair(args, console)
    text = console.export_text()
    assert 'pts_neck:0' in text
    assert 'bev_encoder' in text
    assert '→' not in text


def test_missing_data_are_named_with_what_makes_some(workplace):
    (workplace / 'data' / 'simulated').unlink()
    with pytest.raises(CibaError) as raised:
        new_pair(config_of(TEACHER), config_of(STUDENT))
    message = str(raised.value)
    assert 'data/simulated/nuscenes_infos_val.pkl' in message
    for command in ('tools/simulate_nuscenes.py --out DIR', 'tools/create_data.py --root-path DIR'):
        assert command in message


def test_an_input_that_no_transform_loads_is_named():
    def model(role: str, name: str) -> PairModel:
        cfg = Config({'val_dataloader': {'dataset': {'pipeline': [{'type': 'LoadRadar'}]}}})
        return PairModel(role, f'{role}.py', '', cfg, {'inputs': {name: []}}, None, [], None, '')

    loader = {'dataset': {'pipeline': [{'type': 'Pack', 'keys': ['img']}]}}
    with pytest.raises(ConfigError) as raised:
        add_inputs(loader, model('student', 'img'), model('teacher', 'radar'))
    message = str(raised.value)
    assert "cannot add 'radar' to the student's pipeline automatically" in message
    assert 'teacher.py' in message
    assert 'student.py' in message


def test_features_are_read_from_mmdet3ds_own_data_sets():
    """Within mmdet3d's scope types have no prefix; frames without annotations must stay."""
    init_default_scope('mmdet3d')
    inner = dict(type='NuScenesDataset', pipeline=['augmented'])
    train_loader = dict(dataset=dict(type='CBGSDataset', dataset=inner))
    val_loader = dict(dataset=dict(type='NuScenesDataset', pipeline=['plain']))
    read_features_only(train_loader, val_loader)
    assert train_loader['dataset']['dataset'] == dict(
        type='NuScenesDataset', pipeline=['plain'], filter_empty_gt=False
    )
