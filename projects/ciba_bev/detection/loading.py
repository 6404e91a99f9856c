"""Camera images on their way from JPEG files to the model, copied as seldom as can be.

mmdet3d's transforms of the same names gather the images of a sample three times, with the camera as
the innermost axis in between, which takes longer than decoding them.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Sequence

import cv2
import mmcv
import numpy as np
import torch
from mmdet3d.datasets.transforms import LoadMultiViewImageFromFiles as MMDet3DImageLoading
from mmdet3d.datasets.transforms import Pack3DDetInputs as MMDet3DPacking
from mmengine.fileio import get
from torch import Tensor
from torch.utils.data import get_worker_info

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadMultiViewImageFromFiles(MMDet3DImageLoading):
    """Decode the images of all cameras.

    It takes the place of mmdet3d's transform of this name, with its arguments and results. Each
    image is left where the decoder put it.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add the images.

        Args:
            results: The sample's info, with ``img_path``, ``cam2img`` and ``lidar2cam`` of each
                camera in ``images``.

        Returns:
            The same dictionary, with the images, (H, W, 3) each, in the list ``img``.
        """
        if self.num_ref_frames > 0:
            loaded: dict[str, Any] | None = super().transform(results)
            return loaded
        cameras = results['images'].values()
        results['filename'] = [camera['img_path'] for camera in cameras]
        results['cam2img'] = [camera['cam2img'] for camera in cameras]
        results['lidar2cam'] = [camera['lidar2cam'] for camera in cameras]
        results['ori_cam2img'] = copy.deepcopy(results['cam2img'])
        images = [
            mmcv.imfrombytes(get(name, backend_args=self.backend_args), flag=self.color_type)
            for name in results['filename']
        ]
        sizes = {image.shape[:2] for image in images}
        size = tuple(max(lengths) for lengths in zip(*sizes))
        if len(sizes) > 1:
            images = [mmcv.impad(image, shape=size, pad_val=0) for image in images]
        if self.to_float32:
            images = [image.astype(np.float32) for image in images]
        results['img'] = images
        results['img_shape'] = results['ori_shape'] = results['pad_shape'] = size
        if self.set_default_scale:
            results['scale_factor'] = 1.0
        channels = images[0].shape[2] if images[0].ndim > 2 else 1
        results['img_norm_cfg'] = {
            'mean': np.zeros(channels, dtype=np.float32),
            'std': np.ones(channels, dtype=np.float32),
            'to_rgb': False,
        }
        results['num_views'] = self.num_views
        results['num_ref_frames'] = self.num_ref_frames
        return results


@TRANSFORMS.register_module()
class Pack3DDetInputs(MMDet3DPacking):
    """Make tensors of a sample.

    It takes the place of mmdet3d's transform of this name, with its arguments and results. Images
    of bytes are copied once, from where they were decoded into the tensor of all of them.
    """

    def pack_single_results(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a sample.

        Args:
            results: What the pipeline made of it. A tensor ``img_out``, if there is one of the
                right shape, takes the images.

        Returns:
            ``inputs``, among them ``img`` (cameras, 3, H, W), and ``data_samples``.
        """
        out = results.pop('img_out', None)
        images = results.get('img')
        if 'img' not in self.keys or not _alike_and_of_bytes(images):
            packed: dict[str, Any] = super().pack_single_results(results)
            return packed
        del results['img']
        packed = super().pack_single_results(results)
        packed['inputs']['img'] = _channels_first(images, out)
        return packed


def empty_for_batch(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an uninitialized tensor on the CPU, to be filled with what a data loader gives.

    In a process of a ``DataLoader`` it lies in memory shared with the main process, as what
    ``default_collate`` makes does, so that it is not copied on its way there.

    Args:
        shape: Its shape.
        dtype: Its type.
    """
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.empty(0, dtype=dtype)
    size = math.prod(shape) * tensor.element_size()
    return tensor.set_(torch.UntypedStorage._new_shared(size), 0, tuple(shape))


def _alike_and_of_bytes(images: Any) -> bool:
    return isinstance(images, list) and all(
        image.dtype == np.uint8 and image.ndim == 3 and image.shape == images[0].shape
        for image in images
    )


def _channels_first(images: Sequence[np.ndarray], out: Tensor | None) -> Tensor:
    height, width, channels = images[0].shape
    shape = (len(images), channels, height, width)
    if out is None or out.shape != shape or out.dtype != torch.uint8:
        out = torch.empty(shape, dtype=torch.uint8)
    for image, planes in zip(images, out.numpy()):
        # OpenCV writes into arrays that have the right size already.
        cv2.split(image, list(planes))
    return out
