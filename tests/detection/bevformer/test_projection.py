import numpy as np
import pytest
import torch
from scipy import ndimage

from ciba_bev.detection.bevformer.projection import (
    bev_shift,
    lidar2img_matrices,
    pillar_points,
    project_points,
    rotate_bev,
)
from ciba_bev.errors import ConfigError

RANGE = (-8.0, -6.0, -5.0, 8.0, 6.0, 3.0)
INTRINSIC = np.array([[100.0, 0.0, 80.0], [0.0, 110.0, 45.0], [0.0, 0.0, 1.0]])
# Camera axes (right, down, forward) of a camera at the LiDAR that looks along its +y.
FORWARD = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
# The same camera, 1.5 m lower and turned to look along -x.
LEFT = np.array([[0.0, 1, 0, 0], [0, 0, -1, -1.5], [-1, 0, 0, 0], [0, 0, 0, 1]])
IMAGE_SHAPE = (90, 160)


def metainfo(size=3):
    intrinsic = np.eye(size)
    intrinsic[:3, :3] = INTRINSIC
    return dict(cam2img=[intrinsic, intrinsic * 1.0], lidar2cam=[FORWARD, LEFT.tolist()])


@pytest.mark.parametrize('size', [3, 4])
def test_matrices_take_points_to_pixels(size):
    matrices = lidar2img_matrices(metainfo(size))
    assert matrices.shape == (2, 4, 4)
    assert matrices.dtype == np.float64
    # 10 m ahead, 1 m right, 2 m up.
    u, v, depth, one = matrices[0] @ [1.0, 10.0, 2.0, 1.0]
    assert (u / depth, v / depth, depth, one) == pytest.approx((90.0, 23.0, 10.0, 1.0))
    # 5 m to the left, 1 m ahead: 1 m right of the axis of the camera that looks to the left.
    u, v, depth, _ = matrices[1] @ [-5.0, 1.0, 0.0, 1.0]
    assert (u / depth, v / depth, depth) == pytest.approx((100.0, 45 - 110 * 1.5 / 5, 5.0))


@pytest.mark.parametrize('missing', ['cam2img', 'lidar2cam'])
def test_a_missing_calibration_names_sample_and_remedy(missing):
    info = dict(metainfo(), token='0a1b')
    del info[missing]
    with pytest.raises(ConfigError, match=f"0a1b has no '{missing}'.*meta_keys of Pack3DDetInputs"):
        lidar2img_matrices(info)


def test_pillars_stand_on_cell_centres():
    points = pillar_points((3, 4), 4, RANGE)
    assert points.shape == (12, 4, 3)
    grid = points.view(3, 4, 4, 3)
    expected = np.meshgrid([-4, 0, 4], [-6, -2, 2, 6], np.linspace(-4.5, 2.5, 4), indexing='ij')
    for axis, values in zip((1, 0, 2), expected):
        np.testing.assert_allclose(grid[..., axis], values, atol=1e-5)


def test_projection_agrees_with_point_by_point_arithmetic():
    generator = np.random.default_rng(0)
    points = generator.uniform(-20, 20, (30, 2, 3))
    matrices = lidar2img_matrices(metainfo())
    image_points, inside = project_points(
        torch.tensor(points, dtype=torch.float32),
        torch.tensor(np.stack((matrices, matrices[::-1]))),
        IMAGE_SHAPE,
    )
    assert image_points.shape == (2, 2, 30, 2, 2)
    seen = 0
    for camera, matrix in enumerate(matrices):
        for query in range(30):
            for height in range(2):
                u, v, depth, _ = matrix @ [*points[query, height], 1.0]
                x, y = u / depth / 160, v / depth / 90
                expected = depth > 0 and 0 < x < 1 and 0 < y < 1
                for sample in range(2):
                    index = sample, (camera + sample) % 2, query, height
                    assert bool(inside[index]) == expected
                    if expected:
                        seen += 1
                        np.testing.assert_allclose(image_points[index], (x, y), atol=1e-4)
    assert seen > 10
    assert torch.isfinite(image_points).all()


def test_what_a_camera_sees():
    points = torch.tensor(
        [
            [[0.0, 10.0, 0.0]],  # ahead
            [[0.0, -10.0, 0.0]],  # behind, which would fall on the same pixel
            [[20.0, 10.0, 0.0]],  # right of the image
            [[0.0, 10.0, 8.0]],  # above it
            [[0.0, 0.0, 0.0]],  # at the camera
        ]
    )
    matrix = torch.tensor(lidar2img_matrices(metainfo())[:1])[None]
    image_points, inside = project_points(points, matrix, IMAGE_SHAPE)
    assert inside.flatten().tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(image_points[0, 0, 0, 0], (0.5, 0.5), rtol=1e-6)
    assert torch.isfinite(image_points).all()


def test_projection_ignores_autocast():
    points = torch.rand(5, 2, 3) * 50
    matrix = torch.tensor(lidar2img_matrices(metainfo()))[None]
    with torch.autocast('cpu', torch.bfloat16):
        image_points, _ = project_points(points, matrix, IMAGE_SHAPE)
    torch.testing.assert_close(image_points, project_points(points, matrix, IMAGE_SHAPE)[0])


