"""The head of Object-DGCNN: from a BEV pyramid to boxes."""

from __future__ import annotations

from typing import Sequence

from mmdet.models.layers import SinePositionalEncoding
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ...errors import ConfigError
from ...registry import MODELS
from ..set_prediction_head import DEFAULT_CODE_WEIGHTS, SetPredictionHead
from .transformer import ObjectDGCNNTransformer


@MODELS.register_module()
class ObjectDGCNNHead(SetPredictionHead):
    """Detect objects in a BEV pyramid with a set of queries (Object-DGCNN, Sec. 3).

    Args:
        num_classes: Object classes.
        embed_dims: Channels of every level of the pyramid.
        num_levels: Levels of the pyramid.
        num_query: Object queries.
        point_cloud_range: Range of the BEV features, (x_min, y_min, z_min, x_max, y_max, z_max)
            in metres, LiDAR frame; row 0 is at y_min, column 0 at x_min.
        encoder_layers: Layers of the deformable encoder.
        decoder_layers: Layers of the decoder.
        num_heads: Heads of every attention.
        num_points: Samples per head and level.
        feedforward_channels: Hidden channels of the feed-forward parts.
        self_attention: ``'graph'`` (DGCNN) or ``'multihead'``.
        num_neighbors: K of the graph attention.
        dropout: Dropout of the transformer.
        code_weights: Weights of the ten regressed numbers in the box loss.
        bbox_coder: See :class:`SetPredictionHead`.
        matcher: See :class:`SetPredictionHead`.
        loss_cls: See :class:`SetPredictionHead`.
        loss_bbox: See :class:`SetPredictionHead`.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(
        self,
        num_classes: int = 10,
        embed_dims: int = 256,
        num_levels: int = 4,
        num_query: int = 300,
        point_cloud_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        encoder_layers: int = 2,
        decoder_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        feedforward_channels: int = 512,
        self_attention: str = 'graph',
        num_neighbors: int = 16,
        dropout: float = 0.1,
        code_weights: Sequence[float] = DEFAULT_CODE_WEIGHTS,
        bbox_coder: dict | None = None,
        matcher: dict | None = None,
        loss_cls: dict | None = None,
        loss_bbox: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            embed_dims=embed_dims,
            num_query=num_query,
            num_decoder_layers=decoder_layers,
            point_cloud_range=point_cloud_range,
            code_weights=code_weights,
            bbox_coder=bbox_coder,
            matcher=matcher,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            init_cfg=init_cfg,
        )
        self.num_levels = num_levels
        self.positional_encoding = SinePositionalEncoding(
            embed_dims // 2, normalize=True, offset=-0.5
        )
        self.transformer = ObjectDGCNNTransformer(
            embed_dims=embed_dims,
            num_levels=num_levels,
            num_heads=num_heads,
            num_points=num_points,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            feedforward_channels=feedforward_channels,
            self_attention=self_attention,
            num_neighbors=num_neighbors,
            dropout=dropout,
        )

    def forward(self, bev_levels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Detect in a batch.

        Args:
            bev_levels: BEV features, finest first, each (B, embed_dims, h, w).

        Returns:
            ``encoder_bev``, the deformable encoder's output on the first level (B, C, h, w);
            ``all_cls_scores`` (layers, B, Q, classes) logits; ``all_bbox_preds``
            (layers, B, Q, 10) codes in metres.

        Raises:
            ConfigError: The number of levels is not ``num_levels``.
        """
        if len(bev_levels) != self.num_levels:
            raise ConfigError(
                f'the head was built with num_levels={self.num_levels}, but the neck gives '
                f'{len(bev_levels)} BEV levels; set num_outs of the neck or num_levels to match'
            )
        positions = []
        for level in bev_levels:
            mask = level.new_zeros((len(level), *level.shape[-2:]), dtype=bool)
            positions.append(self.positional_encoding(mask).to(level.dtype))
        encoded, states, references = self.transformer(
            list(bev_levels), positions, self.query_embedding.weight, self.reg_branches
        )
        return dict(encoder_bev=encoded, **self.predict_codes(states, references))

    def loss(
        self, bev_levels: Sequence[Tensor], data_samples: list[Det3DDataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            bev_levels: See :meth:`forward`.
            data_samples: Data samples with ground truth.

        Returns:
            See :meth:`SetPredictionHead.loss_by_outputs`.
        """
        return self.loss_by_outputs(self(bev_levels), data_samples)

    def predict(
        self, bev_levels: Sequence[Tensor], data_samples: list[Det3DDataSample]
    ) -> list[InstanceData]:
        """Detect objects in a batch.

        Args:
            bev_levels: See :meth:`forward`.
            data_samples: Data samples.

        Returns:
            See :meth:`SetPredictionHead.predict_by_outputs`.
        """
        return self.predict_by_outputs(self(bev_levels), data_samples)
