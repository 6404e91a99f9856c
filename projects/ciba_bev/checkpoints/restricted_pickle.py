"""Unpickle without running code: only an allow-list of objects is built."""

from __future__ import annotations

import pickle
import re
from types import SimpleNamespace
from typing import Any, BinaryIO, Mapping

import numpy as np
import torch

# Old pickle protocols use the module names of Python 2.
_PYTHON_2_NAMES = {'__builtin__': 'builtins'}
_TENSOR_BUILDERS = ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter')


def make_pickle_module(allowed: Mapping[str, Any]) -> SimpleNamespace:
    """Return a pickle module for ``torch.load`` that builds only tensors and allowed objects.

    It is needed for torch < 2.7, whose restricted loading does not accept an allow-list by name.

    Args:
        allowed: Stored name (``module.name``) to object, in addition to the tensor types,
            ``OrderedDict`` and the text codec that tensors and arrays are stored with.

    Returns:
        An object with the ``Unpickler`` and ``load`` of the standard library's module.
    """

    class RestrictedUnpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            module = _PYTHON_2_NAMES.get(module, module)
            full_name = f'{module}.{name}'
            if full_name in allowed:
                return allowed[full_name]
            is_tensor_part = (
                (module == 'torch._utils' and name in _TENSOR_BUILDERS)
                or (module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype))
                or (module == 'torch' and name in ('device', 'Size', 'Tensor'))
                or (module in ('torch', 'torch.storage') and re.fullmatch(r'\w+Storage', name))
            )
            if is_tensor_part or full_name in ('collections.OrderedDict', '_codecs.encode'):
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f'the checkpoint names {full_name}')

    def load(file: Any, **options: Any) -> Any:
        return RestrictedUnpickler(file, **options).load()

    return SimpleNamespace(__name__='restricted_pickle', Unpickler=RestrictedUnpickler, load=load)


def load_plain(stream: BinaryIO) -> Any:
    """Read a pickle of containers, strings, numbers and NumPy arrays.

    Args:
        stream: The pickle file, opened for reading bytes.

    Returns:
        The content.

    Raises:
        pickle.UnpicklingError: The pickle is damaged or contains other objects; the message has
            their name.
        EOFError: The pickle is truncated.
    """
    return _PlainUnpickler(stream).load()


class _PlainUnpickler(pickle.Unpickler):
    # NumPy 2 moved its functions; files of both versions can be read with both.
    _NUMPY = {
        f'{package}.{module}.{name}': reconstruct
        for package in ('numpy.core', 'numpy._core')
        for module, name, reconstruct in (
            ('multiarray', '_reconstruct', np.zeros(0).__reduce__()[0]),
            ('multiarray', 'scalar', np.float64(0).__reduce__()[0]),
            ('numeric', '_frombuffer', np.zeros(1).__reduce_ex__(5)[0]),
        )
    }
    _NUMPY.update({'numpy.ndarray': np.ndarray, 'numpy.dtype': np.dtype})
    _STANDARD = (
        'collections.OrderedDict',
        '_codecs.encode',
        'builtins.set',
        'builtins.frozenset',
        'builtins.bytearray',
        'builtins.complex',
    )

    def find_class(self, module: str, name: str) -> Any:
        full_name = f'{_PYTHON_2_NAMES.get(module, module)}.{name}'
        if full_name in self._NUMPY:
            return self._NUMPY[full_name]
        if full_name in self._STANDARD:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it names {full_name}')
