"""Distortions of many images against mmdet3d's transform of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet3d.datasets.transforms import PhotoMetricDistortion3D

from ciba_bev.detection.photometric_distortion import PhotometricDistortion, distort
from ciba_bev.errors import CibaError


def parameters_of(flags):
    """A distortion as mmdet3d draws it, in the columns of ours."""
    mode, bright, contrast, saturate, turn, swap, delta, factor, saturation, hue, order = flags
    factor = factor if contrast else 1.0
    return [
        delta if bright else 0.0,
        factor if mode == 1 else 1.0,
        saturation if saturate else 1.0,
        hue / 60 if turn else 0.0,
        factor if mode == 0 else 1.0,
        *(order if swap else range(3)),
    ]


@pytest.mark.parametrize('together', [True, False])
def test_each_image_becomes_what_mmdet3d_makes_of_it(together):
    np.random.seed(0)
    transform = PhotoMetricDistortion3D()
    drawn = [transform._random_flags() for _ in range(40)]
    # Every kind of change is among them, alone and with others.
    assert all({0, 1} == {flags[kind] for flags in drawn} for kind in range(6))
    images = np.random.randint(0, 256, (40, 30, 21, 3), dtype=np.uint8)
    # Colours that are special to hue and saturation: black, white, grey, and channels that tie.
    images[:, 0, :7] = [0, 0, 0], [255] * 3, [9] * 3, [9, 9, 3], [3, 9, 9], [9, 3, 9], [1, 0, 0]
    images[:, 1] //= 16
    expected = [
        transform.transform(dict(img=image, photometric_param=flags))['img']
        for image, flags in zip(images, drawn)
    ]
    expected = torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2)
    parameters = torch.tensor([parameters_of(flags) for flags in drawn])
    ours = torch.from_numpy(images).permute(0, 3, 1, 2)
    if together:
        found = distort(ours, parameters)
    else:
        # Images whose hue stays have a way of their own on a CPU.
        found = torch.cat([distort(ours[i : i + 1], parameters[i : i + 1]) for i in range(40)])
    assert found.dtype == torch.float32
    # A hundredth of the smallest step between two bytes.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-2)
    assert (found < 0).any()


def test_nothing_is_left_of_the_input_but_the_input():
    image = torch.full((1, 3, 4, 4), 100.0)
    parameters = torch.tensor([[20.0, 1.5, 1.0, 0.1, 1.0, 0, 1, 2]])
    assert (distort(image, parameters) == 180).all()
    assert (image == 100).all()


def test_drawn_as_mmdet3d_draws():
    np.random.seed(0)
    transform = PhotoMetricDistortion3D()
    theirs = torch.tensor([parameters_of(transform._random_flags()) for _ in range(4000)])
    ours = PhotometricDistortion().draw(4000, torch.Generator().manual_seed(0))
    assert ours.shape == theirs.shape == (4000, 8)
    neutral = torch.tensor([0.0, 1, 1, 0, 1])
    for column, still in enumerate(neutral):
        # Half stay as they are, of the two contrasts three quarters; four standard deviations.
        for values in (ours, theirs):
            share = (values[:, column] == still).float().mean()
            assert share == pytest.approx(0.75 if column in (1, 4) else 0.5, abs=0.032)
        # Kolmogorov and Smirnov's distance of two samples of 4,000, at 0.1 %.
        points = theirs[:, column].sort().values
        ranks = [
            torch.searchsorted(values[:, column].sort().values, points, right=True) / 4000
            for values in (ours, theirs)
        ]
        assert (ranks[0] - ranks[1]).abs().max() < 1.95 * (2 / 4000) ** 0.5
    # Contrast comes first or last, never twice.
    assert not ((ours[:, 1] != 1) & (ours[:, 4] != 1)).any()
    orders = ours[:, 5:].long()
    counts = (orders @ torch.tensor([9, 3, 1])).bincount(minlength=22) / 4000
    # Half are not swapped, and of the others a sixth is swapped into the same order.
    assert counts[5] == pytest.approx(7 / 12, abs=0.032)
    for code in (7, 11, 15, 19, 21):
        assert counts[code] == pytest.approx(1 / 12, abs=0.018)


def test_the_generator_decides():
    distortion = PhotometricDistortion()
    first, again, other = (
        distortion.draw(5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(row) for row in first.tolist()}) == 5


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(contrast_range=(1.5, 0.5)), 'contrast_range'),
        (dict(saturation_range=(-1, 1)), 'saturation_range'),
        (dict(hue_delta=90), 'hue_delta is 90'),
    ],
)
def test_ranges_are_checked(arguments, message):
    with pytest.raises(CibaError, match=message):
        PhotometricDistortion(**arguments)
