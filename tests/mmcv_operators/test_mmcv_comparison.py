"""The comparison with compiled operators: both sides run, and a difference is seen."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mmcv_operators
from mmcv_operators import comparison, extension
from mmcv_operators.comparison import Case, compare

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def suppression():
    corners = torch.rand(40, 2) * 20
    boxes = torch.cat((corners, corners + torch.rand(40, 2) * 10), 1)
    return Case('nms', '40 boxes', (boxes, torch.rand(40), 0.5))


@pytest.fixture
def convolution():
    shapes = ((1, 4, 6, 7), (1, 18, 6, 7), (4, 4, 3, 3))
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    return Case('deform_conv2d', 'small', (*tensors, 1, 1, 1, 1, 1, False, 1))


def test_compiled_operators_agree(compiled, suppression, convolution):
    [row] = compare(suppression, compiled, 1)
    assert row[:4] == ('nms, forward', '40 boxes', 'compiled', 'equal')
    assert row.seconds > 0
    assert row.other_seconds > 0
    forward, backward = compare(convolution, compiled, 2)
    assert [row.operator for row in (forward, backward)] == [
        'deform_conv2d, forward',
        'deform_conv2d, backward',
    ]
    assert all(row.error == 'equal' or float(row.error) < 1e-5 for row in (forward, backward))


def test_each_side_uses_its_operators(suppression):
    """The other extension here keeps the last box only."""
    calls = []

    def wrong(boxes, scores, **options):
        calls.append(options)
        return torch.tensor([len(boxes) - 1])

    from mmcv.ops import nms  # noqa: F401

    module = sys.modules['mmcv.ops.nms']
    before = module.ext_module
    [row] = compare(suppression, SimpleNamespace(nms=wrong), 3)
    assert 'not [(1, 5), (1,)]' in row.error
    assert len(calls) == 4
    assert module.ext_module is before


def test_wrong_gradients_are_seen(convolution):
    def wrong(image, offset, gradient, of_image, of_offset, *rest, **options):
        extension.deform_conv_backward_input(
            *(image, offset, gradient, of_image, of_offset, *rest), **options
        )
        of_offset *= 3

    other = SimpleNamespace(
        deform_conv_forward=extension.deform_conv_forward,
        deform_conv_backward_input=wrong,
        deform_conv_backward_parameters=extension.deform_conv_backward_parameters,
    )
    forward, backward = compare(convolution, other, 1)
    assert forward.error == 'equal'
    assert backward.error == '7e-01'


def test_operators_are_given_back_after_an_error(suppression):
    def broken(*_, **__):
        raise RuntimeError('broken')

    from mmcv.ops import nms  # noqa: F401

    before = sys.modules['mmcv.ops.nms'].ext_module
    with pytest.raises(RuntimeError, match='broken'):
        compare(suppression, SimpleNamespace(nms=broken), 1)
    assert sys.modules['mmcv.ops.nms'].ext_module is before


def test_another_implementation_stands_in():
    case = Case(
        *('nms', 'no boxes', (torch.zeros(0, 4), torch.zeros(0), 0.5)),
        *(lambda boxes, scores, threshold: [boxes.new_zeros(0, 5), scores.long()], 'nothing'),
    )
    [row] = compare(case, SimpleNamespace(), 1)
    assert row[1:4] == ('no boxes', 'nothing', 'equal')


def test_errors_are_relative_to_the_largest_value():
    expected = [torch.tensor([10.0, -1000.0]), torch.tensor([1, 2])]
    assert comparison._describe_error([t.clone() for t in expected], expected) == 'equal'
    got = [torch.tensor([11.0, -1000.0]), torch.tensor([1, 2])]
    assert comparison._describe_error(got, expected) == '1e-03'


@pytest.mark.parametrize(
    ('words', 'lite', 'message'),
    [
        (['--repetitions', '0'], False, 'repetitions is 0'),
        (['--threads', '-1'], False, 'threads is -1'),
        (['--only', 'nothing'], False, 'no operator has nothing in its name'),
        ([], True, 'this mmcv has no compiled operators'),
    ],
)
def test_mistakes(words, lite, message, monkeypatch, capsys):
    monkeypatch.setattr(mmcv_operators, 'is_used', lambda: lite)
    monkeypatch.setattr(comparison, 'make_cases', list)
    main = runpy.run_path(str(PROJECT / 'tools' / 'compare_operators.py'))['main']
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as leaving:
            main(words)
    finally:
        torch.set_num_threads(threads)
    assert leaving.value.code == 1
    assert capsys.readouterr().err.startswith(f'error: {message}')
