import torch
from torch import nn

from ciba_bev.detection.attention import MultiheadSelfAttention
from ciba_bev.detection.decoder import CENTER_CODES, DecoderLayer, RefiningDecoder

DIMS = 8


def make_decoder(num_layers=3):
    torch.manual_seed(0)
    return RefiningDecoder(
        lambda: DecoderLayer(MultiheadSelfAttention(DIMS, 2, 0.0), DIMS, 2, 1, 2, 16, 0.0),
        num_layers,
    )


def constant_branch(code):
    branch = nn.Linear(DIMS, 10)
    nn.init.zeros_(branch.weight)
    branch.bias.data = torch.tensor(code)
    return branch


def run(decoder, branches, reference, query=None):
    query = torch.randn(1, reference.size(1), DIMS) if query is None else query
    value = torch.randn(1, 12, DIMS)
    return decoder(query, torch.zeros_like(query), value, reference, [(3, 4)], branches)


def test_each_layer_starts_where_the_one_before_saw_the_box():
    code = [0.0] * 10
    code[CENTER_CODES[0]], code[CENTER_CODES[1]], code[CENTER_CODES[2]] = 0.3, -0.2, 1.0
    reference = torch.tensor([[[0.2, 0.5, 0.7], [0.9, 0.1, 0.4]]])
    states, references = run(make_decoder(), [constant_branch(code)] * 3, reference)
    assert states.shape == (3, 1, 2, DIMS)
    logit = torch.special.logit(reference)
    step = torch.tensor([0.3, -0.2, 1.0])
    for layer in range(3):
        torch.testing.assert_close(references[layer], (logit + layer * step).sigmoid())


def test_reference_points_without_height_use_x_and_y():
    code = [float(index) for index in range(10)]
    reference = torch.tensor([[[0.2, 0.5]]])
    _, references = run(make_decoder(2), [constant_branch(code)] * 2, reference)
    expected = (torch.special.logit(reference) + torch.tensor([0.0, 1.0])).sigmoid()
    torch.testing.assert_close(references[1], expected)


def test_a_box_has_no_gradient_into_earlier_branches():
    decoder = make_decoder(2)
    branches = [nn.Linear(DIMS, 10), nn.Linear(DIMS, 10)]
    states, references = run(decoder, branches, torch.rand(1, 4, 3))
    assert not references[1].requires_grad
    branches[1](states[1]).sum().backward()
    assert branches[0].weight.grad is None
    assert branches[1].weight.grad is not None


def test_a_moved_reference_point_changes_what_a_layer_reads():
    decoder = make_decoder(1).eval()
    branches = [nn.Linear(DIMS, 10)]
    query = torch.randn(1, 1, DIMS)
    with torch.no_grad():
        results = []
        for x in (0.2, 0.8):
            torch.manual_seed(1)
            results.append(run(decoder, branches, torch.tensor([[[x, 0.5]]]), query)[0])
    assert not torch.allclose(*results, atol=1e-3)
