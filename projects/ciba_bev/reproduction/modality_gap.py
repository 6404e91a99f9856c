"""Claim 1 on synthetic data: does distillation collapse a student if the modalities share little?

Synthetic MM-IMDB and RAVDESS data are made with several shares of common information, which real
data do not allow. On each, a student is trained without distillation, by MSE on the whole feature,
and by CIBA. Measured are the effective rank of its feature and its test score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterable, Sequence

from ..analysis import effective_rank
from ..analysis.figures import GREY
from ..engine.step_runner import Step
from .classification_figures import read_features
from .data_sets import STAGES
from .panels import BLUE, ORANGE, draw_means, new_panels
from .plan import Plan, Run
from .tables import compare_scores, format_p_value, format_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Shares of the information that both modalities have.
SHARES = (0.25, 0.5, 0.75, 1.0)
TEACHER, BASELINE, MSE = 'teacher', 'without distillation', 'MSE'
# Colour, marker and line style of teacher, undistilled student, MSE and CIBA.
_STYLES = (('#999999', 'D', ':'), (GREY, 's', '--'), (ORANGE, 'v', '-'), (BLUE, 'o', '-'))


@dataclass(frozen=True)
class GapExperiment:
    """A synthetic data set and the trainings on it.

    Attributes:
        title: Data set, teacher and student.
        data_set: Prefix of its configs.
        teacher: Config of the teacher.
        baseline: Config of the student without distillation.
        mse: Config of the student that imitates the whole feature.
        ciba: Config of the student that imitates the bottleneck's feature.
        size: Channels H of the bottleneck's feature.
        metric: Full name of the test score.
        score_label: Name and unit of the test score.
        file: A file of the synthetic data set, relative to its folder.
        data_option: Option of the configs' data sets, with ``{folder}`` for that folder.
        synthetic_options: Arguments of tools/make_synthetic_data.py beside folder and share.
        options: Overrides of the configs beside those of the demo.
    """

    title: str
    data_set: str
    teacher: str
    baseline: str
    mse: str
    ciba: str
    size: int
    metric: str
    score_label: str
    file: str
    data_option: str
    synthetic_options: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def methods(self) -> dict[str, tuple[str, int | None]]:
        """Return config and size H of each training by its name, the teacher first."""
        return {
            TEACHER: (self.teacher, None),
            BASELINE: (self.baseline, None),
            MSE: (self.mse, None),
            f'CIBA ({self.size})': (self.ciba, self.size),
        }


EXPERIMENTS = (
    GapExperiment(
        title='MM-IMDB, image to text',
        data_set='mm_imdb',
        teacher='mm_imdb_image',
        baseline='mm_imdb_text',
        mse='mm_imdb_mse_image_to_text',
        ciba='mm_imdb_ciba_dvib_image_to_text',
        size=16,
        metric='f1/micro',
        score_label='F1-micro (%)',
        file='multimodal_imdb.hdf5',
        data_option='file={folder}/multimodal_imdb.hdf5',
    ),
    GapExperiment(
        title='RAVDESS, audio to image',
        data_set='ravdess',
        teacher='ravdess_audio',
        baseline='ravdess_image',
        mse='ravdess_mse_audio_to_image',
        ciba='ravdess_ciba_mse_audio_to_image',
        size=8,
        metric='accuracy/top1',
        score_label='Accuracy (%)',
        file='data_file/spa_dl.csv',
        data_option='data_root={folder}',
        # Otherwise a student could infer a part of the teacher's own information from the emotion.
        synthetic_options=('--prepared', '--samples', '2560', '--independent'),
        options=(
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
    """Results of one method on one synthetic data set.

    Attributes:
        experiment: The data set.
        share: Share of the information that both modalities have, 0 to 1.
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
    """Plan the trainings on all synthetic data sets.

    Args:
        plan: Gets all the steps; its root holds the data, and its overrides make short trainings.
        seeds: Seeds of every training; the data of a share are the same for all.
        experiments: The kinds of data.
        shares: Shares of the information that both modalities have, 0 to 1.

    Returns:
        For each experiment and share, the plan of its runs.
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
    """Return an empty plan whose runs use a synthetic data set of their own.

    Args:
        plan: As for :func:`plan_gap`.
        experiment: The kind of data.
        share: Share of the information that both modalities have, 0 to 1.
    """
    data_set = experiment.data_set
    name = f'{data_set}_shared{round(100 * share):03d}'
    folder = f'data/gap/{name}'
    tool = 'tools/make_synthetic_data.py'
    make_data = Step(
        f'synthetic_data_{name}',
        f'Make synthetic {data_set} data that share {share:.0%}',
        [tool, data_set, *experiment.synthetic_options, '--out', folder, '--shared', str(share)],
        [plan.root / folder / experiment.file],
    )
    data_option = experiment.data_option.format(folder=folder)
    options = [
        *plan.options.get(data_set, ()),
        *experiment.options,
        *(f'{stage}_dataloader.dataset.{data_option}' for stage in STAGES),
    ]
    # Of two overrides of one key the later one counts.
    chosen = dict(option.split('=', 1) for option in options)
    return Plan(
        plan.root,
        plan.work_dir / 'gap' / name,
        {data_set: [f'{key}={value}' for key, value in chosen.items()]},
        first_steps={data_set: make_data},
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
        The results of each experiment, share and method, in this order.

    Raises:
        CibaError: A run is not complete.
    """
    return [
        Measured(
            experiment,
            share,
            method,
            [measure_rank(plan, experiment, Run(config, seed, size)) for seed in seeds],
            [plan.score(Run(config, seed, size), 'test', experiment.metric) for seed in seeds],
        )
        for (experiment, share), plan in plans.items()
        for method, (config, size) in experiment.methods.items()
    ]


