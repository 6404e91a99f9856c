"""Training and scoring through mmengine's Runner: what the command-line tools do."""

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

# A plugin's user loads its checkpoints with functions that know nothing of it.
allow_training_logs()
