"""The spectrogram that the audio network reads (paper, Appendix D.5).

It contains magnitudes, not their logarithms, which neither the paper nor the works it follows
mention. Batch normalisation after the first layer compensates for the scale.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
from PIL import Image
from scipy.fft import rfft

RATE = 16000
WINDOW = 1024
HOP = 512
# Bins and frames of a clip of ten seconds.
SIZE = (513, 313)
_HEADROOM = 1.1


def magnitude_spectrogram(
    waveform: np.ndarray, window: int = WINDOW, hop: int = HOP, size: Sequence[int] | None = SIZE
) -> np.ndarray:
    """Return the magnitudes of the short-time Fourier transform of a normalised sound.

    Args:
        waveform: (samples,), any scale; it is divided by 1.1 times its peak, unless it is silent.
        window: Length of the periodic Hann window, in samples. Windows are centred on their
            frames, with zeros beyond both ends.
        hop: Samples between frames.
        size: Bins and frames to resize to; None for 1 + window // 2 and 1 + samples // hop.

    Returns:
        (bins, frames), float32, not divided by the sum of the window.
    """
    sound = np.asarray(waveform, np.float32)
    peak = np.abs(sound).max(initial=0.0)
    if peak > 0:
        sound = sound / (_HEADROOM * peak)
    padded = np.pad(sound, window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window, dtype=np.float32) / window)
    magnitudes = np.abs(rfft(frames * taper.astype(np.float32), axis=1)).T
    return resize_spectrogram(magnitudes, magnitudes.shape if size is None else size)


def resize_spectrogram(magnitudes: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a spectrogram bilinearly, with antialiasing.

    Args:
        magnitudes: (bins, frames).
        size: New numbers of bins and frames.

    Returns:
        (bins, frames) of the new size, float32.
    """
    values = np.ascontiguousarray(magnitudes, np.float32)
    if values.shape == tuple(size):
        return values
    image = Image.fromarray(values)
    return np.asarray(image.resize((size[1], size[0]), Image.BILINEAR), np.float32)