@pytest.mark.parametrize('turns', range(-4, 5))
def test_quarter_turns_are_exact(turns):
    bev = torch.randn(2, 3, 8, 8)
    turned = rotate_bev(bev, torch.full((2,), 90.0 * turns), (4, 4))
    np.testing.assert_array_equal(turned.numpy(), np.rot90(bev.numpy(), turns, axes=(2, 3)))


@pytest.mark.parametrize('degrees', [17.0, -33.5, 121.0])
def test_turning_agrees_with_scipy(degrees):
    bev = torch.rand(1, 2, 21, 21) + 1
    turned = rotate_bev(bev, torch.tensor([degrees]), (10.5, 10.5))
    expected = ndimage.rotate(
        bev.numpy(), degrees, axes=(3, 2), reshape=False, order=0, mode='grid-constant', cval=0.0
    )
    # They may round a cell on the very edge differently.
    assert np.mean(turned.numpy() == expected) > 0.99


def test_half_precision_is_turned_to_the_same_cells():
    bev = torch.randint(256, (1, 2, 200, 200)).float()
    turned = rotate_bev(bev.bfloat16(), torch.tensor([3.0]), (100, 100))
    assert turned.dtype == torch.bfloat16
    # All of these integers are numbers of bfloat16.
    assert torch.equal(turned.float(), rotate_bev(bev, torch.tensor([3.0]), (100, 100)))


def test_each_sample_is_turned_by_its_own_angle_about_the_center():
    bev = torch.zeros(3, 1, 9, 12)
    bev[:, :, 2, 7] = 1
    turned = rotate_bev(bev, torch.tensor([0.0, 180.0, 90.0]), (6.5, 3.5))
    # One column right and one row above the centre of cell (row 3, column 6).
    assert turned[:, 0].nonzero().tolist() == [[0, 2, 7], [1, 4, 5], [2, 2, 5]]


SIZE = 40  # cells
CELL = 1.0  # metre


def cell_of(position):
    """The cell (row, column) of a point (x, y) of the LiDAR frame."""
    return tuple(int(np.floor(c / CELL + SIZE / 2)) for c in position[::-1])


def in_lidar_frame(point, ego, yaw):
    """A global point in the LiDAR frame, +y forward and +x right, of an ego at ``ego``."""
    forward = np.array([np.cos(yaw), np.sin(yaw)])
    right = np.array([np.sin(yaw), -np.cos(yaw)])
    offset = point - ego
    return np.array([offset @ right, offset @ forward])


@pytest.mark.parametrize('heading', [0.0, 40.0, 200.0])
@pytest.mark.parametrize(
    ('forward', 'left', 'turn'),
    [
        (0, 0, 0),
        (5, 0, 0),
        (-4, 0, 0),
        (0, 3, 0),
        (0, -3, 0),
        (0, 0, 90),
        (0, 0, 25),
        (0, 0, -25),
        (6, 0, 30),
        (6, -1, -30),
    ],
)
def test_a_static_landmark_is_found_in_the_previous_map(heading, forward, left, turn):
    """The previous map, turned, and read at a cell plus the shift, shows what stands there."""
    landmarks = np.array([[7.3, 4.6], [-5.4, 9.7], [2.6, -11.3]])
    old_yaw = np.radians(heading)
    new_yaw = old_yaw + np.radians(turn)
    old_ego = np.array([500.0, 900.0])
    axes = np.array([[np.cos(old_yaw), np.sin(old_yaw)], [-np.sin(old_yaw), np.cos(old_yaw)]])
    new_ego = old_ego + forward * axes[0] + left * axes[1]

    can_bus = torch.zeros(1, 18, dtype=torch.float64)
    can_bus[0, :2] = torch.tensor(new_ego - old_ego)
    can_bus[0, 16] = new_yaw % (2 * np.pi)
    can_bus[0, 17] = turn
    shift = bev_shift(can_bus, (SIZE, SIZE), torch.tensor([CELL, CELL], dtype=torch.float64))
    for landmark in landmarks + old_ego:
        previous = torch.zeros(1, 1, SIZE, SIZE)
        row, column = cell_of(in_lidar_frame(landmark, old_ego, old_yaw))
        # Three cells wide: nearest-neighbour turning can skip a single one.
        previous[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 1
        turned = rotate_bev(previous, can_bus[:, 17], (SIZE / 2, SIZE / 2))
        now = in_lidar_frame(landmark, new_ego, new_yaw)
        x, y = now / (CELL * SIZE) + 0.5 + shift[0].numpy()
        found = turned[0, 0].nonzero().double().add(0.5).mean(0)
        np.testing.assert_allclose(found, (y * SIZE, x * SIZE), atol=1.0)


def test_shift_is_in_fractions_of_each_axis():
    can_bus = torch.zeros(2, 18)
    can_bus[0, :2] = torch.tensor([3.0, 0.0])  # heading +x: 3 m forward
    can_bus[1, :2] = torch.tensor([0.0, 3.0])  # 3 m to the left
    shift = bev_shift(can_bus, (10, 20), torch.tensor([0.5, 2.0]))
    np.testing.assert_allclose(shift, [[0, 3 / 20], [-3 / 10, 0]], atol=1e-6)
