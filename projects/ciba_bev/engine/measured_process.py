"""Commands and functions in processes of their own, where their memory can be measured."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import psutil

_SAMPLING_SECONDS = 1.0
# To look at the memory of a large process takes time, which both spend: at most this share of it.
_SAMPLING_SHARE = 0.005
# For a command that is interrupted to end by itself.
_GRACE_SECONDS = 20.0


@dataclass
class Measurement:
    """What a command took.

    Attributes:
        returncode: Its exit status.
        seconds: Its duration.
        peak_bytes: The most memory that it and its child processes held together, pages they share
            counted once (sampled every second, or less often where that takes long).
    """

    returncode: int
    seconds: float
    peak_bytes: int


def memory_of(process: psutil.Process) -> int:
    """Return the memory of a process and its descendants in bytes, shared pages counted once."""
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            try:
                total += member.memory_full_info().pss
            except psutil.NoSuchProcess:
                # It ended between being listed and being asked.
                continue
    except psutil.NoSuchProcess:
        return total
    return total


def run_measured(
    command: Sequence[str],
    folder: str | os.PathLike,
    environment: Mapping[str, str],
    log_file: str | os.PathLike,
    on_line: Callable[[str], None],
    stop: threading.Event | None = None,
) -> Measurement:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        folder: The working folder.
        environment: Its environment variables.
        log_file: Where everything it prints goes.
        on_line: Called with every line it prints, without the line's end.
        stop: Ends the command, as Ctrl-C does, within a second of being set; one that goes on is
            killed.

    Returns:
        What it took.
    """
    began = time.monotonic()
    peak = 0
    ended = threading.Event()
    with Path(log_file).open('w', encoding='utf-8') as log, subprocess.Popen(
        list(command),
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    ) as child:

        def watch() -> None:
            nonlocal peak
            process = psutil.Process(child.pid)
            next_sample = 0.0
            while not ended.wait(_SAMPLING_SECONDS):
                now = time.monotonic()
                if now >= next_sample:
                    peak = max(peak, memory_of(process))
                    next_sample = now + (time.monotonic() - now) / _SAMPLING_SHARE
                if stop is not None and stop.is_set():
                    child.send_signal(signal.SIGINT)
                    if not ended.wait(_GRACE_SECONDS):
                        child.kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            for line in child.stdout:
                log.write(line)
                log.flush()
                on_line(line.rstrip('\n'))
            returncode = child.wait()
        finally:
            ended.set()
            watcher.join()
    return Measurement(returncode, time.monotonic() - began, peak)


def call_in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process that has done its imports and nothing else.

    Args:
        function: A function of a module, not a nested one.
        arguments: Its arguments; they are pickled.

    Returns:
        What it returns.

    Raises:
        BrokenProcessPool: The process died.
    """
    import torch

    # A fork of a process that has looked for GPUs cannot use them, and mmengine looks when it is
    # imported.
    method = 'spawn' if torch.cuda.is_available() else 'forkserver'
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()
