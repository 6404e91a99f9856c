"""The kernels of CUDA tensors, without a GPU: interpreted on the CPU, and compiled for GPUs."""

import importlib
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from ciba_bev.ops.deformable_attention import attend_by, available_backends, has_triton

# The package's attribute of this name is the function.
module = importlib.import_module('ciba_bev.ops.deformable_attention')
needs_triton = pytest.mark.skipif(
    not has_triton(), reason='triton is not installed (`pip install triton`)'
)
PYRAMID = ((4, 3), (2, 2))
EXTREMES = (0.0, 0.25, 0.5, 1.0, -0.5, 1.5, -1e30, 1e30)


@pytest.fixture(scope='module')
def interpreter():
    """A process whose Triton interprets kernels, which is decided when Triton is imported."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('TRITON_INTERPRET', '1')
            pool.submit(import_kernels).result()
        yield pool


def import_kernels():
    from ciba_bev.ops import deformable_attention_triton  # noqa: F401

    torch.set_num_threads(1)


def attend(tensors, shapes, direction, deterministic=False, backend='triton'):
    """Output and gradients, in the given direction, of value, locations and weights."""
    inputs = [tensor.detach().requires_grad_() for tensor in tensors]
    torch.use_deterministic_algorithms(deterministic)
    output = attend_by(backend, inputs[0], shapes, *inputs[1:])
    results = [output, *torch.autograd.grad(output, inputs, direction)]
    torch.use_deterministic_algorithms(False)
    return [result.detach() for result in results]


def random_inputs(batch, queries, heads, points, channels, shapes, kinds=(torch.float32,) * 3):
    """Value, locations (some outside the levels) and weights, and a direction of the output."""
    generator = torch.Generator().manual_seed(0)
    cells = sum(height * width for height, width in shapes)
    samples = (batch, queries, heads, len(shapes), points)
    tensors = (
        torch.rand(batch, cells, heads, channels, generator=generator) - 0.5,
        torch.rand(*samples, 2, generator=generator) * 1.6 - 0.3,
        torch.rand(samples, generator=generator),
    )
    direction = torch.randn(batch, queries, heads * channels, generator=generator)
    return [tensor.to(kind) for tensor, kind in zip(tensors, kinds)], direction.to(kinds[0])


def assert_agree(results, tensors, shapes, direction):
    """Compare with PyTorch's operators in float64; only the last rounding may differ."""
    exact = attend(
        [tensor.double() for tensor in tensors], shapes, direction.double(), backend='pytorch'
    )
    kinds = [direction.dtype, *(tensor.dtype for tensor in tensors)]
    for result, expected, kind in zip(results, exact, kinds):
        assert result.dtype == kind
        eps = torch.finfo(kind).eps
        torch.testing.assert_close(
            result.double(), expected, rtol=max(eps, 1e-5), atol=max(eps / 100, 2e-5)
        )


HALF, SINGLE, BRAIN = torch.float16, torch.float32, torch.bfloat16
SIZES = {
    # batch, queries, heads, points, channels, levels, kinds of value, locations and weights
    'one level': (2, 3, 2, 2, 5, PYRAMID[:1], (SINGLE, SINGLE, SINGLE)),
    'padded, two blocks of queries': (1, 10, 2, 1, 20, PYRAMID, (SINGLE, SINGLE, SINGLE)),
    'as wide as a block': (1, 2, 1, 3, 512, PYRAMID, (SINGLE, SINGLE, SINGLE)),
    'bfloat16': (1, 3, 2, 2, 24, PYRAMID, (BRAIN, SINGLE, SINGLE)),
    'bfloat16 weights': (2, 2, 1, 2, 16, PYRAMID, (BRAIN, SINGLE, BRAIN)),
    'float16': (1, 3, 3, 2, 8, PYRAMID, (HALF, SINGLE, HALF)),
    'float16 throughout': (1, 3, 2, 2, 4, PYRAMID, (HALF, HALF, HALF)),
}


@needs_triton
@pytest.mark.parametrize('deterministic', [False, True], ids=['atomic', 'sorted'])
@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
def test_output_and_gradients_are_those_of_pytorch(interpreter, sizes, deterministic):
    tensors, direction = random_inputs(*sizes)
    shapes = sizes[5]
    results = interpreter.submit(attend, tensors, shapes, direction, deterministic).result()
    assert_agree(results, tensors, shapes, direction)


