import os
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from ciba_bev.engine.measured_process import call_in_process, run_measured

MEBIBYTE = 2**20


def test_measures_memory_of_child_processes_too(tmp_path):
    program = """
import os, time
held = bytearray(os.urandom(1)) * (64 * 2**20)
child = os.fork()
if child == 0:
    own = bytearray(os.urandom(1)) * (64 * 2**20)
    time.sleep(2.5)
    os._exit(0)
os.waitpid(child, 0)
print('ended')
raise SystemExit(3)
"""
    lines = []
    log = tmp_path / 'log.txt'
    command = [sys.executable, '-c', program]
    measured = run_measured(command, tmp_path, os.environ, log, lines.append)
    assert measured.returncode == 3
    assert 2.4 < measured.seconds < 30
    assert lines == ['ended']
    assert log.read_text() == 'ended\n'
    # 64 MiB shared by both, counted once, and 64 MiB of the child's own.
    assert 128 * MEBIBYTE < measured.peak_bytes < 190 * MEBIBYTE


def test_a_call_in_another_process():
    assert call_in_process(os.getpid) not in (os.getpid(), os.getppid())
    # Nothing of one call is there in the next.
    assert call_in_process(os.putenv, 'CIBA_BEV_TEST', '1') is None
    assert call_in_process(os.getenv, 'CIBA_BEV_TEST') is None


def test_a_process_that_dies():
    with pytest.raises(BrokenProcessPool):
        call_in_process(os._exit, 1)
