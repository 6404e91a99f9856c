"""Bringing the teacher's grid onto the student's, by place."""

from __future__ import annotations

from typing import Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CibaError
from .taps import FeatureTap

# Which cells of the student's grid take part: one slice for each of its axes.
Window = Tuple[slice, ...]


def align_to_student(
    teacher_feature: Tensor,
    student_feature: Tensor,
    teacher_tap: FeatureTap,
    student_tap: FeatureTap,
) -> tuple[Tensor, Window]:
    """Bring a teacher's feature onto the student's grid.

    Grids of the same shape and extent are left alone. Otherwise both taps must state their extent,
    and the teacher's feature is interpolated bilinearly at the centres of those of the student's
    cells that it covers. The student's feature is never interpolated, only cut (:func:`cut`).

    Args:
        teacher_feature: (B, C', \\*grid').
        student_feature: (B, C, \\*grid).
        teacher_tap: Where the first was read; states its extent.
        student_tap: Where the second was read; states its extent.

    Returns:
        The teacher's feature on the covered cells, (B, C', \\*covered), and the window of the
        student's grid that these are.

    Raises:
        CibaError: The batches differ, the grids differ and an extent is missing, or they do not
            overlap.
    """
    if len(teacher_feature) != len(student_feature):
        raise CibaError(
            f'the teacher gave features of {len(teacher_feature)} samples and the student of '
            f'{len(student_feature)}; both must give one feature a sample, in the same order.'
        )
    shapes = tuple(teacher_feature.shape[2:]), tuple(student_feature.shape[2:])
    extents = teacher_tap.extent, student_tap.extent
    if None in extents:
        if shapes[0] != shapes[1]:
            raise CibaError(
                f"the teacher's grid at {teacher_tap.module} is {shapes[0]}, the student's at "
                f'{student_tap.module} is {shapes[1]}. Choose taps of one grid, or state extent='
                '(x_min, y_min, x_max, y_max) in both taps to match them by place.'
            )
        return teacher_feature, _whole(shapes[1])
    if len(shapes[0]) != 2 or len(shapes[1]) != 2:
        raise CibaError(
            f'only two-dimensional grids have an extent; found {shapes[0]}, {shapes[1]}.'
        )
    if shapes[0] == shapes[1] and extents[0] == extents[1]:
        return teacher_feature, _whole(shapes[1])
    columns, x = _covered_centres(shapes[1][1], extents[1][0::2], extents[0][0::2])
    rows, y = _covered_centres(shapes[1][0], extents[1][1::2], extents[0][1::2])
    if not (len(x) and len(y)):
        raise CibaError(
            f"the teacher's grid at {teacher_tap.module} covers {extents[0]} and the student's at "
            f'{student_tap.module} covers {extents[1]}: they have no cell in common.'
        )
    # Half precision would place cells of a large map several centimetres off.
    places = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], dim=-1)
    places = places.to(device=teacher_feature.device, dtype=torch.float32)
    aligned = F.grid_sample(
        teacher_feature.float(),
        places.expand(len(teacher_feature), -1, -1, -1),
        padding_mode='border',
        align_corners=False,
    )
    return aligned.to(teacher_feature.dtype), (rows, columns)


def cut(value: Tensor, window: Window) -> Tensor:
    """The part of a grid that teacher and student share.

    Args:
        value: (B, C, \\*grid).
        window: From :func:`align_to_student`.

    Returns:
        (B, C, \\*covered), a view.
    """
    return value[(slice(None), slice(None), *window)]


def _whole(grid: Sequence[int]) -> Window:
    return (slice(None),) * len(grid)


def _covered_centres(
    cells: int, bounds: Sequence[float], source: Sequence[float]
) -> tuple[slice, Tensor]:
    """Cells of one axis whose centres another range covers, and where in it, from -1 to 1."""
    low, high = bounds
    centres = low + (torch.arange(cells, dtype=torch.float64) + 0.5) * ((high - low) / cells)
    covered = ((centres >= source[0]) & (centres <= source[1])).nonzero().flatten()
    if not len(covered):
        return slice(0, 0), centres[:0]
    chosen = slice(int(covered[0]), int(covered[-1]) + 1)
    return chosen, (centres[chosen] - source[0]) / (source[1] - source[0]) * 2 - 1
