from __future__ import annotations

import pytest
import torch
from torch import Tensor

RANGE = [-10.0, -10.0, -3.0, 10.0, 10.0, 1.0]
VOXEL = [0.5, 0.5, 0.25]
PILLAR = [0.625, 0.625, 4.0]


def cloud(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 5, generator=generator) * torch.tensor([6, 6, 1.5, 1, 1])
    if name == 'random':
        return points
    if name == 'no points':
        return points[:0]
    if name == 'all outside':
        return points + torch.tensor([100.0, 0, 0, 0, 0])
    if name == 'one voxel':
        return points * 0.01 + torch.tensor([0.25, 0.25, 0.1, 0, 0])
    if name == 'on the borders':
        # Multiples of half a cell, up to both ends of the range and beyond.
        points[:, :3] = (points[:, :3] * 4).round() / 4
        return points
    if name == 'not finite':
        points[::3, 0] = float('nan')
        points[1::3, 1] = float('inf')
        points[2::7, 2] = -float('inf')
        return points
    if name == 'not in order':
        return points.T.contiguous().T
    raise AssertionError(name)


CLOUDS = (
    *('random', 'no points', 'all outside', 'one voxel'),
    *('on the borders', 'not finite', 'not in order'),
)


def hard_voxelize(extension, points, voxel_size, max_points, max_voxels):
    voxels = points.new_zeros(max_voxels, max_points, points.size(1))
    coors = torch.zeros(max_voxels, 3, dtype=torch.int32)
    counts = torch.zeros(max_voxels, dtype=torch.int32)
    found = torch.zeros((), dtype=torch.long)
    extension.hard_voxelize_forward(
        *(points, torch.tensor(voxel_size), torch.tensor(RANGE), voxels, coors, counts, found),
        max_points=max_points,
        max_voxels=max_voxels,
        NDim=3,
        deterministic=True,
    )
    return voxels, coors, counts, found


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize('voxel_size', [VOXEL, PILLAR])
@pytest.mark.parametrize('max_voxels', [4000, 1, 50], ids=['room', 'one', 'full'])
@pytest.mark.parametrize('name', CLOUDS)
def test_hard_voxelization_is_bit_equal_to_the_compiled_one(
    compiled, ours, name, max_voxels, voxel_size, dtype
):
    points = cloud(name).to(dtype)
    expected = hard_voxelize(compiled, points, voxel_size, 4, max_voxels)
    got = hard_voxelize(ours, points, voxel_size, 4, max_voxels)
    for tensor, other in zip(got, expected):
        assert torch.equal(tensor.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('name', CLOUDS)
def test_dynamic_voxelization_is_bit_equal_to_the_compiled_one(compiled, ours, name, dtype):
    points = cloud(name).to(dtype)
    cells = [torch.full((len(points), 3), 7, dtype=torch.int32) for _ in range(2)]
    for extension, coors in zip((compiled, ours), cells):
        extension.dynamic_voxelize_forward(
            points, torch.tensor(VOXEL), torch.tensor(RANGE), coors, NDim=3
        )
    assert torch.equal(*cells)


def test_voxels_and_points_keep_the_order_in_which_they_come(ours):
    points = torch.tensor([[1.1, 0], [0.2, 0], [1.2, 0], [9.9, 0], [1.3, 0], [0.3, 0]])
    points = torch.cat((points, torch.zeros(6, 2)), 1)
    voxels, coors, counts, found = hard_voxelize(ours, points, [1.0, 1.0, 4.0], 2, 2)
    assert found == 2
    assert coors.tolist() == [[0, 10, 11], [0, 10, 10]]
    assert counts.tolist() == [2, 2]
    assert torch.equal(voxels[0, :, 0], torch.tensor([1.1, 1.2]))
    assert torch.equal(voxels[1, :, 0], torch.tensor([0.2, 0.3]))


def test_without_limits_everything_is_kept(ours):
    points = cloud('random')
    limited = hard_voxelize(ours, points, PILLAR, 40, 3000)
    voxels, coors, counts, found = (torch.zeros_like(tensor) for tensor in limited)
    ours.hard_voxelize_forward(
        *(points, torch.tensor(PILLAR), torch.tensor(RANGE), voxels, coors, counts, found),
        max_points=-1,
        max_voxels=-1,
        NDim=3,
    )
    assert all(map(torch.equal, (voxels, coors, counts, found), limited))
