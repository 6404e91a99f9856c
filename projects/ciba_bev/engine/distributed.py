"""Distributed training with or without GPUs."""

from __future__ import annotations

import datetime

import torch
import torch.distributed
from mmengine.config import Config

from ..errors import CibaError


def prepare_distributed(cfg: Config) -> None:
    """Let a config run on CPU processes where there is no GPU.

    mmengine starts the process group itself, but asks for a GPU to do so; a group that exists
    already it takes as it is. With GPUs, or without a launcher, nothing changes.

    Args:
        cfg: The config, its ``launcher`` set. ``model_wrapper_cfg`` is added to it where needed.

    Raises:
        CibaError: The launcher needs GPUs.
    """
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise CibaError(
            f'--launcher {cfg.launcher} needs GPUs and torch sees none.\n'
            'For processes on the CPU use tools/dist_train.sh or tools/dist_test.sh.'
        )
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch.distributed.init_process_group('gloo', timeout=datetime.timedelta(seconds=timeout))
    wrapper = cfg.get('model_wrapper_cfg') or {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    # On a CPU a replica belongs to no device.
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}


def finish_distributed() -> None:
    """Take leave of the other processes, if there are any, at the end of a run that went well."""
    if torch.distributed.is_initialized():
        # The first process may still be writing while the others have nothing left to do.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
