"""The compiled operators to compare with, and the ways in which ours can be run."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Callable

import pytest

import mmcv_operators
from mmcv_operators import arrays, extension


@pytest.fixture(scope='session')
def compiled() -> ModuleType:
    """``mmcv._ext`` as a compiler made it."""
    if mmcv_operators.is_used():
        pytest.skip('the installed mmcv has no compiled operators to compare with')
    return importlib.import_module('mmcv._ext')


@pytest.fixture(params=['loops', 'tensors'])
def ours(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Our extension, with the loops for CPUs or with the PyTorch operators for other devices."""
    if request.param == 'tensors':
        monkeypatch.setattr(arrays, 'DEVICES_WITH_LOOPS', ())
    return extension


@pytest.fixture
def use_ours_in_mmcv(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it lets all functions of ``mmcv.ops`` use our extension until the test ends."""

    def use() -> None:
        import mmcv.ops

        for module in pkgutil.iter_modules(mmcv.ops.__path__, 'mmcv.ops.'):
            functions = importlib.import_module(module.name)
            if hasattr(functions, 'ext_module'):
                monkeypatch.setattr(functions, 'ext_module', extension)

    return use


@pytest.fixture
def ours_in_mmcv(use_ours_in_mmcv: Callable[[], None]) -> ModuleType:
    """Our extension, which all functions of ``mmcv.ops`` use."""
    use_ours_in_mmcv()
    return extension
