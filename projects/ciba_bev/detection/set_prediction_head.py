"""Base class of the heads of Object-DGCNN and BEVFormer: branches, matching, losses, prediction."""

from __future__ import annotations

from typing import Sequence

import torch
from mmdet.utils import reduce_mean
from mmdet3d.structures import Det3DDataSample
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..registry import MODELS, TASK_UTILS
from .attention import PreciseLinear, inverse_sigmoid
from .box_coding import CODE_SIZE, encode_boxes, gravity_center_boxes
from .decoder import CENTER_CODES

DEFAULT_CODE_WEIGHTS = (1.0,) * 8 + (0.2, 0.2)


class SetPredictionHead(BaseModule):
    """Predict boxes from decoder states, with a classification and a box branch per decoder layer.

    ``forward`` of a subclass returns ``all_cls_scores`` and ``all_bbox_preds`` of
    :meth:`predict_codes`.

    Args:
        num_classes: Number of object classes.
        embed_dims: Channels of the decoder states.
        num_query: Number of object queries.
        num_decoder_layers: Number of decoder layers, all of which are supervised.
        num_branch_layers: Hidden layers of each branch.
        point_cloud_range: (x_min, y_min, z_min, x_max, y_max, z_max), metres, LiDAR frame.
        code_weights: Weights of the ten regressed numbers in the box loss.
        bbox_coder: Config of the coder that decodes the output of the last layer.
        matcher: Config of the matcher between queries and ground truth.
        loss_cls: Config of the classification loss, on logits.
        loss_bbox: Config of the box loss, on codes.
        sync_cls_avg_factor: Normalise the classification loss by the mean number of boxes over
            all processes, so that it does not depend on the distribution of the samples.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int,
        num_query: int,
        num_decoder_layers: int,
        point_cloud_range: Sequence[float],
        num_branch_layers: int = 2,
        code_weights: Sequence[float] = DEFAULT_CODE_WEIGHTS,
        bbox_coder: dict | None = None,
        matcher: dict | None = None,
        loss_cls: dict | None = None,
        loss_bbox: dict | None = None,
        sync_cls_avg_factor: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.embed_dims = embed_dims
        self.num_query = num_query
        self.sync_cls_avg_factor = sync_cls_avg_factor
        self.bbox_coder = TASK_UTILS.build(bbox_coder or dict(type='ciba_bev.TopScoreBoxCoder'))
        self.matcher = TASK_UTILS.build(matcher or dict(type='ciba_bev.HungarianMatcher3D'))
        self.loss_cls = MODELS.build(
            loss_cls
            or dict(
                type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0
            )
        )
        self.loss_bbox = MODELS.build(loss_bbox or dict(type='mmdet.L1Loss', loss_weight=0.25))
        self.register_buffer('code_weights', torch.tensor(code_weights), persistent=False)
        self.register_buffer(
            'point_cloud_range', torch.tensor(point_cloud_range, dtype=torch.float32), False
        )
        # Content and position of each query, halves of one embedding as in Deformable DETR.
        self.query_embedding = nn.Embedding(num_query, embed_dims * 2)
        self.cls_branches = nn.ModuleList(
            [self._make_cls_branch(num_branch_layers) for _ in range(num_decoder_layers)]
        )
        self.reg_branches = nn.ModuleList(
            [self._make_reg_branch(num_branch_layers) for _ in range(num_decoder_layers)]
        )

    def _make_cls_branch(self, num_layers: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [
                nn.Linear(self.embed_dims, self.embed_dims),
                nn.LayerNorm(self.embed_dims),
                nn.ReLU(inplace=True),
            ]
        last = nn.Linear(self.embed_dims, self.num_classes)
        # Few queries match an object: start from low scores, for stable first steps.
        nn.init.constant_(last.bias, bias_init_with_prob(0.01))
        return nn.Sequential(*layers, last)

    def _make_reg_branch(self, num_layers: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [nn.Linear(self.embed_dims, self.embed_dims), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, PreciseLinear(self.embed_dims, CODE_SIZE))

    def predict_codes(self, states: Tensor, references: Tensor) -> dict[str, Tensor]:
        """Apply the branches to the output of the decoder.

        Args:
            states: (layers, B, Q, C).
            references: Reference points of each layer, (layers, B, Q, 2 or 3) in [0, 1].

        Returns:
            ``all_cls_scores`` (layers, B, Q, classes) logits, and ``all_bbox_preds``
            (layers, B, Q, 10) codes in metres, both float32.
        """
        cls_scores = [branch(state) for branch, state in zip(self.cls_branches, states)]
        codes = torch.stack([branch(state) for branch, state in zip(self.reg_branches, states)])
        codes = codes.float()
        lower, upper = self.point_cloud_range[:3], self.point_cloud_range[3:]
        columns = list(codes.unbind(-1))
        for axis in range(references.size(-1)):
            column = CENTER_CODES[axis]
            center = (columns[column] + inverse_sigmoid(references[..., axis])).sigmoid()
            columns[column] = center * (upper[axis] - lower[axis]) + lower[axis]
        return dict(
            all_cls_scores=torch.stack(cls_scores).float(),
            all_bbox_preds=torch.stack(columns, dim=-1),
        )

    def loss_by_outputs(
        self, outputs: dict[str, Tensor], data_samples: list[Det3DDataSample]
    ) -> dict[str, Tensor]:
        """Compute the losses of every decoder layer.

        Args:
            outputs: Result of :meth:`predict_codes`.
            data_samples: Data samples with ground truth in ``gt_instances_3d``.

        Returns:
            ``loss_cls`` and ``loss_bbox`` of the last layer, ``dN.loss_cls`` and ``dN.loss_bbox``
            of layer N.
        """
        targets = []
        for sample in data_samples:
            boxes = gravity_center_boxes(sample.gt_instances_3d.bboxes_3d)
            codes = encode_boxes(boxes.to(self.code_weights.device))
            targets.append((sample.gt_instances_3d.labels_3d.long(), codes))
        scores, codes = outputs['all_cls_scores'], outputs['all_bbox_preds']
        matched, boxes = self.matcher.match_layers(scores, codes, targets)
        gt_labels, gt_codes = (torch.cat(parts) for parts in zip(*targets))
        # In mmdet's focal loss, num_classes is the label of the background.
        labels = scores.new_full(scores.shape[:3], self.num_classes, dtype=torch.long)
        labels.view(-1)[matched] = gt_labels[boxes]
        wanted = gt_codes[boxes]
        predicted = codes.flatten(0, 2).index_select(0, matched.flatten()).view_as(wanted)

        count = boxes.size(1)
        num_boxes = reduce_mean(scores.new_full((), float(count))).clamp(min=1)
        num_cls = num_boxes if self.sync_cls_avg_factor else max(count, 1)
        bbox_losses = self._box_losses(predicted, wanted, num_boxes)
        losses = {}
        last = len(self.cls_branches) - 1
        for layer, loss_bbox in enumerate(bbox_losses):
            prefix = '' if layer == last else f'd{layer}.'
            losses[f'{prefix}loss_cls'] = self.loss_cls(
                scores[layer].flatten(0, 1), labels[layer].flatten(), avg_factor=num_cls
            )
            losses[f'{prefix}loss_bbox'] = loss_bbox
        return losses

    def _box_losses(self, predicted: Tensor, wanted: Tensor, num_boxes: Tensor) -> Tensor:
        """Return the box loss of each layer, for matched codes (layers, M, 10)."""
        # Unknown velocities, at the ends of a track, are NaN and do not count.
        wanted = torch.where(wanted.isfinite(), wanted, predicted.detach())
        # Weighted here: mmdet's loss would look whether a weight is positive, and wait for that.
        loss = self.loss_bbox(predicted, wanted, reduction_override='none')
        # Of no boxes, it returns a single zero.
        weighted = loss.expand_as(wanted) * self.code_weights
        # As mmdet's classification loss divides.
        return weighted.flatten(1).sum(1) / (num_boxes + torch.finfo(torch.float32).eps)

    def predict_by_outputs(
        self, outputs: dict[str, Tensor], data_samples: list[Det3DDataSample]
    ) -> list[InstanceData]:
        """Decode the boxes of the last decoder layer.

        Args:
            outputs: Result of :meth:`predict_codes`.
            data_samples: Data samples with ``box_type_3d``, the class of the boxes.

        Returns:
            ``bboxes_3d`` (with velocity), ``scores_3d`` and ``labels_3d`` of each sample.
        """
        results = []
        for scores, codes, sample in zip(
            outputs['all_cls_scores'][-1], outputs['all_bbox_preds'][-1], data_samples
        ):
            boxes, box_scores, labels = self.bbox_coder.decode(scores, codes)
            box_type = sample.metainfo['box_type_3d']
            instances = InstanceData()
            instances.bboxes_3d = box_type(boxes, box_dim=boxes.size(-1), origin=(0.5, 0.5, 0.5))
            instances.scores_3d = box_scores
            instances.labels_3d = labels
            results.append(instances)
        return results
