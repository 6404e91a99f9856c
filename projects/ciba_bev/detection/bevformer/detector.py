"""The detector BEVFormer."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
from mmdet3d.models.detectors import MVXTwoStageDetector
from mmdet3d.structures import Det3DDataSample
from mmengine.logging import print_log
from torch import Tensor, nn

from ...errors import ConfigError
from ...registry import MODELS
from ..gradients import evaluation_mode, without_gradient
from ..nuscenes.can_bus import can_bus_from_ego_pose
from .grid_mask import GridMask
from .projection import lidar2img_matrices


class TimeStep(NamedTuple):
    """Calibration and motion of one time step of a batch."""

    lidar2img: Tensor  # (B, cameras, 4, 4), on the CPU
    can_bus: Tensor  # (B, 18), on the CPU
    tokens: list[str]
    previous_tokens: list[str]


@MODELS.register_module()
class BEVFormer(MVXTwoStageDetector):
    """Camera detector with a BEV feature from attention (Li et al., ECCV 2022).

    A sample has one or several time steps. Plain mmdet3d samples have one. Samples of
    ``ciba_bev.NuScenesSequenceDataset`` have a queue of them, described by ``frames`` in their
    metainfo, oldest first; all steps except the last are encoded without gradients. In testing, the
    BEV feature of a frame is stored and used for the next frame of the scene.

    Args:
        pts_bbox_head: Config of the head.
        num_cams: Number of cameras.
        use_grid_mask: Whether to apply :class:`GridMask` to training images.
        **kwargs: mmdet3d's detector parts: ``img_backbone``, ``img_neck``,
            ``data_preprocessor``, ``init_cfg``.
    """

    def __init__(
        self, pts_bbox_head: dict, num_cams: int = 6, use_grid_mask: bool = True, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        # With the channels of a pixel side by side, convolutions run faster, and attention reads
        # their output without a copy.
        self._memory_format = (
            torch.channels_last if _respects_strides(self) else torch.contiguous_format
        )
        # Built here because mmdet3d would pass `train_cfg` and `test_cfg`.
        self.pts_bbox_head = MODELS.build(pts_bbox_head)
        self.num_cams = num_cams
        self.grid_mask = GridMask() if use_grid_mask else nn.Identity()
        self._kept_bev: Tensor | None = None
        self._kept_token = ''
        self._has_warned = False

    def init_weights(self) -> None:
        """Initialize the weights, then lay out those of convolutions as the images are."""
        super().init_weights()
        # Not before: random numbers are drawn in the order of memory.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=self._memory_format)

    def extract_img_feat(self, imgs: Tensor, input_metas: list[dict] | None = None) -> list[Tensor]:
        """Compute the image features of one time step.

        Args:
            imgs: (B, cameras, 3, H, W), normalised.
            input_metas: Unused; part of mmdet3d's interface.

        Returns:
            (B, cameras, C, h, w) for each level of the neck.
        """
        batch = len(imgs)
        images = self.grid_mask(imgs.flatten(0, 1)).contiguous(memory_format=self._memory_format)
        levels = self.img_neck(self.img_backbone(images))
        return [level.unflatten(0, (batch, -1)) for level in levels]

    def extract_feat(
        self, batch_inputs_dict: dict, batch_data_samples: list[Det3DDataSample]
    ) -> Tensor:
        """Compute the BEV feature of the last time step of each sample.

        Args:
            batch_inputs_dict: ``imgs`` (B, steps * cameras, 3, H, W), oldest step first.
            batch_data_samples: Data samples with calibration and motion in their metainfo.

        Returns:
            (B, bev_h * bev_w, C), row-major with row = y and column = x in the LiDAR frame.
        """
        imgs = batch_inputs_dict['imgs']
        steps = self._time_steps(batch_data_samples, imgs)
        imgs = imgs.unflatten(1, (len(steps), self.num_cams))
        image_shape = tuple(imgs.shape[-2:])
        positions = self.pts_bbox_head.encode_positions()
        prev_bev = self._encode_history(imgs[:, :-1], steps[:-1], positions)
        levels = self.extract_img_feat(imgs[:, -1])
        if self.training:
            return self._encode(levels, image_shape, steps[-1], prev_bev, positions)
        if prev_bev is None:
            prev_bev = self._recall(steps[-1])
        bev_embed = self._encode(levels, image_shape, steps[-1], prev_bev, positions)
        self._kept_bev, self._kept_token = bev_embed.detach(), steps[-1].tokens[-1]
        return bev_embed

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
        bev_embed = self.extract_feat(batch_inputs_dict, batch_data_samples)
        return self.pts_bbox_head.loss(bev_embed, batch_data_samples)

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
        bev_embed = self.extract_feat(batch_inputs_dict, batch_data_samples)
        results = self.pts_bbox_head.predict(bev_embed, batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, results, None)

    def _encode(
        self,
        image_levels: list[Tensor],
        image_shape: tuple[int, int],
        step: TimeStep,
        prev_bev: Tensor | None,
        positions: Tensor,
    ) -> Tensor:
        has_previous = torch.tensor([bool(token) for token in step.previous_tokens])
        return self.pts_bbox_head.encode_bev(
            image_levels,
            step.lidar2img,
            image_shape,
            step.can_bus,
            prev_bev,
            None if prev_bev is None else has_previous,
            positions,
        )

    @without_gradient()
    def _encode_history(
        self, imgs: Tensor, steps: list[TimeStep], positions: Tensor
    ) -> Tensor | None:
        """Return the BEV feature of the last past step, without gradient and dropout.

        The images of all past steps (B, steps, cameras, 3, H, W) go through the backbone at once.
        """
        if not steps:
            return None
        with evaluation_mode(self):
            levels = self.extract_img_feat(imgs.flatten(0, 1))
            levels = [level.unflatten(0, imgs.shape[:2]) for level in levels]
            prev_bev = None
            for index, step in enumerate(steps):
                present = [level[:, index] for level in levels]
                prev_bev = self._encode(present, tuple(imgs.shape[-2:]), step, prev_bev, positions)
        return prev_bev

    def _recall(self, step: TimeStep) -> Tensor | None:
        """Return the stored BEV feature if it is that of the previous frame, else None."""
        wanted = step.previous_tokens
        if not any(wanted):
            return None
        if len(wanted) > 1:
            raise ConfigError(
                f'temporal testing carries one BEV map from frame to frame, but the batch holds '
                f'{len(wanted)} samples; set batch_size=1 in the test and validation dataloader'
            )
        if wanted[0] != self._kept_token:
            self._warn_of_lost_history(wanted[0])
            step.previous_tokens[0] = ''
            step.can_bus[0, :3] = 0
            step.can_bus[0, -1] = 0
            return None
        return self._kept_bev

    def _warn_of_lost_history(self, token: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            print_log(
                f'The frame before this one, sample {token}, was not the last one seen, so this '
                'one is detected without history. Scores then depend on the number of processes: '
                "use sampler=dict(type='ciba_bev.SceneSequenceSampler') in the test and validation "
                'dataloader.',
                logger='current',
                level=logging.WARNING,
            )

    def _time_steps(self, data_samples: list[Det3DDataSample], imgs: Tensor) -> list[TimeStep]:
        queues = [_frames_of(sample.metainfo) for sample in data_samples]
        images = imgs.size(1)
        for sample, queue in zip(data_samples, queues):
            if len(queue) * self.num_cams != images:
                raise ConfigError(
                    f'sample {sample.metainfo.get("token", sample.metainfo.get("sample_idx"))} '
                    f'has {images} images for {len(queue)} time steps of {self.num_cams} cameras; '
                    'the dataset and num_cams of the model must agree'
                )
        steps = []
        for frames in zip(*queues):
            lidar2img = np.stack([lidar2img_matrices(frame) for frame in frames])
            can_bus = np.stack([frame['can_bus'] for frame in frames])
            steps.append(
                TimeStep(
                    lidar2img=torch.as_tensor(lidar2img, dtype=torch.float32),
                    can_bus=torch.as_tensor(can_bus, dtype=torch.float32),
                    tokens=[frame['token'] for frame in frames],
                    previous_tokens=[frame['previous_token'] for frame in frames],
                )
            )
        return steps


def _respects_strides(module: nn.Module) -> bool:
    """Return whether all weights belong to PyTorch's own layers, which read any memory layout.

    mmcv's compiled deformable convolution reads channels-last images wrongly and does not say so.
    """
    layers = (nn.Conv2d, nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
    return all(
        isinstance(part, layers)
        for part in module.modules()
        if list(part.parameters(recurse=False))
    )


def _frames_of(metainfo: dict) -> list[dict]:
    """Return the time steps of a sample; a plain mmdet3d sample has one step without a past."""
    if 'frames' in metainfo:
        return metainfo['frames']
    return [
        dict(
            metainfo,
            token=str(metainfo.get('token', '')),
            previous_token='',
            # Motion is zero without a past. What is left of the pose is the heading, and a frame
            # without one (mmdet3d's inference functions do not pass it on) has the map's x axis.
            can_bus=can_bus_from_ego_pose(np.asarray(metainfo.get('ego2global', np.eye(4)))),
        )
    ]
