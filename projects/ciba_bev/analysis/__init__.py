"""Analyse how many dimensions a feature uses, how many a bottleneck needs, and score differences.

Arrays of *singular values* are always those of a feature's covariance, largest first; they are the
variances along its principal directions. Importing the package does not import matplotlib.
"""

from .bottleneck_metric import BottleneckMetric, read_decoded_spectra
from .bottleneck_size import Saturation, measure_saturation
from .dynamic_variance import DynamicVariance
from .figures import (
    draw_decoded_spectra,
    draw_loss_curves,
    draw_spectra,
    figure_to_image,
    save_figure,
)
from .linear_distillation import (
    limiting_distillation_loss,
    optimal_student_weight,
    projected_student_weight,
)
from .spectra import ChannelEnergy, FeatureCovariance, effective_rank
from .spectrum_hook import SpectrumHook
from .statistics import mean_and_deviation, welch_p_value

__all__ = [
    'BottleneckMetric',
    'ChannelEnergy',
    'DynamicVariance',
    'FeatureCovariance',
    'Saturation',
    'SpectrumHook',
    'draw_decoded_spectra',
    'draw_loss_curves',
    'draw_spectra',
    'effective_rank',
    'figure_to_image',
    'limiting_distillation_loss',
    'mean_and_deviation',
    'measure_saturation',
    'optimal_student_weight',
    'projected_student_weight',
    'read_decoded_spectra',
    'save_figure',
    'welch_p_value',
]
