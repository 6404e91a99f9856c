"""Grids meet in metres."""

import pytest
import torch

from ciba_bev.distillation import FeatureTap
from ciba_bev.distillation.taps import align_to_student, crop
from ciba_bev.errors import ConfigError


def draw(point, extent, grid):
    """A map with a one in the cell that holds a point (x, y)."""
    x_min, y_min, x_max, y_max = extent
    row = int((point[1] - y_min) / (y_max - y_min) * grid[0])
    column = int((point[0] - x_min) / (x_max - x_min) * grid[1])
    feature = torch.zeros(1, 1, *grid)
    feature[0, 0, row, column] = 1
    return feature


def brightest(feature):
    return divmod(int(feature.flatten().argmax()), feature.shape[-1])


@pytest.mark.parametrize('point', [(3.3, -7.1), (-9.9, 9.7), (0.1, 0.1)])
@pytest.mark.parametrize(
    ('extent', 'grid'),
    [
        ((-10, -10, 10, 10), (40, 40)),
        ((-20, -20, 20, 20), (40, 40)),
        ((-12, -16, 20, 24), (80, 64)),
    ],
)
def test_an_object_lights_up_in_the_same_cell(point, extent, grid):
    student_extent, student_grid = (-10, -10, 10, 10), (20, 20)
    student = draw(point, student_extent, student_grid)
    teacher, window = align_to_student(
        draw(point, extent, grid),
        student,
        FeatureTap('t', extent=extent),
        FeatureTap('s', extent=student_extent),
    )
    student = crop(student, window)
    assert teacher.shape == student.shape
    row, column = brightest(student)
    # A teacher's cell whose centre lies in a neighbouring cell of the student's lights up there.
    found_row, found_column = brightest(teacher)
    assert abs(row - found_row) <= 1
    assert abs(column - found_column) <= 1


def test_a_linear_ramp_is_kept_exactly():
    def ramp(extent, grid):
        x_min, y_min, x_max, y_max = extent
        x = x_min + (torch.arange(grid[1]) + 0.5) / grid[1] * (x_max - x_min)
        y = y_min + (torch.arange(grid[0]) + 0.5) / grid[0] * (y_max - y_min)
        return torch.stack(torch.meshgrid(y, x, indexing='ij'))[None]

    wide, narrow = (-20.0, -30.0, 20.0, 30.0), (-5.0, -8.0, 7.0, 6.0)
    student = ramp(narrow, (14, 24))
    teacher, window = align_to_student(
        ramp(wide, (30, 50)), student, FeatureTap('t', extent=wide), FeatureTap('s', extent=narrow)
    )
    torch.testing.assert_close(teacher, crop(student, window), atol=1e-4, rtol=0)


def test_only_the_cells_the_teacher_covers():
    student = torch.arange(16.0).view(1, 1, 4, 4)
    teacher, window = align_to_student(
        torch.ones(1, 3, 2, 2),
        student,
        FeatureTap('t', extent=(0, 0, 2, 1)),
        FeatureTap('s', extent=(0, 0, 4, 4)),
    )
    assert teacher.shape == (1, 3, 1, 2)
    assert crop(student, window).flatten().tolist() == [0, 1]


def test_equal_grids_are_left_alone():
    teacher, student = torch.randn(2, 5, 3, 3), torch.randn(2, 7, 3, 3)
    aligned, window = align_to_student(teacher, student, FeatureTap('t'), FeatureTap('s'))
    assert aligned is teacher
    torch.testing.assert_close(crop(student, window), student)


def test_features_without_grid():
    teacher, student = torch.randn(2, 5), torch.randn(2, 7)
    aligned, window = align_to_student(teacher, student, FeatureTap('t'), FeatureTap('s'))
    assert aligned is teacher
    assert crop(student, window).shape == (2, 7)


@pytest.mark.parametrize(
    ('teacher', 'student', 'extents', 'message'),
    [
        ((2, 5, 4, 4), (3, 5, 4, 4), (None, None), '2 samples and the student of 3'),
        ((2, 5, 4, 4), (2, 5, 8, 8), (None, (0, 0, 1, 1)), 'state extent'),
        ((2, 5, 4, 4), (2, 5, 4, 4), ((0, 0, 1, 1), (5, 5, 6, 6)), 'no cell in common'),
        ((2, 5, 4), (2, 5, 8), ((0, 0, 1, 1), (0, 0, 1, 1)), 'two-dimensional'),
    ],
)
def test_grids_that_cannot_meet(teacher, student, extents, message):
    with pytest.raises(ConfigError, match=message):
        align_to_student(
            torch.zeros(teacher),
            torch.zeros(student),
            FeatureTap('t', extent=extents[0]),
            FeatureTap('s', extent=extents[1]),
        )
