"""tools/setup.sh, as far as it goes without a package index."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
COMMANDS = ['bash', 'cat', 'cut', 'dirname', 'flock', 'grep', 'ls', 'mkdir', 'mktemp', 'mv', 'rm']
COMMANDS += ['sha256sum', 'sleep', 'tail']


@pytest.fixture
def checkout(tmp_path):
    """A checkout with what the script reads, and nothing installed."""
    root = tmp_path / 'checkout'
    for name in ('tools/setup.sh', 'setup.py', 'pyproject.toml'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(PROJECT / 'requirements', root / 'requirements')
    operators = root / 'projects' / 'mmcv_operators'
    operators.mkdir(parents=True)
    for name in ('setup.py', 'pyproject.toml'):
        shutil.copy(PROJECT / 'projects' / 'mmcv_operators' / name, operators / name)
    return root


@pytest.fixture
def programs(tmp_path):
    """A folder with the base system's programs only: no compiler, no Python."""
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


def make_environment(checkout, pip, uv='exit 0', has_torch=True, sees_gpu=True):
    """A virtual environment whose pip and uv do what is asked of them here."""
    folder = checkout / '.venv' / 'bin'
    folder.mkdir(parents=True, exist_ok=True)
    cases = [f'*" pip --disable"*) {pip} ;;']
    cases += [f'*is_available*) exit {0 if sees_gpu else 1} ;;']
    cases += [f'"-c import torch"*) exit {0 if has_torch else 1} ;;']
    write_program(folder / 'python', 'case "$*" in\n' + '\n'.join(cases) + '\nesac')
    write_program(folder / 'uv', uv)


def test_says_that_python_is_missing(checkout, programs):
    ended = run_setup(checkout, programs)
    assert ended.returncode == 1
    assert 'STOPPED: there is no Python 3.10 to 3.13 with its venv module' in ended.stderr
    assert 'tried: python3 python3.11 python3.12 python3.13 python3.10' in ended.stderr
    assert 'apt-get install python3-venv' in ended.stderr


def test_refuses_another_python(checkout, programs):
    write_program(programs / 'python3', 'exit 1')
    ended = run_setup(checkout, programs, CIBA_PYTHON='python3')
    assert 'Python 3.10 to 3.13 with its venv module (tried: python3)' in ended.stderr


def test_leaves_a_folder_alone_that_is_no_environment(checkout, programs):
    (checkout / '.venv').mkdir()
    (checkout / '.venv' / 'thesis.tex').touch()
    ended = run_setup(checkout, programs, CIBA_PYTHON=sys.executable)
    assert 'exists and is no virtual environment' in ended.stderr
    assert os.listdir(checkout / '.venv') == ['thesis.tex']


@pytest.mark.parametrize(
    ('said', 'message'),
    [
        ('Failed to establish a new connection', 'the package index cannot be reached'),
        ('OSError: [Errno 28] No space left on device', 'the disk filled up while'),
        ('error: failed to open file: Permission denied (os error 13)', 'cannot be written to'),
        ('ResolutionImpossible', 'failed; the end of the output is above'),
    ],
)
def test_says_why_packages_cannot_be_installed(checkout, programs, said, message):
    make_environment(checkout, f'echo "{said}" >&2; exit 1', uv='exit 1')
    ended = run_setup(checkout, programs)
    assert ended.returncode == 1
    assert f'STOPPED: {message}' in ended.stderr or message in ended.stderr
    assert said in ended.stderr
    assert not (checkout / '.venv' / '.ciba-bev-setup').exists()


def test_refuses_to_replace_the_files_of_mmcv(checkout, programs):
    make_environment(checkout, 'exit 0')
    (checkout / '.venv' / 'lib' / 'python3.12' / 'site-packages' / 'mmcv-2.1.0.dist-info').mkdir(
        parents=True
    )
    ended = run_setup(checkout, programs)
    assert ended.returncode == 1
    assert 'mmcv-lite, which is installed here, would replace its files' in ended.stderr
    assert 'pip uninstall -y mmcv mmcv-lite' in ended.stderr


