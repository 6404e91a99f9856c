import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from mmcv.ops.voxelize import voxelization as voxelize_by_mmcv
from mmdet3d.models.data_preprocessors.voxelize import VoxelizationByGridShape

from ciba_bev.ops import voxelization
from ciba_bev.ops.voxelization import Voxelization, hard_voxelize

SIZE = [0.5, 0.25, 1.0]
RANGE = [-4.0, -2.0, -3.0, 4.0, 2.0, 1.0]
NAN, INF = math.nan, math.inf


@pytest.fixture(params=['table', 'sorting'])
def voxelize(request, monkeypatch):
    """The way of CPU tensors, and that of all other devices."""
    if request.param == 'sorting':
        monkeypatch.setattr(voxelization, '_by_table', voxelization._by_sorting)
    return hard_voxelize


def cloud(num_points, spread=3.0, features=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(num_points, features, generator=generator)
    points[:, :3] = torch.randn(num_points, 3, generator=generator) * spread
    return points


def on_borders():
    """Points on every border of the cells and of the range, and the floats beside them."""
    lines = [np.arange(RANGE[axis], RANGE[axis + 3] + 1e-3, SIZE[axis]) for axis in range(3)]
    places = np.stack(np.meshgrid(*lines), -1).reshape(-1, 3).astype(np.float32)
    beside = [np.nextafter(places, np.float32(to)) for to in (-INF, INF)]
    return torch.from_numpy(np.concatenate((places, *beside)))


CLOUDS = {
    'none': cloud(0),
    'one point': torch.tensor([[0.1, 0.2, 0.3, 7.0]]),
    'all outside': cloud(50) + 100,
    'one voxel': cloud(50, spread=0.01).abs(),
    'spread out': cloud(3000),
    'crowded': cloud(3000, spread=0.7),
    'only coordinates': cloud(200, features=3),
    'on borders': on_borders(),
    'not finite': torch.tensor(
        [[NAN, 0, 0], [0, INF, 0], [0, 0, -INF], [1e30, 0, 0], [0, -1e30, 0], [0, 0, 0]]
    ),
    'float64': cloud(500).double(),
    'float16': cloud(500).half(),
}
CAPS = [(5, 10_000), (1, 20), (35, 1), (3, 100)]


@lru_cache(maxsize=None)
def by_loop(points, max_points, max_voxels):
    """The definition, point by point; coordinates in the floats of the points.

    Each cloud's result, cached by the tensor's identity, serves both ways.
    """
    voxels = {}
    kind = np.float64 if points.dtype == torch.float64 else np.float32
    lower, size = np.float32(RANGE[:3]).astype(kind), np.float32(SIZE).astype(kind)
    for point in points:
        cell = np.floor((point[:3].numpy().astype(kind) - lower) / size)
        if all(0 <= place < count for place, count in zip(cell, (16, 16, 4))):
            key = tuple(cell[::-1].astype(int))
            if key in voxels or len(voxels) < max_voxels:
                voxels.setdefault(key, []).append(point)
    contents = points.new_zeros(len(voxels), max_points, points.size(1))
    counts = torch.zeros(len(voxels), dtype=torch.int32)
    for number, members in enumerate(voxels.values()):
        counts[number] = min(len(members), max_points)
        contents[number, : counts[number]] = torch.stack(members[:max_points])
    coordinates = torch.tensor(list(voxels), dtype=torch.int32).view(-1, 3)
    return contents, coordinates, counts


def assert_equal(results, expected):
    for result, other in zip(results, expected):
        assert result.shape == other.shape
        assert result.dtype == other.dtype
        assert torch.equal(result, other)


@pytest.mark.parametrize('caps', CAPS, ids=str)
@pytest.mark.parametrize('points', CLOUDS.values(), ids=CLOUDS)
def test_voxels_are_those_of_the_definition_and_of_mmcv(voxelize, points, caps):
    results = voxelize(points, SIZE, RANGE, *caps)
    assert_equal(results, by_loop(points, *caps))
    if len(points) and points.dtype == torch.float32:
        assert_equal(results, voxelize_by_mmcv(points, SIZE, RANGE, *caps, True))


@pytest.mark.parametrize('size', [[0.1, 0.1, 0.2], [0.2, 0.2, 8], [0.625, 0.625, 8]])
def test_full_sizes_agree_with_mmcv(voxelize, size):
    bounds = [-51.2, -51.2, -5, 51.2, 51.2, 3]
    points = cloud(20_000, spread=20) * torch.tensor([1, 1, 0.1, 1, 1])
    for caps in [(10, 120_000), (3, 2_000)]:
        expected = voxelize_by_mmcv(points, size, bounds, *caps, True)
        assert caps[1] == 120_000 or len(expected[0]) == 2_000, 'the cap is meant to be reached'
        assert_equal(voxelize(points, size, bounds, *caps), expected)


def test_half_a_cell_at_the_end_counts_as_one(voxelize):
    # 2.5 cells along x: C rounds to 3, Python and PyTorch to 2.
    points = torch.tensor([[2.2, 0.5, 0.5], [3.1, 0.5, 0.5]])
    arguments = ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.5, 1.0, 1.0], 2, 10)
    results = voxelize(points, *arguments)
    assert results.coordinates.tolist() == [[0, 0, 2]]
    assert_equal(results, voxelize_by_mmcv(points, *arguments, True))


