"""GPU-busy time, from traces that were recorded or written down."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity

from ciba_bev.engine import gpu_activity
from ciba_bev.engine.gpu_activity import busy_seconds, record_trace


def event(category, start, duration, stream=7):
    """A complete event, as torch's profiler exports it."""
    arguments = dict(device=0, stream=stream, correlation=start)
    return dict(
        ph='X', cat=category, name='', pid=0, tid=stream, ts=start, dur=duration, args=arguments
    )


BASE = 1621401187223005.0


def test_gaps_are_not_busy():
    events = [
        event('kernel', BASE + 20, 5),
        event('kernel', BASE, 10),
        event('gpu_memset', BASE + 40, 1),
    ]
    assert busy_seconds(events) == pytest.approx(16e-6)


def test_work_on_several_streams_counts_once():
    events = [
        event('kernel', 0, 100),
        # Within the first, beyond its end, and after a gap.
        event('gpu_memcpy', 20, 30, stream=8),
        event('kernel', 90, 30, stream=9),
        event('gpu_memcpy', 95, 10, stream=8),
        event('kernel', 200, 50),
    ]
    assert busy_seconds(events) == pytest.approx(170e-6)


def test_only_the_work_of_the_gpu_counts():
    events = [
        event('cuda_runtime', 0, 1000, stream=1),
        event('cpu_op', 0, 1000, stream=1),
        event('gpu_user_annotation', 0, 1000),
        dict(ph='f', cat='ac2g', id=3, ts=5, pid=0, tid=7),
        dict(ph='M', name='process_name', ts=0, pid=0, tid=0, args=dict(name='python')),
    ]
    assert busy_seconds(events) == 0
    assert busy_seconds([*events, event('kernel', 10, 4)]) == pytest.approx(4e-6)


def test_the_same_as_marking_every_microsecond():
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(0, 900, (60,), generator=generator)
    durations = torch.randint(0, 25, (60,), generator=generator)
    busy = torch.zeros(1000, dtype=torch.bool)
    for start, duration in zip(starts, durations):
        busy[start : start + duration] = True
    events = [event('kernel', *pair) for pair in zip(starts.tolist(), durations.tolist())]
    assert busy_seconds(events) == pytest.approx(1e-6 * int(busy.sum()))


def test_a_recorded_trace(monkeypatch):
    """Where there is no GPU, the CPU's events stand for its kernels."""
    monkeypatch.setattr(
        gpu_activity, 'ProfilerActivity', SimpleNamespace(CUDA=ProfilerActivity.CPU)
    )
    waited = []
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: waited.append(True))
    events = record_trace(lambda: torch.ones(300, 300).mm(torch.ones(300, 300)))
    assert waited
    assert busy_seconds(events) == 0
    monkeypatch.setattr(gpu_activity, '_CATEGORIES', ('cpu_op',))
    products = [e for e in events if e.get('name') == 'aten::mm']
    assert len(products) == 1
    # Of nested operators and those before it only the time on the clock counts.
    assert products[0]['dur'] * 1e-6 <= busy_seconds(events) < 60


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_that_works_for_a_while():
    matrix = torch.randn(4096, 4096, device='cuda')
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def work():
        begin.record()
        for _ in range(20):
            matrix @ matrix
        end.record()

    work()
    busy = busy_seconds(record_trace(work))
    assert busy == pytest.approx(begin.elapsed_time(end) * 1e-3, rel=0.1)
