"""Parity with the reference implementations, and what the comparison makes of bad recordings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from parity import compare_with_recording

from ciba_bev.detection.bevformer import BEVFormerHead
from ciba_bev.detection.object_dgcnn import ObjectDGCNNHead
from ciba_bev.errors import CibaError

PROJECT = Path(__file__).resolve().parents[2]
RECORDINGS = PROJECT.parent / 'shared' / 'parity'
NAMES = ['object_dgcnn.pt', 'bevformer_single_frame.pt', 'bevformer_temporal.pt']
RANGE = [-40.0, -20.0, -5.0, 40.0, 60.0, 3.0]


@pytest.fixture(scope='module')
def recordings():
    if not RECORDINGS.is_dir():
        pytest.skip(f'the recordings of the reference implementations are not at {RECORDINGS}')
    return [RECORDINGS / name for name in NAMES]


@pytest.fixture
def dgcnn_recording():
    return record_dgcnn()


def with_weights(recording, change):
    """A copy of a recording whose weights went through ``change``."""
    return {**recording, 'state_dict': change(dict(recording['state_dict']))}


def record(head, config, inputs, outputs):
    state = {f'pts_bbox_head.{name}': value for name, value in head.state_dict().items()}
    return dict(config=config, state_dict=state, inputs=inputs, outputs=outputs)


def scramble(head):
    """Every weight takes part: those that start at zero would hide a mistake."""
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return head.eval()


def record_dgcnn(self_attention='graph', heads=2, levels=2, points=3, layers=2, encoder_layers=1):
    shapes = [(6, 8), (3, 4), (2, 2)][:levels]
    config = dict(
        embed_dims=16,
        encoder_layers=encoder_layers,
        num_layers=layers,
        num_heads=heads,
        num_points=points,
        num_levels=levels,
        feature_shapes=shapes,
        num_query=9,
        feedforward_channels=24,
        pc_range=RANGE,
    )
    if self_attention == 'graph':
        config['knn'] = 5
    head = scramble(
        ObjectDGCNNHead(
            num_classes=4,
            embed_dims=16,
            num_levels=levels,
            num_query=9,
            point_cloud_range=RANGE,
            encoder_layers=encoder_layers,
            decoder_layers=layers,
            num_heads=heads,
            num_points=points,
            feedforward_channels=24,
            self_attention=self_attention,
            num_neighbors=5,
        )
    )
    inputs = dict(mlvl_feats=[torch.randn(2, 16, *shape) for shape in shapes])
    with torch.no_grad():
        return record(head, config, inputs, head(inputs['mlvl_feats']))


def record_bevformer(
    batch=1, cams=3, heads=2, levels=2, points=4, heights=2, temporal_points=4, temporal=True
):
    shapes = [(4, 6), (2, 3), (1, 2)][:levels]
    config = dict(
        embed_dims=16,
        num_layers=2,
        num_heads=heads,
        num_points=points,
        num_points_in_pillar=heights,
        bev_h=5,
        bev_w=7,
        num_levels=levels,
        feature_shapes=shapes,
        img_hw=(32, 48),
        num_query=6,
        feedforward_channels=24,
        pc_range=RANGE,
        rotate_center=[3, 2],
        temporal=temporal,
    )
    head = scramble(
        BEVFormerHead(
            num_classes=4,
            embed_dims=16,
            num_query=6,
            bev_h=5,
            bev_w=7,
            point_cloud_range=RANGE,
            num_cams=cams,
            num_levels=levels,
            encoder_layers=2,
            decoder_layers=2,
            num_heads=heads,
            num_spatial_points=points,
            num_temporal_points=temporal_points,
            num_points_in_pillar=heights,
            feedforward_channels=24,
            rotate_center=[3, 2],
        )
    )
    lidar2img = torch.randn(batch, cams, 4, 4) * 20
    can_bus = torch.randn(batch, 18)
    inputs = dict(
        mlvl_feats=[torch.randn(batch, cams, 16, *shape) for shape in shapes],
        lidar2img=lidar2img if batch > 1 else lidar2img[0],
        can_bus=can_bus if batch > 1 else can_bus[0],
        prev_bev=torch.randn(batch, 35, 16) if temporal else None,
    )
    with torch.no_grad():
        bev = head.encode_bev(
            inputs['mlvl_feats'], lidar2img, (32, 48), can_bus, inputs['prev_bev']
        )
        outputs = dict(bev_embed=bev.transpose(0, 1), **head(bev))
    return record(head, config, inputs, outputs)


def test_the_heads_agree_with_their_references(recordings):
    for path in recordings:
        comparisons = compare_with_recording(path)
        assert len(comparisons) == 3
        assert max(comparison.max_abs_err for comparison in comparisons) < 5e-5, path


@pytest.mark.parametrize(
    'changes',
    [
        dict(),
        dict(self_attention='multihead'),
        dict(heads=4, levels=3, points=1, layers=3, encoder_layers=2),
    ],
    ids=['graph', 'multihead', 'sizes'],
)
def test_a_recording_says_all_about_an_object_dgcnn_head(tmp_path, changes):
    torch.save(record_dgcnn(**changes), tmp_path / 'head.pt')
    comparisons = compare_with_recording(tmp_path / 'head.pt')
    assert [comparison.name for comparison in comparisons] == [
        'encoder_bev',
        'all_cls_scores',
        'all_bbox_preds',
    ]
    assert all(comparison.passed for comparison in comparisons)
    assert max(comparison.max_abs_err for comparison in comparisons) == 0


@pytest.mark.parametrize(
    'changes',
    [
        dict(),
        dict(temporal=False),
        dict(batch=2),
        dict(cams=1, heads=4, levels=3, points=6, heights=3, temporal_points=2),
    ],
    ids=['temporal', 'single frame', 'batch', 'sizes'],
)
def test_a_recording_says_all_about_a_bevformer_head(tmp_path, changes):
    torch.save(record_bevformer(**changes), tmp_path / 'head.pt')
    comparisons = compare_with_recording(tmp_path / 'head.pt')
    assert {comparison.name for comparison in comparisons} == {
        'bev_embed',
        'all_cls_scores',
        'all_bbox_preds',
    }
    assert max(comparison.max_abs_err for comparison in comparisons) == 0


def test_tolerance_grows_with_the_recorded_value(tmp_path, dgcnn_recording):
    outputs = dgcnn_recording['outputs']

    def passed(name, index, offset):
        changed = outputs[name].clone(memory_format=torch.contiguous_format)
        changed.view(-1)[index] += offset
        recording = {**dgcnn_recording, 'outputs': {name: changed}}
        torch.save(recording, tmp_path / 'head.pt')
        [comparison] = compare_with_recording(tmp_path / 'head.pt')
        assert comparison.max_abs_err == pytest.approx(abs(offset), rel=0.05)
        return comparison.passed

    small = int(outputs['encoder_bev'].abs().argmin())
    assert passed('encoder_bev', small, 0.8e-4)
    assert not passed('encoder_bev', small, 1.2e-4)
    large = int(outputs['all_bbox_preds'].abs().argmax())
    value = float(outputs['all_bbox_preds'].abs().max())
    assert value > 10
    assert passed('all_bbox_preds', large, 0.8e-4 * value)
    assert not passed('all_bbox_preds', large, -1.2e-4 * value)


def drop(name):
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def add(name):
    return lambda weights: {**weights, name: torch.zeros(1)}


FIRST_NORM = 'pts_bbox_head.transformer.encoder.layers.0.norms.0.weight'


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (
            lambda recording: with_weights(recording, drop(FIRST_NORM)),
            r'weights do not fit .*encoder\.layers\.0\.norms\.0\.weight',
        ),
        (
            lambda recording: with_weights(recording, add('pts_bbox_head.surplus')),
            'weights do not fit .*surplus',
        ),
        (
            lambda recording: with_weights(recording, drop('pts_bbox_head.cls_branches.0.6.bias')),
            r'cls_branches\.0\.6\.bias',
        ),
        (
            lambda recording: {
                **recording,
                'config': {k: v for k, v in recording['config'].items() if k != 'num_heads'},
            },
            'num_heads',
        ),
        (lambda recording: {**recording, 'inputs': dict()}, 'mlvl_feats'),
        (
            lambda recording: {**recording, 'outputs': dict(all_cls_scores=torch.zeros(1, 2))},
            r'all_cls_scores has shape \(2, 2, 9, 4\), recorded is \(1, 2\)',
        ),
        (
            lambda recording: {**recording, 'outputs': dict(all_scores=torch.zeros(1, 2))},
            'all_scores',
        ),
        (
            lambda recording: {k: v for k, v in recording.items() if k != 'outputs'},
            'not a recording, it lacks outputs',
        ),
        (lambda recording: torch.zeros(3), 'not a recording'),
    ],
    ids=[
        'missing weight',
        'surplus weight',
        'missing last bias',
        'missing setting',
        'missing input',
        'shape',
        'unknown output',
        'no outputs',
        'a tensor',
    ],
)
def test_a_bad_recording_is_refused_by_name(tmp_path, dgcnn_recording, spoil, message):
    path = tmp_path / 'spoilt.pt'
    torch.save(spoil(dgcnn_recording), path)
    with pytest.raises(CibaError, match=rf'(?s){re.escape(str(path))}: .*{message}'):
        compare_with_recording(path)


@pytest.mark.parametrize('content', [b'', b'not a recording', b'PK\x03\x04 torn'])
def test_a_file_that_is_no_recording_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'text.pt'
    path.write_bytes(content)
    with pytest.raises(CibaError, match=rf'{re.escape(str(path))}: .*not a recording'):
        compare_with_recording(path)
