"""The module that Python code gets as ``mmcv._ext``.

Every name of mmcv's extension exists: one that :data:`mmcv_operators.OPERATORS` lists is the
operator, any other one a function that raises an error when it is called. mmcv asks for all of
its names when ``mmcv.ops`` is imported, and a model needs a few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Callable, NoReturn

import mmcv_operators


def get_compiler_version() -> str:
    """Return what stands in place of the compiler's version."""
    return f'none, mmcv_operators {mmcv_operators.__version__}'


def get_compiling_cuda_version() -> str:
    """Return what an mmcv without CUDA operators returns."""
    return 'not available'


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    # Kept, so that Python asks once.
    operator = globals()[name] = (
        _on_demand(name) if name in mmcv_operators.OPERATORS else _missing(name)
    )
    return operator


def _on_demand(name: str) -> Callable[..., Any]:
    def operator(*arguments: Any, **options: Any) -> Any:
        function = getattr(import_module(f'mmcv_operators.{mmcv_operators.OPERATORS[name]}'), name)
        globals()[name] = function
        return function(*arguments, **options)

    operator.__name__ = operator.__qualname__ = name
    return operator


def _missing(name: str) -> Callable[..., NoReturn]:
    def operator(*arguments: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator {name!r} is not among those that mmcv_operators has in Python. "
            'Use an mmcv with compiled operators instead (a C++ compiler builds it in some '
            'minutes, with nvcc also for GPUs): pip uninstall mmcv-lite; '
            'pip install "setuptools<81" wheel; '
            'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary mmcv "mmcv==2.1.0"'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator
