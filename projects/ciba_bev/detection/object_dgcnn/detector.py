"""Object-DGCNN, the detector: points to voxels to BEV pyramid to boxes."""

from __future__ import annotations

from mmdet3d.models.detectors import MVXTwoStageDetector
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from ...checkpoints.parts import load_parts
from ...registry import MODELS


@MODELS.register_module()
class ObjectDGCNN(MVXTwoStageDetector):
    """LiDAR detector with a set-prediction head (Wang and Solomon, NeurIPS 2021).

    It is built like mmdet3d's other LiDAR detectors (``pts_voxel_encoder``,
    ``pts_middle_encoder``, ``pts_backbone``, ``pts_neck``, ``pts_bbox_head``); losses and
    predictions come from ``pts_bbox_head``. Images in the batch are left alone.

    Args:
        pts_bbox_head: Config of the head.
        init_cfg: mmengine's initialisation config. Beyond mmengine's,
            ``dict(type='Pretrained', checkpoint=..., parts=['pts_backbone', ...])`` starts the
            named parts, and no others, from those of another model's checkpoint.
        kwargs (Any): The other parts and ``data_preprocessor``.
    """

    def __init__(self, pts_bbox_head: dict, init_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        # Built here because mmdet3d would hand it training settings that it has no use for.
        self.pts_bbox_head = MODELS.build(pts_bbox_head)

    def init_weights(self) -> None:
        """Initialise all parts, then load what some of them start from.

        Raises:
            CibaError: What they start from cannot be read or does not fit them.
        """
        start = self.init_cfg
        if not (isinstance(start, dict) and start.get('parts')):
            super().init_weights()
            return
        # mmengine's Pretrained knows whole models and one prefix, and not every part here is one
        # of its modules.
        self.init_cfg = None
        super().init_weights()
        self.init_cfg = start
        load_parts(self, start['checkpoint'], start['parts'])

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
