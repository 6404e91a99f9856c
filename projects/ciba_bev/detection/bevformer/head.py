"""The head of BEVFormer: from image features to a BEV feature and boxes."""

from __future__ import annotations

from typing import Sequence

from mmdet.models.layers import LearnedPositionalEncoding
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS
from ..set_prediction_head import DEFAULT_CODE_WEIGHTS, SetPredictionHead
from .transformer import BEVFormerTransformer


@MODELS.register_module()
class BEVFormerHead(SetPredictionHead):
    """Compute a BEV feature from cameras and detect objects in it (BEVFormer, Sec. 3).

    Args:
        num_classes: Object classes.
        embed_dims: Channels of image features and BEV feature.
        num_query: Object queries.
        bev_h: Cells of the BEV grid along y.
        bev_w: Cells of the BEV grid along x.
        point_cloud_range: Range of the BEV grid, (x_min, y_min, z_min, x_max, y_max, z_max) in
            metres, LiDAR frame; row 0 is at y_min, column 0 at x_min.
        num_cams: Cameras.
        num_levels: Levels of the image features.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        num_heads: Heads of every attention.
        num_spatial_points: Samples per head and image level.
        num_temporal_points: Samples per head and BEV feature, in encoder and decoder.
        num_points_in_pillar: Number of heights of the reference points of a BEV cell.
        feedforward_channels: Hidden channels of the feed-forward parts.
        rotate_center: The cell (x, y) about which the previous BEV feature is rotated; None for
            the cell of the LiDAR.
        dropout: Dropout of the transformer.
        with_cp: Whether to recompute encoder layers in the backward pass, which saves memory.
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
        num_query: int = 900,
        bev_h: int = 128,
        bev_w: int = 128,
        point_cloud_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        num_cams: int = 6,
        num_levels: int = 4,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        num_heads: int = 8,
        num_spatial_points: int = 8,
        num_temporal_points: int = 4,
        num_points_in_pillar: int = 4,
        feedforward_channels: int = 512,
        rotate_center: Sequence[float] | None = None,
        dropout: float = 0.1,
        with_cp: bool = False,
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
        self.bev_shape = (bev_h, bev_w)
        self.num_levels = num_levels
        self.bev_embedding = nn.Embedding(bev_h * bev_w, embed_dims)
        # Standard normal, as in the reference, which does not call mmengine's initialisation.
        self.positional_encoding = LearnedPositionalEncoding(
            embed_dims // 2, bev_h, bev_w, init_cfg=None
        )
        self.transformer = BEVFormerTransformer(
            bev_shape=self.bev_shape,
            point_cloud_range=point_cloud_range,
            embed_dims=embed_dims,
            num_cams=num_cams,
            num_levels=num_levels,
            num_heads=num_heads,
            num_spatial_points=num_spatial_points,
            num_temporal_points=num_temporal_points,
            num_heights=num_points_in_pillar,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            feedforward_channels=feedforward_channels,
            rotate_center=rotate_center,
            dropout=dropout,
            with_cp=with_cp,
        )

    def encode_positions(self) -> Tensor:
        """Return the positional encoding of the BEV cells, (bev_h * bev_w, C)."""
        mask = self.bev_embedding.weight.new_zeros((1, *self.bev_shape))
        # mmdet's has the channels first; every layer would read across its memory.
        return self.positional_encoding(mask)[0].flatten(1).t().contiguous()

    def encode_bev(
        self,
        image_levels: Sequence[Tensor],
        lidar2img: Tensor,
        image_shape: tuple[int, int],
        can_bus: Tensor,
        prev_bev: Tensor | None = None,
        has_previous: Tensor | None = None,
        bev_positions: Tensor | None = None,
    ) -> Tensor:
        """Compute the BEV feature of one time step.

        Args:
            image_levels: Image features, each (B, cameras, C, h, w).
            lidar2img: (B, cameras, 4, 4), LiDAR-frame metres to pixels.
            image_shape: Height and width of the images in pixels, padding included.
            can_bus: (B, 18), motion since the previous frame.
            prev_bev: The previous BEV feature, (B, bev_h * bev_w, C), or None.
            has_previous: Samples with a previous frame, (B,) bool; None for all.
            bev_positions: Result of :meth:`encode_positions`, to share it between time steps.

        Returns:
            (B, bev_h * bev_w, C), row-major with row = y and column = x in the LiDAR frame.

        Raises:
            ConfigError: The number of image levels is not ``num_levels``.
        """
        if len(image_levels) != self.num_levels:
            raise ConfigError(
                f'the head was built with num_levels={self.num_levels}, but img_neck gives '
                f'{len(image_levels)} levels; set num_outs of the neck or num_levels to match'
            )
        if bev_positions is None:
            bev_positions = self.encode_positions()
        return self.transformer.encode(
            image_levels,
            lidar2img,
            image_shape,
            can_bus,
            self.bev_embedding.weight,
            bev_positions,
            prev_bev,
            has_previous,
        )

    def forward(self, bev_embed: Tensor) -> dict[str, Tensor]:
        """Detect objects in BEV features.

        Args:
            bev_embed: (B, bev_h * bev_w, C).

        Returns:
            ``all_cls_scores`` (layers, B, Q, classes) logits; ``all_bbox_preds``
            (layers, B, Q, 10) codes in metres.
        """
        states, references = self.transformer.decode(
            bev_embed, self.query_embedding.weight, self.reg_branches
        )
        return self.predict_codes(states, references)

    def loss(self, bev_embed: Tensor, data_samples: list[Det3DDataSample]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            bev_embed: (B, bev_h * bev_w, C).
            data_samples: Data samples with ground truth.

        Returns:
            See :meth:`SetPredictionHead.loss_by_outputs`.
        """
        return self.loss_by_outputs(self(bev_embed), data_samples)

    def predict(self, bev_embed: Tensor, data_samples: list[Det3DDataSample]) -> list[InstanceData]:
        """Detect objects in a batch.

        Args:
            bev_embed: (B, bev_h * bev_w, C).
            data_samples: Data samples.

        Returns:
            See :meth:`SetPredictionHead.predict_by_outputs`.
        """
        return self.predict_by_outputs(self(bev_embed), data_samples)
