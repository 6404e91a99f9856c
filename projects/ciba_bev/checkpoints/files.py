"""Read checkpoint files without running code from them.

A checkpoint is a pickle, and unpickling can run arbitrary code. Every file is therefore read with
``torch.load(weights_only=True)``, which builds only tensors and plain containers. Beyond these,
only the log histories and NumPy numbers of mmengine's checkpoints are allowed.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
import zlib
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from typing import Any, Callable, Union
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info, get_local_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, get_external_models, get_torchvision_models
from mmengine.utils import digit_version

from ..errors import CibaError, ConfigError
from . import restricted_pickle

MapLocation = Union[str, torch.device, Callable, None]

# The reason in torch's message, without its advice to load the file in spite of it.
_TORCH_REASONS = (
    re.compile(r'GLOBAL (?P<name>[\w.]+)'),
    re.compile(r'WeightsUnpickler error:\s*(?P<reason>.*?)\s*(?:Please |Check the doc|$)', re.S),
)
_TORCH_ADVICE = re.compile(
    r'\s*(In PyTorch 2\.6|Re-running|Do it only if|Please |Check the doc).*', re.S
)
_ZIP_BEGIN = b'PK\x03\x04'
_CHUNK = 2**22  # bytes
_NUMPY_SCALAR_TYPES = ('float64', 'float32', 'int64', 'int32', 'bool')
# Since 2.7, torch's restricted loading accepts the name under which a global is stored.
_TORCH_TAKES_NAMED_GLOBALS = digit_version(torch.__version__) >= digit_version('2.7.0')


def restricted_getattr(owner: type, name: str) -> Callable:
    """Return a statistics method of mmengine's ``HistoryBuffer``.

    This replaces ``getattr``, by which pickled log histories refer to these methods.

    Args:
        owner: The class of the attribute.
        name: The attribute.

    Returns:
        The method.

    Raises:
        pickle.UnpicklingError: It is another attribute.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'the checkpoint asks for attribute {name!r} of {owner!r}')


def allowed_globals() -> dict[str, Any]:
    """Return the globals that checkpoints may contain in addition to torch's own allow-list.

    Returns:
        Stored name to object.
    """
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': restricted_getattr,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        # Milestones of a schedule.
        'collections.Counter': Counter,
    }
    # NumPy 2 moved these; files of both versions can be read with both.
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed[f'{module}._reconstruct'] = reconstruct
        allowed[f'{module}.scalar'] = scalar
    for name in _NUMPY_SCALAR_TYPES:
        dtype = type(np.dtype(name))
        allowed[f'{dtype.__module__}.{dtype.__qualname__}'] = dtype
    return allowed


