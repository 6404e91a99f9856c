"""Score the epoch with the best validation on the test data, after training."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..distillation.bottleneck_training import BottleneckTraining
from ..errors import CibaError, ConfigError
from ..files import atomic_write, write_file
from ..registry import HOOKS

BEST_CHECKPOINT = 'best.pth'
_BEST_SO_FAR = 'best_so_far.pth'


@HOOKS.register_module()
class BestEpochHook(Hook):
    """Score the epoch with the best validation on validation and test data, after training.

    Needs ``default_hooks.checkpoint`` with ``save_best`` set to a metric's full name. That epoch's
    checkpoint is copied to ``best.pth``, which other configs can refer to.

    Args:
        out_file: Name of the JSON file in the work folder: under ``validation`` and ``test`` each
            metric by its full name, and ``checkpoint``, the file's name.
    """

    # After the checkpoint hook, which records the best epoch of the last validation.
    priority = 'LOWEST'

    def __init__(self, out_file: str = 'metrics.json') -> None:
        self.out_file = out_file

    def before_train(self, runner: Runner) -> None:
        """Check that a hook saves the best checkpoint.

        Args:
            runner: The runner.

        Raises:
            ConfigError: No hook does.
        """
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if not any(hook.save_best for hook in hooks):
            raise ConfigError(
                'BestEpochHook needs the best epoch: set default_hooks.checkpoint.save_best to '
                'the name of a validation metric, such as accuracy/top1.'
            )

    def after_train(self, runner: Runner) -> None:
        """Score the best epoch.

        Args:
            runner: The runner.

        Raises:
            ConfigError: There was no validation.
        """
        best = runner.message_hub.runtime_info.get('best_ckpt')
        if not best:
            raise ConfigError(
                'BestEpochHook: no epoch was validated, so that none is the best; see '
                'train_cfg.val_begin and val_interval.'
            )
        runner.load_checkpoint(best)
        if is_main_process():
            with atomic_write(Path(runner.work_dir, BEST_CHECKPOINT)) as partial:
                shutil.copyfile(best, partial)
        _score(runner, {'checkpoint': Path(best).name}, self.out_file)


@HOOKS.register_module()
class BestBottleneckHook(Hook):
    """Save each bottleneck of its own best epoch, and score them after training.

    Bottlenecks of several sizes are trained together but converge at different epochs. For every
    size, ``best.pth`` contains the weights of the epoch with the lowest generation loss in
    validation. During training they are in ``best_so_far.pth``, for resuming.

    Args:
        out_file: Name of the JSON file in the work folder: metrics of ``best.pth`` under
            ``validation`` and ``test``, and the best epoch of each bottleneck under ``epochs``.
    """

    # After the checkpoint hook.
    priority = 'LOWEST'

    def __init__(self, out_file: str = 'metrics.json') -> None:
        self.out_file = out_file
        self._best: dict[str, dict[str, Any]] = {}
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Load the best bottlenecks of the epochs before, if the training is resumed.

        Args:
            runner: The runner.

        Raises:
            CibaError: The model trains no bottlenecks, or their file is damaged.
        """
        if not isinstance(_bare(runner), BottleneckTraining):
            raise ConfigError('BestBottleneckHook is for bottleneck training (Algorithm 1).')
        self._best = {}
        self._training = True
        kept = Path(runner.work_dir, _BEST_SO_FAR)
        if runner.epoch and kept.is_file():
            try:
                content = torch.load(kept, 'cpu', weights_only=True)
            except Exception as error:
                raise CibaError(
                    f'{kept} cannot be read ({error}). Without it the best bottlenecks of the '
                    'epochs before are lost: train again, or delete it and resume.'
                ) from error
            self._best = {
                name: best for name, best in content.items() if best['epoch'] <= runner.epoch
            }

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Save the weights of the bottlenecks that improved.

        Args:
            runner: The runner.
            metrics: Full name of each metric to its value, including
                ``bottleneck/h<H>/generation``.
        """
        if not self._training:
            return
        better = False
        for name, bottleneck in _bare(runner).bottlenecks.items():
            (loss,) = (v for key, v in metrics.items() if key.endswith(f'/{name}/generation'))
            # Always false for NaN.
            if loss < self._best.get(name, {'loss': math.inf})['loss']:
                weights = {
                    key: value.cpu().clone() for key, value in bottleneck.state_dict().items()
                }
                self._best[name] = {'loss': loss, 'epoch': runner.epoch, 'weights': weights}
                better = True
        if better and is_main_process():
            with atomic_write(Path(runner.work_dir, _BEST_SO_FAR)) as partial:
                torch.save(self._best, partial)

    def after_train(self, runner: Runner) -> None:
        """Combine the best weights, write ``best.pth`` and score it.

        Args:
            runner: The runner.

        Raises:
            CibaError: A bottleneck was never validated with a finite loss.
        """
        model = _bare(runner)
        missing = [name for name in model.bottlenecks if name not in self._best]
        if missing:
            raise CibaError(
                f'BestBottleneckHook: no epoch is the best for {", ".join(missing)}: none was '
                'validated, or the loss was never finite. See train_cfg.val_begin and '
                'val_interval, and the log.'
            )
        for name, bottleneck in model.bottlenecks.items():
            bottleneck.load_state_dict(self._best[name]['weights'])
        runner.save_checkpoint(
            runner.work_dir,
            BEST_CHECKPOINT,
            save_optimizer=False,
            save_param_scheduler=False,
        )
        epochs = {name: best['epoch'] for name, best in self._best.items()}
        self._training = False
        _score(runner, {'epochs': epochs}, self.out_file)
        if is_main_process():
            Path(runner.work_dir, _BEST_SO_FAR).unlink()


def _bare(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _score(runner: Runner, content: dict[str, Any], out_file: str) -> None:
    """Score the model on validation and test data, and write the metrics to a JSON file."""
    content = {**content, 'validation': runner.val_loop.run(), 'test': runner.test_loop.run()}
    if is_main_process():
        write_file(Path(runner.work_dir, out_file), json.dumps(content, indent=1) + '\n')
