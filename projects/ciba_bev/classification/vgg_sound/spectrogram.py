"""The spectrogram that the VGG-Sound networks are given (paper, D.5)."""

from __future__ import annotations

from typing import Sequence

import numpy as np
from PIL import Image

from ...errors import CibaError


def make_spectrogram(
    waveform: np.ndarray,
    window: int = 1024,
    hop: int = 512,
    size: Sequence[int] = (513, 313),
    headroom: float = 1.1,
) -> np.ndarray:
    """Magnitudes of the short-time Fourier transform of a sound brought to a common loudness.

    Ten seconds at 16 kHz have 513 frequencies and 313 frames as they are; only other lengths are
    interpolated.

    Args:
        waveform: (samples,).
        window: Samples of a (Hann) window, centred on its frame; zeros beyond both ends.
        hop: Samples between frames.
        size: Frequencies and frames of the result.
        headroom: The sound is divided by its peak times this.

    Returns:
        (frequencies, frames), float32, at least zero.

    Raises:
        CibaError: The sound is silent.
    """
    peak = np.abs(waveform).max(initial=0.0)
    if not peak > 0:
        raise CibaError('its sound is silent')
    padded = np.pad(np.asarray(waveform / (headroom * peak), np.float32), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    # The periodic Hann window.
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window, dtype=np.float32) / window)
    magnitudes = np.abs(np.fft.rfft(frames * taper, axis=1)).T.astype(np.float32)
    if magnitudes.shape == tuple(size):
        return np.ascontiguousarray(magnitudes)
    resized = Image.fromarray(magnitudes).resize(tuple(size)[::-1], Image.BILINEAR)
    return np.array(resized)
