import pytest
import torch
from torch import nn

from ciba_bev.checkpoints.matching import (
    check_pretrained_weights,
    compare_weights,
    get_state_dict,
    load_weights,
    require_complete,
    require_half,
)
from ciba_bev.errors import CibaError


def network(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def test_complete_weights_are_loaded():
    source, target = network(), network()
    comparison = load_weights(target, source.state_dict())
    assert comparison.is_complete
    # Two linear layers of two entries, batch norm's four; its counter of batches does not count.
    assert comparison.matched == 8
    assert torch.equal(target[2].weight, source[2].weight)


def test_keys_are_revised_and_other_things_dropped():
    state = {f'module.{name}': value for name, value in network().state_dict().items()}
    weights = get_state_dict({'state_dict': {**state, 'module.note': 'text'}, 'meta': {}})
    assert compare_weights(network(), weights).is_complete


def test_differences_are_named_and_the_rest_is_loaded():
    source, target = network(), network(width=5)
    weights = source.state_dict()
    weights['extra.weight'] = torch.zeros(1)
    del weights['2.bias']
    before = target[2].bias.clone()
    comparison = load_weights(target, weights)
    assert comparison == compare_weights(target, weights)
    assert comparison.missing == ['2.bias']
    assert comparison.unexpected == ['extra.weight']
    # Everything but the last layer's bias has the width in its shape.
    assert len(comparison.mismatched) == 7
    assert comparison.matched == 0
    assert torch.equal(target[2].bias, before)


def test_a_model_that_renames_its_keys_is_asked_not_second_guessed():
    class Renaming(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            state_dict[f'{prefix}weight'] = state_dict.pop(f'{prefix}transposed').t()
            super()._load_from_state_dict(state_dict, prefix, *args)

    model = Renaming(3, 2)
    weights = {'transposed': torch.arange(6.0).reshape(3, 2), 'bias': torch.zeros(2)}
    assert load_weights(model, weights).is_complete
    assert model.weight[1, 2] == 5


def test_messages_name_file_counts_and_examples():
    comparison = compare_weights(network(), {'other.weight': torch.zeros(1)})
    message = r'x\.pth: (.|\n)*config\.py(.|\n)*8 missing in the file: 0\.weight, (.|\n)*1 unknown'
    with pytest.raises(CibaError, match=message):
        require_complete(comparison, 'x.pth', 'config.py')


@pytest.mark.parametrize(('kept', 'refused'), [(0, True), (3, True), (4, False), (8, False)])
def test_a_start_needs_half_of_the_weights(kept, refused):
    own = {n: v for n, v in network().state_dict().items() if 'num_batches' not in n}
    weights = dict(list(own.items())[:kept])
    comparison = compare_weights(network(), weights)
    if refused:
        with pytest.raises(CibaError, match='load_from'):
            require_half(comparison, 'x.pth', 'load_from')
    else:
        require_half(comparison, 'x.pth', 'load_from')


def test_pretrained_parts_are_checked_with_their_prefix(tmp_path):
    path = tmp_path / 'detector.pth'
    torch.save({'backbone.' + n: v for n, v in network().state_dict().items()}, path)
    model = nn.ModuleDict({'backbone': network()})
    init_config = {'type': 'Pretrained', 'checkpoint': str(path), 'prefix': 'backbone.'}
    model['backbone'].init_cfg = init_config
    check_pretrained_weights(model)
    model['backbone'].init_cfg = {**init_config, 'prefix': 'img_backbone'}
    with pytest.raises(CibaError, match=r'model\.backbone\.init_cfg'):
        check_pretrained_weights(model)
