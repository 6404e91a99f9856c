import json
import shutil

import numpy as np
import pytest
import tiny_models
import toy_training
from mmengine import dump, load
from mmengine.config import Config

from ciba_bev.engine.testing import keep_predictions, main, write_metrics
from ciba_bev.errors import CibaError


def test_metrics_are_strict_json(tmp_path):
    path = tmp_path / 'new_folder' / 'metrics.json'
    write_metrics({'mAP': np.float64(0.5), 'cone_orient_err': float('nan')}, path)

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {'mAP': 0.5, 'cone_orient_err': None}
    assert [file.name for file in path.parent.iterdir()] == ['metrics.json']


@pytest.mark.parametrize(
    ('addition', 'message'),
    [('test_dataloader = None\n', 'no test_dataloader'), ('', r'no checkpoint nowhere\.pth')],
)
def test_says_what_is_missing_before_building_anything(tmp_path, monkeypatch, addition, message):
    monkeypatch.setenv('CIBA_TRACEBACK', '1')
    config = toy_training.write_config(tmp_path / 'toy.py')
    config.write_text(config.read_text() + addition)
    with pytest.raises(CibaError, match=message):
        main([str(config), 'nowhere.pth', '--work-dir', str(tmp_path / 'work')])
    assert not (tmp_path / 'work').exists()


@pytest.fixture
def student(simulated_nuscenes, tmp_path, monkeypatch):
    """A tiny camera student with random weights: its config, checkpoint, and a work folder."""
    monkeypatch.setenv('CIBA_TRACEBACK', '1')
    config = tiny_models.write_student(tmp_path / 'student.py', simulated_nuscenes)
    checkpoint = tiny_models.write_checkpoint(config, tmp_path / 'student.pth')
    return config, checkpoint, tmp_path / 'work'


def test_submission_file(student, simulated_nuscenes):
    """Every frame of the split, in the work folder, and no scores."""
    config, checkpoint, work = student
    main([str(config), str(checkpoint), '--work-dir', str(work), '--format-only'])
    content = json.loads((work / 'predictions/pred_instances_3d/results_nusc.json').read_text())
    assert content['meta']['use_camera']
    assert not content['meta']['use_external']
    assert len(content['results']) == 7
    assert not list(work.rglob('metrics_summary.json'))


def test_the_test_split_gives_a_submission_and_no_scores(student, simulated_nuscenes, tmp_path):
    config, checkpoint, work = student
    infos = load(simulated_nuscenes / 'nuscenes_infos_val.pkl')
    infos['metainfo']['version'] = 'v1.0-test'
    for info in infos['data_list']:
        info['instances'] = []
    ann_file = str(tmp_path / 'nuscenes_infos_test.pkl')
    dump(infos, ann_file)
    command = [str(config), str(checkpoint), '--work-dir', str(work)]
    options = ['--cfg-options', f'test_dataloader.dataset.ann_file={ann_file}']
    options += [f'test_evaluator.ann_file={ann_file}']
    with pytest.raises(CibaError, match='--format-only'):
        main([*command, *options])
    main([*command, '--format-only', *options])
    content = json.loads((work / 'predictions/pred_instances_3d/results_nusc.json').read_text())
    assert set(content['results']) == {info['token'] for info in infos['data_list']}


def test_a_model_that_finds_nothing_scores_zero(student, tmp_path):
    config, checkpoint, work = student
    coder = 'model.pts_bbox_head.bbox_coder'
    main(
        [
            *(str(config), str(checkpoint), '--work-dir', str(work)),
            *('--out', str(tmp_path / 'scores.json'), '--cfg-options'),
            *(f'{coder}.type=ciba_bev.TopScoreBoxCoder', f'{coder}.score_threshold=0.99'),
        ]
    )
    scores = json.loads((tmp_path / 'scores.json').read_text())
    assert scores['NuScenes metric/pred_instances_3d_NuScenes/NDS'] == 0
    content = json.loads((work / 'predictions/pred_instances_3d/results_nusc.json').read_text())
    assert list(content['results'].values()) == [[]] * 7


def test_pictures_with_info_files_elsewhere(student, simulated_nuscenes, tmp_path):
    """Tables, images and points come from data_root, the info file from another folder."""
    config, checkpoint, work = student
    ann_file = tmp_path / 'elsewhere' / 'nuscenes_infos_val.pkl'
    ann_file.parent.mkdir()
    shutil.copy(simulated_nuscenes / ann_file.name, ann_file)
    main(
        [
            *(str(config), str(checkpoint), '--work-dir', str(work)),
            *('--show-dir', str(tmp_path / 'show'), '--show-count', '1', '--cfg-options'),
            f'test_dataloader.dataset.ann_file={ann_file}',
            f'test_evaluator.ann_file={ann_file}',
        ]
    )
    (picture,) = (tmp_path / 'show').iterdir()
    tokens = {info['token'] for info in load(ann_file)['data_list']}
    assert picture.stem in tokens


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--format-only'], r'--format-only needs predictions in nuScenes format'),
        (['--show-dir', 'x'], r'--show-dir needs predictions in nuScenes format'),
        (['--format-only', '--out', 'x.json'], '--out writes scores and --format-only computes'),
        (['--out', 'toy.py'], r'toy\.py: this file is read'),
        (['--out', 'toy.py/scores.json'], r'toy\.py/scores\.json: cannot be written'),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.setenv('CIBA_TRACEBACK', '1')
    monkeypatch.chdir(tmp_path)
    config = toy_training.write_config(tmp_path / 'toy.py')
    with pytest.raises(CibaError, match=message):
        main([str(config), 'nowhere.pth', '--work-dir', str(tmp_path / 'work'), *words])


def test_every_nuscenes_metric_of_a_list_keeps_its_results(tmp_path):
    own = dict(type='mmdet3d.NuScenesMetric', jsonfile_prefix=str(tmp_path / 'mine'))
    cfg = Config(
        dict(
            default_scope='mmdet3d',
            work_dir=str(tmp_path),
            test_evaluator=[
                dict(type='ciba_bev.BottleneckMetric'),
                dict(type='ciba_bev.NuScenesDetectionMetric'),
                own,
            ],
        )
    )
    files = keep_predictions(cfg, format_only=True)
    assert [file.relative_to(tmp_path).parts[0] for file in files] == ['predictions', 'mine']
    assert [evaluator.get('format_only') for evaluator in cfg.test_evaluator] == [None, True, True]
