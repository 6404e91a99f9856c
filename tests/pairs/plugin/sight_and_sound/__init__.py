"""Somebody else's classifiers of short clips, one by picture and one by sound.

Laid out as the mm-libraries are: a scope of its own, a registry for each kind of component, models
of backbone and head, data samples. It knows mmengine and nothing of distillation or detection.
"""

from .clips import ClipAccuracy, ClipDataset
from .models import ClipClassifier, PictureBackbone, SoundBackbone

__all__ = ['ClipAccuracy', 'ClipClassifier', 'ClipDataset', 'PictureBackbone', 'SoundBackbone']
