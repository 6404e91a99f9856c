"""What tools/reproduce.py makes: for each table and figure its trainings, and what is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Sequence, Tuple

from rich.console import Console

from ..analysis import draw_decoded_spectra, draw_spectra, read_decoded_spectra, save_figure
from ..engine.step_runner import Step
from ..errors import CibaError
from ..quickstart.steps import find_metric
from .classification_figures import (
    draw_boxes,
    draw_feature_map,
    draw_size_sweep,
    draw_spectra_above_sweeps,
    read_features,
)
from .complexity import measure_complexity
from .detection_choices import (
    CELL_MEANS,
    LOSS_REDUCTIONS,
    REDUCTION_VISIBILITY,
    plan_choices,
    tabulate_cell_means,
    tabulate_reductions,
)
from .detection_gap import (
    describe,
    draw_detection_gap,
    measure_detection_gap,
    plan_detection_gap,
    tabulate_detection_gap,
    tabulate_predictors,
)
from .modality_gap import draw_gap, measure_gap, plan_gap, tabulate_gap
from .paper_tables import TABLES
from .plan import Plan, Run, read_json
from .synthetic_figures import (
    draw_figure_3,
    draw_six_panels,
    read_synthetic_results,
    tabulate_synthetic_results,
)
from .tables import count_seeds, read_scores, tabulate_scores, write_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEMO_NOTE = 'Synthetic data and short trainings: not comparable to the paper.'
# Training samples whose features Fig. 1 shows.
FEATURE_MAP_SAMPLES = 1000


@dataclass
class Reproduction:
    """The settings of one command, which all targets share.

    Attributes:
        plan: Gets the trainings that the targets need.
        out: Folder for tables and figures.
        seeds: Seeds of every row.
        demo: Whether the data are synthetic and the trainings short.
        console: Where results are shown.
    """

    plan: Plan
    out: Path
    seeds: Sequence[int]
    demo: bool
    console: Console

    def show_table(
        self, title: str, header: Sequence[str], body: Sequence[Sequence[str]], name: str
    ) -> None:
        """Write a table to the folder, and print it."""
        self.console.print(write_cells(title, header, body, self.out / name))

    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a figure to the folder, and print its files."""
        png, svg = save_figure(figure, self.out / name)
        self.console.print(f'{png} and {svg.name}', markup=False, soft_wrap=True)

    def title(self, text: str) -> str:
        """Return a title with the number of seeds and, for a demo, a note on the data."""
        note = f' {DEMO_NOTE}' if self.demo else ''
        return f'{text}; {count_seeds(self.seeds)}.{note}'


# A target plans its trainings, and returns the function that writes its files after them.
Writer = Callable[[], None]
# Scores over seeds: of CIBA by bottleneck size, and of MSE.
Sweep = Tuple[Dict[int, List[float]], List[float]]


def _table(job: Reproduction, name: str) -> Writer:
    table = TABLES[name]
    for row in table.rows:
        for seed in job.seeds:
            job.plan.add(Run(row.config, seed, row.size))

    def write() -> None:
        scores = read_scores(table, job.plan, job.seeds)
        job.show_table(job.title(table.title), *tabulate_scores(table, scores), name)

    return write


def _table_2(job: Reproduction) -> Writer:
    if job.demo:
        raise CibaError('table2 is measured on nuScenes only: leave out --demo.')
    table = TABLES['table2']
    files = {}
    for row in table.rows:
        # A distilled student is scored as the plain student that it is.
        plain = 'bevformer_r50' if '->' in row.modality else row.config
        files[row] = job.plan.add_score(Run(row.config, 0), plain)

    def write() -> None:
        body = [
            [
                row.method,
                row.modality,
                f'{100 * find_metric(read_json(file), "NDS"):.1f}',
                f'{row.paper[0].mean:.1f}',
            ]
            for row, file in files.items()
        ]
        header = ['Method', 'Modality', 'NDS (%)', 'NDS (%, paper)']
        job.show_table(table.title, header, body, 'table2')

    return write


_SYNTHETIC = {
    'fig3': ('synthetic_mse', draw_figure_3),
    'fig8': ('synthetic_mse', partial(draw_six_panels, with_limit=True)),
    'fig9': ('synthetic_cross_entropy', draw_six_panels),
    'fig10': ('synthetic_not_orthogonal_mse', draw_six_panels),
}


def _synthetic_figure(job: Reproduction, name: str) -> Writer:
    config, draw = _SYNTHETIC[name]
    folder = _add_synthetic(job.plan, config)

    def write() -> None:
        results = read_synthetic_results(folder)
        job.save_figure(name, draw(results))
        title = f'{name}: {config}, means over {results.accuracy.shape[-1]} repeats'
        job.show_table(title, *tabulate_synthetic_results(results), name)

    return write


