"""The detector Object-DGCNN."""

from __future__ import annotations

from mmdet3d.models.detectors import MVXTwoStageDetector
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from ...checkpoints.parts import load_parts
from ...registry import MODELS


@MODELS.register_module()
class ObjectDGCNN(MVXTwoStageDetector):
    """LiDAR detector with a set-prediction head (Wang and Solomon, NeurIPS 2021).

    Its parts are those of mmdet3d's LiDAR detectors: ``pts_voxel_encoder``,
    ``pts_middle_encoder``, ``pts_backbone``, ``pts_neck`` and ``pts_bbox_head``. Images in the
    batch are ignored.

    Args:
        pts_bbox_head: Config of the head.
        init_cfg: mmengine's initialisation config. In addition,
            ``dict(type='Pretrained', checkpoint=..., parts=['pts_backbone', ...])`` initialises
            only the named parts from another model's checkpoint.
        **kwargs: The other parts and ``data_preprocessor``.
    """

    def __init__(self, pts_bbox_head: dict, init_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        # Built here because mmdet3d would pass `train_cfg` and `test_cfg`.
        self.pts_bbox_head = MODELS.build(pts_bbox_head)

    def init_weights(self) -> None:
        """Initialise all parts, then load the pretrained ones.

        Raises:
            CibaError: The checkpoint cannot be read, or belongs to another model.
        """
        start = self.init_cfg
        if not (isinstance(start, dict) and start.get('parts')):
            super().init_weights()
            return
        # mmengine's Pretrained loads whole models or one prefix; not every part is a BaseModule.
        self.init_cfg = None
        super().init_weights()
        self.init_cfg = start
        load_parts(self, start['checkpoint'], start['parts'])

    def extract_feat(
        self, batch_inputs_dict: dict, batch_input_metas: list[dict]
    ) -> tuple[None, list[Tensor]]:
        """Compute the BEV pyramid of a batch.

        Args:
            batch_inputs_dict: ``points`` (list of (N, features)) and their ``voxels``.
            batch_input_metas: Unused; part of mmdet3d's interface.

        Returns:
            None (no image features) and the BEV features of the neck, finest first, each
            (B, C, h, w) with row = y and column = x in the LiDAR frame.
        """
        voxels = batch_inputs_dict['voxels']
        features = self.pts_voxel_encoder(voxels['voxels'], voxels['num_points'], voxels['coors'])
        # Not from the voxels: the last sample may have none.
        batch_size = len(batch_inputs_dict['points'])
        bev = self.pts_middle_encoder(features, voxels['coors'], batch_size)
        return None, list(self.pts_neck(self.pts_backbone(bev)))

    def loss(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ) -> dict[str, Tensor]:
        """Compute the training losses of a batch.

        Args:
            batch_inputs_dict: See :meth:`extract_feat`.
            batch_data_samples: Data samples with ground truth.
            **kwargs: Unused; part of mmdet3d's interface.

        Returns:
            See :meth:`SetPredictionHead.loss_by_outputs`.
        """
        _, bev_levels = self.extract_feat(batch_inputs_dict, [])
        return self.pts_bbox_head.loss(bev_levels, batch_data_samples)

    def predict(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample], **kwargs
    ) -> list[Det3DDataSample]:
        """Detect objects in a batch.

        Args:
            batch_inputs_dict: See :meth:`extract_feat`.
            batch_data_samples: Data samples.
            **kwargs: Unused; part of mmdet3d's interface.

        Returns:
            The data samples with ``pred_instances_3d``.
        """
        _, bev_levels = self.extract_feat(batch_inputs_dict, [])
        results = self.pts_bbox_head.predict(bev_levels, batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, results, None)
