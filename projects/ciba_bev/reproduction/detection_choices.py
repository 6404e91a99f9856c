"""Choices of the method compared in fog: what the bottleneck sees, and the reduction of the loss.

Both experiments go on where :mod:`.detection_gap` ends: they share its recordings, its teacher and
its students, and add students of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from .detection_gap import (
    BOTTLENECK,
    CIBA,
    METHODS,
    SCORES,
    SEED,
    STUDENT,
    TEACHER,
    VISIBILITIES,
    add_student,
    collect_scores,
    describe,
    join,
    plan_detection_gap,
)
from .plan import Plan, Run, read_json
from .tables import compare_scores, format_p_value, format_scores

# Where reductions are compared, metres.
REDUCTION_VISIBILITY = 20.0
SIZES = (2, 8, 32)
# Weights of the mean over channels, as in the configs; of the sum that Algorithm 2 prints, equal to
# that of the task (Appendix D); and of BEVDistill's sum.
_MEAN = 'mean x 5'
REDUCTIONS = {_MEAN: 5.0, 'sum x 1': 1.0, 'sum x 0.01': 0.01}
_PREDICTORS = ('explained', 'explained_dynamic')
_SCORE_COLUMNS = [column for title in SCORES.values() for column in (title, f'{title}: p')]


@dataclass(frozen=True)
class Choice:
    """Students that are distilled in one way, in one air.

    Attributes:
        visibility: Of the cameras, metres.
        kernel_size: Cells that the bottleneck sees, in each direction.
        subtract_cell_means: Whether the bottleneck sees features without the mean of each cell.
        reduction: Key of :data:`REDUCTIONS`.
        size: Channels of the code.
    """

    visibility: float
    kernel_size: int = 3
    subtract_cell_means: bool = False
    reduction: str = _MEAN
    size: int = 8

    @property
    def bottleneck(self) -> str:
        """Return the folder of its bottleneck; empty for that of the detection gap."""
        parts = ['one_cell'] * (self.kernel_size == 1) + ['cell_means'] * self.subtract_cell_means
        return '_'.join(parts)


def plan_choices(plan: Plan, seeds: Sequence[int], choices: Sequence[Choice]) -> dict[Choice, Plan]:
    """Plan the students of all choices, seed by seed, after those of the detection gap.

    Args:
        plan: Gets all the steps.
        seeds: Of the students.
        choices: What is compared.

    Returns:
        For each choice the plan of its runs.
    """
    airs = plan_detection_gap(plan, seeds)
    teacher = next(iter(airs.values()))
    bottlenecks = {(visibility, ''): air for visibility, air in airs.items()}
    plans: dict[Choice, Plan] = {}
    for choice in choices:
        air = airs[choice.visibility]
        elsewhere = {TEACHER: teacher, STUDENT: air}
        key = choice.visibility, choice.bottleneck
        if key not in bottlenecks:
            options = [
                f'model.bottleneck.kernel_size={choice.kernel_size}',
                f'model.subtract_cell_means={choice.subtract_cell_means}',
            ]
            bottlenecks[key] = _vary(air, choice.bottleneck, options, elsewhere)
        plans[choice] = bottlenecks[key]
        if choice.reduction != _MEAN:
            options = [
                f'model.loss.reduction={choice.reduction.split()[0]}',
                f'model.loss_weight={REDUCTIONS[choice.reduction]}',
            ]
            elsewhere[BOTTLENECK] = bottlenecks[key]
            name = choice.reduction.replace(' x ', '_')
            plans[choice] = _vary(bottlenecks[key], name, options, elsewhere)
    for seed in seeds:
        for choice, part in plans.items():
            add_student(part, _run(part, choice, seed))
            join(plan, part)
    return plans


def _vary(plan: Plan, name: str, options: list[str], elsewhere: dict[str, Plan]) -> Plan:
    """Return a plan of the same data with other options, in a folder of its own."""
    return Plan(
        plan.root,
        plan.work_dir / name,
        {'quickstart': [*plan.options['quickstart'], *options]},
        first_steps=plan.first_steps,
        label=f'{plan.label}{name}_',
        frozen_seed=SEED,
        elsewhere=elsewhere,
    )


def _run(plan: Plan, choice: Choice, seed: int) -> Run:
    """Return the run of a choice; of the config's own size it is that of the detection gap."""
    own = plan.read(METHODS[CIBA]).model.bottleneck.size
    return Run(METHODS[CIBA], seed, None if choice.size == own else choice.size)


CELL_MEANS = [
    Choice(visibility, kernel_size, subtract)
    for visibility in VISIBILITIES
    for kernel_size in (1, 3)
    for subtract in (False, True)
]
LOSS_REDUCTIONS = [
    Choice(REDUCTION_VISIBILITY, reduction=reduction, size=size)
    for size in SIZES
    for reduction in REDUCTIONS
]


def tabulate_cell_means(
    plans: dict[Choice, Plan], seeds: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    """Put students of bottlenecks with and without the mean of each cell side by side.

    Args:
        plans: What :func:`plan_choices` returned for :data:`CELL_MEANS`.
        seeds: As given to it.

    Returns:
        Header and rows; p-values are against the same bottleneck with the means.

    Raises:
        CibaError: A run is not complete.
    """
    header = ['Air', 'Cells', 'Means', *_PREDICTORS, *_SCORE_COLUMNS]
    body = []
    for choice, plan in plans.items():
        folder = plan.folder(Run(BOTTLENECK, SEED))
        metrics = read_json(folder / 'bottlenecks.json')['metrics']
        reference = replace(choice, subtract_cell_means=False)
        body.append(
            [
                describe(choice.visibility),
                f'{choice.kernel_size} x {choice.kernel_size}',
                'subtracted' if choice.subtract_cell_means else 'kept',
                *(f'{metrics[f"h{choice.size}/{name}"]:.3f}' for name in _PREDICTORS),
                *_compare(plans, choice, reference, seeds),
            ]
        )
    return header, body


def tabulate_reductions(
    plans: dict[Choice, Plan], seeds: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    """Put students of all sizes of the code side by side, by the reduction of their loss.

    Args:
        plans: What :func:`plan_choices` returned for :data:`LOSS_REDUCTIONS`.
        seeds: As given to it.

    Returns:
        Header and rows; p-values are against the mean at the same size.

    Raises:
        CibaError: A run is not complete.
    """
    header = ['H', 'Reduction', 'Weight', *_SCORE_COLUMNS]
    body = [
        [
            str(choice.size),
            choice.reduction.split()[0],
            f'{REDUCTIONS[choice.reduction]:g}',
            *_compare(plans, choice, replace(choice, reduction=_MEAN), seeds),
        ]
        for choice in plans
    ]
    return header, body


def _compare(
    plans: dict[Choice, Plan], choice: Choice, reference: Choice, seeds: Sequence[int]
) -> list[str]:
    """Return mean, deviation and p-value of each of the scores."""
    ours, others = (
        collect_scores(plans[item], [_run(plans[item], item, seed) for seed in seeds])
        for item in (choice, reference)
    )
    cells = []
    for name in SCORES:
        p_value = None if choice == reference else compare_scores(ours[name], others[name])
        cells += [format_scores(ours[name]), format_p_value(p_value)]
    return cells
