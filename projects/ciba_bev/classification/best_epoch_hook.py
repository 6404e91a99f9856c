"""Scoring at the end of a training: the test data, by the epoch that validation liked best."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from ..errors import CibaError
from ..files import write_file, written_whole
from ..registry import HOOKS


@HOOKS.register_module()
class BestEpochHook(Hook):
    """After training, score the epoch with the best validation on validation and test data.

    Needs ``default_hooks.checkpoint`` with ``save_best`` set to a metric's full name. That epoch's
    checkpoint is copied to ``best.pth``, a name that other configs can state.

    Args:
        out_file: Name of the JSON file in the work folder: under ``validation`` and ``test`` each
            metric by its full name, and ``checkpoint``, the file's name.
    """

    # After the checkpoint hook, which notes the best epoch of the last validation.
    priority = 'LOWEST'

    def __init__(self, out_file: str = 'metrics.json') -> None:
        self.out_file = out_file

    def before_train(self, runner: Runner) -> None:
        """Look for the best checkpoint's keeper before a step is taken in vain.

        Args:
            runner: The runner.

        Raises:
            CibaError: There is none.
        """
        keepers = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if not any(hook.save_best for hook in keepers):
            raise CibaError(
                'BestEpochHook needs the best epoch: set default_hooks.checkpoint.save_best to '
                'the name of a validation metric, such as accuracy/top1.'
            )

    def after_train(self, runner: Runner) -> None:
        """Score the best epoch.

        Args:
            runner: The runner.

        Raises:
            CibaError: There was no validation.
        """
        best = runner.message_hub.runtime_info.get('best_ckpt')
        if not best:
            raise CibaError(
                'BestEpochHook: no epoch was validated, so none is the best; see '
                'train_cfg.val_begin and val_interval.'
            )
        runner.load_checkpoint(best)
        content = {
            'checkpoint': Path(best).name,
            'validation': runner.val_loop.run(),
            'test': runner.test_loop.run(),
        }
        if is_main_process():
            folder = Path(runner.work_dir)
            with written_whole(folder / 'best.pth') as partial:
                shutil.copyfile(best, partial)
            write_file(folder / self.out_file, json.dumps(content, indent=1) + '\n')
