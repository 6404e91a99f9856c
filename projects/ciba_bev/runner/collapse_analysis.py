"""The body of tools/analyze_collapse.py: how many dimensions trained models' features use."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..analysis import FeatureCovariance, draw_decoded_spectra, draw_spectra, save_figure
from ..distillation.taps import FeatureTap
from ..errors import CibaError
from ..registry import MODELS
from .checkpoint_files import load_from_file, read_checkpoints_safely
from .checkpoint_matching import load_weights, require_complete, weights_of
from .error_reports import exit_with_message

_DISTILLER = ('Distiller', 'ciba_bev.Distiller')


@dataclass
class AnalysedModel:
    """A trained model to look at.

    Attributes:
        label: Its name in table and figure.
        config: Its config file; of a distillation's config only the student is used.
        checkpoint: Its weights.
    """

    label: str
    config: str
    checkpoint: str


def analyse_collapse(
    models: Sequence[AnalysedModel],
    out: str | os.PathLike,
    tap: dict[str, Any] | None = None,
    bottleneck_size: int | None = None,
    bottlenecks: str | None = None,
    max_samples: int | None = None,
) -> dict[str, Any]:
    """Measure the spectra of models' features on validation data and draw them.

    Args:
        models: The models; all see the validation data of the first one's config.
        out: Folder for ``collapse.json`` and the figures.
        tap: Which feature, arguments of :class:`FeatureTap`; None for that of the first config
            that distils.
        bottleneck_size: Leading channels to compare with the rest; None for that of the first
            config with a bottleneck, if there is one.
        bottlenecks: What :class:`BottleneckMetric` wrote in an Algorithm 1 run, to draw Fig. 5(b).
        max_samples: Validation samples to use; None for all.

    Returns:
        What is in ``collapse.json``.

    Raises:
        CibaError: A config, checkpoint or file is at fault, or it is not clear what to look at.
    """
    labels = [model.label for model in models]
    if len(set(labels)) != len(labels):
        raise CibaError(f'two models have the same label: {", ".join(labels)}.')
    configs = [_read_config(model.config) for model in models]
    distillers = [cfg.model for cfg in configs if cfg.model.type in _DISTILLER]
    if tap is None:
        if not distillers:
            raise CibaError(
                'none of the configs distils, so it is not known which feature to look at. Give '
                '--tap, as in --tap module=pts_bbox_head source=input layout=tokens grid=[128,128].'
            )
        tap = dict(distillers[0].student_tap)
    if bottleneck_size is None:
        sizes = [cfg.bottleneck['size'] for cfg in distillers if cfg.get('bottleneck')]
        bottleneck_size = sizes[0] if sizes else None
    generated = None if bottlenecks is None else _read_bottlenecks(bottlenecks)
    if not configs[0].get('val_dataloader'):
        raise CibaError(f'{models[0].config}: has no val_dataloader; there are no data to look at.')
    init_default_scope(configs[0].get('default_scope', 'mmengine'))
    loader = Runner.build_dataloader(configs[0].val_dataloader)
    entries = [
        _measure(model, cfg, FeatureTap(**tap), loader, bottleneck_size, max_samples)
        for model, cfg in zip(models, configs)
    ]
    content = {'models': entries, 'tap': FeatureTap(**tap).describe(), 'bottlenecks': generated}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(
        draw_spectra({e['label']: e['singular_values'] for e in entries}), folder / 'spectra'
    )
    if generated is not None:
        spectra = {int(name[1:]): v for name, v in generated['decoded_spectra'].items()}
        proposed = generated['metrics'].get('suggested_size')
        figure = draw_decoded_spectra(spectra, None if proposed is None else int(proposed))
        save_figure(figure, folder / 'decoded_spectra')
    partial = folder / '.collapse.json.partial'
    partial.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    os.replace(partial, folder / 'collapse.json')
    return content


def _read_config(path: str) -> Config:
    if not Path(path).is_file():
        raise CibaError(f'{path}: there is no such config file.')
    return Config.fromfile(path)


def _read_bottlenecks(path: str) -> dict[str, Any]:
    file = Path(path)
    content = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}
    if not content.get('decoded_spectra'):
        raise CibaError(
            f'{path}: no spectra of bottlenecks there. The validation of an Algorithm 1 run writes '
            "them with val_evaluator=dict(type='ciba_bev.BottleneckMetric', out_file=...)."
        )
    return content


def _measure(
    model: AnalysedModel,
    cfg: Config,
    tap: FeatureTap,
    loader: Any,
    bottleneck_size: int | None,
    max_samples: int | None,
) -> dict[str, Any]:
    student = cfg.model.student if cfg.model.type in _DISTILLER else cfg.model
    with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        network = registry.build(student)
    weights = weights_of(load_from_file(model.checkpoint))
    require_complete(load_weights(network, weights), model.checkpoint, model.config)
    network.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
    covariance, samples = FeatureCovariance(), 0
    for batch in track(loader, description=model.label):
        data = network.data_preprocessor(batch, False)
        with torch.no_grad(), tap.attach(network, stop=True) as reader:
            network(**data, mode='predict')
        covariance.update(reader.feature)
        samples += len(reader.feature)
        if max_samples is not None and samples >= max_samples:
            break
    entry = {
        'label': model.label,
        'config': model.config,
        'checkpoint': model.checkpoint,
        'samples': samples,
        'singular_values': covariance.singular_values().tolist(),
        'effective_rank': covariance.effective_rank(),
        'channel_energy': None,
    }
    if bottleneck_size is not None:
        energy = covariance.channel_energy(bottleneck_size)
        entry['channel_energy'] = {
            'channels': bottleneck_size,
            'variance': energy.variance,
            'second_moment': energy.second_moment,
        }
    return entry


def print_table(entries: Sequence[dict[str, Any]], console: Console) -> None:
    """Show what was measured.

    Args:
        entries: ``models`` of ``collapse.json``.
        console: Where.
    """
    table = Table()
    for name in ('model', 'effective rank', 'variance in code channels', 'largest / median'):
        table.add_column(name, justify='left' if name == 'model' else 'right')
    for entry in entries:
        values, energy = entry['singular_values'], entry['channel_energy']
        median = values[len(values) // 2]
        share = '' if energy is None else f'{energy["variance"]:.3f} in [0:{energy["channels"]}]'
        ratio = f'{values[0] / median:.3g}' if median > 0 else 'infinite'
        table.add_row(entry['label'], f'{entry["effective_rank"]:.2f}', share, ratio)
    console.print(table, soft_wrap=not console.is_terminal)


def main(arguments: list[str] | None = None) -> None:
    """Run tools/analyze_collapse.py.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    parser = argparse.ArgumentParser(
        description='Compare how many dimensions the features of trained models use '
        '(Fig. 5 and 6 of the paper).'
    )
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        required=True,
        metavar=('LABEL', 'CONFIG', 'CHECKPOINT'),
        help='a model to look at; repeat for more',
    )
    parser.add_argument('--out', required=True, help='folder for numbers and figures')
    parser.add_argument(
        '--tap',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='the feature to look at (default: the one that the first distilling config distils '
        'into)',
    )
    parser.add_argument('--bottleneck-size', type=int, help='leading channels to compare')
    parser.add_argument('--bottlenecks', help='JSON file of an Algorithm 1 run, for Fig. 5(b)')
    parser.add_argument('--max-samples', type=int, help='use this many validation samples')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    args = parser.parse_args(arguments)

    def run() -> None:
        read_checkpoints_safely()
        content = analyse_collapse(
            [AnalysedModel(*words) for words in args.model],
            args.out,
            args.tap,
            args.bottleneck_size,
            args.bottlenecks,
            args.max_samples,
        )
        print_table(content['models'], Console(highlight=False))
        print(f'Numbers and figures are in {args.out}')

    exit_with_message(run, args.traceback)