@needs_triton
@pytest.mark.parametrize('deterministic', [False, True], ids=['atomic', 'sorted'])
def test_samples_on_borders_and_far_outside(interpreter, deterministic):
    (value, locations, weights), direction = random_inputs(1, 8, 1, 8, 4, ((4, 4),))
    grid = torch.tensor([[x, y] for y in EXTREMES for x in EXTREMES])
    tensors = (value, grid.view_as(locations), weights)
    results = interpreter.submit(attend, tensors, ((4, 4),), direction, deterministic).result()
    # In float64 the samples at 1e30 lie as far outside as in float32.
    assert_agree(results, tensors, ((4, 4),), direction)
    assert all(torch.isfinite(result).all() for result in results)


@needs_triton
@pytest.mark.parametrize('deterministic', [False, True], ids=['atomic', 'sorted'])
@pytest.mark.parametrize('empty', ['queries', 'points', 'batch'])
def test_nothing_to_sample_gives_zeros(interpreter, empty, deterministic):
    sizes = {'batch': 2, 'queries': 3, 'heads': 2, 'points': 2, empty: 0}
    tensors, direction = random_inputs(**sizes, channels=4, shapes=PYRAMID)
    results = interpreter.submit(attend, tensors, PYRAMID, direction, deterministic).result()
    assert results[0].shape == direction.shape
    for result, tensor in zip(results[1:], tensors):
        assert result.shape == tensor.shape
    assert not any(result.count_nonzero() for result in results)


@needs_triton
def test_memory_layout_does_not_matter(interpreter):
    tensors, direction = random_inputs(2, 2, 2, 2, 8, PYRAMID)
    strided = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in tensors]
    assert not strided[0].is_contiguous()
    # Expanded from one number, as the gradient of a sum is.
    direction = direction[:1, :1, :1].expand_as(direction)
    results = interpreter.submit(attend, strided, PYRAMID, direction).result()
    assert_agree(results, tensors, PYRAMID, direction)


@needs_triton
def test_many_contributions_to_one_cell_are_all_added(interpreter):
    # 40 samples in the middle of one cell, more than the sorted path adds up at once.
    value = torch.ones(1, 4, 1, 2)
    locations = torch.full((1, 10, 1, 1, 4, 2), 0.25)
    weights = torch.arange(40.0).view(1, 10, 1, 1, 4)
    direction = torch.ones(1, 10, 2)
    tensors = (value, locations, weights)
    for deterministic in (False, True):
        results = interpreter.submit(attend, tensors, ((2, 2),), direction, deterministic).result()
        assert results[1].flatten().tolist() == [780.0, 780.0, 0, 0, 0, 0, 0, 0]


def wide_offset_agrees():
    """The kernels' results with 32- and with 64-bit offsets; the latter take 2^31 numbers."""
    from ciba_bev.ops import deformable_attention_triton as kernels

    tensors, direction = random_inputs(1, 2, 2, 1, 4, PYRAMID)
    narrow = attend(tensors, PYRAMID, direction)
    sizes_of = kernels._sizes
    try:
        kernels._sizes = lambda value, weights: {**sizes_of(value, weights), 'WIDE': True}
        wide = attend(tensors, PYRAMID, direction)
    finally:
        kernels._sizes = sizes_of
    return all(map(torch.equal, narrow, wide))


@needs_triton
def test_wide_offsets_change_nothing(interpreter):
    assert interpreter.submit(wide_offset_agrees).result()


