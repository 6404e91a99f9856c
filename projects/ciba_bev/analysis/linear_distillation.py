"""Closed form of distillation between linear feature extractors (paper, Sec. 3.4).

The teacher's weight W' is (F, D) and its data X' are (D, N), one sample a column. The first D_g
rows of the data are the part shared with the student, the rest is the teacher's own.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import ConfigError


def limiting_distillation_loss(
    teacher_weight: Tensor, teacher_data: Tensor, general_dims: int
) -> Tensor:
    """Return the loss that remains between completely separated modalities (Corollary 1.1, Eq. 6).

    L_FD = 1/2 || W' (0; S') ||_F^2, where S' are the rows of X' that the student does not share.

    Args:
        teacher_weight: W', (..., F, D).
        teacher_data: X', (..., D, N).
        general_dims: D_g, how many of the first rows are shared.

    Returns:
        (...), summed over features and samples as Eq. 1 is.

    Raises:
        ConfigError: The shapes do not fit, or D_g is not from 0 to D.
    """
    weight, data = teacher_weight, teacher_data
    if weight.dim() < 2 or data.dim() < 2 or weight.size(-1) != data.size(-2):
        raise ConfigError(
            f"the teacher's weight is {tuple(weight.shape)} and its data {tuple(data.shape)}: they "
            'must be (F, D) and (D, N).'
        )
    if not 0 <= general_dims <= data.size(-2):
        raise ConfigError(
            f'general_dims is {general_dims}; the data have {data.size(-2)} dimensions.'
        )
    specific = weight[..., general_dims:] @ data[..., general_dims:, :]
    return 0.5 * specific.square().sum((-2, -1))
