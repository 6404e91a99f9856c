"""Files appear whole or not at all, and a failure is one sentence with the path."""

import os
import resource

import pytest
import torch

from ciba_bev.errors import CibaError
from ciba_bev.files import require_not_read, write_file, written_whole


@pytest.fixture
def small_files():
    """Let no file of this process grow beyond 64 KiB, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_text(path):
    write_file(path, 'new' * 2**16)


def save_checkpoint(path):
    with written_whole(path) as partial:
        torch.save({'weight': torch.zeros(2**16), 'bias': torch.ones(2**16)}, partial)


def save_checkpoint_to_a_stream(path):
    with written_whole(path) as partial, open(partial, 'wb') as stream:
        torch.save({'weight': torch.zeros(2**16), 'bias': torch.ones(2**16)}, stream)


WRITERS = [write_text, save_checkpoint, save_checkpoint_to_a_stream]


@pytest.mark.parametrize('write', WRITERS)
def test_a_disk_that_is_too_small_leaves_the_old_file(tmp_path, small_files, write):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(CibaError, match=rf'{path}: cannot be written .*Free some space'):
        write(path)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('write', WRITERS)
def test_a_file_in_the_place_of_the_folder(tmp_path, write):
    (tmp_path / 'folder').write_text('a file')
    path = tmp_path / 'folder' / 'inner' / 'file'
    with pytest.raises(CibaError, match=rf'{path}: cannot be written'):
        write(path)


@pytest.mark.parametrize('write', WRITERS)
def test_a_folder_in_the_place_of_the_file(tmp_path, write):
    path = tmp_path / 'file'
    path.mkdir()
    with pytest.raises(CibaError, match=rf'{path}: cannot be written \(Is a directory\)'):
        write(path)
    assert os.listdir(tmp_path) == ['file']


def test_other_errors_are_let_through_and_leave_nothing(tmp_path):
    def run():
        with written_whole(tmp_path / 'file') as partial:
            partial.write_text('half')
            raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        run()
    assert not os.listdir(tmp_path)


def test_a_file_that_cannot_be_read_is_not_called_unwritable(tmp_path):
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / 'file') as at:
        at.write_bytes((tmp_path / 'missing').read_bytes())
    assert not os.listdir(tmp_path)


def test_an_input_is_told_under_every_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / 'weights.pth'
    source.write_text('weights')
    os.symlink(source, tmp_path / 'symbolic.pth')
    os.link(source, tmp_path / 'hard.pth')
    (tmp_path / 'folder').mkdir()
    for name in ('weights.pth', 'folder/../weights.pth', 'symbolic.pth', 'hard.pth', str(source)):
        with pytest.raises(CibaError, match=f'{name}: this file is read'):
            require_not_read(name, None, 'missing.pth', source)
    (tmp_path / 'other.pth').write_text('weights')
    for name in ('other.pth', 'new.pth'):
        require_not_read(name, None, 'missing.pth', source, 'https://example.org/weights.pth')
