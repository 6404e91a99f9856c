"""The paper's classification experiments: the proof on synthetic data, and three data sets."""

from .batches import InMemoryDataset, as_it_is
from .best_epoch_hook import BestBottleneckHook, BestEpochHook
from .check_inputs_hook import CheckInputsHook
from .classifier import Classifier
from .metrics import Accuracy, F1Score
from .mm_imdb import MMIMDBDataset, MMIMDBFusionNetwork, MMIMDBNetwork
from .ravdess import RavdessAudioNetwork, RavdessDataset, RavdessFusionNetwork, RavdessImageNetwork
from .synthetic import (
    SyntheticDistillation,
    SyntheticMetric,
    SyntheticModalities,
    SyntheticTeachers,
    make_modalities,
)
from .vgg_sound import VGGSoundDataset, VGGSoundNetwork

__all__ = [
    'Accuracy',
    'BestBottleneckHook',
    'BestEpochHook',
    'CheckInputsHook',
    'Classifier',
    'F1Score',
    'InMemoryDataset',
    'MMIMDBDataset',
    'MMIMDBFusionNetwork',
    'MMIMDBNetwork',
    'RavdessAudioNetwork',
    'RavdessDataset',
    'RavdessFusionNetwork',
    'RavdessImageNetwork',
    'SyntheticDistillation',
    'SyntheticMetric',
    'SyntheticModalities',
    'SyntheticTeachers',
    'VGGSoundDataset',
    'VGGSoundNetwork',
    'as_it_is',
    'make_modalities',
]
