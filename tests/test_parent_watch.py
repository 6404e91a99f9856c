import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from torch.utils.data import DataLoader, Dataset

from ciba_bev import parent_watch
from ciba_bev.engine import CheckedRunner
from ciba_bev.parent_watch import WorkerInit

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux ends a process with its parent'
)

CHILD = """
import sys, time
if sys.argv[1] == 'tied':
    sys.path.insert(0, sys.argv[2])
    from parent_watch import end_with_parent
    end_with_parent()
print('ready', flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


class Slow(Dataset):
    """Samples that take a minute; it is told which process loads them."""

    def __init__(self, sender):
        self.sender = sender

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.sender.send(os.getpid())
        time.sleep(60)


def load(sender):
    loader = CheckedRunner.build_dataloader(
        dict(
            dataset=Slow(sender),
            batch_size=1,
            num_workers=1,
            sampler=dict(type='DefaultSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        seed=1,
    )
    next(iter(loader))


@pytest.mark.parametrize('how', ['tied', 'not tied'])
def test_a_process_ends_with_the_one_that_started_it(how):
    words = [PARENT, CHILD, how, str(Path(parent_watch.__file__).parent)]
    parent = subprocess.Popen([sys.executable, '-c', *words], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    if how == 'tied':
        child.wait(timeout=10)
    else:
        with pytest.raises(psutil.TimeoutExpired):
            child.wait(timeout=0.5)
        child.send_signal(signal.SIGKILL)


def test_a_loading_process_ends_with_its_training_in_the_middle_of_a_sample():
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    parent = context.Process(target=load, args=[sender])
    parent.start()
    sender.close()
    child = psutil.Process(receiver.recv())
    parent.kill()
    parent.join()
    # Far less than the minute that loading takes it.
    child.wait(timeout=10)


def test_a_loader_keeps_what_its_processes_have_to_do_first(tmp_path):
    started = []
    start = WorkerInit(started.append)
    parent = os.getppid()
    # In a process of its own: it would tie this one to the one that runs the tests.
    if os.fork() == 0:
        start(3)
        os._exit(0 if started == [3] else 1)
    assert os.wait()[1] == 0
    assert os.getppid() == parent
    loader = DataLoader([1, 2], batch_size=1)
    assert isinstance(CheckedRunner.build_dataloader(loader).worker_init_fn, WorkerInit)
    assert CheckedRunner.build_dataloader(loader).worker_init_fn.then is None
