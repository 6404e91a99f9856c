"""The comparison of the backends of deformable attention."""

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from ciba_bev.errors import CibaError
from ciba_bev.ops import benchmark
from ciba_bev.ops.deformable_attention import available_backends

CPU = torch.device('cpu')
SIZE = '1x30x2x2x8:6x7,3x4'


def test_every_backend_is_measured(capsys):
    threads = torch.get_num_threads()
    try:
        benchmark.main(['--size', SIZE, '--repeats', '1', '--threads', '1'])
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert SIZE in out
    for name in ("mmcv's PyTorch code", *available_backends(CPU)):
        assert name in out


def test_rows_compare_with_the_first():
    first, *others = benchmark.measure(benchmark._parse_size(SIZE), CPU, repeats=1)
    assert (first[0], first[3], first[5], first[7:]) == (SIZE, '1.00 x', '1.00 x', ['', ''])
    assert [row[1] for row in others] == list(reversed(available_backends(CPU)))
    for row in others:
        assert row[0] == ''
        assert float(row[7]) < 1e-5
        assert float(row[8]) < 1e-3


def test_a_wrong_result_is_seen(monkeypatch):
    def wrong(value, shapes, *rest):
        return 1.5 * multi_scale_deformable_attn_pytorch(value, torch.tensor(shapes), *rest)

    right = benchmark.list_contenders(CPU)[0]
    monkeypatch.setattr(
        benchmark, 'list_contenders', lambda device: [right, benchmark.Contender('wrong', wrong)]
    )
    _, row = benchmark.measure(benchmark._parse_size(SIZE), CPU, repeats=1)
    assert row[7:] == ['5e-01', '5e-01']


def test_memory_kept_for_backward():
    """Of a product the factors are kept, each once."""
    contender = benchmark.Contender(
        'product', lambda value, shapes, other, _: value * value * other
    )
    inputs = [torch.ones(256, requires_grad=True) for _ in range(3)]
    kept = benchmark._kept_bytes(contender, inputs, benchmark._parse_size(SIZE))
    # value, its square and the other: 256 float32 each.
    assert kept == 3 * 1024


@pytest.mark.parametrize('text', ['1x2', '1x2x3x4x5:6', '1x2x3x4x5:axb'])
def test_a_wrong_size(text, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--size', text])
    assert 'is not of the form BxQxHxPxC:hxw,hxw' in capsys.readouterr().err


def test_wrong_numbers(capsys):
    with pytest.raises(SystemExit) as leaving:
        benchmark.main(['--repeats', '0'])
    assert leaving.value.code == 1
    assert capsys.readouterr().err.startswith('error: repeats is 0')
    with pytest.raises(CibaError):
        benchmark.main(['--repeats', '0', '--traceback'])


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(CibaError, match='torch sees none'):
        benchmark.main(['--device', 'cuda', '--traceback'])
