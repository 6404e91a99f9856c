import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch

from ciba_bev.errors import CibaError
from ciba_bev.files import full_disk_explained, write_file, written_whole

FULL = '/dev/full'


@pytest.fixture
def _small_files():
    """No file may grow beyond 64 KiB, as on a disk that is full from there on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def fail_halfway(path):
    with written_whole(path) as partial:
        partial.write_text('half of the n')
        assert path.read_text() == 'old'
        raise ZeroDivisionError


def save_checkpoint(path, zipped):
    with written_whole(path) as partial:
        weights = {'weight': torch.zeros(2**15)}
        torch.save(weights, partial, _use_new_zipfile_serialization=zipped)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    path = tmp_path / 'folder' / 'report.json'
    write_file(path, 'old')
    with pytest.raises(ZeroDivisionError):
        fail_halfway(path)
    assert path.read_text() == 'old'
    write_file(path, 'new')
    assert path.read_text() == 'new'
    assert os.listdir(path.parent) == ['report.json']


@pytest.mark.usefixtures('_small_files')
@pytest.mark.parametrize(
    'write',
    [
        lambda path: write_file(path, bytes(2**17)),
        lambda path: save_checkpoint(path, zipped=True),
        lambda path: save_checkpoint(path, zipped=False),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, write):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(CibaError, match=r'/file: cannot be written \(.*\)\. Free some space'):
        write(path)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


def test_other_mistakes_keep_their_kind(tmp_path):
    with pytest.raises(RuntimeError, match='of the program') as caught, written_whole(
        tmp_path / 'x'
    ):
        raise RuntimeError('of the program')
    assert not isinstance(caught.value, CibaError)
    with pytest.raises(FileNotFoundError), full_disk_explained(tmp_path):
        (tmp_path / 'gone').read_text()


def fill_disk(folder):
    with full_disk_explained(folder), open(FULL, 'w') as file:
        file.write('x' * 100_000)


def meet(error, folder):
    with full_disk_explained(folder):
        raise error


@pytest.mark.skipif(not os.path.exists(FULL), reason=f'needs {FULL}')
def test_a_full_disk_is_told_where_the_path_is_known_and_where_not(tmp_path):
    with pytest.raises(CibaError, match=r'/work .* cannot be written \(No space left on device\)'):
        fill_disk(tmp_path / 'work')
    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS), '/read/only')
    with pytest.raises(CibaError, match=r'^/read/only: cannot be written \(Read-only'):
        meet(read_only, tmp_path)


def test_a_link_to_nothing_is_told_as_such(tmp_path):
    (tmp_path / 'work_dirs').symlink_to(tmp_path / 'unmounted')
    with pytest.raises(
        CibaError, match=r'work_dirs is a link to .*unmounted, which does not exist'
    ):
        write_file(tmp_path / 'work_dirs' / 'report.json', 'x')
    (tmp_path / 'unmounted').mkdir()
    write_file(tmp_path / 'work_dirs' / 'report.json', 'x')
    assert (tmp_path / 'unmounted' / 'report.json').read_text() == 'x'


def test_two_processes_do_not_share_a_partial_file(tmp_path):
    code = (
        'import sys; from ciba_bev.files import written_whole\n'
        'with written_whole(sys.argv[1]) as partial: print(partial); partial.touch()'
    )
    other = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path / 'x')], capture_output=True, text=True
    )
    with written_whole(tmp_path / 'x') as partial:
        partial.touch()
        assert str(partial) != other.stdout.strip() != ''
