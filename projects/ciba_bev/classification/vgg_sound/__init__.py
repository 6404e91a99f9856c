"""VGG-Sound: events in video clips, from their sound and their picture (paper, Sec. 5.4)."""

from .dataset import VGGSoundDataset
from .networks import VGGSoundNetwork

__all__ = ['VGGSoundDataset', 'VGGSoundNetwork']
