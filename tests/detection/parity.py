"""Numerical comparison of the two heads with recorded runs of their reference implementations.

A recording is a ``.pt`` file with ``config``, ``state_dict`` (the reference's parameter names),
``inputs`` and ``outputs``; it says everything needed to rebuild the head, at any size.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ciba_bev.detection.bevformer import BEVFormerHead
from ciba_bev.detection.object_dgcnn import ObjectDGCNNHead

RELATIVE_TOLERANCE = 1e-4
PREFIX = 'pts_bbox_head.'


class Comparison(NamedTuple):
    """How far one output is from its recording."""

    name: str
    max_abs_err: float
    passed: bool  # every value within RELATIVE_TOLERANCE x max(1, |recorded value|)


def compare_with_recording(path: str | Path) -> list[Comparison]:
    """Rebuild a recorded head, run it, and compare every output.

    Args:
        path: A recording.

    Returns:
        One comparison per recorded output.
    """
    recording = torch.load(path, map_location='cpu', weights_only=True)
    config, weights = recording['config'], recording['state_dict']
    weights = {name[len(PREFIX) :]: tensor for name, tensor in weights.items()}
    is_bevformer = 'bev_h' in config
    build, run = (_bevformer_head, _run_bevformer) if is_bevformer else (_dgcnn_head, _run_dgcnn)
    head = build(config, weights).eval()
    head.load_state_dict(weights, strict=True)
    with torch.no_grad():
        outputs = run(head, recording['inputs'], config)
    return [
        _compare(name, outputs[name], recorded) for name, recorded in recording['outputs'].items()
    ]


def _bevformer_head(config: dict, weights: dict[str, Tensor]) -> BEVFormerHead:
    heads = config['num_heads']
    # Numbers a recording leaves out can be read off the shapes of its weights.
    temporal = weights['transformer.encoder.layers.0.attentions.0.attention_weights.bias']
    return BEVFormerHead(
        num_classes=weights['cls_branches.0.6.bias'].numel(),
        embed_dims=config['embed_dims'],
        num_query=config['num_query'],
        bev_h=config['bev_h'],
        bev_w=config['bev_w'],
        point_cloud_range=config['pc_range'],
        num_cams=len(weights['transformer.cams_embeds']),
        num_levels=config['num_levels'],
        encoder_layers=config.get('encoder_layers', config['num_layers']),
        decoder_layers=config['num_layers'],
        num_heads=heads,
        num_spatial_points=config['num_points'],
        num_temporal_points=temporal.numel() // (2 * heads),
        num_points_in_pillar=config['num_points_in_pillar'],
        feedforward_channels=config['feedforward_channels'],
        rotate_center=config['rotate_center'],
    )


def _dgcnn_head(config: dict, weights: dict[str, Tensor]) -> ObjectDGCNNHead:
    is_graph = 'transformer.decoder.layers.0.attentions.0.conv1.0.weight' in weights
    return ObjectDGCNNHead(
        num_classes=weights['cls_branches.0.6.bias'].numel(),
        embed_dims=config['embed_dims'],
        num_levels=config['num_levels'],
        num_query=config['num_query'],
        point_cloud_range=config['pc_range'],
        encoder_layers=config['encoder_layers'],
        decoder_layers=config['num_layers'],
        num_heads=config['num_heads'],
        num_points=config['num_points'],
        feedforward_channels=config['feedforward_channels'],
        self_attention='graph' if is_graph else 'multihead',
        num_neighbors=config.get('knn', 16),
    )


def _run_bevformer(head: BEVFormerHead, inputs: dict, config: dict) -> dict[str, Tensor]:
    lidar2img, can_bus = inputs['lidar2img'].float(), inputs['can_bus'].float()
    bev_embed = head.encode_bev(
        inputs['mlvl_feats'],
        lidar2img if lidar2img.dim() == 4 else lidar2img[None],
        tuple(config['img_hw']),
        can_bus if can_bus.dim() == 2 else can_bus[None],
        inputs['prev_bev'],
    )
    # Recordings keep the reference's (H * W, B, C) layout.
    return dict(bev_embed=bev_embed.transpose(0, 1), **head(bev_embed))


def _run_dgcnn(head: ObjectDGCNNHead, inputs: dict, config: dict) -> dict[str, Tensor]:
    return head(inputs['mlvl_feats'])


def _compare(name: str, output: Tensor, recorded: Tensor) -> Comparison:
    assert output.shape == recorded.shape, name
    error = (output.double() - recorded.double()).abs()
    allowed = RELATIVE_TOLERANCE * recorded.double().abs().clamp(min=1)
    return Comparison(name, float(error.max()), bool((error <= allowed).all()))
