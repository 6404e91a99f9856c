"""The paper's classification experiments: the proof on synthetic data, and three data sets."""

from .batches import ResidentDataset, as_it_is
from .best_epoch_hook import BestEpochHook
from .classifier import Classifier
from .metrics import Accuracy, F1Score

__all__ = [
    'Accuracy',
    'BestEpochHook',
    'Classifier',
    'F1Score',
    'ResidentDataset',
    'as_it_is',
]
