"""The spectral feature of a sound: mel-frequency cepstral coefficients over time.

All that is known of the published RAVDESS features is their mean, -10.59, and standard deviation,
85.66. Forty coefficients in the usual conventions (decibels of 128 Slaney mel bands, orthonormal
DCT) have similar statistics: the first coefficient is sqrt(128) times the mean level, which is
about -40 dB in speech, or about -450; the others are distributed around zero. Averaged over forty
coefficients the mean is about -11, and the first coefficient alone gives a standard deviation of
about 70. Thirteen or twenty coefficients would have another mean.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fft import dct

# Below this frequency the Slaney mel scale is linear, three mel to 200 Hz; above, logarithmic.
_BREAK_HERTZ = 1000.0
_MEL_PER_HERTZ = 3 / 200
_LOG_STEP = np.log(6.4) / 27
_SMALLEST_POWER = 1e-10
HOP = 512


def cepstral_coefficients(
    waveform: np.ndarray,
    rate: int,
    coefficients: int = 40,
    bands: int = 128,
    window: int = 2048,
    hop: int = HOP,
    dynamic_range: float = 80.0,
) -> np.ndarray:
    """Return mel-frequency cepstral coefficients.

    Args:
        waveform: (samples,), full scale at one.
        rate: Sampling rate in Hz.
        coefficients: Number of coefficients of the cosine transform; the first is the level.
        bands: Number of mel bands from zero to half the sampling rate.
        window: Length of the Hann window, in samples. Windows are centred on their frames, with
            zeros beyond both ends.
        hop: Samples between frames.
        dynamic_range: Levels are clipped from below at the loudest minus this, in decibels.

    Returns:
        (coefficients, 1 + samples // hop), float32.
    """
    padded = np.pad(np.asarray(waveform, np.float32), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    # The periodic Hann window.
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window, dtype=np.float32) / window)
    power = np.abs(np.fft.rfft(frames * taper, axis=1)) ** 2
    levels = 10 * np.log10(np.maximum(power @ mel_filters(rate, window, bands).T, _SMALLEST_POWER))
    levels = np.maximum(levels, levels.max() - dynamic_range)
    cepstrum = dct(levels, type=2, axis=1, norm='ortho')[:, :coefficients]
    return np.ascontiguousarray(cepstrum.T, dtype=np.float32)


@lru_cache(maxsize=4)
def mel_filters(rate: int, window: int, bands: int) -> np.ndarray:
    """Return triangular filters, equally spaced in mel, each of unit area.

    Args:
        rate: Sampling rate in Hz.
        window: Length of the window, in samples.
        bands: Number of filters.

    Returns:
        (bands, window // 2 + 1), in 1 / Hz.
    """
    frequencies = np.fft.rfftfreq(window, 1 / rate)
    edges = _to_hertz(np.linspace(0.0, _to_mel(rate / 2), bands + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling)) * 2 / (high - low)


def _to_mel(hertz: float) -> float:
    if hertz < _BREAK_HERTZ:
        return hertz * _MEL_PER_HERTZ
    return _BREAK_HERTZ * _MEL_PER_HERTZ + np.log(hertz / _BREAK_HERTZ) / _LOG_STEP


def _to_hertz(mel: np.ndarray) -> np.ndarray:
    break_mel = _BREAK_HERTZ * _MEL_PER_HERTZ
    above = _BREAK_HERTZ * np.exp(_LOG_STEP * (np.maximum(mel, break_mel) - break_mel))
    return np.where(mel < break_mel, mel / _MEL_PER_HERTZ, above)
