import datetime
import multiprocessing
import socket
import time
from contextlib import nullcontext

import pytest
import torch.distributed
from mmengine.config import Config
from mmengine.evaluator import BaseMetric

from ciba_bev.engine import distributed
from ciba_bev.engine.distributed import (
    finish_distributed,
    prepare_distributed,
    require_agreement,
    wait_for_scoring,
)
from ciba_bev.errors import CibaError

TIMEOUT = 1.0


@pytest.fixture(autouse=True)
def tied(monkeypatch):
    """Instead of tying the process of the tests to the one that started it: how often."""
    calls = []
    monkeypatch.setattr(distributed, 'end_with_parent', lambda: calls.append(1))
    return calls


@pytest.fixture
def _one_process(monkeypatch):
    for name, value in {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_PORT', '0')
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures('_one_process')
def test_processes_without_a_gpu_are_joined_by_gloo(monkeypatch, tied):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    cfg = Config({'launcher': 'pytorch', 'find_unused_parameters': True})
    prepare_distributed(cfg)
    assert tied == [1]
    assert torch.distributed.get_backend() == 'gloo'
    assert cfg.model_wrapper_cfg == {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': True,
        'device_ids': None,
    }
    finish_distributed()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(('launcher', 'gpu'), [('none', False), ('pytorch', True), ('slurm', True)])
def test_otherwise_mmengine_is_left_to_it(monkeypatch, launcher, gpu, tied):
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
    cfg = Config({'launcher': launcher})
    prepare_distributed(cfg)
    assert not torch.distributed.is_initialized()
    assert 'model_wrapper_cfg' not in cfg
    assert len(tied) == (launcher == 'pytorch')


def test_a_cluster_without_gpus_is_refused(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(CibaError, match='--launcher slurm needs GPUs'):
        prepare_distributed(Config({'launcher': 'slurm'}))


def in_two_processes(work):
    """What a function of the rank returns, or the name of what it raises, in both processes."""
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        address = f'tcp://127.0.0.1:{found.getsockname()[1]}'
    context = multiprocessing.get_context('fork')
    answers = context.Queue()

    def run(rank):
        torch.distributed.init_process_group(
            'gloo', address, datetime.timedelta(seconds=TIMEOUT), world_size=2, rank=rank
        )
        try:
            answers.put((rank, work(rank)))
        except RuntimeError as error:
            answers.put((rank, f'{type(error).__name__}: {error}'))
        answers.close()
        answers.join_thread()

    processes = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    return [found[0], found[1]]


class SlowMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        time.sleep(3 * TIMEOUT)
        return {'sum': sum(results)}


@pytest.mark.parametrize('patient', [True, False])
def test_scoring_may_take_longer_than_the_timeout(patient):
    def score(rank):
        metric = SlowMetric()
        metric.process(None, [10 * rank + 1, 10 * rank + 2])
        with wait_for_scoring() if patient else nullcontext():
            # Twice: it counts its meetings.
            return [metric.evaluate(4)['sum'] for _ in range(2 if patient else 1)]

    answers = in_two_processes(score)
    if patient:
        assert answers == [[26, 0], [26, 0]]
    else:
        assert 'imed out' in str(answers[1]), 'mmengine waits by itself: remove wait_for_scoring'


def test_processes_that_find_different_things_end_together():
    def agree(rank):
        require_agreement('epoch_2.pth', 'the checkpoint')
        require_agreement(f'epoch_{rank}.pth', 'the checkpoint')

    expected = 'SharedError: the checkpoint: process 0 has epoch_0.pth, process 1 has epoch_1.pth. '
    for answer in in_two_processes(agree):
        assert answer.startswith(expected)
