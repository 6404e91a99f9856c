"""The guard against NaN and infinity: what is looked at, and what is said about it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import CibaError

# While a training step runs: what it has to have looked at when it is over. None otherwise.
_postponed: list[tuple[str, Tensor, dict | None]] | None = None


def is_finite(value: Tensor) -> Tensor:
    """Return whether a tensor is free of NaN and infinity, without waiting for its device.

    Args:
        value: Any tensor.

    Returns:
        A boolean scalar on the same device.
    """
    # A sum is one number to look at, and not finite as soon as one summand is not.
    return value.detach().sum(dtype=torch.float64).isfinite()


def require_finite(value: Tensor, what: str, data: dict | None) -> None:
    """Refuse a feature or a loss that holds NaN or infinity.

    Within a training step that ``FiniteLossHook`` watches the look is postponed to the step's end,
    where all processes meet, because reading a number makes the processor wait for the device.

    Args:
        value: Any tensor.
        what: Its name, for the message.
        data: The batch it comes from.

    Raises:
        CibaError: It is not finite; the message names the samples.
    """
    finite = is_finite(value)
    if _postponed is not None:
        _postponed.append((what, finite, data))
    elif not bool(finite):
        raise CibaError(describe(what, sample_names(data)))


def postpone_checks() -> None:
    """Have :func:`require_finite` only note what it is given until :func:`postponed_checks`."""
    global _postponed
    _postponed = []


def postponed_checks() -> list[tuple[str, Tensor]]:
    """Return what was noted since :func:`postpone_checks`, and postpone no further.

    Returns:
        Name and finiteness (a boolean scalar) of each tensor, in the order they were given.
    """
    global _postponed
    noted, _postponed = _postponed, None
    return [(what, finite) for what, finite, _ in noted or []]


def look_now() -> None:
    """Look at what was noted so far, before something is made of it that outlives the step.

    Raises:
        CibaError: Something is not finite; the message names the samples.
    """
    for what, finite, data in _postponed or []:
        if not bool(finite):
            raise CibaError(describe(what, sample_names(data)))


def describe(what: str, samples: list[str]) -> str:
    """Return the message about something that is not finite.

    Args:
        what: Its name.
        samples: Names of the samples it comes from.
    """
    return (
        f'{what} holds NaN or infinity, for samples {", ".join(samples) or "unknown"}. Nothing is '
        'saved that was trained on it. If these are the same samples every time, look at their '
        'files; if not, the training diverges: lower the learning rate, or train in float32. The '
        'weights of a frozen model may be at fault as well; in reduced precision, try '
        "precision='float32'."
    )


def sample_names(data: Any) -> list[str]:
    """Return the names of a batch's samples.

    Args:
        data: A collated batch: detectors have data samples with a token each, classifiers a list
            of names.
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
