import numpy as np
import pytest
import torch

from ciba_bev.detection.bevformer import GridMask


def masks(count=200, **settings):
    """Masks of square images, each as the (H, W) array of what is kept."""
    torch.manual_seed(0)
    grid_mask = GridMask(**settings).train()
    return [grid_mask(torch.ones(2, 3, 60, 60)) for _ in range(count)]


def test_evaluation_changes_nothing():
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(GridMask(probability=1.0).eval()(images), images)


def test_probability_is_how_often_images_are_masked():
    masked = np.mean([bool((mask == 0).any()) for mask in masks(400, probability=0.7)])
    assert masked == pytest.approx(0.7, abs=0.08)
    assert all((mask == 1).all() for mask in masks(20, probability=0.0))


def test_all_images_and_channels_share_one_lattice():
    for mask in masks(20, probability=1.0):
        assert torch.equal(mask, mask[:1, :1].expand_as(mask))
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


def runs(line):
    """Lengths of the runs of True that touch neither end."""
    edges = np.flatnonzero(np.diff(line.astype(int)))
    return {int(stop - start) for start, stop in zip(edges[:-1], edges[1:]) if line[start + 1]}


def test_whole_squares_are_cut_out_of_a_regular_lattice():
    checked = 0
    for mask in masks(100, probability=1.0):
        cut = mask[0, 0].numpy() == 0
        rows, columns = cut.any(1), cut.any(0)
        # Wherever a cut row meets a cut column, and nowhere else.
        np.testing.assert_array_equal(cut, rows[:, None] & columns)
        sides = runs(rows) | runs(columns)
        gaps = runs(~rows) | runs(~columns)
        assert len(sides) <= 1
        assert len(gaps) <= 1
        checked += bool(sides and gaps)
    assert checked > 10


@pytest.mark.parametrize(('ratio', 'share'), [(0.5, 0.25), (0.75, 0.0625)])
def test_share_of_the_image_that_is_cut(ratio, share):
    cut = np.mean(
        [(mask == 0).float().mean().item() for mask in masks(800, ratio=ratio, probability=1.0)]
    )
    assert cut == pytest.approx(share, rel=0.2)


def test_masking_keeps_the_dtype():
    images = torch.ones(1, 3, 8, 8, dtype=torch.bfloat16)
    assert GridMask(probability=1.0).train()(images).dtype == torch.bfloat16
