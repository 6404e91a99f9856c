"""Reading checkpoint files without running code from them.

A checkpoint is a pickle, and unpickling can run anything. Every file is therefore read with
``torch.load(weights_only=True)``, which builds tensors and plain containers only. What mmengine
adds to its checkpoints, log histories and NumPy numbers, is allowed by name and nothing else is.
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

from ..checkpoints import restricted_pickle
from ..errors import CibaError

MapLocation = Union[str, torch.device, Callable, None]

# What torch met. Around it stands advice to load the file in spite of it.
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
# From 2.7 on, torch's own restricted loading can be told under which name a global is stored.
_TORCH_TAKES_NAMED_GLOBALS = digit_version(torch.__version__) >= digit_version('2.7.0')


def history_buffer_method(owner: type, name: str) -> Callable:
    """Stand-in for ``getattr`` in a pickled log history, which names its statistics that way.

    Args:
        owner: The class the attribute is asked of.
        name: The attribute.

    Returns:
        One of the statistics methods of mmengine's ``HistoryBuffer``.

    Raises:
        pickle.UnpicklingError: Anything else was asked for.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'the checkpoint asks for attribute {name!r} of {owner!r}')


def allowed_globals() -> dict[str, Any]:
    """What may be named by a checkpoint beside torch's own allow-list: stored name to object."""
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': history_buffer_method,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        # Milestones of a schedule.
        'collections.Counter': Counter,
    }
    # NumPy 2 moved these; a file written under either is read under either.
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
        The checkpoint: a state dict, or a dict that holds one under ``state_dict``.

    Raises:
        CibaError: The file is missing, damaged, or holds more than weights and logs.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = 'a folder, not a' if path.is_dir() else 'there is no such'
        if path.is_symlink() and not path.exists():
            what = f'a link to {os.readlink(path)}, where there is no'
        raise CibaError(
            f'{path}: {what} checkpoint file.\n'
            'Check the path; checkpoints of a training run lie in its work directory.'
        )
    damage = damage_of(path)
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
            'Ask whoever made it for its weights alone:\n'
            "torch.save({'state_dict': model.state_dict()}, 'weights.pth')"
        ) from error
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        # Bytes that are no pickle, or no longer one, can end in any exception.
        raise _unreadable(path, _reason(error)) from error
    if not isinstance(checkpoint, dict):
        raise CibaError(f'{path}: holds a {type(checkpoint).__name__}, not a checkpoint.')
    return checkpoint


def damage_of(path: str | os.PathLike) -> str | None:
    """Return what is wrong with a checkpoint file as a file; None if nothing can be seen.

    torch does not compare the checksums that it writes: a changed byte among the weights is a wrong
    weight, and nothing else.

    Args:
        path: The file.
    """
    with open(path, 'rb') as file:
        begin = file.read(len(_ZIP_BEGIN))
    if not begin:
        return 'it is empty'
    if begin != _ZIP_BEGIN:
        # torch's format before 1.6, which has no checksums.
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = [name for name in names if not _is_intact(archive, name)]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return f'it is cut short or damaged ({error})'
    # Checksums can be left out when a file is written (torch.serialization.set_crc32_options).
    if damaged and len(damaged) < len(names):
        return f'{damaged[0]} within it is damaged'
    return None


def _is_intact(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as record:
            while record.read(_CHUNK):
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
    """What an error of torch's loading says was met, without its advice."""
    message = str(error)
    for pattern in _TORCH_REASONS:
        found = pattern.search(message)
        if found and 'name' in found.groupdict():
            return f'it names {found["name"]}, which is neither'
        if found:
            return found['reason'].splitlines()[0]
    return _TORCH_ADVICE.sub('', message).strip().split('\n')[0] or type(error).__name__


def load_from_url(url: str, map_location: MapLocation = 'cpu') -> dict[str, Any]:
    """Fetch a checkpoint into torch's hub folder, once per machine, and read it.

    Args:
        url: Its address.
        map_location: Where tensors go, as for ``torch.load``.

    Returns:
        The checkpoint, as from :func:`load_from_file`.

    Raises:
        CibaError: It cannot be fetched or read.
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
    """Read weights that torchvision publishes, by name (``torchvision://resnet50``)."""
    return load_from_url(_published_url(name, get_torchvision_models()), map_location)


def load_from_openmmlab(name: str, map_location: MapLocation = 'cpu') -> dict[str, Any]:
    """Read weights that OpenMMLab publishes, by name (``open-mmlab://resnet50``)."""
    return load_from_url(_published_url(name, get_external_models()), map_location)


def _published_url(name: str, urls: dict[str, str]) -> str:
    model = name.split('://', 1)[1]
    if model not in urls:
        raise CibaError(f'{name}: mmengine knows no published weights of this name.')
    return urls[model]


def read_checkpoints_safely() -> None:
    """Make every checkpoint that mmengine loads in this process pass through this module.

    Covers files, addresses and the names of published weights, whether they are asked for by
    ``load_from``, ``--resume`` or a ``Pretrained`` initialisation.
    """
    # mmengine's log names a loader by its function's name, less `load_from_`.
    for prefixes, loader in (
        ('', load_from_file),
        (('http://', 'https://'), load_from_url),
        (('torchvision://', 'modelzoo://'), load_from_torchvision),
        (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


def allow_training_logs() -> None:
    """Let torch's own restricted loading read what mmengine writes beside a training's weights.

    From torch 2.6 on ``torch.load`` reads weights only unless told otherwise, and so refuses every
    checkpoint of a training to functions that call it as they always did, such as mmdet3d's
    ``init_model``. Log histories are no more able to run code than weights are. What somebody has
    allowed already stays as it is. torch 2.6 itself cannot be told under which name a thing is
    stored; there, take the file of tools/export_student.py.
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
