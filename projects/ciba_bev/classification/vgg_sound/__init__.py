"""VGG-Sound: events in videos, from a frame and from the sound (paper, Sec. 5.4)."""

from .dataset import VGGSoundDataset
from .networks import VGGSoundNetwork

__all__ = ['VGGSoundDataset', 'VGGSoundNetwork']
