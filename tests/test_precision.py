import pytest
import torch

from ciba_bev.precision import at_least_single, full_products, has_bfloat16


@pytest.mark.parametrize(
    ('hip', 'capability', 'expected'),
    [(None, (7, 5), False), (None, (8, 0), True), (None, (9, 0), True), ('6.0', (7, 5), True)],
)
def test_bfloat16_needs_its_own_instructions(monkeypatch, hip, capability, expected):
    monkeypatch.setattr(torch.version, 'hip', hip)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert has_bfloat16() is expected


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_alone_is_widened(given, expected):
    values = torch.ones(2, dtype=given)
    widened = at_least_single(values)
    assert widened.dtype == expected
    assert (widened is values) == (given == expected)


@full_products()
def fail():
    assert torch.get_float32_matmul_precision() == 'highest'
    raise ZeroDivisionError


def test_the_precision_of_products_comes_back_after_an_error():
    torch.set_float32_matmul_precision('high')
    try:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert torch.get_float32_matmul_precision() == 'high'
    finally:
        torch.set_float32_matmul_precision('highest')
