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

from ..errors import ConfigError, SharedError
from ..parent_watch import end_with_parent

_PATIENCE = datetime.timedelta(seconds=30)
_waits = count()


def prepare_distributed(cfg: Config) -> None:
    """Initialise distributed training on CPUs, and end this process with its launcher.

    mmengine initialises the process group only with GPUs, but uses a group that exists already.
    With GPUs, or without a launcher, nothing changes.

    Args:
        cfg: The config with its ``launcher``. ``model_wrapper_cfg`` is added if needed.

    Raises:
        ConfigError: The launcher needs GPUs.
    """
    if cfg.launcher == 'pytorch':
        # Cluster launchers end their processes themselves.
        end_with_parent()
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher != 'pytorch':
        raise ConfigError(
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
    # On CPUs, replicas have no device.
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}


def finish_distributed() -> None:
    """Synchronise and close the process group, if there is one, at the end of a successful run."""
    if torch.distributed.is_initialized():
        # The first process may still be writing.
        wait_for_first_process()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def require_agreement(value: Any, what: str) -> None:
    """Check that a value is the same on all processes.

    Args:
        value: The value on this process.
        what: Its name, for the message.

    Raises:
        SharedError: The values differ.
    """
    values = all_gather_object(value)
    other = next((rank for rank, found in enumerate(values) if found != values[0]), None)
    if other is not None:
        raise SharedError(
            f'{what}: process 0 has {values[0]}, process {other} has {values[other]}. All machines '
            'of a training need the same work folder, on a file system that they share.'
        )


def wait_for_first_process() -> None:
    """Wait until the first process calls this function as well, without a timeout.

    Collective operations fail after ``env_cfg.dist_cfg.timeout``, which detects lost processes.
    Work of a single process, such as scoring, may take longer. A launcher still ends all processes
    if one fails.
    """
    if get_world_size() == 1:
        return
    # All processes call this equally often, so that their counts agree.
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
            # A timeout, or a closed store, for which this raises an error.
            if store.check([name]):
                return


@contextmanager
def wait_for_scoring() -> Iterator[None]:
    """Let processes wait for the first one, which scores, without a timeout.

    mmengine computes metrics on the first process, while the others wait in a broadcast of the
    result.

    Yields:
        None.
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