def test_memory_layout_does_not_matter_and_inputs_are_left_alone(voxelize):
    points = cloud(300)
    strided = torch.cat((points, points), dim=1)[:, :5]
    before = strided.clone()
    results = voxelize(strided.requires_grad_(), SIZE, RANGE, 4, 50)
    assert_equal(results, by_loop(points, 4, 50))
    assert torch.equal(strided, before)
    assert not results.points.requires_grad


def test_the_result_shares_no_memory_with_the_next_one(voxelize):
    first = voxelize(cloud(100), SIZE, RANGE, 4, 50)
    copies = [tensor.clone() for tensor in first]
    voxelize(cloud(100, seed=1), SIZE, RANGE, 4, 50)
    assert_equal(first, copies)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(voxel_size=SIZE, max_num_points=4, max_voxels=(20, 30)),
        dict(voxel_size=SIZE, max_num_points=4, max_voxels=25, deterministic=False),
        dict(grid_shape=[9, 9, 5], max_num_points=4, max_voxels=(20, 30)),
        dict(voxel_size=SIZE, max_num_points=-1, max_voxels=(-1, -1)),
    ],
    ids=['two caps', 'one cap', 'grid shape', 'dynamic'],
)
@pytest.mark.parametrize('training', [True, False])
def test_the_layer_stands_in_for_that_of_mmdet3d(arguments, training):
    ours = Voxelization(RANGE, **arguments).train(training)
    theirs = VoxelizationByGridShape(RANGE, **arguments).train(training)
    # mmcv has the other way on GPUs only.
    theirs.deterministic = True
    points = cloud(400)
    results, expected = ours(points), theirs(points)
    if isinstance(expected, torch.Tensor):
        assert torch.equal(results, expected)
    else:
        assert_equal(results, expected)
    # What mmdet3d's preprocessor reads besides.
    assert ours.voxel_size == theirs.voxel_size
    assert ours.point_cloud_range == theirs.point_cloud_range


def test_sorting_asks_the_device_once():
    """Every value that Python reads from a GPU stops it until the GPU has caught up."""
    from torch.utils._python_dispatch import TorchDispatchMode

    waits = []

    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = function.overloadpacket._qualified_op_name
            if name in {'aten::_local_scalar_dense', 'aten::nonzero', 'aten::_unique2'}:
                waits.append(name)
            return function(*args, **(kwargs or {}))

    points, size, lower = cloud(100), np.float32(SIZE), np.float32(RANGE[:3])
    with Waits():
        voxelization._by_sorting(points, size, lower, [16, 16, 4], 4, 50)
    assert waits == ['aten::_local_scalar_dense']
