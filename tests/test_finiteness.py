from types import SimpleNamespace

import pytest
import torch

from ciba_bev.errors import CibaError
from ciba_bev.finiteness import (
    check_now,
    is_finite,
    postpone_checks,
    postponed_checks,
    require_finite,
    sample_names,
)


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_one_value_is_enough(bad):
    value = torch.zeros(3, 4)
    value[1, 2] = bad
    assert not is_finite(value)
    with pytest.raises(CibaError, match='the map holds NaN or infinity, for samples a, b'):
        require_finite(value, 'the map', {'names': ['a', 'b']})


def test_large_numbers_and_opposite_infinities():
    assert is_finite(torch.full((1000,), 3e38))
    assert is_finite(torch.full((100,), 60000.0, dtype=torch.float16))
    assert not is_finite(torch.tensor([float('inf'), -float('inf')]))


def test_postponed_checks_are_those_since_then_in_their_order():
    postpone_checks()
    require_finite(torch.tensor(float('nan')), 'first', {})
    require_finite(torch.zeros(2), 'second', {})
    assert [(what, bool(finite)) for what, finite in postponed_checks()] == [
        ('first', False),
        ('second', True),
    ]
    with pytest.raises(CibaError, match='third'):
        require_finite(torch.tensor(float('nan')), 'third', {})
    assert postponed_checks() == []


def test_a_postponed_check_can_be_looked_at_before_its_time():
    postpone_checks()
    require_finite(torch.zeros(2), 'first', {'names': ['a']})
    check_now()
    require_finite(torch.tensor(float('nan')), 'second', {'names': ['b']})
    with pytest.raises(CibaError, match='second holds NaN or infinity, for samples b'):
        check_now()
    assert len(postponed_checks()) == 2
    check_now()


def test_samples_are_named_as_the_batch_names_them():
    samples = [
        SimpleNamespace(metainfo={'token': 'ca9a', 'sample_idx': 3}),
        SimpleNamespace(metainfo={'sample_idx': 4}),
        SimpleNamespace(),
    ]
    assert sample_names({'data_samples': samples}) == ['ca9a', '4', '?']
    assert sample_names({'names': ['clip_1', 'clip_2']}) == ['clip_1', 'clip_2']
    assert sample_names(torch.zeros(1)) == []
