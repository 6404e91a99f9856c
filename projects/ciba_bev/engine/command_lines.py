"""The command-line arguments that tools/train.py and tools/test.py share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction

from .config_options import read_config_file


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that training and testing share, named as in mmdet3d.

    Args:
        description: What the tool does.

    Returns:
        The parser; its first positional argument is ``config``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='folder for logs and results (default: work_dirs/<name of the config>)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='config fields to override, as in train_dataloader.batch_size=2; lists as a=[1,2]',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started this process (set by the dist_*.sh and slurm_*.sh scripts)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser


def read_config(args: argparse.Namespace) -> Config:
    """Read the config of a command line and apply its overrides.

    Args:
        args: Parsed arguments of a parser from :func:`make_parser`.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        ConfigError: There is no such file, it is no valid config, or an override changes nothing.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config_file(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg
