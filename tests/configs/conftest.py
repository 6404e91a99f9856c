from __future__ import annotations

from typing import Iterator

import pytest
from torch.nn import init


@pytest.fixture(scope='module')
def unfilled_weights() -> Iterator[None]:
    """Leave weights as they lie in memory; random numbers take most of the time of a build."""
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(init):
            if name.endswith('_') and not name.startswith('_'):
                patch.setattr(init, name, lambda tensor, *args, **kwargs: tensor)
        yield
