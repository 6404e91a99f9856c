"""The body of tools/test.py: score a checkpoint on the test data of its config."""

from __future__ import annotations

import argparse
import inspect
import json
import os
from math import isnan
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import METRICS, init_default_scope

from ..checkpoints.files import read_checkpoints_safely
from ..errors import ConfigError, exit_with_message
from ..files import explain_full_disk, require_not_read, require_writable, write_file
from .checked_runner import CheckedRunner
from .command_lines import make_parser, read_config
from .config_checks import check_config
from .config_checks.nested import dicts_with
from .distributed import finish_distributed, prepare_distributed

RESULTS_FOLDER = 'predictions'
RESULTS_FILE = Path('pred_instances_3d', 'results_nusc.json')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/test.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = make_parser('Score a checkpoint.')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='also write the metrics to this JSON file')
    parser.add_argument(
        '--format-only',
        action='store_true',
        help='compute no scores; write the result file for the nuScenes test server',
    )
    parser.add_argument(
        '--show-dir', help="draw detections on cameras and in bird's-eye view into this folder"
    )
    parser.add_argument(
        '--show-count', type=int, default=5, help='number of frames to draw (default: 5)'
    )
    parser.add_argument(
        *('--score-thr', '--score-threshold'),
        type=float,
        default=0.3,
        help='minimum score of drawn boxes (default: 0.3)',
    )
    return parser.parse_args(arguments)


def test(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Score a checkpoint on the test data of a config.

    Args:
        cfg: The config; its ``launcher`` and ``work_dir`` are set.
        checkpoint: The checkpoint file.

    Returns:
        Name of each metric to its value; empty on all processes except the first.

    Raises:
        CibaError: The config, its data or the checkpoint is invalid.
    """
    if not cfg.get('test_dataloader'):
        raise ConfigError(f'{cfg.filename}: has no test_dataloader; there is nothing to score on.')
    cfg.load_from = checkpoint
    cfg.resume = False
    check_config(cfg, stages=('test',))
    read_checkpoints_safely()
    prepare_distributed(cfg)
    return CheckedRunner.from_cfg(cfg).test()


def write_metrics(metrics: dict[str, Any], path: str | os.PathLike) -> None:
    """Write metrics as JSON, atomically.

    Args:
        metrics: Name to value; NaN becomes null.
        path: The file.
    """
    numbers = {name: float(value) for name, value in metrics.items()}
    # JSON has no NaN, the value of errors that nuScenes does not define for a class.
    numbers = {name: None if isnan(value) else value for name, value in numbers.items()}
    write_file(path, json.dumps(numbers, indent=2) + '\n')


def keep_predictions(cfg: Config, format_only: bool = False) -> list[Path]:
    """Make the nuScenes metrics of a config keep their result files.

    Args:
        cfg: The config with its ``work_dir``; its ``test_evaluator`` is changed.
        format_only: Whether to compute no scores.

    Returns:
        The result files, in the work folder unless the config states another one; empty if no
        evaluator writes any.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    evaluators = cfg.get('test_evaluator') or []
    files = []
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        metric = evaluator.get('type')
        if isinstance(metric, str):
            with METRICS.switch_scope_and_registry(None) as registry:
                metric = registry.get(metric)
        # mmdet3d's metric, ours, and classes derived from them.
        known = inspect.signature(metric).parameters if metric else {}
        if not {'jsonfile_prefix', 'format_only'} <= set(known):
            continue
        if not evaluator.get('jsonfile_prefix'):
            evaluator['jsonfile_prefix'] = str(Path(cfg.work_dir, RESULTS_FOLDER))
        if format_only:
            evaluator['format_only'] = True
        files.append(Path(evaluator['jsonfile_prefix'], RESULTS_FILE))
    return files


def _check_outputs(cfg: Config, args: argparse.Namespace, results: list[Path]) -> None:
    """Check, before the first frame, that the outputs can be written after the last one."""
    if args.format_only and args.out:
        raise ConfigError(
            '--out writes scores and --format-only computes none. Leave one of them out.'
        )
    if args.out:
        require_not_read(args.out, args.config, args.checkpoint)
        require_writable(args.out)
    for option, wanted in (('--format-only', args.format_only), ('--show-dir', args.show_dir)):
        if wanted and not results:
            raise ConfigError(
                f'{cfg.filename}: {option} needs predictions in nuScenes format, and no metric in '
                'test_evaluator writes them (ciba_bev.NuScenesDetectionMetric does).'
            )


def _draw(cfg: Config, args: argparse.Namespace, results: Path) -> None:
    # Imported here because the plotting libraries are slow to load.
    from ..visualization.predictions import draw_predictions

    _, dataset = next(dicts_with(cfg.test_dataloader, 'ann_file', ''))
    root = Path(dataset.get('data_root') or '')
    draw_predictions(
        results, root / dataset.ann_file, root, args.show_dir, args.show_count, args.score_thr
    )


def main(arguments: list[str] | None = None) -> None:
    """Run tools/test.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        cfg = read_config(args)
        results = keep_predictions(cfg, args.format_only)
        _check_outputs(cfg, args, results)
        with explain_full_disk(cfg.work_dir):
            metrics = test(cfg, args.checkpoint)
        is_main = is_main_process()
        finish_distributed()
        if is_main and args.out:
            write_metrics(metrics, args.out)
        if is_main:
            for file in results:
                print(f'The predictions are in {file}.')
            if args.show_dir:
                _draw(cfg, args, results[0])

    exit_with_message(run, args.traceback)