def _add_synthetic(plan: Plan, config: str) -> Path:
    """Plan a synthetic experiment and its teachers; return the folder it writes to."""
    cfg = plan.read(config)
    folder = plan.work_dir / config
    outputs = [folder / f'iter_{cfg.train_cfg.max_iters}.pth']
    command = ['tools/train.py', f'configs/{config}.py', '--work-dir', str(folder)]
    after = []
    if 'teacher_config' in cfg.model:
        teachers = Path(cfg.model.teacher_config).stem
        checkpoint = _add_synthetic(plan, teachers) / f'iter_{cfg.train_cfg.max_iters}.pth'
        outputs.append(folder / 'synthetic.json')
        after.append(teachers)
        command += [
            '--cfg-options',
            f'model.teacher_checkpoint={checkpoint}',
            f'val_evaluator.out_file={outputs[-1]}',
        ]
    plan.add_step(
        Step(
            config,
            f'Train {config}',
            command,
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
        job.save_figure('fig1', draw_feature_map(features))

    return write


def _spectra(job: Reproduction, name: str, baseline: str, mse: str, ciba: Run) -> Path:
    """Plan the spectra of students without distillation, with MSE and CIBA; return their file."""
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


def _draw_collapse(file: Path) -> Figure:
    models = read_json(file)['models']
    return draw_spectra({model['label']: model['singular_values'] for model in models})


def _sweep(job: Reproduction, mse: str, ciba: str) -> Callable[[str], Sweep]:
    """Plan CIBA at all trained bottleneck sizes, and MSE; return a reader of a test metric."""
    bottleneck = Path(job.plan.read(ciba).model.bottleneck.config).stem
    sizes = job.plan.setting(bottleneck, 'model.bottleneck_sizes')
    for seed in job.seeds:
        job.plan.add(Run(mse, seed))
        for size in sizes:
            job.plan.add(Run(ciba, seed, size))

    def read(metric: str) -> Sweep:
        def scores(config: str, size: int | None = None) -> list[float]:
            return [job.plan.score(Run(config, seed, size), 'test', metric) for seed in job.seeds]

        return {size: scores(ciba, size) for size in sizes}, scores(mse)

    return read


def _read_decoded(plan: Plan, run: Run) -> tuple[dict[int, list[float]], int | None]:
    return read_decoded_spectra(read_json(plan.folder(run) / 'bottlenecks.json'))


def _figure_5(job: Reproduction) -> Writer:
    mse, ciba = 'ravdess_mse_audio_to_image', 'ravdess_ciba_mse_audio_to_image'
    spectra = _spectra(job, 'fig5', 'ravdess_image', mse, Run(ciba, job.seeds[0], 8))
    bottlenecks = job.plan.add(Run('ravdess_bottleneck_audio_to_image', job.seeds[0]))
    sweep = _sweep(job, mse, ciba)

    def write() -> None:
        job.save_figure('fig5a', _draw_collapse(spectra))
        job.save_figure('fig5b', draw_decoded_spectra(*_read_decoded(job.plan, bottlenecks)))
        scores, baseline = sweep('accuracy/top1')
        title = 'RAVDESS, audio to image'
        figure = draw_size_sweep({title: scores}, {title: baseline}, 'Accuracy (%)')
        job.save_figure('fig5c', figure)

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
            job.save_figure(f'fig6{part}', _draw_collapse(file))

    return write


def _figure_7(job: Reproduction) -> Writer:
    _table(job, 'table1a')
    _table(job, 'table1b')

    def write() -> None:
        groups: dict[str, dict[str, Sequence[float]]] = {}
        for name in ('table1a', 'table1b'):
            table = TABLES[name]
            for row, columns in read_scores(table, job.plan, job.seeds).items():
                data = 'RAVDESS' if name == 'table1a' else f'MM-IMDB, {row.modality}'
                for column, scores in zip(table.columns, columns):
                    if '->' in row.modality:
                        groups.setdefault(f'{data}, {column}', {})[row.method] = scores
        job.save_figure('fig7', draw_boxes(groups))

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
        job.save_figure('fig11', draw_size_sweep(scores, baselines, 'F1 (%)'))

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
        figure = draw_spectra_above_sweeps(decoded, scores, baselines, 'Accuracy (%)')
        job.save_figure('fig12', figure)

    return write


def _gap(job: Reproduction) -> Writer:
    if not job.demo:
        raise CibaError(
            'gap needs synthetic data, whose shared information can be set: add --demo.'
        )
    plans = plan_gap(job.plan, job.seeds)

    def write() -> None:
        measured = measure_gap(plans, job.seeds)
        title = job.title('Modality gap on synthetic data sets, test data')
        job.show_table(title, *tabulate_gap(measured), 'gap')
        job.save_figure('gap', draw_gap(measured))

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
            job.show_table(title, header, body, name)
        job.save_figure('detection_gap', draw_detection_gap(measured))

    return write


def _detection_choices(job: Reproduction, name: str) -> Writer:
    if not job.demo:
        raise CibaError(f'{name} needs a world whose fog can be chosen: add --demo.')
    title, choices, tabulate = _CHOICES[name]
    plans = plan_choices(job.plan, job.seeds, choices)

    def write() -> None:
        full_title = f'{title}; {count_seeds(job.seeds)}'
        job.show_table(full_title, *tabulate(plans, job.seeds), name)

    return write


_CHOICES = {
    'cell_means': (
        'Bottlenecks with and without the mean of each cell, cameras in fog',
        CELL_MEANS,
        tabulate_cell_means,
    ),
    'reductions': (
        f"Reductions of Algorithm 2's loss, cameras in {describe(REDUCTION_VISIBILITY)}",
        LOSS_REDUCTIONS,
        tabulate_reductions,
    ),
}


def _complexity(job: Reproduction) -> Writer:
    def write() -> None:
        title = 'Complexity (Appendix E.4): one sample, one CPU thread'
        job.show_table(title, *measure_complexity(job.plan), 'complexity')

    return write


TARGETS: dict[str, Callable[[Reproduction], Writer]] = {
    **{name: partial(_table, name=name) for name in TABLES},
    'table2': _table_2,
    **{name: partial(_synthetic_figure, name=name) for name in _SYNTHETIC},
    'fig1': _figure_1,
    'fig5': _figure_5,
    'fig6': _figure_6,
    'fig7': _figure_7,
    'fig11': _figure_11,
    'fig12': _figure_12,
    'gap': _gap,
    'detection_gap': _detection_gap,
    **{name: partial(_detection_choices, name=name) for name in _CHOICES},
    'complexity': _complexity,
}