def compile_for(capability, kernel, arguments, num_warps):
    """PTX of a kernel as it is launched with these arguments, for an NVIDIA card."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if 'constexprs' not in ASTSource.__init__.__code__.co_varnames:
        pytest.skip('compiling ahead of time takes triton 3.3 or later')
    kinds = {torch.float32: 'fp32', torch.float16: 'fp16', torch.bfloat16: 'bf16'}
    kinds.update({torch.int32: 'i32', torch.int64: 'i64'})
    constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
    constant.update(name for name, argument in arguments.items() if argument is None)
    signature, aligned = {}, {}
    for position, name in enumerate(kernel.arg_names):
        argument = arguments[name]
        if name in constant:
            signature[name] = 'constexpr'
        elif isinstance(argument, torch.Tensor):
            signature[name] = '*' + kinds[argument.dtype]
            aligned[(position,)] = [['tt.divisibility', 16]]
        else:
            signature[name] = 'i32'
    constants = {name: arguments[name] for name in constant}
    source = ASTSource(kernel, signature, constants, aligned)
    target = GPUTarget('cuda', capability, 32)
    return triton.compile(source, target=target, options={'num_warps': num_warps}).asm['ptx']


@needs_triton
@pytest.mark.parametrize('capability', [80, 90])
@pytest.mark.parametrize(
    ('kind', 'channels', 'levels', 'deterministic'),
    [
        (SINGLE, 32, 4, False),
        (BRAIN, 24, 1, False),
        (HALF, 64, 4, False),
        (BRAIN, 32, 4, True),
    ],
    ids=['float32', 'bfloat16 padded', 'float16', 'bfloat16 sorted'],
)
def test_kernels_compile_without_a_gpu(
    capability, kind, channels, levels, deterministic, tmp_path, monkeypatch
):
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    from ciba_bev.ops import deformable_attention_triton as kernels

    def meta(*sizes, dtype=SINGLE):
        return torch.empty(sizes, dtype=dtype, device='meta')

    value = meta(6, 50, 8, channels, dtype=kind)
    weights = meta(6, 100, 8, levels, 4)
    locations = meta(*weights.shape, 2)
    output = meta(6, 100, 8 * channels, dtype=kind)
    contributions = (6, 8, 100, levels, 4, 4)
    sizes = kernels._sizes(value, weights)
    num_warps = sizes.pop('num_warps')
    common = dict(
        value=value,
        locations=locations,
        weights=weights,
        shapes=meta(levels, 2, dtype=torch.int32),
        starts=meta(levels, dtype=torch.int32),
        **sizes,
    )
    compile_for(capability, kernels._forward, dict(common, output=output), num_warps)
    backward = dict(
        common,
        grad_output=output,
        grad_value=None if deterministic else meta(*value.shape),
        grad_locations=locations,
        grad_weights=weights,
        cells=meta(*contributions, dtype=torch.int32) if deterministic else None,
        shares=meta(*contributions) if deterministic else None,
        DETERMINISTIC=deterministic,
    )
    ptx = compile_for(capability, kernels._backward, backward, num_warps)
    additions = re.findall(r'\b(?:atom|red)\.global\S*', ptx)
    if not deterministic:
        assert additions
        assert all(addition.endswith('.f32') for addition in additions)
        # Hopper adds four numbers at once, which takes the four channels of a thread side by side.
        assert capability < 90 or all('.v4.' in addition for addition in additions)
        return
    arguments = dict(
        order=meta(48, 100 * levels * 16, dtype=torch.int64),
        shares=meta(*contributions),
        bounds=meta(48, 51, dtype=torch.int64),
        grad_output=output,
        grad_value=value,
        LP=levels * 4,
        **{**sizes, 'BLOCK': kernels.CONTRIBUTIONS},
    )
    ptx += compile_for(capability, kernels._add_contributions, arguments, 1)
    assert not re.findall(r'\b(?:atom|red)\.global\S*', ptx)


@pytest.mark.parametrize('levels', [1, 4])
@pytest.mark.parametrize('channels', [1, 5, 16, 32, 96, 256, 4096])
def test_a_program_keeps_within_the_limits_of_a_gpu(levels, channels):
    if not has_triton():
        pytest.skip('triton is not installed')
    from ciba_bev.ops.deformable_attention_triton import _sizes

    sizes = _sizes(
        torch.empty(1, 9, 1, channels, device='meta'),
        torch.empty(1, 2, 1, levels, 1, device='meta'),
    )
    block, lanes, warps = sizes['BLOCK'], sizes['LANES'], sizes['num_warps']
    for size in (block, lanes, warps):
        assert size & (size - 1) == 0, 'Triton takes powers of two'
    assert channels <= lanes < 2 * channels
    assert 1 <= warps <= 8
    # Enough for every thread, and not more than its registers hold.
    assert warps * 32 <= block * lanes <= max(512, 2 * lanes)


def test_triton_is_first_on_a_gpu_and_left_out_where_it_cannot_run(monkeypatch):
    device = torch.device('cuda:0')
    monkeypatch.setattr(module, '_triton_runs', lambda device: True)
    monkeypatch.setattr(module, '_mmcv_has_cuda_operators', lambda: True)
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    for kind in (SINGLE, HALF, BRAIN):
        assert available_backends(device, kind) == ['triton', 'mmcv', 'pytorch']
    assert available_backends(device, torch.float64) == ['mmcv', 'pytorch']
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    assert available_backends(device, HALF)[0] == 'triton'
    assert available_backends(device, BRAIN)[0] == 'mmcv'
    monkeypatch.setattr(module, '_triton_runs', lambda device: False)
    assert available_backends(device) == ['mmcv', 'pytorch']
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: True)
    assert available_backends(device) == ['pytorch']


def test_a_triton_that_does_not_run_is_reported_once(monkeypatch):
    def fail(*arguments):
        raise RuntimeError('Failed to find C compiler')

    monkeypatch.setattr(module, 'has_triton', lambda: True)
    monkeypatch.setattr(module, 'attend_by', fail)
    module._triton_runs.cache_clear()
    try:
        with pytest.warns(UserWarning, match='falls back.*Failed to find C compiler'):
            assert not module._triton_runs(torch.device('cpu'))
        assert not module._triton_runs(torch.device('cpu'))
    finally:
        module._triton_runs.cache_clear()