def load_from_file(path: str | os.PathLike, map_location: MapLocation = 'cpu') -> dict[str, Any]:
    """Read a local checkpoint file.

    Args:
        path: The file.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint: a state dict, or a dict with one under ``state_dict``.

    Raises:
        CibaError: The file does not exist, is damaged, or contains more than weights and logs.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = 'a folder, not a' if path.is_dir() else 'there is no such'
        if path.is_symlink() and not path.exists():
            what = f'a link to {os.readlink(path)}, where there is no'
        raise CibaError(
            f'{path}: {what} checkpoint file.\n'
            'Check the path; the checkpoints of a training are in its work directory.'
        )
    damage = find_damage(path)
    if damage is not None:
        raise _unreadable(path, damage)
    try:
        if _TORCH_TAKES_NAMED_GLOBALS:
            named = [(value, name) for name, value in allowed_globals().items()]
            with torch.serialization.safe_globals(named):
                checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        else:
            module = restricted_pickle.make_pickle_module(allowed_globals())
            checkpoint = torch.load(
                path, map_location=map_location, pickle_module=module, weights_only=False
            )
    except pickle.UnpicklingError as error:
        raise CibaError(
            f'{path}: refused, or not a checkpoint. Loading it could run code stored in it, and '
            'only weights and training logs are read from checkpoints.\n'
            f'Reason: {_reason(error)}\n'
            'Ask its author for the weights alone:\n'
            "torch.save({'state_dict': model.state_dict()}, 'weights.pth')"
        ) from error
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        # Damaged pickles can raise any exception.
        raise _unreadable(path, _reason(error)) from error
    if not isinstance(checkpoint, dict):
        raise CibaError(f'{path}: contains a {type(checkpoint).__name__}, not a checkpoint.')
    return checkpoint


def find_damage(path: str | os.PathLike) -> str | None:
    """Check a checkpoint file for damage.

    torch itself does not verify the checksums of the file when it loads one.

    Args:
        path: The file.

    Returns:
        A description of the damage; None if none was found.
    """
    with open(path, 'rb') as file:
        begin = file.read(len(_ZIP_BEGIN))
    if not begin:
        return 'it is empty'
    if begin != _ZIP_BEGIN:
        # The format of torch < 1.6, which has no checksums.
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = [name for name in names if not _is_intact(archive, name)]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return f'it is truncated or damaged ({error})'
    # Checksums can be left out when a file is written (torch.serialization.set_crc32_options).
    if damaged and len(damaged) < len(names):
        return f'its entry {damaged[0]} is damaged'
    return None


def _is_intact(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as entry:
            while entry.read(_CHUNK):
                pass
    except (zipfile.BadZipFile, zlib.error):
        return False
    return True


def _unreadable(path: Path, reason: str) -> CibaError:
    return CibaError(
        f'{path}: the checkpoint cannot be read; it is truncated or damaged ({reason}).\n'
        'Take an earlier one of the same run, or copy or download it again.'
    )


def _reason(error: Exception) -> str:
    """Return the reason in an error of ``torch.load``, without its advice."""
    message = str(error)
    for pattern in _TORCH_REASONS:
        found = pattern.search(message)
        if found and 'name' in found.groupdict():
            return f'it names {found["name"]}, which is neither'
        if found:
            return found['reason'].splitlines()[0]
    return _TORCH_ADVICE.sub('', message).strip().split('\n')[0] or type(error).__name__


def load_from_url(url: str, map_location: MapLocation = 'cpu') -> dict[str, Any]:
    """Download a checkpoint into torch's hub folder, once per machine, and read it.

    Args:
        url: Its URL.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint, as from :func:`load_from_file`.

    Raises:
        CibaError: It cannot be downloaded or read.
    """
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / os.path.basename(urlparse(url).path)
    failure = None
    if get_local_rank() == 0 and not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=get_dist_info()[0] == 0)
        except (OSError, HTTPException) as error:
            failure = error
    barrier()
    if failure is not None or not path.is_file():
        raise CibaError(
            f'{url}: the checkpoint cannot be downloaded ({failure}).\n'
            f'Check the network, or put the file at {path} yourself.'
        )
    return load_from_file(path, map_location)


def load_from_torchvision(name: str, map_location: MapLocation = 'cpu') -> dict[str, Any]:
    """Read weights published by torchvision.

    Args:
        name: Their name, such as ``torchvision://resnet50``.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint, as from :func:`load_from_file`.

    Raises:
        CibaError: There are no such weights, or they cannot be downloaded or read.
    """
    return load_from_url(_published_url(name, get_torchvision_models()), map_location)


def load_from_openmmlab(name: str, map_location: MapLocation = 'cpu') -> dict[str, Any]:
    """Read weights published by OpenMMLab.

    Args:
        name: Their name, such as ``open-mmlab://resnet50``.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint, as from :func:`load_from_file`.

    Raises:
        CibaError: There are no such weights, or they cannot be downloaded or read.
    """
    return load_from_url(_published_url(name, get_external_models()), map_location)


def _published_url(name: str, urls: dict[str, str]) -> str:
    model = name.split('://', 1)[1]
    if model not in urls:
        raise ConfigError(f'{name}: mmengine knows no published weights of this name.')
    return urls[model]


def read_checkpoints_safely() -> None:
    """Register the functions of this module as mmengine's checkpoint loaders.

    They load files, URLs and the names of published weights for ``load_from``, ``--resume`` and
    ``Pretrained`` initialisation.
    """
    # mmengine logs the name of a loader's function without `load_from_`.
    for prefixes, loader in (
        ('', load_from_file),
        (('http://', 'https://'), load_from_url),
        (('torchvision://', 'modelzoo://'), load_from_torchvision),
        (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


def allow_training_logs() -> None:
    """Let ``torch.load(weights_only=True)`` read the log histories in mmengine's checkpoints.

    Since torch 2.6 this is the default, so that functions such as mmdet3d's ``init_model`` cannot
    load the checkpoints of a training. Log histories cannot run code. Globals that are allowed
    already are not changed. torch 2.6 does not accept the name under which a global is stored; use
    the file of tools/export_student.py there.
    """
    if not _TORCH_TAKES_NAMED_GLOBALS:
        return
    known = torch.serialization.get_safe_globals()
    names = {
        entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__name__}'
        for entry in known
    }
    torch.serialization.add_safe_globals(
        [(value, name) for name, value in allowed_globals().items() if name not in names]
    )
