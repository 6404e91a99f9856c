"""Closed forms of distillation between linear feature extractors (paper, Sec. 3.3 and 3.4).

Teacher and student are W' and W, (F, D) each; their data X' and X are (D, N), one paired sample a
column. The first D_g rows of both are the shared part G, the rest is each modality's own. All
functions take leading batch axes, and give arrays for arrays and tensors for tensors.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError

Matrix = TypeVar('Matrix', Tensor, NDArray[Any])


def optimal_student_weight(
    teacher_weight: Matrix, teacher_data: Matrix, student_data: Matrix
) -> Matrix:
    """Return the limit of feature distillation, W* = W'X'X^T (XX^T)^-1 (Lemma 1, Eq. 2).

    Args:
        teacher_weight: W', (..., F, D').
        teacher_data: X', (..., D', N).
        student_data: X, (..., D, N), of full rank D.

    Returns:
        W*, (..., F, D), in the precision of the arguments.

    Raises:
        ConfigError: The shapes do not fit, or X does not have full rank.
    """
    weight, teacher, student = _as_tensors(teacher_weight, teacher_data, student_data)
    _check_pair(weight, teacher, student)
    _require_full_rank(student)
    targets = weight @ teacher
    # Least squares on the data themselves: squaring them in XX^T would square their condition.
    solution = torch.linalg.lstsq(student.mT, targets.mT).solution.mT
    return _like(solution, teacher_weight)


def projected_student_weight(
    teacher_weight: Matrix, teacher_data: Matrix, student_data: Matrix
) -> Matrix:
    """Return the same weight by projections, W* = W' P_X(X') P_X(X)^T (Lemma 2, Eq. 3).

    P_X(A) = A V L^-1 with X = U L V^T, so P_X(X) = U is orthogonal: a student can learn what is
    left of the teacher's data after projecting them onto the row space of its own.

    Args:
        teacher_weight: W', (..., F, D').
        teacher_data: X', (..., D', N).
        student_data: X, (..., D, N), of full rank D.

    Returns:
        W*, (..., F, D), in the precision of the arguments.

    Raises:
        ConfigError: The shapes do not fit, or X does not have full rank.
    """
    weight, teacher, student = _as_tensors(teacher_weight, teacher_data, student_data)
    _check_pair(weight, teacher, student)
    _require_full_rank(student)
    left, values, right = torch.linalg.svd(student, full_matrices=False)
    projected_teacher = teacher @ right.mT / values.unsqueeze(-2)
    return _like(weight @ projected_teacher @ left.mT, teacher_weight)


def limiting_distillation_loss(
    teacher_weight: Matrix, teacher_data: Matrix, general_dims: int
) -> Matrix:
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
    weight, teacher = _as_tensors(teacher_weight, teacher_data)
    _check_product(weight, teacher)
    if not 0 <= general_dims <= teacher.size(-2):
        raise ConfigError(
            f'general_dims is {general_dims}; the data have {teacher.size(-2)} dimensions.'
        )
    specific = weight[..., general_dims:] @ teacher[..., general_dims:, :]
    return _like(0.5 * specific.square().sum((-2, -1)), teacher_weight)


def _as_tensors(*matrices: Matrix) -> list[Tensor]:
    return [torch.as_tensor(matrix) for matrix in matrices]


def _like(result: Tensor, argument: Matrix) -> Matrix:
    return result.numpy() if isinstance(argument, np.ndarray) else result


def _check_product(weight: Tensor, data: Tensor) -> None:
    if weight.dim() < 2 or data.dim() < 2 or weight.size(-1) != data.size(-2):
        raise ConfigError(
            f"the teacher's weight is {tuple(weight.shape)} and its data {tuple(data.shape)}: they "
            'must be (F, D) and (D, N).'
        )


def _check_pair(weight: Tensor, teacher: Tensor, student: Tensor) -> None:
    _check_product(weight, teacher)
    if student.dim() < 2 or student.size(-1) != teacher.size(-1):
        raise ConfigError(
            f"the teacher's data are {tuple(teacher.shape)} and the student's "
            f'{tuple(student.shape)}: both need one column for each of the same samples.'
        )


def _require_full_rank(student: Tensor) -> None:
    dims = student.size(-2)
    ranks = torch.linalg.matrix_rank(student)
    if int(ranks.min()) < dims:
        raise ConfigError(
            f"the student's data have rank {int(ranks.min())} of {dims}; Lemma 1 needs full rank. "
            'Take more samples, or drop dimensions that depend on the others.'
        )
