"""The body of tools/reproduce.py: the paper's tables and figures, from whatever is missing on."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table

from ..analysis import draw_decoded_spectra, draw_spectra, save_figure
from ..checkpoints.files import read_checkpoints_safely
from ..engine.step_runner import Step, StepRunner, format_minutes
from ..errors import CibaError, exit_with_message
from ..quickstart.steps import reproducible_environment, summarise_progress
from .classification_figures import (
    draw_boxes,
    draw_feature_map,
    draw_size_sweep,
    draw_spectra_above_sweeps,
    existing,
    read_features,
)
from .complexity import measure_complexity
from .data_sets import (
    DATA_SETS,
    demo_options,
    find_missing_data,
    make_demo_root,
    require_data,
)
from .detection_gap import (
    draw_detection_gap,
    measure_detection_gap,
    plan_detection_gap,
    tabulate_detection_gap,
    tabulate_predictors,
)
from .modality_gap import draw_gap, measure_gap, plan_gap, tabulate_gap
from .paper_tables import TABLE_2, TABLES
from .plan import SCORES, Plan, Run
from .synthetic_figures import (
    describe_synthetic_results,
    draw_figure_3,
    draw_six_panels,
    read_synthetic_results,
)
from .tables import count_seeds, read_table, write_cells, write_table

STAND_IN_NOTE = 'Stand-in data made by the project, short trainings: not comparable to the paper.'
# A file has room for the widest table.
_COLUMNS = 240
# Features of so many training samples place the points of Fig. 1.
FEATURE_MAP_SAMPLES = 1000


@dataclass
class Reproduction:
    """What is to be made, and where.

    Attributes:
        plan: The runs.
        out: Folder for tables and figures.
        seeds: Of every row.
        demo: Whether the data are stand-ins.
        console: Where results are shown.
    """

    plan: Plan
    out: Path
    seeds: Sequence[int]
    demo: bool
    console: Console

    @property
    def note(self) -> str:
        """What every result has to say about its data."""
        return STAND_IN_NOTE if self.demo else ''


# Plans what a target takes and returns how it is written once that is done.
Writer = Callable[[], None]


def _table(job: Reproduction, name: str) -> Writer:
    table = TABLES[name]
    for row in table.rows:
        for seed in job.seeds:
            job.plan.add(Run(row.config, seed, row.size))

    def write() -> None:
        rows = read_table(table, job.plan, job.seeds)
        shown = write_table(table, rows, job.out / name, job.note)
        job.console.print(shown, soft_wrap=not job.console.is_terminal)

    return write


def _table_2(job: Reproduction) -> Writer:
    files = {}
    for _, config, plain, _ in TABLE_2:
        files[config] = job.plan.add_score(Run(config, 0), plain)

    def write() -> None:
        body = []
        for title, config, _, paper in TABLE_2:
            metrics = json.loads(existing(files[config]).read_text(encoding='utf-8'))
            (score,) = (value for key, value in metrics.items() if key.endswith('/NDS'))
            body.append([title, f'{100 * score:.1f}', f'{paper:.1f}'])
        header = ['Method', 'NDS (%)', 'NDS (%, paper)']
        title = 'Table 2: nuScenes, validation'
        job.console.print(write_cells(title, header, body, job.out / 'table2'))

    return write


_SYNTHETIC = {
    'fig3': ('synthetic_mse', draw_figure_3),
    'fig8': ('synthetic_mse', lambda results: draw_six_panels(results, with_limit=True)),
    'fig9': ('synthetic_cross_entropy', lambda results: draw_six_panels(results, False)),
    'fig10': ('synthetic_not_orthogonal_mse', lambda results: draw_six_panels(results, False)),
}


def _synthetic_figure(job: Reproduction, name: str) -> Writer:
    config, draw = _SYNTHETIC[name]
    folder = _add_synthetic(job.plan, config)

    def write() -> None:
        results = read_synthetic_results(folder)
        _save(job, name, draw(results))
        rows = describe_synthetic_results(results)
        header = [key.replace('_', ' ') for key in rows[0]]
        body = [
            [f'{value:g}' if value == int(value) else f'{value:.3f}' for value in row.values()]
            for row in rows
        ]
        title = f'{name}: {config}, means over {results.accuracy.shape[-1]} repeats'
        job.console.print(write_cells(title, header, body, job.out / name))

    return write


def _add_synthetic(plan: Plan, config: str) -> Path:
    """Plan a synthetic experiment and its teachers; the folder it writes to."""
    cfg = plan.read(config)
    after, options = [], []
    folder = plan.work_dir / config
    if 'teacher_config' in cfg.model:
        teachers = Path(cfg.model.teacher_config).stem
        checkpoint = _add_synthetic(plan, teachers) / f'iter_{cfg.train_cfg.max_iters}.pth'
        after.append(teachers)
        options = [
            f'model.teacher_checkpoint={checkpoint}',
            f'val_evaluator.out_file={folder / "synthetic.json"}',
        ]
    outputs = [folder / f'iter_{cfg.train_cfg.max_iters}.pth']
    if options:
        outputs.append(folder / 'synthetic.json')
    command = ['tools/train.py', f'configs/{config}.py', '--work-dir', str(folder)]
    plan.add_step(
        Step(
            config,
            f'Train {config}',
            [*command, *(['--cfg-options', *options] if options else [])],
            outputs,
            after=after,
            config=f'configs/{config}.py',
            folder=folder,
        )
    )
    return folder


def _figure_1(job: Reproduction) -> Writer:
    seed = job.seeds[0]
    runs = {
        'teacher (audio)': Run('ravdess_audio', seed),
        'image, no distillation': Run('ravdess_image', seed),
        'image, MSE': Run('ravdess_mse_audio_to_image', seed),
        'image, CIBA (8)': Run('ravdess_ciba_mse_audio_to_image', seed, 8),
    }
    for run in runs.values():
        job.plan.add(run)
    distiller = job.plan.read('ravdess_mse_audio_to_image').model

    def write() -> None:
        features = {
            title: read_features(
                job.plan,
                run,
                distiller.teacher.tap if index == 0 else distiller.student_tap,
                FEATURE_MAP_SAMPLES,
            )
            for index, (title, run) in enumerate(runs.items())
        }
        _save(job, 'fig1', draw_feature_map(features))

    return write


def _spectra(job: Reproduction, name: str, baseline: str, mse: str, ciba: Run) -> Path:
    """Plan the spectra of a student without distillation, with MSE and with CIBA; the JSON file."""
    seed = ciba.seed
    folder = job.out / f'{name}_spectra'
    command, after = ['tools/analyze_collapse.py', '--out', str(folder)], []
    for label, run in (
        ('MSE', Run(mse, seed)),
        (f'CIBA ({ciba.size})', ciba),
        ('without distillation', Run(baseline, seed)),
    ):
        job.plan.add(run)
        after.append(run.name)
        config, checkpoint = job.plan.trained_config(run), job.plan.checkpoint(run)
        command += ['--model', label, str(config), str(checkpoint)]
    output = folder / 'collapse.json'
    job.plan.add_step(Step(f'{name}_spectra', f'Spectra for {name}', command, [output], after))
    return output


def _draw_collapse(file: Path) -> object:
    content = json.loads(existing(file).read_text(encoding='utf-8'))
    return draw_spectra({m['label']: m['singular_values'] for m in content['models']})


def _sweep(job: Reproduction, mse: str, ciba: str) -> Callable[[str], tuple[dict, list[float]]]:
    """Plan CIBA at every size the bottlenecks were trained for, and MSE; reads a metric of both."""
    bottleneck = Path(job.plan.read(ciba).model.bottleneck.config).stem
    sizes = _sizes(job.plan, bottleneck)
    for seed in job.seeds:
        job.plan.add(Run(mse, seed))
        for size in sizes:
            job.plan.add(Run(ciba, seed, size))

    def read(metric: str) -> tuple[dict, list[float]]:
        def score(run: Run) -> float:
            file = existing(job.plan.folder(run) / SCORES)
            return json.loads(file.read_text(encoding='utf-8'))['test'][metric]

        by_size = {size: [score(Run(ciba, seed, size)) for seed in job.seeds] for size in sizes}
        return by_size, [score(Run(mse, seed)) for seed in job.seeds]

    return read


def _sizes(plan: Plan, bottleneck: str) -> list[int]:
    for option in plan.options_of(bottleneck):
        if option.startswith('model.bottleneck_sizes='):
            return json.loads(option.split('=', 1)[1])
    return list(plan.read(bottleneck).model.bottleneck_sizes)


def _decoded(job: Reproduction, name: str, bottleneck: str) -> Writer:
    run = job.plan.add(Run(bottleneck, job.seeds[0]))

    def write() -> None:
        _save(job, name, draw_decoded_spectra(*_read_decoded(job.plan, run)))

    return write


def _read_decoded(plan: Plan, run: Run) -> tuple[dict[int, list[float]], int | None]:
    """The spectra of what bottlenecks decode, by size, and the size that they propose."""
    file = existing(plan.folder(run) / 'bottlenecks.json')
    content = json.loads(file.read_text(encoding='utf-8'))
    spectra = {int(key[1:]): value for key, value in content['decoded_spectra'].items()}
    proposed = content['metrics'].get('suggested_size')
    return spectra, None if proposed is None else int(proposed)


def _figure_5(job: Reproduction) -> Writer:
    mse, ciba = 'ravdess_mse_audio_to_image', 'ravdess_ciba_mse_audio_to_image'
    spectra = _spectra(job, 'fig5', 'ravdess_image', mse, Run(ciba, job.seeds[0], 8))
    decoded = _decoded(job, 'fig5b', 'ravdess_bottleneck_audio_to_image')
    sweep = _sweep(job, mse, ciba)

    def write() -> None:
        _save(job, 'fig5a', _draw_collapse(spectra))
        decoded()
        scores, baseline = sweep('accuracy/top1')
        title = 'RAVDESS, audio to image'
        _save(job, 'fig5c', draw_size_sweep({title: scores}, {title: baseline}, 'Accuracy (%)'))

    return write


def _figure_6(job: Reproduction) -> Writer:
    files = {
        part: _spectra(
            job,
            f'fig6{part}',
            'mm_imdb_text',
            f'mm_imdb_mse_{teacher}_to_text',
            Run(f'mm_imdb_ciba_dvib_{teacher}_to_text', job.seeds[0], size),
        )
        for part, teacher, size in (('a', 'fusion', 32), ('b', 'image', 16))
    }

    def write() -> None:
        for part, file in files.items():
            _save(job, f'fig6{part}', _draw_collapse(file))

    return write


def _figure_7(job: Reproduction) -> Writer:
    _table(job, 'table1a')
    _table(job, 'table1b')

    def write() -> None:
        groups: dict[str, dict[str, Sequence[float]]] = {}
        for name in ('table1a', 'table1b'):
            table = TABLES[name]
            for row, scores in read_table(table, job.plan, job.seeds):
                for (column, _, _), score in zip(table.columns, scores):
                    data = 'RAVDESS' if name == 'table1a' else f'MM-IMDB, {row.modality}'
                    if '->' in row.modality:
                        groups.setdefault(f'{data}, {column}', {})[row.method] = score.values
        _save(job, 'fig7', draw_boxes(groups))

    return write


def _figure_11(job: Reproduction) -> Writer:
    sweeps = {
        title: _sweep(job, f'mm_imdb_mse_{teacher}_to_text', f'mm_imdb_ciba_dvib_{teacher}_to_text')
        for title, teacher in (('fusion to text', 'fusion'), ('image to text', 'image'))
    }

    def write() -> None:
        scores, baselines = {}, {}
        for title, sweep in sweeps.items():
            for metric in ('micro', 'macro'):
                panel = f'{title}, F1-{metric}'
                scores[panel], baselines[panel] = sweep(f'f1/{metric}')
        _save(job, 'fig11', draw_size_sweep(scores, baselines, 'F1 (%)'))

    return write


def _figure_12(job: Reproduction) -> Writer:
    pairs = {
        'V18 to A18': 'video_r18_to_audio_r18',
        'V50 to A18': 'video_r50_to_audio_r18',
        'A18 to V18': 'audio_r18_to_video_r18',
        'A50 to V18': 'audio_r50_to_video_r18',
    }
    sweeps = {
        title: _sweep(job, f'vgg_sound_mse_{pair}', f'vgg_sound_ciba_{pair}')
        for title, pair in pairs.items()
    }

    def write() -> None:
        decoded, scores, baselines = {}, {}, {}
        for title, pair in pairs.items():
            run = Run(f'vgg_sound_bottleneck_{pair}', job.seeds[0])
            decoded[title] = _read_decoded(job.plan, run)[0]
            scores[title], baselines[title] = sweeps[title]('accuracy/top1')
        _save(job, 'fig12', draw_spectra_above_sweeps(decoded, scores, baselines, 'Accuracy (%)'))

    return write


def _gap(job: Reproduction) -> Writer:
    if not job.demo:
        raise CibaError(
            'gap needs stand-in data, which share as much as they are told to: add --demo.'
        )
    plans = plan_gap(job.plan, job.seeds)

    def write() -> None:
        measured = measure_gap(plans, job.seeds)
        title = f'Modality gap on stand-ins, test data; {count_seeds(job.seeds)}. {job.note}'
        shown = write_cells(title, *tabulate_gap(measured), job.out / 'gap')
        job.console.print(shown, soft_wrap=not job.console.is_terminal)
        _save(job, 'gap', draw_gap(measured))

    return write


def _detection_gap(job: Reproduction) -> Writer:
    if not job.demo:
        raise CibaError('detection_gap needs a world whose fog can be chosen: add --demo.')
    plans = plan_detection_gap(job.plan, job.seeds)

    def write() -> None:
        measured = measure_detection_gap(plans, job.seeds)
        title = f'Cameras in fog, simulated validation scenes; {count_seeds(job.seeds)}'
        for name, (header, body) in (
            ('detection_gap', tabulate_detection_gap(measured)),
            ('detection_gap_predictors', tabulate_predictors(plans, measured)),
        ):
            shown = write_cells(title, header, body, job.out / name)
            job.console.print(shown, soft_wrap=not job.console.is_terminal)
        _save(job, 'detection_gap', draw_detection_gap(measured))

    return write


def _complexity(job: Reproduction) -> Writer:
    def write() -> None:
        header, body = measure_complexity(job.plan)
        title = 'Complexity (Appendix E.4): one sample, one CPU thread'
        job.console.print(write_cells(title, header, body, job.out / 'complexity'))

    return write


def _save(job: Reproduction, name: str, figure: object) -> None:
    png, svg = save_figure(figure, job.out / name)
    job.console.print(f'{png} and {svg.name}', markup=False, soft_wrap=True)


TARGETS: dict[str, Callable[[Reproduction], Writer]] = {
    **{name: (lambda job, name=name: _table(job, name)) for name in TABLES},
    'table2': _table_2,
    **{name: (lambda job, name=name: _synthetic_figure(job, name)) for name in _SYNTHETIC},
    'fig1': _figure_1,
    'fig5': _figure_5,
    'fig6': _figure_6,
    'fig7': _figure_7,
    'fig11': _figure_11,
    'fig12': _figure_12,
    'gap': _gap,
    'detection_gap': _detection_gap,
    'complexity': _complexity,
}


def reproduce(
    root: Path,
    targets: Sequence[str],
    seeds: Sequence[int],
    demo: bool = False,
    dry_run: bool = False,
) -> None:
    """Make tables and figures, with all the trainings that they take and that are missing.

    Args:
        root: The project's folder.
        targets: Names of :data:`TARGETS`.
        seeds: Of every row.
        demo: Take stand-in data and short trainings.
        dry_run: Only list what would be run, and which data are missing for it.

    Raises:
        CibaError: Data are missing, or a step failed.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        # Into a file or a pipe: tables are not squeezed.
        console.width = _COLUMNS
    work_dir = root / 'work_dirs' / ('reproduce_demo' if demo else 'reproduce')
    processes = max(1, torch.cuda.device_count()) if 'table2' in targets else 1
    base = make_demo_root(root, work_dir) if demo else root
    options = demo_options() if demo else {}
    plan = Plan(base, work_dir, options, processes)
    if demo:
        plan.first_steps = {
            name: data.stand_in_step(base) for name, data in DATA_SETS.items() if data.has_stand_in
        }
    job = Reproduction(plan, work_dir / 'results', seeds, demo, console)
    writers = [TARGETS[target](job) for target in targets]
    workers = 1 if processes > 1 else torch.cuda.device_count() or len(os.sched_getaffinity(0))
    environment = {} if torch.cuda.is_available() else reproducible_environment()
    runner = StepRunner(
        plan.steps, base, work_dir, console, environment, summarise_progress, workers
    )
    waiting = [step.config for step in plan.steps if not runner.is_complete(step)]
    if dry_run:
        console.print(_list_steps(runner))
        for message in [] if demo else find_missing_data(base, waiting):
            console.print(f'Missing data: {message}', markup=False, soft_wrap=True)
        return
    if not demo:
        require_data(base, waiting)
    runner.run()
    for write in writers:
        write()


