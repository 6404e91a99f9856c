"""The body of tools/train.py: train the model of a config."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from ..checkpoints.files import read_checkpoints_safely
from ..checkpoints.matching import check_pretrained_weights
from ..errors import ConfigError, exit_with_message, launched_rank
from ..files import explain_full_disk
from ..precision import has_bfloat16
from ..shell import shell_command
from .checked_runner import CheckedRunner
from .checkpoint_search import find_checkpoints, newest_whole_checkpoint
from .command_lines import make_parser, read_config
from .config_checks import check_config
from .distributed import finish_distributed, prepare_distributed, require_agreement
from .work_folder import lock_work_dir, move_old_checkpoints, require_no_checkpoints


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/train.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = make_parser('Train a model.')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train in bfloat16, or float16 on GPUs without it (needs a GPU)',
    )
    parser.add_argument(
        '--sync_bn',
        '--sync-bn',
        choices=['none', 'torch', 'mmcv'],
        default='none',
        help='synchronise batch normalisation between processes, with this implementation',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by this run's total batch size over the config's",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a value, from the latest in the work folder',
    )
    parser.add_argument(
        '--start-over',
        action='store_true',
        help='start a new training in a work folder with checkpoints, which are moved aside',
    )
    return parser.parse_args(arguments)


def apply_training_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the training options of the command line to a config.

    Args:
        cfg: The config; changed in place.
        args: Arguments from :func:`parse_args`.

    Raises:
        ConfigError: The machine or the config lacks what an option needs.
    """
    if args.amp:
        use_mixed_precision(cfg)
    if args.sync_bn != 'none':
        if not torch.cuda.is_available():
            raise ConfigError('--sync_bn needs GPUs and torch sees none. Leave it out.')
        cfg.sync_bn = args.sync_bn
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise ConfigError(
                f'{cfg.filename}: --auto-scale-lr needs auto_scale_lr.base_batch_size, the total '
                'batch size that optim_wrapper.optimizer.lr is meant for.'
            )
        cfg.auto_scale_lr.enable = True
    _apply_resume(cfg, args.resume, args.start_over)


def use_mixed_precision(cfg: Config) -> None:
    """Make a config train in bfloat16, or in float16 on GPUs without it.

    Args:
        cfg: The config; changed in place.

    Raises:
        ConfigError: There is no GPU, or the config has another optimizer wrapper.
    """
    if not torch.cuda.is_available():
        raise ConfigError(
            '--amp needs a GPU and torch sees none (CUDA_VISIBLE_DEVICES may hide it). '
            'Leave --amp out to train in single precision.'
        )
    if cfg.optim_wrapper.get('type') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            f'{cfg.filename}: --amp replaces an OptimWrapper, but optim_wrapper.type is '
            f'{cfg.optim_wrapper.get("type")}.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if cfg.optim_wrapper.get('dtype') is None:
        # bfloat16 has the range of float32, so its gradients need no scaling.
        cfg.optim_wrapper.dtype = 'bfloat16' if has_bfloat16() else 'float16'
    scaled = cfg.optim_wrapper.dtype == 'float16'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic' if scaled else dict(enabled=False))


def _apply_resume(cfg: Config, checkpoint: str | None, start_over: bool) -> None:
    """Set the checkpoint to resume from, if there is one."""
    if checkpoint is None and cfg.get('resume') and not cfg.get('load_from'):
        # mmengine's config field for `--resume`.
        checkpoint = 'auto'
    if start_over and checkpoint is not None:
        raise ConfigError('--start-over and --resume contradict each other. Leave one of them out.')
    if checkpoint is None:
        return
    if checkpoint == 'auto':
        checkpoint = newest_whole_checkpoint(cfg)
    if checkpoint is None:
        cfg.resume = False
        print_log(f'{cfg.work_dir} has no checkpoint yet: training starts from the beginning.')
        return
    cfg.resume = True
    cfg.load_from = checkpoint


def train(cfg: Config, start_over: bool = False) -> None:
    """Train the model of a config, its command line applied.

    Args:
        cfg: The config; its ``launcher`` and ``work_dir`` are set.
        start_over: Whether to start a new training in a work folder with checkpoints of another
            one, which are moved into a separate folder.

    Raises:
        CibaError: The config, its data, a checkpoint or the work folder is invalid.
    """
    check_config(cfg)
    read_checkpoints_safely()
    _use_gpu_settings(cfg)
    with lock_work_dir(cfg.work_dir), explain_full_disk(cfg.work_dir):
        if start_over:
            move_old_checkpoints(cfg)
        elif not cfg.get('resume'):
            require_no_checkpoints(cfg)
        prepare_distributed(cfg)
        runner = CheckedRunner.from_cfg(cfg)
        start = cfg.load_from if cfg.get('resume') else 'none'
        require_agreement(str(start), 'the checkpoint to resume from')
        if not cfg.get('resume'):
            check_pretrained_weights(runner.bare_model)
        runner.train()
        finish_distributed()


def _use_gpu_settings(cfg: Config) -> None:
    """With a GPU, use TF32 for matrix products and pinned memory for batches."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision('high')
        for name in ('train_dataloader', 'val_dataloader'):
            if cfg.get(name):
                cfg[name].setdefault('pin_memory', True)


def resume_command(arguments: list[str]) -> str:
    """Return the command that resumes an interrupted training.

    Args:
        arguments: The words of the interrupted command, the program's name first. If
            tools/dist_train.sh was used, its command is in the variable ``CIBA_COMMAND``.

    Returns:
        The same command with ``--resume`` instead of any other.
    """
    program = 'python'
    if os.environ.get('CIBA_COMMAND'):
        program, *arguments = shlex.split(os.environ['CIBA_COMMAND'])
    kept: list[str] = []
    skip_value = False
    for word in arguments:
        if word == '--start-over':
            continue
        if word == '--resume' or word.startswith('--resume='):
            skip_value = word == '--resume'
            continue
        if skip_value and not word.startswith('-'):
            skip_value = False
            continue
        skip_value = False
        kept.append(word)
    return shell_command(program, *kept, '--resume')


def interruption_message(cfg: Config, command: str) -> str:
    """Return the message of an interrupted training.

    Args:
        cfg: Its config.
        command: The command that resumes it.

    Returns:
        The message, with the last checkpoint and the command.
    """
    latest = next((checkpoint.path for checkpoint in find_checkpoints(cfg)), None)
    kept = f'The last checkpoint is {latest}.' if latest else 'There is no checkpoint yet.'
    return f'\nStopped. {kept} Resume with:\n{command}'


def main(arguments: list[str] | None = None) -> None:
    """Run tools/train.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        cfg = read_config(args)
        apply_training_arguments(cfg, args)
        try:
            train(cfg, args.start_over)
        except KeyboardInterrupt:
            if launched_rank() == 0:
                print(interruption_message(cfg, resume_command(sys.argv)), file=sys.stderr)
            sys.exit(130)

    exit_with_message(run, args.traceback)
