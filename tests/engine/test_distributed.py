import pytest
import torch.distributed
from mmengine.config import Config

from ciba_bev.engine.distributed import finish_distributed, prepare_distributed
from ciba_bev.errors import CibaError


@pytest.fixture
def _one_process(monkeypatch):
    for name, value in {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MASTER_PORT', '0')
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures('_one_process')
def test_processes_without_a_gpu_are_joined_by_gloo(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    cfg = Config({'launcher': 'pytorch', 'find_unused_parameters': True})
    prepare_distributed(cfg)
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
def test_otherwise_mmengine_is_left_to_it(monkeypatch, launcher, gpu):
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
    cfg = Config({'launcher': launcher})
    prepare_distributed(cfg)
    assert not torch.distributed.is_initialized()
    assert 'model_wrapper_cfg' not in cfg


def test_a_cluster_without_gpus_is_refused(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(CibaError, match='--launcher slurm needs GPUs'):
        prepare_distributed(Config({'launcher': 'slurm'}))
