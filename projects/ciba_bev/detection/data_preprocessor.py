"""What happens to a batch between the data loader and the model, on the model's device."""

from __future__ import annotations

import math
from typing import Any, Iterator, Sequence

import torch
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmdet3d.structures import Det3DDataSample
from mmengine.dist import get_rank
from torch import Tensor
from torch.nn import functional

from ..ops.constants import constant_tensor
from ..ops.voxelization import Voxelization
from ..registry import MODELS
from .photometric_distortion import PhotometricDistortion, distort

# Pixels that one CPU thread takes at a time, so that what becomes of them stays in its cache.
_CACHED_PIXELS = 2**15
_DISTORTIONS = 'photometric_distortions'


@MODELS.register_module()
class DetectionDataPreprocessor(Det3DDataPreprocessor):
    """mmdet3d's preprocessor, with the work on images and points done where it is cheap.

    Images may come as bytes: they are distorted, normalized and padded on the model's device.
    Points become voxels by :class:`ciba_bev.ops.voxelization.Voxelization`.

    Args:
        photometric_distortion: Arguments of :class:`PhotometricDistortion`, which training images
            go through, each with parameters of its own; None for none.
        non_blocking: Whether copies to the device may overlap with what this process does next.
        kwargs: As for mmdet3d's ``Det3DDataPreprocessor``.
    """

    def __init__(
        self,
        photometric_distortion: dict | None = None,
        non_blocking: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(non_blocking=non_blocking, **kwargs)
        self.photometric_distortion = (
            None
            if photometric_distortion is None
            else PhotometricDistortion(**photometric_distortion)
        )
        if self.voxel:
            self.voxel_layer = Voxelization(**kwargs['voxel_layer'])

    def simple_process(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch for the model.

        Args:
            data: ``inputs`` and ``data_samples`` as the data loader gives them. Left unchanged,
                except that image sizes are noted on the samples.
            training: Whether images are distorted and batch augmentations applied.

        Returns:
            ``inputs`` and ``data_samples`` for the model, on its device.
        """
        images = data['inputs'].get('img')
        if training and self.photometric_distortion is not None and images is not None:
            # Drawn from torch's generator, so that a seed decides; differently on each process.
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())) + get_rank())
            count = sum(math.prod(image.shape[:-3]) for image in images)
            data = {**data, _DISTORTIONS: self.photometric_distortion.draw(count, generator)}
        return super().simple_process(data, training)

    @torch.no_grad()
    def voxelize(self, points: list[Tensor], data_samples: list[Det3DDataSample]) -> dict:
        """Group the points of each sample into voxels.

        Args:
            points: (N, features) of each sample, on the device.
            data_samples: Read by other kinds of voxels than hard ones only.

        Returns:
            What mmdet3d's preprocessor returns; for hard voxels of all samples, M together,
            ``voxels`` (M, max_points, features), ``coors`` (M, 4) int32 as (sample, z, y, x),
            ``num_points`` (M,) int32 and ``voxel_centers`` (M, 3) as (x, y, z) in metres.
        """
        if self.voxel_type != 'hard':
            return super().voxelize(points, data_samples)
        features, cells, counts = zip(*(self.voxel_layer(cloud) for cloud in points))
        voxels = torch.cat(features)
        coordinates = torch.cat(
            [functional.pad(own, (1, 0), value=sample) for sample, own in enumerate(cells)]
        )
        # mmdet3d copies these numbers to the device for each sample, and waits for it.
        size, lower = (
            constant_tensor(tuple(numbers), voxels.dtype, voxels.device)
            for numbers in (self.voxel_layer.voxel_size, self.voxel_layer.point_cloud_range[:3])
        )
        return {
            'voxels': voxels,
            'coors': coordinates,
            'num_points': torch.cat(counts),
            'voxel_centers': (coordinates[:, 1:].flip(1) + 0.5) * size + lower,
        }

    def collate_data(self, data: dict) -> dict:
        """Move a batch to the device and make one tensor of its images.

        Args:
            data: A batch; images are (3, H, W) or (views, 3, H, W), any type, sizes may differ.

        Returns:
            The same with ``imgs`` among its inputs, (B, ..., 3, H, W) float32.
        """
        data = self.cast_data(data)
        data.setdefault('data_samples', None)
        distortions = data.pop(_DISTORTIONS, None)
        images = data['inputs'].get('img')
        if images is not None:
            data['inputs']['imgs'] = self._images(list(images), distortions)
        return data

    def _images(self, images: Sequence[Tensor], distortions: Tensor | None) -> Tensor:
        sizes = [
            math.ceil(max(image.shape[axis] for image in images) / self.pad_size_divisor)
            * self.pad_size_divisor
            for axis in (-2, -1)
        ]
        batch = images[0].new_empty(
            (len(images), *images[0].shape[:-2], *sizes), dtype=torch.float32
        )
        if distortions is not None and self._channel_conversion:
            distortions = torch.cat((distortions[:, :5], distortions[:, 5:].flip(1)), dim=1)
        begin = 0
        for target, image in zip(batch, images):
            height, width = image.shape[-2:]
            target[..., height:, :] = self.pad_value
            target[..., :height, width:] = self.pad_value
            target = target[..., :height, :width]
            if image.dim() == 3:
                image, target = image.unsqueeze(0), target.unsqueeze(0)
            own = None if distortions is None else distortions[begin : begin + len(image)]
            begin += len(image)
            for views, rows in _pieces(image):
                self._write(
                    target[views, :, rows],
                    image[views, :, rows],
                    None if own is None else own[views],
                )
        return batch

    def _write(self, target: Tensor, images: Tensor, distortions: Tensor | None) -> None:
        """Write distorted and normalized images (N, 3, H, W)."""
        if distortions is not None:
            target.copy_(distort(images, distortions))
        elif self._channel_conversion:
            for channel, source in enumerate(images.flip(1).unbind(1)):
                target[:, channel] = source
        else:
            target.copy_(images)
        if self._enable_normalize:
            target.sub_(self.mean).div_(self.std)


def _pieces(images: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield the views and rows of images (N, 3, H, W) that are processed at a time."""
    count, _, height, width = images.shape
    if not images.is_cpu:
        yield slice(count), slice(height)
        return
    rows = max(1, _CACHED_PIXELS * torch.get_num_threads() // width)
    for view in range(count):
        for top in range(0, height, rows):
            yield slice(view, view + 1), slice(top, top + rows)
