"""tools/setup.sh, as far as it goes without a package index."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
COMMANDS = ['awk', 'bash', 'cat', 'cut', 'df', 'dirname', 'flock', 'grep', 'ls', 'mkdir', 'mktemp']
COMMANDS += ['mv', 'nproc', 'rm', 'sha256sum', 'sleep', 'tail', 'tar']


@pytest.fixture
def checkout(tmp_path):
    """A checkout with what the script reads, and nothing installed."""
    root = tmp_path / 'checkout'
    (root / 'tools').mkdir(parents=True)
    shutil.copy(PROJECT / 'tools' / 'setup.sh', root / 'tools')
    shutil.copy(PROJECT / 'setup.py', root)
    shutil.copytree(PROJECT / 'requirements', root / 'requirements')
    return root


@pytest.fixture
def programs(tmp_path):
    """A folder with the base system's programs only."""
    folder = tmp_path / 'programs'
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def write_program(path, text):
    path.write_text(f'#!{shutil.which("bash")}\n{text}\n')
    path.chmod(0o755)


def run_setup(checkout, programs, **variables):
    environment = {'PATH': str(programs), 'HOME': str(checkout.parent), **variables}
    return subprocess.run(
        ['bash', str(checkout / 'tools' / 'setup.sh')],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def make_environment(checkout, pip, has_torch=True):
    """A virtual environment whose Python pretends: pip does what is asked of it here."""
    folder = checkout / '.venv' / 'bin'
    folder.mkdir(parents=True)
    cases = [f'*" pip --disable"*) {pip} ;;']
    cases += ['*purelib*|*"print(sysconfig"*) echo /nowhere ;;']
    cases += ['"- 2.1.0"*) echo mmcv-key ;;']
    cases += [f'"-c import torch"*) exit {0 if has_torch else 1} ;;']
    write_program(folder / 'python', 'case "$*" in\n' + '\n'.join(cases) + '\nesac')


def test_says_that_python_is_missing(checkout, programs):
    ended = run_setup(checkout, programs)
    assert ended.returncode == 1
    assert 'STOPPED: there is no python3.11.' in ended.stderr
    assert 'apt-get install python3.11-venv' in ended.stderr


def test_refuses_another_python(checkout, programs):
    write_program(programs / 'python3', 'echo 3.8')
    ended = run_setup(checkout, programs, CIBA_PYTHON='python3')
    assert 'STOPPED: python3 is Python 3.8; the pinned packages are for 3.11.' in ended.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason='the script wants Python 3.11')
def test_says_that_the_disk_is_full(checkout, programs):
    (programs / 'df').unlink()
    write_program(programs / 'df', 'echo "Filesystem"; echo "disk 9 9 450 9% /"')
    ended = run_setup(checkout, programs, CIBA_PYTHON=sys.executable)
    assert 'STOPPED: not enough disk space for unpacking packages.' in ended.stderr
    assert '450 MB free' in ended.stderr


def test_says_that_the_package_index_is_out_of_reach(checkout, programs):
    make_environment(checkout, 'echo "Failed to establish a new connection" >&2; exit 1')
    ended = run_setup(checkout, programs)
    assert ended.returncode == 1
    assert 'STOPPED: the package index cannot be reached' in ended.stderr


def test_says_that_the_compiler_is_missing(checkout, programs):
    make_environment(checkout, 'exit 0')
    ended = run_setup(checkout, programs)
    assert 'STOPPED: there is no C++ compiler' in ended.stderr
    assert 'apt-get install g++' in ended.stderr


def test_says_that_the_headers_are_missing(checkout, programs):
    make_environment(checkout, 'exit 0')
    write_program(programs / 'c++', 'exit 0')
    ended = run_setup(checkout, programs)
    assert 'STOPPED: there is no /nowhere/Python.h' in ended.stderr


def test_takes_a_compiled_mmcv_from_the_cache_and_is_then_complete(checkout, programs):
    wheel = checkout.parent / 'cache' / 'ciba-bev' / 'mmcv-key' / 'mmcv-2.1.0-any.whl'
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    calls = checkout.parent / 'pip_calls.txt'
    make_environment(checkout, f'echo "$*" >>{calls}')
    cache = str(checkout.parent / 'cache')
    ended = run_setup(checkout, programs, XDG_CACHE_HOME=cache)
    assert ended.returncode == 0, ended.stderr
    installed = calls.read_text()
    assert str(wheel) in installed
    assert f'-e {checkout}' in installed

    again = run_setup(checkout, programs, XDG_CACHE_HOME=cache)
    assert 'is complete' in again.stdout
    assert calls.read_text() == installed

    with (checkout / 'requirements' / 'pinned.txt').open('a') as pins:
        pins.write('one-more==1.0\n')
    assert 'is complete' not in run_setup(checkout, programs, XDG_CACHE_HOME=cache).stdout


def test_two_at_once_take_turns(checkout, programs):
    wheel = checkout.parent / '.cache' / 'ciba-bev' / 'mmcv-key' / 'mmcv-2.1.0-any.whl'
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    calls = checkout.parent / 'pip_calls.txt'
    make_environment(checkout, f'echo "$*" >>{calls}; sleep 0.3')
    environment = {'PATH': str(programs), 'HOME': str(checkout.parent)}
    command = ['bash', str(checkout / 'tools' / 'setup.sh')]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert calls.read_text().count(str(wheel)) == 1
    assert sum('is complete' in text for text in printed) == 1
    assert os.listdir(checkout / '.venv')
