import torch

from ciba_bev.detection.bevformer.geometry import pack_visible

BATCH, CAMERAS, QUERIES, HEIGHTS = 2, 3, 70, 2


def make_points():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(BATCH, CAMERAS, QUERIES, HEIGHTS, 2, generator=generator)
    visible = torch.rand(BATCH, CAMERAS, QUERIES, HEIGHTS, generator=generator) < 0.4
    visible[1, 2] = False  # a camera that sees nothing
    visible[0, :, 5] = False  # a query that nobody sees
    return points, visible


def test_every_visible_query_has_one_slot_of_its_camera():
    points, visible = make_points()
    packed = pack_visible(points, visible, torch.device('cpu'))
    for sample in range(BATCH):
        for camera in range(CAMERAS):
            pair = sample * CAMERAS + camera
            expected = [q for q in range(QUERIES) if visible[sample, camera, q].any()]
            filled = packed.filled[pair, :, 0]
            assert (packed.query[pair, filled] - sample * QUERIES).tolist() == expected
            found = packed.image_points[pair, filled]
            assert torch.equal(found, points[sample, camera, expected])
            # Empty slots read something that exists, and nothing counts it.
            assert packed.query[pair].max() < BATCH * QUERIES


def test_empty_slots_share_the_queries_and_look_outside():
    """A GPU would add thousands of zeros to one row and to the corner of an image."""
    points, visible = make_points()
    visible[1] = False
    packed = pack_visible(points, visible, torch.device('cpu'))
    empty = ~packed.filled[..., 0]
    shares = packed.query[empty].bincount(minlength=BATCH * QUERIES)
    assert shares.max() <= -(-packed.filled.numel() // (BATCH * QUERIES))
    assert (packed.image_points[empty] < -1).all()


def test_cameras_are_counted_and_nobody_is_one():
    points, visible = make_points()
    packed = pack_visible(points, visible, torch.device('cpu'))
    counts = visible.any(-1).sum(1)
    assert torch.equal(packed.num_cameras[..., 0], counts.clamp(min=1).float())
    assert counts[0, 5] == 0
    assert packed.num_cameras[0, 5] == 1


def test_slots_come_in_steps_and_are_never_none():
    points, visible = make_points()
    slots = pack_visible(points, visible, torch.device('cpu')).query.size(1)
    assert slots % 64 == 0
    assert slots >= visible.any(-1).sum(2).max() > slots - 64
    blind = pack_visible(points, torch.zeros_like(visible), torch.device('cpu'))
    assert blind.query.size(1) == 64
    assert not blind.filled.any()
