"""How long a GPU was busy, read from a trace of torch's profiler."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

# Neither the CPU's calls that start this work nor annotations, which span the gaps between it.
_CATEGORIES = ('kernel', 'gpu_memcpy', 'gpu_memset')


def record_trace(function: Callable[[], object]) -> list[dict[str, Any]]:
    """Call a function and record what the GPU does.

    Args:
        function: Called once. All of its work on the GPU is waited for.

    Returns:
        The events of a trace in Chrome's format.
    """
    with tempfile.TemporaryDirectory(prefix='ciba_trace_') as folder:
        # Of the GPU only: recording the CPU's operators slows the function down.
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            function()
            torch.cuda.synchronize()
        file = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(file))
        return json.loads(file.read_text(encoding='utf-8', errors='replace'))['traceEvents']


def busy_seconds(events: Iterable[Mapping[str, Any]]) -> float:
    """Return how long a GPU computed, copied or both; what overlaps is counted once.

    Args:
        events: The events of a trace in Chrome's format, with times in microseconds.

    Returns:
        Seconds; 0 if the profiler recorded no work of a GPU.
    """
    spans = sorted((e['ts'], e['dur']) for e in events if e.get('cat') in _CATEGORIES)
    busy, end = 0.0, -math.inf
    for start, duration in spans:
        # Of several streams, one may have covered this span or its beginning.
        busy += max(0.0, min(duration, start + duration - end))
        end = max(end, start + duration)
    return busy * 1e-6
