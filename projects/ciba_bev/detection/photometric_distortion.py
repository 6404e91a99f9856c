"""Random changes of brightness, contrast and colour, of many images at once and on any device.

The same changes, drawn from the same distribution, as mmdet3d's ``PhotoMetricDistortion3D``, which
takes one image after the other in the data loader.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from ..errors import CibaError

# OpenCV's, in its conversion to hue and saturation.
_EPSILON = torch.finfo(torch.float32).eps


class PhotometricDistortion:
    """Draw and apply photometric distortions, each with a probability of one half.

    In this order: brightness, contrast (here, or at the end), saturation, hue, and a permutation of
    the channels.

    Args:
        brightness_delta: Most that is added to or taken from a pixel, of 255.
        contrast_range: Range of the factor of the pixels.
        saturation_range: Range of the factor of the saturation.
        hue_delta: Most that the hue is turned by, in degrees, at most 60.

    Raises:
        CibaError: A range is the wrong way round or ``hue_delta`` not between 0 and 60.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        for name, (low, high) in (
            ('contrast_range', contrast_range),
            ('saturation_range', saturation_range),
        ):
            if not 0 <= low <= high:
                raise CibaError(f'{name} is ({low}, {high}); give two factors, the smaller first.')
        if not 0 <= hue_delta <= 60:
            raise CibaError(f'hue_delta is {hue_delta}; give 0 to 60 degrees.')
        bounds = ((-brightness_delta, brightness_delta), contrast_range, saturation_range)
        self._bounds = torch.tensor([*bounds, (-hue_delta / 60, hue_delta / 60)])

    def draw(self, images: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the distortions of some images.

        Args:
            images: How many (N).
            generator: Of a CPU; torch's own by default.

        Returns:
            (N, 8) float32 on the CPU: what is added, the factor of the pixels before the colour
            changes, that of the saturation, the turn of the hue in sixths of the circle, the factor
            of the pixels at the end, and for each channel of the result which one it was.
        """
        low, high = self._bounds.unbind(1)
        drawn = low + (high - low) * torch.rand(images, 4, generator=generator)
        flags = torch.randint(2, (images, 6), generator=generator).bool()
        order = torch.rand(images, 3, generator=generator).argsort(1)
        neutral = torch.tensor([0.0, 1.0, 1.0, 0.0])
        brightness, contrast, saturation, hue = torch.where(flags[:, :4], drawn, neutral).unbind(1)
        begins = flags[:, 4]
        one = torch.ones(images)
        contrasts = torch.where(begins, contrast, one), torch.where(begins, one, contrast)
        order = torch.where(flags[:, 5:], order, torch.arange(3))
        columns = (brightness, contrasts[0], saturation, hue, contrasts[1], *order.unbind(1))
        return torch.stack([column.float() for column in columns], dim=1)


def distort(images: Tensor, parameters: Tensor) -> Tensor:
    """Apply distortions.

    Args:
        images: (N, 3, H, W), blue, green and red, 0 to 255, of any type.
        parameters: (N, 8), from :meth:`PhotometricDistortion.draw`, on the same device.

    Returns:
        (N, 3, H, W) float32, not clipped.
    """
    brightness, begin, saturation, hue, end = parameters[:, :5, None, None].unbind(1)
    order = parameters[:, 5:]
    images = (images + brightness.unsqueeze(1)).mul_(begin.unsqueeze(1))
    blue, green, red = images.unbind(1)
    value = torch.maximum(torch.maximum(blue, green), red)
    # OpenCV divides the chroma by the value to get the saturation, and later multiplies by it.
    scale = value / value.abs().add_(_EPSILON) * saturation
    distorted = torch.empty_like(images)
    if images.is_cpu and not hue.any():
        # All hues stay, so every channel keeps its place between the least and the largest.
        for channel, sources in enumerate(order.long().T):
            below = value - images[torch.arange(len(images)), sources]
            torch.addcmul(value, below, scale, value=-1, out=distorted[:, channel])
        return distorted.mul_(end.unsqueeze(1))
    chroma = value - torch.minimum(torch.minimum(blue, green), red)
    inverse = 1 / (chroma + _EPSILON)
    angle = torch.where(
        value == red,
        (green - blue) * inverse,
        torch.where(value == green, (blue - red) * inverse + 2, (red - green) * inverse + 4),
    ).add_(hue)
    chroma.mul_(scale)
    least = value.sub_(chroma)
    for channel in range(3):
        # A channel is full within a sixth of the circle around its own hue (red 0, green 2, blue
        # 4), and least where the hue is more than two sixths away.
        own = (4 - 2 * order[:, channel])[:, None, None]
        share = (angle - own).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
        torch.addcmul(least, share, chroma, out=distorted[:, channel])
    return distorted.mul_(end.unsqueeze(1))
