"""The nuScenes metric at the ends a test can come to: nothing found, no scores, no annotations."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmdet3d.evaluation import NuScenesMetric
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine import dump, load

from ciba_bev.detection.nuscenes.metric import (
    META_FLAGS,
    NuScenesDetectionMetric,
    check_submission,
    split_tokens,
)
from ciba_bev.errors import CibaError

CLASSES = [
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
]
FRAMES = 7


def make(root: Path, metric=NuScenesDetectionMetric, version='v1.0-mini', **options):
    ann_file = str(root / 'nuscenes_infos_val.pkl')
    made = metric(**{'data_root': str(root), 'ann_file': ann_file, **options})
    made.dataset_meta = {'classes': CLASSES, 'version': version}
    return made


def give(metric, boxes_in_frame, frames=FRAMES):
    """Predict the same boxes (x, y, z, l, w, h, yaw, vx, vy, label, score) in every frame."""
    rows = torch.tensor(boxes_in_frame, dtype=torch.float32).reshape(-1, 11)
    for index in range(frames):
        prediction = {
            'bboxes_3d': LiDARInstance3DBoxes(rows[:, :9].clone(), box_dim=9),
            'labels_3d': rows[:, 9].long(),
            'scores_3d': rows[:, 10].clone(),
        }
        sample = {'pred_instances_3d': prediction, 'pred_instances': {}, 'sample_idx': index}
        metric.process({}, [sample])
    return metric


def scores_of(metric, frames=FRAMES):
    return {name.split('/', 1)[1]: value for name, value in metric.evaluate(frames).items()}


TRUCK_UP_IN_THE_AIR = [20, 20, 40, 0.1, 0.1, 0.1, 0, 0, 0, 1, 0.01]


def test_scores_are_those_of_mmdet3d(simulated_nuscenes):
    """Every annotated car, shifted by 0.7 m: hits at some of the distances and not at others."""
    infos = load(simulated_nuscenes / 'nuscenes_infos_val.pkl')['data_list']
    found = []
    for metric in (NuScenesMetric, NuScenesDetectionMetric):
        metric = make(simulated_nuscenes, metric)
        for index, info in enumerate(infos):
            rows = [
                [x + 0.7, y, z, *size, yaw, 0.0, 0.0, 0, 0.9]
                for x, y, z, *size, yaw in (instance['bbox_3d'] for instance in info['instances'])
            ]
            rows = torch.tensor(rows)
            prediction = {
                'bboxes_3d': LiDARInstance3DBoxes(rows[:, :9], box_dim=9),
                'labels_3d': rows[:, 9].long(),
                'scores_3d': rows[:, 10],
            }
            sample = {'pred_instances_3d': prediction, 'pred_instances': {}, 'sample_idx': index}
            metric.process({}, [sample])
        found.append(scores_of(metric))
    assert found[1].keys() == found[0].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, nan_ok=True), name
    assert 0 < found[1]['pred_instances_3d_NuScenes/car_AP_dist_1.0'] < 1
    assert found[1]['pred_instances_3d_NuScenes/car_AP_dist_0.5'] == 0


def test_nothing_found_scores_what_the_devkit_gives_for_nothing_hit(simulated_nuscenes, tmp_path):
    with pytest.raises(Exception, match='Invalid box type'):
        scores_of(give(make(simulated_nuscenes, NuScenesMetric), []))
    expected = scores_of(give(make(simulated_nuscenes, NuScenesMetric), [TRUCK_UP_IN_THE_AIR]))
    found = scores_of(give(make(simulated_nuscenes, jsonfile_prefix=str(tmp_path)), []))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name
    assert found['pred_instances_3d_NuScenes/NDS'] == 0
    folder = tmp_path / 'pred_instances_3d'
    assert json.loads((folder / 'metrics_summary.json').read_text())['mean_ap'] == 0
    results = json.loads((folder / 'results_nusc.json').read_text())['results']
    assert list(results.values()) == [[]] * FRAMES


@pytest.mark.parametrize('keep', [True, False])
def test_results_survive_a_scoring_that_fails(simulated_nuscenes, tmp_path, keep, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    folder = tmp_path / ('kept' if keep else 'temporary')
    metric = make(simulated_nuscenes, jsonfile_prefix=str(folder) if keep else None)
    give(metric, [TRUCK_UP_IN_THE_AIR], frames=3)
    with pytest.raises(CibaError, match=r"Samples in split doesn't match(.|\n)*kept in") as error:
        scores_of(metric, frames=3)
    (file,) = folder.rglob('results_nusc.json')
    assert str(file) in str(error.value)
    assert '--eval_set mini_val' in str(error.value)
    assert len(json.loads(file.read_text())['results']) == 3


def test_temporary_results_are_removed(simulated_nuscenes, tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    scores_of(give(make(simulated_nuscenes), [TRUCK_UP_IN_THE_AIR]))
    assert list(tmp_path.iterdir()) == []


def test_a_submission_has_what_the_server_asks_for(simulated_nuscenes, tmp_path):
    metric = make(
        simulated_nuscenes,
        format_only=True,
        jsonfile_prefix=str(tmp_path),
        modality=dict(use_camera=True, use_lidar=False),
    )
    assert scores_of(give(metric, [TRUCK_UP_IN_THE_AIR])) == {}
    file = tmp_path / 'pred_instances_3d' / 'results_nusc.json'
    content = json.loads(file.read_text())
    assert content['meta'] == {flag: flag == 'use_camera' for flag in META_FLAGS}
    infos = load(simulated_nuscenes / 'nuscenes_infos_val.pkl')['data_list']
    assert set(content['results']) == {info['token'] for info in infos}
    assert set(content['results']) == split_tokens(str(simulated_nuscenes), 'v1.0-mini')


def test_the_test_split_is_formatted_and_not_scored(simulated_nuscenes, tmp_path):
    """Frames without annotations, as v1.0-test has them."""
    content = load(simulated_nuscenes / 'nuscenes_infos_val.pkl')
    content['metainfo']['version'] = 'v1.0-test'
    for info in content['data_list']:
        del info['instances']
    ann_file = str(tmp_path / 'nuscenes_infos_test.pkl')
    dump(content, ann_file)
    with pytest.raises(CibaError, match=r'not public(.|\n)*--format-only'):
        make(simulated_nuscenes, version='v1.0-test', ann_file=ann_file)
    metric = make(
        simulated_nuscenes,
        version='v1.0-test',
        ann_file=ann_file,
        format_only=True,
        jsonfile_prefix=str(tmp_path),
    )
    assert scores_of(give(metric, [TRUCK_UP_IN_THE_AIR])) == {}


def test_a_part_of_the_frames_is_no_submission(simulated_nuscenes, tmp_path):
    metric = make(simulated_nuscenes, format_only=True, jsonfile_prefix=str(tmp_path))
    with pytest.raises(CibaError, match=r'results_nusc\.json: lacks 4 samples'):
        scores_of(give(metric, [TRUCK_UP_IN_THE_AIR], frames=3), frames=3)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: content['meta'].pop('use_map'), 'use_map'),
        (lambda content: content['results']['a'][0].update(detection_name='tram'), 'tram'),
        (lambda content: content['results']['a'][0].update(attribute_name='flying'), 'flying'),
        (lambda content: content['results']['a'][0].update(translation=[0, 0, math.nan]), 'NaN'),
        (lambda content: content['results']['a'].extend(content['results']['a'] * 500), '500'),
        (lambda content: content['results'].update(b=[]), 'has too many: 1 samples, among them b'),
        (lambda content: content['results'].clear(), 'lacks 1 samples, among them a'),
    ],
)
def test_what_the_server_refuses(tmp_path, change, message):
    box = dict(
        sample_token='a',
        translation=[1.0, 2.0, 3.0],
        size=[1.0, 2.0, 3.0],
        rotation=[1.0, 0.0, 0.0, 0.0],
        velocity=[0.0, 0.0],
        detection_name='car',
        detection_score=0.5,
        attribute_name='vehicle.parked',
    )
    content = {'meta': dict.fromkeys(META_FLAGS, False), 'results': {'a': [box]}}
    file = tmp_path / 'results_nusc.json'
    file.write_text(json.dumps(content))
    assert check_submission(file, ['a']) == 1
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(CibaError, match=message):
        check_submission(file, ['a'])


def test_too_many_boxes_are_refused_with_the_first_frame(simulated_nuscenes):
    with pytest.raises(CibaError, match=r'501 boxes(.|\n)*max_num'):
        give(make(simulated_nuscenes), [TRUCK_UP_IN_THE_AIR] * 501, frames=1)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(version='v2.0'), "version 'v2.0'"),
        (dict(format_only=True), 'jsonfile_prefix'),
    ],
)
def test_bad_arguments(simulated_nuscenes, options, message):
    with pytest.raises(CibaError, match=message):
        make(simulated_nuscenes, **options)
