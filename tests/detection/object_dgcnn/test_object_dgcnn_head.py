import pytest
import torch

from ciba_bev.detection.object_dgcnn import ObjectDGCNNHead
from ciba_bev.detection.object_dgcnn.transformer import cell_centers
from ciba_bev.errors import ConfigError


def make_head(**changes):
    torch.manual_seed(0)
    settings = dict(
        num_classes=3,
        embed_dims=16,
        num_levels=2,
        num_query=12,
        encoder_layers=1,
        decoder_layers=2,
        num_heads=2,
        num_points=2,
        feedforward_channels=32,
        num_neighbors=4,
    )
    return ObjectDGCNNHead(**{**settings, **changes})


def make_levels(batch=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 16, *size, generator=generator) for size in ((6, 8), (3, 4))]


def test_cell_centers_are_x_then_y_row_by_row():
    centers = cell_centers([(2, 4), (1, 1)], torch.device('cpu'))
    rows = [(x / 8, y / 4) for y in (1, 3) for x in (1, 3, 5, 7)]
    torch.testing.assert_close(centers[0], torch.tensor([*rows, (0.5, 0.5)]))


@pytest.mark.parametrize('self_attention', ['graph', 'multihead'])
def test_outputs_and_gradients(self_attention):
    head = make_head(self_attention=self_attention)
    outputs = head(make_levels())
    assert {name: tuple(output.shape) for name, output in outputs.items()} == dict(
        encoder_bev=(2, 16, 6, 8), all_cls_scores=(2, 2, 12, 3), all_bbox_preds=(2, 2, 12, 10)
    )
    # The two tensors that the losses read reach every parameter.
    (outputs['all_cls_scores'].sum() + outputs['all_bbox_preds'].sum()).backward()
    assert [name for name, value in head.named_parameters() if value.grad is None] == []


def test_multihead_attention_replaces_the_graph():
    graph, multihead = (
        set(make_head(self_attention=a).state_dict()) for a in ('graph', 'multihead')
    )
    assert any('conv1' in name for name in graph)
    assert not any('conv1' in name or 'conv2' in name for name in multihead)
    assert 'transformer.decoder.layers.0.attentions.0.attn.in_proj_weight' in multihead - graph
    # Nothing else differs.
    assert all('.attentions.0.' in name and 'decoder' in name for name in graph ^ multihead)


def test_samples_of_a_batch_do_not_meet():
    head = make_head().eval()
    levels = make_levels()
    together = head(levels)
    for index in range(2):
        alone = head([level[[index]] for level in levels])
        torch.testing.assert_close(alone['encoder_bev'], together['encoder_bev'][[index]])
        for name in ('all_cls_scores', 'all_bbox_preds'):
            torch.testing.assert_close(
                alone[name], together[name][:, [index]], rtol=1e-4, atol=1e-4
            )


def test_autocast_does_not_round_reference_points():
    layer, query_pos = make_head().transformer.reference_points, torch.randn(5, 16)
    expected = layer(query_pos)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(layer(query_pos), expected)


def test_another_number_of_levels_is_refused():
    with pytest.raises(ConfigError, match=r'num_levels=3, but the neck gives 2.*num_outs'):
        make_head(num_levels=3)(make_levels())


def test_an_unknown_self_attention_is_refused():
    with pytest.raises(ConfigError, match="'graph' or 'multihead', got 'dgcnn'"):
        make_head(self_attention='dgcnn')
