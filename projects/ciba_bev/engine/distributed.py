"""Distributed training with or without GPUs."""

from __future__ import annotations

import datetime
from contextlib import contextmanager
from itertools import count
from typing import Any, Iterator

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.evaluator import metric as metric_module
from torch.distributed import distributed_c10d

from ..errors import CibaError, SharedError
from .parent_watch import end_with_parent

_PATIENCE = datetime.timedelta(seconds=30)
_waits = count()


def prepare_distributed(cfg: Config) -> None:
    """Tie this process to its launcher, and let a config run on CPU processes without a GPU.

    mmengine starts the process group itself, but asks for a GPU to do so; a group that exists
    already it takes as it is. With GPUs, or without a launcher, nothing changes.

    Args:
        cfg: The config, its ``launcher`` set. ``model_wrapper_cfg`` is added to it where needed.

    Raises:
        CibaError: The launcher needs GPUs.
    """
    if cfg.launcher == 'pytorch':
        # Those of clusters see to their processes themselves.
        end_with_parent()
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
        wait_for_first_process()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def require_agreement(value: Any, what: str) -> None:
    """Refuse to go on with processes that have found different things on their disks.

    Args:
        value: What this process has found.
        what: Its name, for the message.

    Raises:
        CibaError: Not every process has found the same.
    """
    values = all_gather_object(value)
    other = next((rank for rank, found in enumerate(values) if found != values[0]), None)
    if other is not None:
        raise SharedError(
            f'{what}: process 0 has {values[0]}, process {other} has {values[other]}. All machines '
            'of a training need the same work folder, on a file system that they share.'
        )


def wait_for_first_process() -> None:
    """Wait until the first process has come here as well, however long that takes.

    A collective operation gives up after ``env_cfg.dist_cfg.timeout``, which is there to notice a
    process that is lost. What one process alone has to do, such as scoring, may take longer. A
    launcher still ends all processes when one fails.
    """
    if get_world_size() == 1:
        return
    # Every process waits for the first one equally often, so that all count alike.
    name = f'ciba_bev/first_process/{next(_waits)}'
    store = distributed_c10d._get_default_store()
    if is_main_process():
        store.set(name, '')
        return
    while True:
        try:
            store.wait([name], _PATIENCE)
            return
        except RuntimeError:
            # It may be the time that is over, or the store that is gone: asking tells.
            if store.check([name]):
                return


@contextmanager
def wait_for_scoring() -> Iterator[None]:
    """Have processes wait for the one that scores within the context, however long it takes.

    mmengine's metrics are computed by the first process while the others wait in a broadcast for
    the result.
    """

    def broadcast(*args: Any, **kwargs: Any) -> None:
        wait_for_first_process()
        broadcast_object_list(*args, **kwargs)

    original = metric_module.broadcast_object_list
    metric_module.broadcast_object_list = broadcast
    try:
        yield
    finally:
        metric_module.broadcast_object_list = original
