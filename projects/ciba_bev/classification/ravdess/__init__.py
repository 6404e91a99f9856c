"""RAVDESS: emotions of actors, from their voices and from their faces (paper, Sec. 5.1)."""

from .dataset import EMOTIONS, RavdessDataset
from .networks import RavdessAudioNetwork, RavdessFusionNetwork, RavdessImageNetwork

__all__ = [
    'EMOTIONS',
    'RavdessAudioNetwork',
    'RavdessDataset',
    'RavdessFusionNetwork',
    'RavdessImageNetwork',
]
