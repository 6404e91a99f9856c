"""Train and test with mmengine's Runner: the bodies of the command-line tools."""

from ..checkpoints.files import allow_training_logs
from .checked_runner import CheckedRunner
from .finite_loss_hook import FiniteLossHook
from .loss_averaging_hook import LossAveragingHook
from .optimizer_groups import GroupedOptimWrapperConstructor
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = [
    'CheckedRunner',
    'FiniteLossHook',
    'GroupedOptimWrapperConstructor',
    'LossAveragingHook',
    'SafeCheckpointHook',
]

# So that other functions, such as mmdet3d's, can load the checkpoints of the plugin.
allow_training_logs()
