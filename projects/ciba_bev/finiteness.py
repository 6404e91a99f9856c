"""Check features and losses for NaN and infinity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import CibaError

# The checks of the current training step, which are evaluated at its end; None outside of one.
_postponed: list[tuple[str, Tensor, dict | None]] | None = None


def is_finite(value: Tensor) -> Tensor:
    """Return whether a tensor is free of NaN and infinity, without waiting for its device.

    Args:
        value: Any tensor.

    Returns:
        A boolean scalar on the same device.
    """
    # The sum is finite only if all summands are.
    return value.detach().sum(dtype=torch.float64).isfinite()


def require_finite(value: Tensor, what: str, data: dict | None) -> None:
    """Check that a feature or a loss is finite.

    With ``FiniteLossHook`` the check is postponed to the end of the training step, where all
    processes synchronise, because reading a number makes the CPU wait for the device.

    Args:
        value: Any tensor.
        what: Its name, for the message.
        data: The batch it comes from.

    Raises:
        CibaError: It contains NaN or infinity; the message names the samples.
    """
    finite = is_finite(value)
    if _postponed is not None:
        _postponed.append((what, finite, data))
    elif not bool(finite):
        raise CibaError(describe(what, sample_names(data)))


def postpone_checks() -> None:
    """Postpone the checks of :func:`require_finite` until :func:`postponed_checks` is called."""
    global _postponed
    _postponed = []


def postponed_checks() -> list[tuple[str, Tensor]]:
    """Return the checks since :func:`postpone_checks`, and stop postponing.

    Returns:
        Name and finiteness (a boolean scalar) of each tensor, in the order of the calls.
    """
    global _postponed
    checks, _postponed = _postponed, None
    return [(what, finite) for what, finite, _ in checks or []]


def check_now() -> None:
    """Evaluate the postponed checks now, before their tensors are stored beyond the step.

    Raises:
        CibaError: A tensor is not finite; the message names the samples.
    """
    for what, finite, data in _postponed or []:
        if not bool(finite):
            raise CibaError(describe(what, sample_names(data)))


def describe(what: str, samples: list[str]) -> str:
    """Return the error message for a tensor that is not finite.

    Args:
        what: Its name.
        samples: Names of the samples it comes from.

    Returns:
        The message.
    """
    return (
        f'{what} holds NaN or infinity, for samples {", ".join(samples) or "unknown"}. Nothing is '
        'saved that was trained on it. If these are the same samples every time, look at their '
        'files; if not, the training diverges: lower the learning rate, or train in float32. The '
        'weights of a frozen model may be at fault as well; in reduced precision, try '
        "precision='float32'."
    )


def sample_names(data: Any) -> list[str]:
    """Return the names of the samples of a batch.

    Args:
        data: A collated batch, with ``data_samples`` that have a token, or with ``names``.

    Returns:
        The names; empty if the batch has none.
    """
    if not isinstance(data, dict):
        return []
    samples = data.get('data_samples')
    if samples is None:
        return [str(name) for name in data.get('names', [])]
    return [_token(sample) for sample in samples]


def _token(sample: Any) -> str:
    metainfo = getattr(sample, 'metainfo', {})
    return str(metainfo.get('token') or metainfo.get('sample_idx', '?'))
