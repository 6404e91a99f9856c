import pytest
import torch

from ciba_bev.detection.bevformer import BEVFormerTransformer

SIZE = 8  # cells of 2 m
RANGE = (-8.0, -8.0, -5.0, 8.0, 8.0, 3.0)


class Listener(torch.nn.Module):
    """Stands in for the encoder and keeps what it is given."""

    def forward(self, queries, positions, prev_bev, has_previous, image_features, geometry):
        self.prev_bev, self.reference_points = prev_bev, geometry.bev_reference_points
        self.image_features = image_features
        return queries


@pytest.fixture
def transformer():
    transformer = BEVFormerTransformer(
        (SIZE, SIZE),
        RANGE,
        embed_dims=4,
        num_cams=2,
        num_levels=2,
        num_heads=2,
        num_temporal_points=1,
        encoder_layers=1,
        decoder_layers=1,
        feedforward_channels=8,
    )
    transformer.encoder = Listener()
    return transformer


def encode(transformer, can_bus, prev_bev=None, has_previous=None):
    levels = [torch.randn(len(can_bus), 2, 4, *shape) for shape in ((3, 5), (2, 3))]
    transformer.encode(
        levels,
        torch.eye(4).expand(len(can_bus), 2, 4, 4),
        (32, 64),
        can_bus,
        torch.randn(SIZE * SIZE, 4),
        torch.randn(SIZE * SIZE, 4),
        prev_bev,
        has_previous,
    )
    return levels


def cell(row, column):
    return row * SIZE + column


@pytest.mark.parametrize(
    ('motion', 'turn', 'before', 'now'),
    [
        # Cells as (row, column); ahead of the vehicle rows grow, to its right columns do.
        ((0.0, 0.0), 0.0, (5, 3), (5, 3)),
        ((4.0, 0.0), 0.0, (5, 3), (3, 3)),  # two cells forward: it comes two rows nearer
        ((0.0, 2.0), 0.0, (5, 3), (5, 4)),  # one cell to the left: it stands further right
        ((0.0, 0.0), 90.0, (6, 3), (4, 6)),  # turned left: what was ahead is on the right
        ((0.0, 0.0), -90.0, (6, 3), (3, 1)),  # turned right: on the left
        # Two cells forward as it looked before, then turned left.
        ((4.0, 0.0), 90.0, (6, 3), (4, 4)),
    ],
)
def test_a_landmark_of_the_previous_map_is_read_where_it_stands_now(
    transformer, motion, turn, before, now
):
    previous = torch.zeros(1, SIZE * SIZE, 4)
    previous[0, cell(*before)] = 1
    can_bus = torch.zeros(1, 18)
    can_bus[0, :2] = torch.tensor(motion)  # the vehicle headed along the global x axis
    can_bus[0, 16] = torch.deg2rad(torch.tensor(turn)) % (2 * torch.pi)
    can_bus[0, 17] = turn
    encode(transformer, can_bus, previous)
    listener = transformer.encoder
    turned = listener.prev_bev.view(SIZE, SIZE, 4)
    x, y = (listener.reference_points[0, cell(*now), 0] * SIZE).tolist()
    assert turned[int(y), int(x)].tolist() == [1.0] * 4
    assert turned.count_nonzero() == 4
    # The present map is read at the query's own place.
    own = listener.reference_points[0, cell(*now), 1] * SIZE
    assert own.tolist() == pytest.approx([now[1] + 0.5, now[0] + 0.5])


@pytest.mark.parametrize('others_have_one', [False, True])
def test_without_a_previous_map_both_readings_are_at_the_same_place(transformer, others_have_one):
    """The motion in the CAN bus vector is that since a map that is not there."""
    can_bus = torch.zeros(2, 18)
    can_bus[:, :2] = torch.tensor([4.0, 2.0])
    if others_have_one:
        previous, has_previous = torch.randn(2, SIZE * SIZE, 4), torch.tensor([False, True])
        encode(transformer, can_bus, previous, has_previous)
    else:
        encode(transformer, can_bus)
    before, now = transformer.encoder.reference_points.unbind(2)
    assert torch.equal(before[0], now[0])
    assert torch.equal(before[1], now[1]) != others_have_one


def test_autocast_rounds_neither_motion_nor_reference_points(transformer):
    can_bus, query_pos = torch.randn(2, 18), torch.randn(5, 4)
    expected = transformer.can_bus_mlp(can_bus), transformer.reference_points(query_pos)
    with torch.autocast('cpu', torch.bfloat16):
        found = transformer.can_bus_mlp(can_bus), transformer.reference_points(query_pos)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_image_features_know_their_camera_and_level(transformer):
    levels = encode(transformer, torch.zeros(1, 18))
    features = transformer.encoder.image_features
    assert features.shape == (1, 2, 15 + 6, 4)
    for camera in range(2):
        for level, start, row, column, width in ((0, 0, 2, 4, 5), (1, 15, 1, 0, 3)):
            expected = (
                levels[level][0, camera, :, row, column]
                + transformer.cams_embeds[camera]
                + transformer.level_embeds[level]
            )
            actual = features[0, camera, start + row * width + column]
            torch.testing.assert_close(actual, expected)
