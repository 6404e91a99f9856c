"""Checkpoints are read in these tests as the tools read them."""

from __future__ import annotations

import pytest
from mmengine.runner import CheckpointLoader

from ciba_bev.checkpoints.files import read_checkpoints_safely


@pytest.fixture(autouse=True)
def _safe_loading(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    read_checkpoints_safely()
