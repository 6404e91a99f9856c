import os

import pytest

from ciba_bev.checkpoints.files import read_checkpoints_safely


@pytest.fixture(autouse=True)
def _safe_checkpoints():
    # Within pytest no launcher says so.
    os.environ.setdefault('LOCAL_RANK', '0')
    read_checkpoints_safely()
