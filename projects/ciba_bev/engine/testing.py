"""The body of tools/test.py: score a checkpoint on the test data of its config."""

from __future__ import annotations

import argparse
import json
import os
from math import isnan
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..checkpoints.files import read_checkpoints_safely
from ..errors import CibaError, exit_with_message
from ..files import write_file
from .checked_runner import CheckedRunner
from .command_lines import make_parser, read_config
from .config_checks import check_config
from .distributed import finish_distributed, prepare_distributed

RESULTS_FOLDER = 'predictions'


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
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
        '--show-dir', help='draw detections on cameras and bird-eye view into this folder'
    )
    parser.add_argument(
        '--show-count', type=int, default=5, help='number of frames to draw (default: 5)'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score of a drawn box (default: 0.3)'
    )
    return parser.parse_args(arguments)


def test(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Score a checkpoint on the test data of a config.

    Args:
        cfg: The config; its ``launcher`` and ``work_dir`` are set.
        checkpoint: The checkpoint file.

    Returns:
        Name of each metric to its value; empty on all processes but the first.

    Raises:
        CibaError: The config, its data or the checkpoint is at fault.
    """
    if not cfg.get('test_dataloader'):
        raise CibaError(f'{cfg.filename}: has no test_dataloader; there is nothing to score on.')
    cfg.load_from = checkpoint
    cfg.resume = False
    check_config(cfg, stages=('test',))
    read_checkpoints_safely()
    prepare_distributed(cfg)
    return CheckedRunner.from_cfg(cfg).test()


def write_metrics(metrics: dict[str, Any], path: str | os.PathLike) -> None:
    """Write metrics as JSON, whole or not at all.

    Args:
        metrics: Name to value; NaN becomes null.
        path: The file.
    """
    numbers = {name: float(value) for name, value in metrics.items()}
    # JSON knows no NaN, which is what errors are that nuScenes does not define for a class.
    numbers = {name: None if isnan(value) else value for name, value in numbers.items()}
    write_file(path, json.dumps(numbers, indent=2) + '\n')


def _keep_predictions(cfg: Config) -> Path:
    """Have the nuScenes metric write its result file into the work folder; returns that file."""
    evaluators = cfg.test_evaluator
    evaluator = evaluators[0] if isinstance(evaluators, list) else evaluators
    if not evaluator.get('jsonfile_prefix'):
        evaluator['jsonfile_prefix'] = str(Path(cfg.work_dir, RESULTS_FOLDER))
    return Path(evaluator['jsonfile_prefix'], 'pred_instances_3d', 'results_nusc.json')


def main(arguments: list[str] | None = None) -> None:
    """Run tools/test.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_arguments(arguments)

    def run() -> None:
        cfg = read_config(args)
        results = _keep_predictions(cfg) if args.show_dir else None
        metrics = test(cfg, args.checkpoint)
        is_main = is_main_process()
        finish_distributed()
        if is_main and args.out:
            write_metrics(metrics, args.out)
        if is_main and results is not None:
            # Imported here because the plotting libraries take seconds to load.
            from ..visualization.predictions import draw_predictions

            dataset = cfg.test_dataloader.dataset
            annotations = Path(dataset.data_root, dataset.ann_file)
            draw_predictions(results, annotations, args.show_dir, args.show_count, args.score_thr)

    exit_with_message(run, args.traceback)
