"""Cache small tensors of Python numbers, one for each device."""

from __future__ import annotations

from functools import lru_cache
from typing import Tuple, Union

import torch
from torch import Tensor

Numbers = Union[float, Tuple['Numbers', ...]]


@lru_cache(maxsize=1024)
def constant_tensor(values: Numbers, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor of ``values`` that is copied to the device only the first time.

    ``torch.tensor(..., device='cuda')`` copies from pageable memory and waits for the copy; inside
    a ``forward`` that stalls the GPU at every call.

    Args:
        values: A number or nested tuples of numbers.
        dtype: Dtype of the tensor.
        device: Device of the tensor.

    Returns:
        The same tensor for the same arguments. It is shared: never write into it.
    """
    # A tensor made in inference mode could not be saved for a later backward pass.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
