import numpy as np
import pytest
import torch

from ciba_bev.detection.object_dgcnn import GraphSelfAttention


@pytest.fixture
def attention():
    torch.manual_seed(0)
    module = GraphSelfAttention(embed_dims=4, num_neighbors=3).double().eval()
    for convolution in (module.conv1, module.conv2):
        norm = convolution[1]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    return module


def edge_convolution(nodes, convolution, neighbors):
    """The largest edge feature of each node, one edge and channel after another."""
    weight = convolution[0].weight.detach().numpy()[:, :, 0, 0]
    norm = convolution[1]
    mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    result = []
    for node in nodes:
        distance = [np.sqrt(((node - other) ** 2).sum()) for other in nodes]
        farthest = sorted(range(len(nodes)), key=lambda index: -distance[index])[:neighbors]
        edges = []
        for index in farthest:
            feature = weight @ np.concatenate((nodes[index], node))
            feature = (feature - mean) / np.sqrt(variance + norm.eps) * scale + shift
            edges.append(np.maximum(feature, 0))
        result.append(np.max(edges, axis=0))
    return np.array(result)


@pytest.mark.parametrize('queries', [7, 3, 2])
def test_agrees_with_loops(attention, queries):
    query = torch.randn(2, queries, 4).double()
    position = torch.randn(2, queries, 4).double()
    output = attention(query, position).detach().numpy()
    for sample in range(2):
        nodes = (query + position)[sample].numpy()
        first = edge_convolution(nodes, attention.conv1, 3)
        second = edge_convolution(first, attention.conv2, 3)
        expected = query[sample].numpy() + first + second
        np.testing.assert_allclose(output[sample], expected, rtol=1e-6, atol=1e-8)


def test_distances_are_never_in_tf32(attention, monkeypatch):
    """tools/train.py allows TF32, which would choose other neighbours on a GPU."""
    precisions = []

    def cdist(*arguments):
        precisions.append(torch.get_float32_matmul_precision())
        return distance(*arguments)

    distance = torch.cdist
    monkeypatch.setattr(torch, 'cdist', cdist)
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        attention(torch.randn(1, 30, 4).double(), torch.randn(1, 30, 4).double())
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision(allowed)
    assert precisions == ['highest'] * 2


def test_the_order_of_queries_does_not_matter(attention):
    query, position = torch.randn(1, 9, 4).double(), torch.randn(1, 9, 4).double()
    order = torch.randperm(9)
    output = attention(query, position)
    permuted = attention(query[:, order], position[:, order])
    torch.testing.assert_close(permuted, output[:, order])


def test_gradients_reach_query_position_and_weights(attention):
    query = torch.randn(1, 9, 4).double().requires_grad_()
    position = torch.randn(1, 9, 4).double().requires_grad_()
    attention.train()(query, position).square().sum().backward()
    for tensor in (query, position, *attention.parameters()):
        assert torch.count_nonzero(tensor.grad) > 0
