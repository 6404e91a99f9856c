"""From voxels to a bird's-eye-view map by sparse convolutions, with whichever package is there."""

from __future__ import annotations

from functools import partial
from typing import Any, Sequence

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from ...ops import sparse_convolution
from ...registry import MODELS

Padding = Any  # of a convolution: a number, or one for each axis


@MODELS.register_module()
class SparseEncoder(nn.Module):
    """The sparse encoder of SECOND and CenterPoint, with residual blocks.

    It equals mmdet3d's ``SparseEncoder`` with ``block_type='basicblock'``, names and shapes of its
    parameters included, but does not depend on one implementation of sparse convolutions: see
    :func:`~ciba_bev.ops.sparse_convolution.find_implementation`. Weights saved with any of them,
    mmcv's among them, can be loaded.

    Args:
        in_channels: Of the voxel features.
        sparse_shape: Cells of the grid along z, y and x.
        encoder_channels: Of the blocks of each stage. The last block of a stage is a convolution
            of stride 2, except in the last stage; all others are residual blocks.
        encoder_paddings: Of these blocks. Residual blocks have 1, whatever is given.
        base_channels: Of the first convolution.
        output_channels: Of the last convolution, for each of its cells along z.
        norm_cfg: Config of the normalizations.
    """

    def __init__(
        self,
        in_channels: int,
        sparse_shape: Sequence[int],
        encoder_channels: Sequence[Sequence[int]],
        encoder_paddings: Sequence[Sequence[Padding]],
        base_channels: int = 16,
        output_channels: int = 128,
        norm_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        library = sparse_convolution.find_implementation()
        norm_cfg = norm_cfg or dict(type='BN1d', eps=1e-3, momentum=0.01)
        self.sparse_shape = list(sparse_shape)
        self.new_tensor = library.SparseConvTensor

        def convolve(kind: Any, inputs: int, outputs: int, size: Any, **options: Any) -> _Layers:
            convolution = kind(inputs, outputs, size, bias=False, **options)
            norm = build_norm_layer(norm_cfg, outputs)[1]
            return _Layers(convolution, norm, nn.ReLU(inplace=True))

        # Convolutions with the same key share the search for neighbors.
        self.conv_input = convolve(
            library.SubMConv3d, in_channels, base_channels, 3, padding=1, indice_key='subm1'
        )
        inputs = base_channels
        self.encoder_layers = nn.Sequential()
        for stage, (widths, paddings) in enumerate(zip(encoder_channels, encoder_paddings), 1):
            blocks: list[nn.Module] = []
            for block, channels in enumerate(widths, 1):
                if block == len(widths) and stage < len(encoder_channels):
                    options = dict(stride=2, padding=paddings[-1])
                    blocks.append(convolve(library.SparseConv3d, inputs, channels, 3, **options))
                else:
                    key = f'subm{stage}'
                    blocks.append(_ResidualBlock(library.SubMConv3d, channels, norm_cfg, key))
                inputs = channels
            self.encoder_layers.add_module(f'encoder_layer{stage}', nn.Sequential(*blocks))
        self.conv_out = convolve(
            library.SparseConv3d, inputs, output_channels, (3, 1, 1), stride=(2, 1, 1)
        )
        for module in self.modules():
            if isinstance(module, (library.SparseConv3d, library.SubMConv3d)):
                # mmdet3d makes spconv's modules guess the layout by a version that may be absent.
                module._load_from_state_dict = partial(nn.Module._load_from_state_dict, module)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # Kernels that mmcv or spconv 1 saved have their output channels last.
        for name, own in self.named_parameters():
            kernel = state_dict.get(prefix + name)
            if own.dim() == 5 and kernel is not None and kernel.shape != own.shape:
                state_dict[prefix + name] = kernel.permute(4, 0, 1, 2, 3)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, voxel_features: Tensor, coors: Tensor, batch_size: int) -> Tensor:
        """Encode the voxels of a batch.

        Args:
            voxel_features: (N, in_channels).
            coors: (N, 4) integers: sample, z, y, x.
            batch_size: Number of samples.

        Returns:
            (batch size, channels x cells along z, cells along y, along x), float32.
        """
        with torch.autocast(voxel_features.device.type, enabled=False):
            voxels = self.new_tensor(
                voxel_features.float(), coors.int(), self.sparse_shape, batch_size
            )
            out = self.conv_out(self.encoder_layers(self.conv_input(voxels)))
            # spconv's own dense() indexes in a way that torch is about to give another meaning.
            out = sparse_convolution.SparseConvTensor(
                out.features, out.indices, out.spatial_shape, batch_size
            )
            return out.dense().flatten(1, 2)


class _Layers(nn.Sequential):
    """A sparse convolution, then layers for the features alone."""

    def forward(self, x: Any) -> Any:
        convolution, *layers = self
        x = convolution(x)
        features = x.features
        for layer in layers:
            features = layer(features)
        return x.replace_feature(features)


class _ResidualBlock(nn.Module):
    """Two submanifold convolutions, and what goes in added to what comes out."""

    def __init__(self, kind: Any, channels: int, norm_cfg: dict[str, Any], key: str) -> None:
        super().__init__()
        options = dict(padding=1, bias=False, indice_key=key)
        self.conv1 = kind(channels, channels, 3, **options)
        self.bn1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = kind(channels, channels, 3, **options)
        self.bn2 = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: Any) -> Any:
        out = self.conv1(x)
        out = self.conv2(out.replace_feature(self.bn1(out.features).relu()))
        return out.replace_feature((self.bn2(out.features) + x.features).relu())