def _list_steps(runner: StepRunner) -> Table:
    """What is missing, and how long it will take where something like it has been run before."""
    table = Table(title='What would be run', title_justify='left')
    table.add_column('step')
    table.add_column('minutes', justify='right')
    waiting = [step for step in runner.steps if not runner.is_complete(step)]
    for step in waiting:
        minutes = runner.expected_minutes(step)
        table.add_row(step.name, '?' if minutes is None else f'{minutes:.1f}')
    minutes, unknown = runner.estimate_minutes_left(waiting)
    share = f' and {unknown} steps never run before' if unknown else ''
    table.caption = f'{format_minutes(minutes)} at {runner.workers} steps at once{share}'
    return table


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line of tools/reproduce.py.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description="Make the paper's tables and figures: run the trainings that are missing, and "
        'write our numbers beside the printed ones. Stop and start it as you like.'
    )
    parser.add_argument(
        'targets', nargs='+', choices=sorted(TARGETS), metavar='TARGET', help=', '.join(TARGETS)
    )
    parser.add_argument('--seeds', type=int, metavar='N', help='seeds a row (default: 5; demo: 3)')
    parser.add_argument(
        '--demo', action='store_true', help='on stand-in data that the project makes, in short'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='list what would be run, and missing data'
    )
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    args = parser.parse_args(arguments)
    if args.seeds is not None and args.seeds < 1:
        parser.error('--seeds must be at least 1')
    return args


def main(root: Path, arguments: list[str] | None = None) -> None:
    """Run tools/reproduce.py.

    Args:
        root: The project's folder.
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    os.environ.setdefault('LOCAL_RANK', '0')
    seeds = range(args.seeds or (3 if args.demo else 5))

    def run() -> None:
        read_checkpoints_safely()
        targets = list(dict.fromkeys(args.targets))
        reproduce(root, targets, seeds, args.demo, args.dry_run)

    try:
        exit_with_message(run, args.traceback)
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to go on from here.', file=sys.stderr)
        sys.exit(130)
