"""Parity with the reference implementations, and how the comparison judges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity import compare_with_recording

from ciba_bev.detection.bevformer import BEVFormerHead
from ciba_bev.detection.object_dgcnn import ObjectDGCNNHead

PROJECT = Path(__file__).resolve().parents[2]
RECORDINGS = PROJECT.parent / 'shared' / 'parity'
NAMES = ['object_dgcnn.pt', 'bevformer_single_frame.pt', 'bevformer_temporal.pt']
RANGE = [-40.0, -20.0, -5.0, 40.0, 60.0, 3.0]


def record(head, config, inputs, outputs):
    state = {f'pts_bbox_head.{name}': value for name, value in head.state_dict().items()}
    return dict(config=config, state_dict=state, inputs=inputs, outputs=outputs)


def scramble(head):
    """Every weight takes part: those that start at zero would hide a mistake."""
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return head.eval()


def record_dgcnn():
    shapes = [(6, 8), (3, 4)]
    config = dict(
        embed_dims=16,
        encoder_layers=1,
        num_layers=2,
        num_heads=2,
        num_points=3,
        num_levels=2,
        feature_shapes=shapes,
        num_query=9,
        feedforward_channels=24,
        pc_range=RANGE,
        knn=5,
    )
    head = scramble(
        ObjectDGCNNHead(
            num_classes=4,
            embed_dims=16,
            num_levels=2,
            num_query=9,
            point_cloud_range=RANGE,
            encoder_layers=1,
            decoder_layers=2,
            num_heads=2,
            num_points=3,
            feedforward_channels=24,
            self_attention='graph',
            num_neighbors=5,
        )
    )
    inputs = dict(mlvl_feats=[torch.randn(2, 16, *shape) for shape in shapes])
    with torch.no_grad():
        return record(head, config, inputs, head(inputs['mlvl_feats']))


def record_bevformer():
    shapes = [(4, 6), (2, 3)]
    config = dict(
        embed_dims=16,
        num_layers=2,
        num_heads=2,
        num_points=4,
        num_points_in_pillar=2,
        bev_h=5,
        bev_w=7,
        num_levels=2,
        feature_shapes=shapes,
        img_hw=(32, 48),
        num_query=6,
        feedforward_channels=24,
        pc_range=RANGE,
        rotate_center=[3, 2],
        temporal=True,
    )
    head = scramble(
        BEVFormerHead(
            num_classes=4,
            embed_dims=16,
            num_query=6,
            bev_h=5,
            bev_w=7,
            point_cloud_range=RANGE,
            num_cams=3,
            num_levels=2,
            encoder_layers=2,
            decoder_layers=2,
            num_heads=2,
            num_spatial_points=4,
            num_temporal_points=4,
            num_points_in_pillar=2,
            feedforward_channels=24,
            rotate_center=[3, 2],
        )
    )
    inputs = dict(
        mlvl_feats=[torch.randn(1, 3, 16, *shape) for shape in shapes],
        lidar2img=torch.randn(3, 4, 4) * 20,
        can_bus=torch.randn(18),
        prev_bev=torch.randn(1, 35, 16),
    )
    with torch.no_grad():
        bev = head.encode_bev(
            inputs['mlvl_feats'],
            inputs['lidar2img'][None],
            (32, 48),
            inputs['can_bus'][None],
            inputs['prev_bev'],
        )
        outputs = dict(bev_embed=bev.transpose(0, 1), **head(bev))
    return record(head, config, inputs, outputs)


@pytest.mark.parametrize('name', NAMES)
def test_a_head_agrees_with_its_reference(name):
    if not RECORDINGS.parent.is_dir():
        pytest.skip(f'the recordings of the reference implementations are not at {RECORDINGS}')
    comparisons = compare_with_recording(RECORDINGS / name)
    assert len(comparisons) == 3
    assert max(comparison.max_abs_err for comparison in comparisons) < 5e-5


@pytest.mark.parametrize('record', [record_dgcnn, record_bevformer])
def test_a_head_agrees_with_its_own_recording(tmp_path, record):
    recording = record()
    torch.save(recording, tmp_path / 'head.pt')
    comparisons = compare_with_recording(tmp_path / 'head.pt')
    assert [comparison.name for comparison in comparisons] == list(recording['outputs'])
    assert len(comparisons) == 3
    assert all(comparison.passed and comparison.max_abs_err == 0 for comparison in comparisons)


def test_tolerance_grows_with_the_recorded_value(tmp_path):
    recording = record_dgcnn()
    outputs = recording['outputs']

    def passed(name, index, offset):
        changed = outputs[name].clone(memory_format=torch.contiguous_format)
        changed.view(-1)[index] += offset
        torch.save({**recording, 'outputs': {name: changed}}, tmp_path / 'head.pt')
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
