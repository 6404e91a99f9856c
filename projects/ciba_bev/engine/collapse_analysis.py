"""The body of tools/analyze_collapse.py: measure the dimensions that trained models' features use.

Draws the comparison of Figures 5(a) and 6 of the paper (a student without distillation, with MSE,
with CIBA) and, from the validation of an Algorithm 1 run, Figure 5(b).
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader

from ..analysis import (
    FeatureCovariance,
    draw_decoded_spectra,
    draw_spectra,
    read_decoded_spectra,
    save_figure,
)
from ..checkpoints.files import read_checkpoints_safely
from ..distillation.frozen_model import FrozenModel
from ..distillation.taps import FeatureTap
from ..errors import CibaError, ConfigError, exit_with_message
from ..files import require_not_read, require_writable, write_file
from .config_checks import check_config
from .config_options import read_config_file


@dataclass(frozen=True)
class TrainedModel:
    """A model to analyse.

    Attributes:
        label: Its name in table and figure.
        config: Its config file. For a distiller only the student is built; teacher and bottleneck
            are not needed.
        checkpoint: File with its weights.
    """

    label: str
    config: str
    checkpoint: str


def analyze_collapse(
    models: Sequence[TrainedModel],
    out: str | os.PathLike,
    tap: dict[str, Any] | None = None,
    bottleneck_size: int | None = None,
    bottlenecks: str | os.PathLike | None = None,
    max_samples: int | None = None,
) -> dict[str, Any]:
    """Measure the spectra of models' features on the same samples, and write and plot them.

    Args:
        models: The models. All of them read the validation data of the first one's config.
        out: Folder for ``collapse.json``, ``spectra.png`` and ``.svg`` and, with ``bottlenecks``,
            ``decoded_spectra.png`` and ``.svg``. The JSON file is written last.
        tap: The feature, as arguments of :class:`FeatureTap`; None for that of the first distiller
            among the configs.
        bottleneck_size: Number H of leading channels to compare with the rest; None for that of
            the first config with a bottleneck, or no comparison if there is none.
        bottlenecks: The ``out_file`` of :class:`BottleneckMetric`.
        max_samples: Number of samples, from the first; None for all.

    Returns:
        The content of ``collapse.json``: ``models``, each with ``label``, ``config``,
        ``checkpoint``, ``samples``, ``singular_values`` of the feature's covariance,
        ``effective_rank`` and ``channel_energy`` (None without H); ``tap``; ``bottlenecks`` as
        read, or None.

    Raises:
        CibaError: A config, a checkpoint, the data or another file is invalid, or no config states
            the feature.
    """
    _require_distinct_labels(models)
    for name, value in (('bottleneck_size', bottleneck_size), ('max_samples', max_samples)):
        if value is not None and value < 1:
            raise ConfigError(f'{name} is {value}; give 1 or more.')
    # All input is checked before the models run.
    generated = None if bottlenecks is None else _read_bottlenecks(Path(bottlenecks))
    configs = [_read_config(model) for model in models]
    distillers = [cfg.model for cfg in configs if _is_distiller(cfg.model)]
    if tap is None:
        tap = _tap_of(distillers)
    if bottleneck_size is None:
        sizes = [model.bottleneck.size for model in distillers if model.get('bottleneck')]
        bottleneck_size = next(iter(sizes), None)
    described = _check_tap(tap).describe()
    networks = [_build(model, cfg, tap) for model, cfg in zip(models, configs)]
    require_not_read(Path(out, 'collapse.json'), bottlenecks)
    require_writable(Path(out, 'collapse.json'))
    loader = _build_loader(configs[0])
    covariances, samples = _accumulate(networks, loader, bottleneck_size, max_samples)
    content = {
        'models': [
            {
                'label': model.label,
                'config': model.config,
                'checkpoint': model.checkpoint,
                'samples': samples,
                'singular_values': covariance.singular_values().tolist(),
                'effective_rank': covariance.effective_rank(),
                'channel_energy': _channel_energy(covariance, bottleneck_size),
            }
            for model, covariance in zip(models, covariances)
        ],
        'tap': described,
        'bottlenecks': generated,
    }
    _write(content, Path(out))
    return content


def _require_distinct_labels(models: Sequence[TrainedModel]) -> None:
    labels = [model.label for model in models]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(
                f'{labels.count(label)} models have the label {label!r}. Give each its own; it is '
                'its name in table and figure.'
            )


def _read_bottlenecks(path: Path) -> dict[str, Any]:
    remedy = (
        'Give the file that the validation of an Algorithm 1 run writes: '
        "val_evaluator=dict(type='ciba_bev.BottleneckMetric', out_file='bottlenecks.json')."
    )
    if not path.is_file():
        raise CibaError(f'{path}: there is no such file of bottlenecks. {remedy}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise CibaError(f'{path}: not a JSON file ({error}). {remedy}') from error
    if not isinstance(content, dict) or not (
        content.get('decoded_spectra') and 'metrics' in content
    ):
        raise CibaError(f'{path}: has no spectra of decoded features. {remedy}')
    return content


def _read_config(model: TrainedModel) -> Config:
    cfg = read_config_file(model.config)
    if not cfg.get('model'):
        raise ConfigError(f'{model.config}: has no model.')
    if 'bottleneck_sizes' in cfg.model:
        raise ConfigError(
            f'{model.config}: trains bottlenecks (Algorithm 1), no student. Give configs of '
            'students to --model, and what the validation of this one wrote to --bottlenecks.'
        )
    return cfg


def _is_distiller(model: ConfigDict) -> bool:
    return 'student' in model and 'student_tap' in model


def _tap_of(distillers: Sequence[ConfigDict]) -> dict[str, Any]:
    if not distillers:
        raise ConfigError(
            'none of the configs distils, so that the feature to analyse must be given, as in\n'
            '--tap module=pts_bbox_head source=input layout=tokens grid=[128,128]'
        )
    return dict(distillers[0].student_tap)


def _check_tap(tap: dict[str, Any]) -> FeatureTap:
    try:
        return FeatureTap(**tap)
    except TypeError as error:
        raise ConfigError(
            f'the tap is {tap}; it needs module and may have source, index, layout, grid and '
            f'extent, as in --tap module=neck index=0 ({error}).'
        ) from error


def _build(model: TrainedModel, cfg: Config, tap: dict[str, Any]) -> FrozenModel:
    """Return the model, or the student of a distiller, with its trained weights."""
    plain = cfg.model.student if _is_distiller(cfg.model) else cfg.model
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        frozen = FrozenModel(model.label, plain, model.checkpoint, tap, precision='float32')
    # For messages, also if it is a part of a distiller.
    frozen.config = model.config
    frozen.load(allow_distilled=True)
    return frozen


def _build_loader(cfg: Config) -> DataLoader:
    if not cfg.get('val_dataloader'):
        raise ConfigError(
            f'{cfg.filename}: has no val_dataloader, and the data are those of the first config. '
            'Add it, or give another model first.'
        )
    scope = cfg.get('default_scope', 'mmengine')
    # Without the model: its pretrained weights are not needed.
    data = {'default_scope': scope, 'val_dataloader': cfg.val_dataloader}
    check_config(Config(data, filename=cfg.filename), stages=('val',))
    init_default_scope(scope)
    return Runner.build_dataloader(cfg.val_dataloader, seed=0)


def _accumulate(
    networks: Sequence[FrozenModel],
    loader: DataLoader,
    bottleneck_size: int | None,
    max_samples: int | None,
) -> tuple[list[FeatureCovariance], int]:
    """Run the models on the same samples, which are loaded once."""
    total = len(loader.dataset) if max_samples is None else min(max_samples, len(loader.dataset))
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    for network in networks:
        network.to(device)
    covariances = [FeatureCovariance() for _ in networks]
    samples = 0
    batches = ceil(total / (loader.batch_size or 1))
    for batch in track(islice(loader, batches), 'Measuring features', total=batches):
        wanted = total - samples
        for network, covariance in zip(networks, covariances):
            feature = network.feature(batch, device)[:wanted]
            _require_channels(feature.size(1), bottleneck_size, network)
            covariance.update(feature)
        samples += feature.size(0)
    return covariances, samples


def _require_channels(channels: int, bottleneck_size: int | None, network: FrozenModel) -> None:
    if bottleneck_size is not None and bottleneck_size > channels:
        raise ConfigError(
            f'the bottleneck size is {bottleneck_size}, but the feature of {network.role} at '
            f'{network.tap.module} has {channels} channels. Give a smaller --bottleneck-size.'
        )


def _channel_energy(covariance: FeatureCovariance, size: int | None) -> dict[str, Any] | None:
    if size is None:
        return None
    energy = covariance.channel_energy(size)
    return {'channels': size, 'variance': energy.variance, 'second_moment': energy.second_moment}


def _write(content: dict[str, Any], folder: Path) -> None:
    spectra = {entry['label']: entry['singular_values'] for entry in content['models']}
    save_figure(draw_spectra(spectra), folder / 'spectra')
    generated = content['bottlenecks']
    if generated is not None:
        figure = draw_decoded_spectra(*read_decoded_spectra(generated))
        save_figure(figure, folder / 'decoded_spectra')
    write_file(folder / 'collapse.json', json.dumps(content, indent=1) + '\n')


def make_table(entries: Sequence[dict[str, Any]]) -> Table:
    """Make a table of the measurements for the terminal.

    Args:
        entries: ``models`` of :func:`analyze_collapse`.

    Returns:
        One row for each model: label, effective rank, fraction of the variance in channels [0:H],
        largest divided by median singular value.
    """
    energy = entries[0]['channel_energy']
    channels = '[0:H]' if energy is None else f'[0:{energy["channels"]}]'
    table = Table(box=SIMPLE_HEAD)
    table.add_column('model')
    for name in ('effective rank', f'variance in {channels}', 'largest / median'):
        table.add_column(name, justify='right')
    for entry in entries:
        values, energy = entry['singular_values'], entry['channel_energy']
        median = float(np.median(values))
        table.add_row(
            escape(entry['label']),
            f'{entry["effective_rank"]:.2f} of {len(values)}',
            '-' if energy is None else f'{100 * energy["variance"]:.1f} %',
            f'{values[0] / median:.3g}' if median > 0 else 'infinite',
        )
    return table


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/analyze_collapse.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description='Compare how many dimensions the features of trained models use, and draw '
        "Figures 5 and 6 of the paper. All models read the first config's validation data."
    )
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('LABEL', 'CONFIG', 'CHECKPOINT'),
        help='a model to analyse, with or without distillation; may be repeated',
    )
    parser.add_argument('--out', required=True, help='folder for numbers and figures')
    parser.add_argument(
        '--tap',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='the feature to analyse, as in module=pts_bbox_head source=input layout=tokens '
        'grid=[128,128] (default: the one that the first distillation config distils into)',
    )
    parser.add_argument(
        '--bottleneck-size',
        type=int,
        metavar='H',
        help='leading channels to compare with the rest (default: the code size of the first '
        'config with a bottleneck)',
    )
    parser.add_argument(
        '--bottlenecks',
        metavar='JSON',
        help='out_file of the validation of an Algorithm 1 run; plots the decoded spectra, too',
    )
    parser.add_argument(
        '--max-samples', type=int, metavar='N', help='use the first N samples (default: all)'
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run tools/analyze_collapse.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)

    def run() -> None:
        read_checkpoints_safely()
        content = analyze_collapse(
            [TrainedModel(*words) for words in args.model],
            args.out,
            args.tap,
            args.bottleneck_size,
            args.bottlenecks,
            args.max_samples,
        )
        console = Console(highlight=False)
        samples = content['models'][0]['samples']
        console.print(f'Feature {content["tap"]["module"]} of {samples} samples', markup=False)
        console.print(make_table(content['models']), soft_wrap=not console.is_terminal)
        console.print(f'Numbers and figures: {args.out}', markup=False, soft_wrap=True)

    exit_with_message(run, args.traceback)
