from pathlib import Path

import pytest
from mmengine.config import Config

from ciba_bev.engine.config_options import apply_options, read_config_file
from ciba_bev.errors import CibaError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
STUDENT = CONFIGS / 'quickstart_bevformer.py'


def paths_of(tree):
    """Every string of a nested config that has a slash and is no address."""
    if isinstance(tree, dict):
        return [path for value in tree.values() for path in paths_of(value)]
    if isinstance(tree, (list, tuple)):
        return [path for value in tree for path in paths_of(value)]
    return [tree] if isinstance(tree, str) and '/' in tree and '://' not in tree else []


def data_paths(cfg):
    return [
        path
        for stage in ('train', 'val', 'test')
        for part in (f'{stage}_dataloader', f'{stage}_evaluator')
        for path in paths_of(cfg.get(part))
        if 'samples/' not in path and 'sweeps/' not in path
    ]


def test_another_data_root_moves_every_path_below_the_old_one():
    assert all(path.startswith('data/simulated/') for path in data_paths(Config.fromfile(STUDENT)))
    cfg = read_config_file(STUDENT, {'data_root': '/else/where'})
    found = data_paths(cfg)
    assert len(found) == 7
    assert all(path.startswith('/else/where') for path in found)
    assert cfg.val_evaluator.ann_file == '/else/where/nuscenes_infos_val.pkl'
    assert cfg.data_root == '/else/where'


def test_what_another_option_gives_is_not_moved():
    options = {'val_dataloader.dataset.data_root': 'data/simulated/', 'data_root': '/else/'}
    cfg = read_config_file(STUDENT, options)
    assert cfg.val_dataloader.dataset.data_root == 'data/simulated/'
    assert cfg.train_dataloader.dataset.data_root == '/else/'


def child(folder, name, base, text):
    file = folder / name
    file.write_text(f"_base_ = ['{base}']\n{text}\n")
    return file


def test_a_config_on_top_of_another_may_state_data_root_alone(tmp_path):
    own = child(tmp_path, 'own.py', STUDENT, "data_root = '/mine/'")
    assert set(data_paths(read_config_file(own))) == {'/mine/', '/mine/nuscenes_infos_val.pkl'}
    # One on top of that inherits it; one that names a place itself keeps it.
    text = "val_dataloader = dict(dataset=dict(data_root='data/other/'))"
    further = read_config_file(child(tmp_path, 'further.py', own, text))
    assert further.train_dataloader.dataset.data_root == '/mine/'
    assert further.val_dataloader.dataset.data_root == 'data/other/'
    assert further.test_dataloader.dataset.data_root == '/mine/'


def test_loaders_that_were_moved_by_hand_stay(tmp_path):
    text = "train_dataloader = dict(dataset=dict(data_root='/mine/'))"
    cfg = read_config_file(child(tmp_path, 'own.py', STUDENT, text))
    assert cfg.train_dataloader.dataset.data_root == '/mine/'
    assert cfg.val_dataloader.dataset.data_root == 'data/simulated/'


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_reads_the_projects_own_configs_as_they_are(path):
    ours, plain = read_config_file(path).to_dict(), Config.fromfile(str(path)).to_dict()
    # A variable of nuscenes.py, which nothing reads once the loaders are made from it.
    for cfg in (ours, plain):
        cfg.pop('frames', None)
    assert ours == plain


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('optim_wraper.optimizer.lr', r'Did you mean optim_wrapper\.optimizer\.lr'),
        ('data.samples_per_gpu', r'it is train_dataloader\.batch_size'),
        ('data.train.ann_file', r'it is train_dataloader\.dataset\.ann_file'),
        ('optimizer.lr', r'it is optim_wrapper\.optimizer\.lr'),
        ('max_epochs', r'a variable of the config file.*train_cfg\.max_epochs'),
        ('class_names', r'train_dataloader\.dataset\.metainfo\.classes'),
        ('train_dataloader.bach_size', 'Did you mean batch_size'),
        ('train_cfg.max_epoch', 'Did you mean max_epochs'),
        ('optim_wrapper.optimizer.learning', 'optim_wrapper.optimizer has no learning'),
        ('model.pts_bbox_head.num_quer', 'Did you mean num_query'),
        ('model.img_backbone.with_cpp', 'Did you mean with_cp'),
        ('train_dataloader.dataset.pipeline.0.num_view', 'Did you mean num_views'),
        ('train_dataloader.dataset.pipeline.9.num_views', 'Index 9 exceeds'),
    ],
)
def test_an_option_that_would_change_nothing_is_refused_with_the_nearest_name(option, message):
    with pytest.raises(CibaError, match=f'--cfg-options {option}.*{message}'):
        read_config_file(STUDENT, {option: 1})


@pytest.mark.parametrize(
    'option',
    [
        'sync_bn',
        'experiment_name',
        'train_dataloader.prefetch_factor',
        'train_dataloader.drop_last',
        'test_dataloader.dataset.indices',
        'val_evaluator.format_only',
        'optim_wrapper.optimizer.amsgrad',
        'optim_wrapper.constructor',
        'model.img_backbone.with_cp',
        'param_scheduler.1.verbose',
        'default_hooks.checkpoint.save_best',
        'randomness.deterministic',
        'env_cfg.resource_limit',
    ],
)
def test_a_new_field_that_is_read_is_set(option, capsys):
    cfg = read_config_file(STUDENT, {option: 7})
    part = cfg
    for name in option.split('.'):
        part = part[int(name)] if isinstance(part, list) else part[name]
    assert part == 7
    assert capsys.readouterr().err == ''


def test_a_component_that_an_option_brings_is_asked_for_its_own_fields():
    coder = 'model.pts_bbox_head.bbox_coder'
    options = {f'{coder}.type': 'ciba_bev.TopScoreBoxCoder', f'{coder}.score_threshold': 0.9}
    head = read_config_file(STUDENT, options).model.pts_bbox_head
    assert head.bbox_coder.score_threshold == 0.9
    with pytest.raises(CibaError, match='Did you mean score_threshold'):
        read_config_file(STUDENT, {**options, f'{coder}.score_treshold': 0.9})


def test_a_doubtful_field_of_a_part_without_a_type_is_warned_of(capsys):
    apply_options(Config.fromfile(STUDENT), {'randomness.seeed': 1})
    assert 'randomness had no seeed; seed is in it' in capsys.readouterr().err


def test_a_misspelt_field_of_a_config_file_is_refused(tmp_path):
    own = child(tmp_path, 'own.py', STUDENT, 'optim_wraper = dict(optimizer=dict(lr=1e-5))')
    with pytest.raises(CibaError, match=r'nothing reads optim_wraper\. Did you mean optim_wrapper'):
        read_config_file(own)
    text = 'param_schedulers = [dict(type="LinearLR")]\nparam_scheduler = param_schedulers'
    read_config_file(child(tmp_path, 'variable.py', STUDENT, text))


def test_without_loading_processes_there_are_none_to_keep(tmp_path):
    options = {'train_dataloader.num_workers': 0, 'train_dataloader.prefetch_factor': 2}
    cfg = read_config_file(STUDENT, options)
    assert 'persistent_workers' not in cfg.train_dataloader
    assert 'prefetch_factor' not in cfg.train_dataloader
    assert cfg.val_dataloader.persistent_workers
