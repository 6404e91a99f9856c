"""Run tools in processes of their own, without the seconds that their imports take.

The processes are copies of one that has imported everything. How a shell starts the tools is tested
in tests/cases and tests/tools.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
from multiprocessing.connection import wait
from pathlib import Path
from subprocess import CompletedProcess
from typing import Callable, Sequence

from mmengine.config import config

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
# Seconds after which processes wait for each other in vain.
_LONGEST = 300

_server = multiprocessing.get_context('forkserver')
_server.set_forkserver_preload(
    [
        'ciba_bev.detection',
        'ciba_bev.engine.testing',
        'ciba_bev.engine.training',
        'mmdet3d.datasets',
        'mmdet3d.models',
        'mmdet3d.visualization',
        'torch._dynamo',
        'torch.utils.tensorboard',
    ]
)


def run_tool(
    folder: Path, tool: str, *words: str, processes: int = 1, python_path: Sequence[Path] = ()
) -> CompletedProcess[str]:
    """Run a tool on the CPU, and return its status and all that it printed.

    Args:
        folder: Where it is run.
        tool: Name of the script in ``tools/``.
        words: Its arguments.
        processes: More than one are joined as ``tools/dist_train.sh`` joins them. If one fails, the
            others are ended.
        python_path: Folders of more modules to import.
    """
    environment = {'CUDA_VISIBLE_DEVICES': ''}
    if processes > 1:
        words = (*words, '--launcher', 'pytorch')
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        environment.update(
            MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(processes)
        )
    started, outputs = [], []
    for rank in range(processes):
        if processes > 1:
            environment.update(RANK=str(rank), LOCAL_RANK=str(rank))
        outputs.append(folder / f'.{tool}.{rank}.output')
        arguments = (folder, outputs[-1], tool, words, dict(environment), python_path)
        started.append(_server.Process(target=_run, args=arguments))
        started[-1].start()
    status = 0
    running = {process.sentinel: process for process in started}
    while running:
        ended = wait(list(running), timeout=_LONGEST)
        if not ended:
            for process in running.values():
                process.kill()
            raise TimeoutError(f'{tool} {" ".join(words)}: nothing ended in {_LONGEST} s')
        for sentinel in ended:
            exitcode = running.pop(sentinel).exitcode
            if exitcode and not status:
                status = exitcode
                for other in running.values():
                    other.terminate()
    printed = ''.join(output.read_text() for output in outputs)
    return CompletedProcess([tool, *words], status, printed)


def _run(
    folder: Path,
    output: Path,
    tool: str,
    words: tuple[str, ...],
    environment: dict[str, str],
    python_path: Sequence[Path],
) -> None:
    with output.open('w') as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[:0] = map(str, python_path)
    config.FormatCode = _format_once(config.FormatCode)
    script = str(TOOLS / tool)
    sys.argv = [script, *map(str, words)]
    runpy.run_path(script, run_name='__main__')


def _format_once(format_code: Callable) -> Callable:
    """Remember results: mmengine formats the same config five times a run, half a second each."""
    formatted = {}

    def format_new(text: str, **style: dict) -> tuple:
        if text not in formatted:
            formatted[text] = format_code(text, **style)
        return formatted[text]

    return format_new
