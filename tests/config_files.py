"""The project's configs, each read from its files once."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


@lru_cache(maxsize=None)
def _read(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)


def read_config(name: str) -> Config:
    """Return a config of the project by its name; it is the caller's own, to change and build."""
    return copy.deepcopy(_read(name))