def test_what_an_interrupted_run_left_is_installed_again(checkout, programs):
    """uv and pip take a package for installed when half of its files are there."""
    calls = checkout.parent / 'calls.txt'
    make_environment(checkout, 'exit 1', uv='exit 1')
    assert run_setup(checkout, programs).returncode == 1
    make_environment(checkout, 'exit 0', uv=f'echo "$*" >>{calls}')
    for expected in (True, False):
        assert run_setup(checkout, programs).returncode == 0
        assert ('--force-reinstall' in calls.read_text()) == expected
        calls.write_text('')
        with (checkout / 'requirements' / 'pinned.txt').open('a') as pins:
            pins.write('one-more==1.0\n')


def test_pip_takes_over_from_uv(checkout, programs):
    calls = checkout.parent / 'pip_calls.txt'
    make_environment(checkout, f'echo "$*" >>{calls}', uv='exit 1')
    ended = run_setup(checkout, programs)
    assert ended.returncode == 0, ended.stderr
    assert 'trying pip' in ended.stdout
    assert re.search(f'--no-deps .*-r {checkout}/requirements/pinned.txt', calls.read_text())


def test_installs_without_a_compiler_and_is_then_complete(checkout, programs):
    calls = checkout.parent / 'pip_calls.txt'
    make_environment(
        checkout, f'echo "$*" >>{calls}', uv=f'echo "uv $*" >>{calls}', has_torch=False
    )
    ended = run_setup(checkout, programs, CIBA_TORCH_INDEX_URL='https://example.org/cpu')
    assert ended.returncode == 0, ended.stderr
    installed = calls.read_text()
    assert f'-r {checkout}/requirements/pinned.txt -r {checkout}/requirements/cpu.txt' in installed
    assert '--index-url https://example.org/cpu torch==' in installed
    assert f'{checkout}/projects/mmcv_operators -e {checkout}' in installed

    again = run_setup(checkout, programs)
    assert 'is complete' in again.stdout
    assert calls.read_text() == installed

    with (checkout / 'requirements' / 'pinned.txt').open('a') as pins:
        pins.write('one-more==1.0\n')
    assert 'is complete' not in run_setup(checkout, programs).stdout


def test_a_gpu_gets_its_own_sparse_convolutions(checkout, programs):
    calls = checkout.parent / 'pip_calls.txt'
    make_environment(checkout, 'exit 0', uv=f'echo "$*" >>{calls}')
    write_program(programs / 'nvidia-smi', 'echo "GPU 0: some card"')
    ended = run_setup(checkout, programs)
    assert ended.returncode == 0, ended.stderr
    assert f'-r {checkout}/requirements/gpu.txt' in calls.read_text()


def test_a_driver_too_old_for_torch(checkout, programs):
    make_environment(checkout, 'exit 0', sees_gpu=False)
    assert 'WARNING' not in run_setup(checkout, programs).stdout
    (checkout / '.venv' / '.ciba-bev-setup').unlink()
    write_program(programs / 'nvidia-smi', 'echo "GPU 0: some card"')
    ended = run_setup(checkout, programs)
    assert ended.returncode == 0, ended.stderr
    assert 'torch cannot use it. The driver may be too old for this torch' in ended.stdout


def test_two_at_once_take_turns(checkout, programs):
    calls = checkout.parent / 'pip_calls.txt'
    make_environment(checkout, 'exit 0', uv=f'echo "$*" >>{calls}; sleep 0.3')
    environment = {'PATH': str(programs), 'HOME': str(checkout.parent)}
    command = ['bash', str(checkout / 'tools' / 'setup.sh')]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert calls.read_text().count('pinned.txt') == 1
    assert sum('is complete' in text for text in printed) == 1
