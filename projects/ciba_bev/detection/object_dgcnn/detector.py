"""Object-DGCNN, the detector: points to voxels to BEV pyramid to boxes."""

from __future__ import annotations

from mmdet3d.models.detectors import MVXTwoStageDetector
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from ...registry import MODELS


@MODELS.register_module()
class ObjectDGCNN(MVXTwoStageDetector):
    """LiDAR detector with a set-prediction head (Wang and Solomon, NeurIPS 2021).

    It is built like mmdet3d's other LiDAR detectors (``pts_voxel_encoder``,
    ``pts_middle_encoder``, ``pts_backbone``, ``pts_neck``, ``pts_bbox_head``); losses and
    predictions come from ``pts_bbox_head``. Images in the batch are left alone.

    Args:
        pts_bbox_head: Config of the head.
        kwargs: The other parts, ``data_preprocessor`` and ``init_cfg``.
    """

    def __init__(self, pts_bbox_head: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        # Built here because mmdet3d would hand it training settings that it has no use for.
        self.pts_bbox_head = MODELS.build(pts_bbox_head)

    def extract_feat(
        self, batch_inputs_dict: dict, batch_input_metas: list[dict]
    ) -> tuple[None, list[Tensor]]:
        """BEV pyramid of a batch.

        Args:
            batch_inputs_dict: ``points`` (list of (N, features)) and their ``voxels``.
            batch_input_metas: Unused; part of mmdet3d's interface.

        Returns:
            None (no image features) and the neck's BEV maps, finest first, each (B, C, h, w)
            with row = y and column = x in the LiDAR frame.
        """
        voxels = batch_inputs_dict['voxels']
        features = self.pts_voxel_encoder(voxels['voxels'], voxels['num_points'], voxels['coors'])
        # Counted on the samples: the last one may have no voxel at all.
        batch_size = len(batch_inputs_dict['points'])
        bev = self.pts_middle_encoder(features, voxels['coors'], batch_size)
        return None, list(self.pts_neck(self.pts_backbone(bev)))

    def loss(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Training losses of a batch; see :meth:`SetPredictionHead.loss_by_outputs`."""
        _, bev_levels = self.extract_feat(batch_inputs_dict, [])
        return self.pts_bbox_head.loss(bev_levels, batch_data_samples)

    def predict(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ) -> list[Det3DDataSample]:
        """Data samples with ``pred_instances_3d`` filled in."""
        _, bev_levels = self.extract_feat(batch_inputs_dict, [])
        results = self.pts_bbox_head.predict(bev_levels, batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, results, None)