def measure_rank(plan: Plan, experiment: GapExperiment, run: Run) -> float:
    """Measure the effective rank of a run's feature over all test samples, at the distilled tap.

    Args:
        plan: The plan that has the run.
        experiment: The kind of data.
        run: A teacher or a student.

    Raises:
        CibaError: The run is not complete.
    """
    distiller = plan.read(experiment.mse).model
    tap = distiller.teacher.tap if run.config == experiment.teacher else distiller.student_tap
    return effective_rank(read_features(plan, run, tap, part='test').T)


def tabulate_gap(measured: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """Arrange means, sample deviations and Welch's p-values.

    Args:
        measured: What :func:`measure_gap` returned.

    Returns:
        Header and rows, ordered by experiment, method and share. ``p, MSE`` compares CIBA with MSE
        on the same data; ``p, smallest gap`` a method with itself where the modalities share most.
    """
    found = {(m.experiment, m.share, m.method): m for m in measured}
    header = ['Data set', 'Method', 'Shared']
    for name in ('Effective rank', 'Score'):
        header += [name, f'{name}: p, MSE', f'{name}: p, smallest gap']
    body = []
    order = list(dict.fromkeys((m.experiment, m.method) for m in measured))
    for item in sorted(measured, key=lambda m: (order.index((m.experiment, m.method)), m.share)):
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


def draw_gap(measured: Sequence[Measured]) -> Figure:
    """Draw effective rank (above) and score (below) over the share, one column per experiment.

    Args:
        measured: What :func:`measure_gap` returned.

    Returns:
        The figure; bars are sample deviations over seeds.
    """
    experiments = list(dict.fromkeys(m.experiment for m in measured))
    columns = len(experiments)
    figure, panels = new_panels(2, columns, (5.2, 3.6), share_x=True)
    for upper, lower, experiment in zip(panels, panels[columns:], experiments):
        for method, (colour, marker, style) in zip(experiment.methods, _STYLES):
            found = (m for m in measured if (m.experiment, m.method) == (experiment, method))
            line = sorted(found, key=lambda m: m.share)
            shares = [m.share for m in line]
            look = dict(color=colour, marker=marker, linestyle=style, label=method)
            draw_means(upper, shares, [m.ranks for m in line], **look)
            draw_means(lower, shares, [m.scores for m in line], **look)
        upper.set_title(experiment.title, loc='left')
        upper.set_ylabel('Effective rank of the feature')
        upper.legend(frameon=False)
        lower.set_ylabel(experiment.score_label)
        lower.set_xticks(sorted({m.share for m in measured}))
        lower.set_xlabel('Share of the information that both modalities have')
        for axes in (upper, lower):
            axes.set_ylim(bottom=0)
    return figure
