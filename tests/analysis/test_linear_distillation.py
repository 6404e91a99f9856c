"""Closed forms against each other, against gradient descent, and against the paper's theorem."""

import numpy as np
import pytest
import torch

from ciba_bev.analysis import (
    limiting_distillation_loss,
    optimal_student_weight,
    projected_student_weight,
)
from ciba_bev.classification.synthetic import make_modalities
from ciba_bev.errors import ConfigError


def random_problem(seed: int = 0, batch: tuple = ()):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    return draw(6, 5), draw(5, 40), draw(4, 40)


def separated(general_dims: int, dims: int = 8, samples: int = 50, seed: int = 1):
    pair = make_modalities(general_dims, dims, samples, seed)
    weight = torch.randn(6, dims, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return weight, pair.teacher.double(), pair.student.double()


def test_lemma_1_as_it_is_written():
    weight, teacher, student = (matrix.numpy() for matrix in random_problem())
    written = weight @ teacher @ student.T @ np.linalg.inv(student @ student.T)
    found = optimal_student_weight(weight, teacher, student)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, written, rtol=1e-9)


def test_both_lemmas_give_the_same():
    problem = random_problem(batch=(3,))
    torch.testing.assert_close(optimal_student_weight(*problem), projected_student_weight(*problem))


def test_gradient_descent_arrives_there():
    weight, teacher, student = random_problem()
    trained = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([trained], lr=0.01)
    for _ in range(2000):
        optimizer.zero_grad()
        (0.5 * (weight @ teacher - trained @ student).square().sum()).backward()
        optimizer.step()
    torch.testing.assert_close(trained.detach(), optimal_student_weight(weight, teacher, student))


@pytest.mark.parametrize('general_dims', [0, 3, 8])
def test_rank_is_bounded_by_what_is_shared(general_dims):
    """Theorem 1; and W* is W' on the shared columns, zero on the others."""
    weight, teacher, student = separated(general_dims)
    found = optimal_student_weight(weight, teacher, student)
    expected = weight.clone()
    expected[:, general_dims:] = 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    rank = int(torch.linalg.matrix_rank(found, atol=1e-4))
    assert rank == min(int(torch.linalg.matrix_rank(weight)), general_dims)


@pytest.mark.parametrize('general_dims', [0, 3, 8])
def test_the_loss_that_remains(general_dims):
    """Corollary 1.1 against the loss of the optimum itself."""
    weight, teacher, student = separated(general_dims)
    optimum = optimal_student_weight(weight, teacher, student)
    loss = 0.5 * (weight @ teacher - optimum @ student).square().sum()
    limit = limiting_distillation_loss(weight, teacher, general_dims)
    assert limit.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)


def test_says_what_is_wrong():
    weight, teacher, student = random_problem()
    student[3] = student[0] + student[1]
    with pytest.raises(ConfigError, match='rank 3 of 4'):
        optimal_student_weight(weight, teacher, student)
    with pytest.raises(ConfigError, match=r'\(6, 5\) and its data \(4, 40\)'):
        projected_student_weight(weight, student, teacher)
    with pytest.raises(ConfigError, match='one column for each of the same samples'):
        optimal_student_weight(weight, teacher, student[:, :30])
    with pytest.raises(ConfigError, match='general_dims is 6; the data have 5'):
        limiting_distillation_loss(weight, teacher, 6)
