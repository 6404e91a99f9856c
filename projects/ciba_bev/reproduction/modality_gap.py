"""Whether distillation collapses a student when the modalities share little: Claim 1 on stand-ins.

The stand-ins for RAVDESS and MM-IMDB are made with several shares of common information. On each,
a student is trained without distillation, by MSE on the whole feature, and by CIBA, and its feature
is measured: how many directions it uses, and how well it classifies. Real data have no such dial.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, Sequence

import numpy as np

from ..analysis import effective_rank
from ..engine.step_runner import Step
from .classification_figures import clean_axes, existing, read_features
from .plan import SCORES, Plan, Run
from .tables import compare_scores, format_p_value, format_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the information that both modalities have.
SHARES = (0.25, 0.5, 0.75, 1.0)
TEACHER, BASELINE, MSE = 'teacher', 'without distillation', 'MSE'
_STAGES = ('train', 'val', 'test')


@dataclass(frozen=True)
class GapExperiment:
    """One stand-in and the trainings on it.

    Attributes:
        title: What is distilled into what.
        data_set: Prefix of the configs and of the plan's overrides.
        teacher: Config of the teacher.
        baseline: Config of the student without distillation.
        mse: Config of the student that imitates the whole feature.
        ciba: Config of the student that follows a code.
        size: Channels H of the code.
        score: Full name of the test score.
        score_title: What it is called.
        stand_in: What tools/make_synthetic_data.py is given beside folder and share.
        file: A file of the stand-in, in its folder.
        data_key: What a data set's config calls the place of the data, and what is there: the
            ``file`` or, if empty, the folder.
        options: Overrides of the configs beside those of the demo.
    """

    title: str
    data_set: str
    teacher: str
    baseline: str
    mse: str
    ciba: str
    size: int
    score: str
    score_title: str
    stand_in: tuple[str, ...]
    file: str
    data_key: tuple[str, str]
    options: tuple[str, ...] = ()

    @property
    def methods(self) -> dict[str, tuple[str, int | None]]:
        """By name, the config and the size H of each training; the teacher first."""
        return {
            TEACHER: (self.teacher, None),
            BASELINE: (self.baseline, None),
            MSE: (self.mse, None),
            f'CIBA ({self.size})': (self.ciba, self.size),
        }


EXPERIMENTS = (
    GapExperiment(
        'MM-IMDB, image to text',
        'mm_imdb',
        'mm_imdb_image',
        'mm_imdb_text',
        'mm_imdb_mse_image_to_text',
        'mm_imdb_ciba_dvib_image_to_text',
        16,
        'f1/micro',
        'F1-micro (%)',
        ('mm_imdb',),
        'multimodal_imdb.hdf5',
        ('file', 'multimodal_imdb.hdf5'),
    ),
    GapExperiment(
        'RAVDESS, audio to image',
        'ravdess',
        'ravdess_audio',
        'ravdess_image',
        'ravdess_mse_audio_to_image',
        'ravdess_ciba_mse_audio_to_image',
        8,
        'accuracy/top1',
        'Accuracy (%)',
        # Emotions' means would let a student guess what only the voice has, by way of the emotion.
        ('ravdess', '--prepared', '--samples', '2560', '--independent'),
        'data_file/spa_dl.csv',
        ('data_root', ''),
        (
            'train_cfg.max_epochs=10',
            'default_hooks.checkpoint.interval=10',
            'model.bottleneck_sizes=[8]',
            # The paper's gradient descent takes many times as long here.
            'optim_wrapper.optimizer._delete_=True',
            'optim_wrapper.optimizer.type=AdamW',
            'optim_wrapper.optimizer.lr=1e-3',
        ),
    ),
)


@dataclass(frozen=True)
class Measured:
    """One method on one stand-in.

    Attributes:
        experiment: Which data set.
        share: Of the information that both modalities have.
        method: One of :attr:`GapExperiment.methods`.
        ranks: For each seed the effective rank of the tapped feature over all test samples: the
            exponential of the entropy of its centred covariance's singular values.
        scores: For each seed the test score, in percent.
    """

    experiment: GapExperiment
    share: float
    method: str
    ranks: Sequence[float]
    scores: Sequence[float]


def plan_gap(
    plan: Plan,
    seeds: Sequence[int],
    experiments: Iterable[GapExperiment] = EXPERIMENTS,
    shares: Sequence[float] = SHARES,
) -> dict[tuple[GapExperiment, float], Plan]:
    """Plan the trainings on every stand-in.

    Args:
        plan: Gets all the steps; its root holds the data, and its overrides make short trainings.
        seeds: Of every training. The stand-ins are the same for all.
        experiments: Data sets.
        shares: A stand-in is made for each.

    Returns:
        For each stand-in the plan of its runs.
    """
    plans = {}
    for experiment in experiments:
        for share in shares:
            part = plan_share(plan, experiment, share)
            for seed in seeds:
                for config, size in experiment.methods.values():
                    part.add(Run(config, seed, size))
            for step in part.steps:
                plan.add_step(step)
            plans[experiment, share] = part
    return plans


def plan_share(plan: Plan, experiment: GapExperiment, share: float) -> Plan:
    """An empty plan whose runs are on a stand-in of their own.

    Args:
        plan: As for :func:`plan_gap`.
        experiment: Which data set.
        share: Of the information that both modalities have, 0 to 1.
    """
    name = f'{experiment.data_set}_shared{round(100 * share):03d}'
    folder = f'data/gap/{name}'
    data_set, *arguments = experiment.synthetic_data
    stand_in = Step(
        f'stand_in_{name}',
        f'Make a stand-in for {data_set} that shares {share:.0%}',
        [
            'tools/make_synthetic_data.py',
            data_set,
            '--out',
            folder,
            '--shared',
            str(share),
            *arguments,
        ],
        [plan.root / folder / experiment.file],
    )
    key, file = experiment.data_key
    place = f'{folder}/{file}'
    options = [
        *plan.options.get(experiment.data_set, ()),
        *experiment.options,
        *(f'{stage}_dataloader.dataset.{key}={place}' for stage in _STAGES),
    ]
    # Of two overrides of one key the later one counts.
    chosen = dict(option.split('=', 1) for option in options)
    return Plan(
        plan.root,
        plan.work_dir / 'gap' / name,
        {experiment.data_set: [f'{key}={value}' for key, value in chosen.items()]},
        first_steps={experiment.data_set: stand_in},
        label=f'gap_{name}_',
    )


def measure_gap(
    plans: dict[tuple[GapExperiment, float], Plan], seeds: Sequence[int]
) -> list[Measured]:
    """Read the test scores of finished runs, and measure their features' effective ranks.

    Args:
        plans: What :func:`plan_gap` returned.
        seeds: As given to it.

    Returns:
        One for each data set, share and method, in this order.

    Raises:
        CibaError: A run is not complete.
    """
    return [
        Measured(
            experiment,
            share,
            method,
            [measure_rank(plan, experiment, Run(config, seed, size)) for seed in seeds],
            [read_score(plan, experiment, Run(config, seed, size)) for seed in seeds],
        )
        for (experiment, share), plan in plans.items()
        for method, (config, size) in experiment.methods.items()
    ]


def measure_rank(plan: Plan, experiment: GapExperiment, run: Run) -> float:
    """Effective rank of a run's feature over all test samples, where distillation taps it.

    Args:
        plan: Where the run is.
        experiment: Which data set.
        run: A teacher or a student.

    Raises:
        CibaError: The run is not complete.
    """
    distiller = plan.read(experiment.mse).model
    tap = distiller.teacher.tap if run.config == experiment.teacher else distiller.student_tap
    return effective_rank(read_features(plan, run, tap, part='test').T)


def read_score(plan: Plan, experiment: GapExperiment, run: Run) -> float:
    """A run's test score, in percent.

    Args:
        plan: Where the run is.
        experiment: Which data set.
        run: A teacher or a student.

    Raises:
        CibaError: The run is not complete.
    """
    file = existing(plan.folder(run) / SCORES)
    return json.loads(file.read_text(encoding='utf-8'))['test'][experiment.score]


def tabulate_gap(measured: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """Arrange means, sample deviations and Welch's p-values.

    Args:
        measured: What :func:`measure_gap` returned.

    Returns:
        Header and rows. ``p, MSE`` compares CIBA with MSE on the same data; ``p, smallest gap``
        a method with itself where the modalities share most.
    """
    found = {(m.experiment, m.share, m.method): m for m in measured}
    header = ['Data set', 'Method', 'Shared']
    for name in ('Effective rank', 'Score'):
        header += [name, f'{name}: p, MSE', f'{name}: p, smallest gap']
    body = []
    for item in _by_method(measured):
        most = max(m.share for m in measured if m.experiment is item.experiment)
        mse = found[item.experiment, item.share, MSE] if 'CIBA' in item.method else None
        least_gap = found[item.experiment, most, item.method] if item.share < most else None
        cells = [item.experiment.title, item.method, f'{item.share:.0%}']
        for name in ('ranks', 'scores'):
            values = getattr(item, name)
            cells.append(format_scores(values))
            for other in (mse, least_gap):
                p_value = None if other is None else compare_scores(values, getattr(other, name))
                cells.append(format_p_value(p_value))
        body.append(cells)
    return header, body


def _by_method(measured: Sequence[Measured]) -> list[Measured]:
    """In the order of data sets, then of methods, then of shares."""
    experiments = list(dict.fromkeys(m.experiment for m in measured))
    methods = list(dict.fromkeys(m.method for m in measured))
    return sorted(
        measured,
        key=lambda m: (experiments.index(m.experiment), methods.index(m.method), m.share),
    )


def draw_gap(measured: Sequence[Measured]) -> Figure:
    """Effective rank (above) and score (below) over the share, one column of panels a data set.

    Args:
        measured: What :func:`measure_gap` returned.

    Returns:
        The figure; bars are sample deviations over seeds.
    """
    from matplotlib.figure import Figure

    experiments = list(dict.fromkeys(m.experiment for m in measured))
    figure = Figure(figsize=(5.2 * len(experiments), 7.2), layout='constrained')
    panels = figure.subplots(2, len(experiments), squeeze=False, sharex=True)
    for column, experiment in enumerate(experiments):
        labels = ('Effective rank of the feature', experiment.score_title)
        for axes, name, label in zip(panels[:, column], ('ranks', 'scores'), labels):
            for method, (colour, marker, style) in zip(experiment.methods, _LINES):
                line = sorted(
                    (m for m in measured if (m.experiment, m.method) == (experiment, method)),
                    key=lambda m: m.share,
                )
                values = [getattr(m, name) for m in line]
                many = all(len(value) > 1 for value in values)
                axes.errorbar(
                    [m.share for m in line],
                    [np.mean(value) for value in values],
                    [np.std(value, ddof=1) for value in values] if many else None,
                    color=colour,
                    marker=marker,
                    linestyle=style,
                    capsize=3,
                    label=method,
                )
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            clean_axes(axes)
        panels[0, column].set_title(experiment.title, loc='left')
        panels[0, column].legend(frameon=False)
        panels[1, column].set_xticks(sorted({m.share for m in measured}))
        panels[1, column].set_xlabel('Share of the information that both modalities have')
    return figure


# Colour, marker and line of teacher, undistilled student, MSE and CIBA.
_LINES = (
    ('#999999', 'D', ':'),
    ('#555555', 's', '--'),
    ('#D55E00', 'v', '-'),
    ('#0072B2', 'o', '-'),
)
