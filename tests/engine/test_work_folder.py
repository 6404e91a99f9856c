import errno
import json
import multiprocessing
import os
import re
import signal

import pytest

from ciba_bev.engine import work_folder
from ciba_bev.engine.work_folder import LOCK_FILE, lock_work_dir
from ciba_bev.errors import CibaError

FORK = multiprocessing.get_context('fork')


def hold(folder, sender):
    with lock_work_dir(folder):
        child = FORK.Process(target=signal.pause)
        child.start()
        sender.send(child.pid)
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder, with a child of its own."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=hold, args=(tmp_path, sender))
    process.start()
    sender.close()
    child = receiver.recv()
    yield process
    process.kill()
    process.join()
    os.kill(child, signal.SIGKILL)


def test_the_other_training_is_named(tmp_path, holder):
    with pytest.raises(CibaError) as caught, lock_work_dir(tmp_path):
        pass
    expected = rf'{re.escape(str(tmp_path))} is in use by another training: process {holder.pid} on'
    assert re.match(
        rf'{expected} {re.escape(os.uname().nodename)}, started \d+-', str(caught.value)
    )
    assert '--work-dir' in str(caught.value)


def test_a_training_that_was_killed_holds_nothing(tmp_path, holder):
    """Not even while a process that it started lives on."""
    holder.kill()
    holder.join()
    with lock_work_dir(tmp_path):
        note = json.loads((tmp_path / LOCK_FILE).read_text())
    assert note['pid'] == os.getpid()


def test_only_the_first_process_locks(tmp_path, holder, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with lock_work_dir(tmp_path):
        pass


def test_what_a_killed_training_left_half_written_is_removed(tmp_path):
    left = ['.epoch_3.pth.4711.partial', '.best_toy_error_epoch_2.pth.4711.partial']
    others = ['.student.pth.12.partial', 'epoch_2.pth', '.epoch_3.pth']
    for name in left + others:
        (tmp_path / name).touch()
    with lock_work_dir(tmp_path):
        assert sorted(os.listdir(tmp_path)) == sorted([*others, LOCK_FILE])


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_a_word(tmp_path, monkeypatch, capsys, code):
    def refuse(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(work_folder.fcntl, 'lockf', refuse)
    (tmp_path / '.epoch_3.pth.4711.partial').touch()
    with lock_work_dir(tmp_path):
        assert (tmp_path / '.epoch_3.pth.4711.partial').exists(), 'it may be another training'
    assert f'{tmp_path} cannot be locked ({os.strerror(code)})' in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(CibaError, match='file/work: cannot be written'), lock_work_dir(
        tmp_path / 'file' / 'work'
    ):
        pass
    (tmp_path / 'link').symlink_to(tmp_path / 'gone')
    with pytest.raises(CibaError, match=r'link to .*gone, which does not exist'), lock_work_dir(
        tmp_path / 'link'
    ):
        pass
