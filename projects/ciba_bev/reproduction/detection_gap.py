"""Whether distillation pays in detection when the cameras see less than the LiDAR: fog.

One world is recorded in clear air and in fog, which the LiDAR does not notice. One teacher serves
all of it. In every air, a student is trained without distillation, by MSE on the whole feature and
by CIBA, and is scored near and far. How much a camera can have of what the teacher knows is thereby
a number that is chosen.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import numpy as np

from ..analysis.figures import GREY
from ..engine.step_runner import Step
from ..engine.testing import RESULTS_FILE, RESULTS_FOLDER
from ..files import write_file
from ..quickstart.steps import find_metric
from .panels import BLUE, GREEN, ORANGE, draw_means, new_panels
from .plan import Plan, Run, existing, read_json
from .tables import compare_scores, format_p_value, format_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Meteorological optical range of the cameras, metres.
VISIBILITIES = (math.inf, 40.0, 20.0)
# Between near and far, metres: the least visibility.
NEAR = 20.0
# Where MSE is also weighted by the ground truth.
GROUND_TRUTH_VISIBILITY = 20.0
VERSION = 'v1.0-trainval'
# The quickstart's ten scenes, of which v1.0-trainval counts six to training and four to validation,
# and two more of training.
MORE_TRAIN_SCENES = 2
FRAMES_PER_SCENE = 40
SEED = 0

TEACHER = 'quickstart_object_dgcnn'
STUDENT = 'quickstart_bevformer'
BOTTLENECK = 'quickstart_bottleneck_bevformer'
UNDISTILLED, MSE, CIBA, MSE_GT = 'without distillation', 'MSE', 'CIBA (8)', 'MSE w/ GT'
METHODS = {
    UNDISTILLED: STUDENT,
    MSE: 'quickstart_mse_bevformer',
    CIBA: 'quickstart_ciba_bevformer_h8',
    MSE_GT: 'quickstart_mse_gt_bevformer',
}
SCORES = {
    'nds': 'NDS',
    'map_near': f'mAP within {NEAR:g} m',
    'map_far': f'mAP beyond {NEAR:g} m',
    'rank': 'Effective rank',
}
SPECTRUM = 'spectrum/collapse.json'
# On one core each, two at once; where the estimate of the time left begins.
_USUAL_MINUTES = {
    'simulate_nuscenes': 2.0,
    'create_data': 0.4,
    'test': 0.7,
    'analyze_collapse': 0.6,
    TEACHER: 6.0,
    BOTTLENECK: 3.0,
    **dict.fromkeys(METHODS.values(), 8.0),
}
_STAGES = ('train', 'val', 'test')


@dataclass(frozen=True)
class Measured:
    """One method in one air.

    Attributes:
        visibility: Of the cameras, metres.
        method: A key of :data:`METHODS`.
        values: By the keys of :data:`SCORES`, one value for each seed: NDS and mAP in percent, and
            the effective rank of the student's BEV feature over the validation frames.
    """

    visibility: float
    method: str
    values: dict[str, list[float]]


def describe(visibility: float) -> str:
    """Return the name of an air, for tables."""
    return 'clear' if math.isinf(visibility) else f'fog, {visibility:g} m'


def methods_at(visibility: float) -> list[str]:
    """Return the methods that are compared in an air."""
    return [name for name in METHODS if name != MSE_GT or visibility == GROUND_TRUTH_VISIBILITY]


def plan_detection_gap(
    plan: Plan, seeds: Sequence[int], visibilities: Sequence[float] = VISIBILITIES
) -> dict[float, Plan]:
    """Plan the recordings, the trainings, their scores and their spectra.

    Seed by seed, so that every setting has been seen once before any is seen twice.

    Args:
        plan: Gets all the steps; its root holds the data.
        seeds: Of the students. The world, the teacher and the bottlenecks are those of one seed.
        visibilities: Of the cameras, metres; the teacher is trained in the first.

    Returns:
        For each visibility the plan of its runs.
    """
    plans: dict[float, Plan] = {}
    for visibility in visibilities:
        teachers = {TEACHER: plans[visibilities[0]]} if plans else {}
        plans[visibility] = _plan_visibility(plan, visibility, teachers)
    first = plans[visibilities[0]]
    first.add_score(Run(TEACHER, SEED), TEACHER)
    for methods in ((UNDISTILLED, MSE, CIBA), (MSE_GT,)):
        for seed in seeds:
            for visibility, part in plans.items():
                for method in methods:
                    if method in methods_at(visibility):
                        add_student(part, Run(METHODS[method], seed))
                join(plan, part)
    return plans


def add_student(plan: Plan, run: Run) -> None:
    """Plan a student's training, its scores and the spectrum of its feature."""
    plan.add_score(run, STUDENT)
    plan.add_step(_spectrum_step(plan, run))


def join(plan: Plan, part: Plan) -> None:
    """Add the steps of a part to a plan, with the time that they usually take."""
    for step in part.steps:
        tool = Path(step.command[0]).stem
        config = None if step.config is None or tool == 'test' else Path(step.config).stem
        step.usual_minutes = _USUAL_MINUTES[config or tool]
        plan.add_step(step)


def _plan_visibility(plan: Plan, visibility: float, elsewhere: dict[str, Plan]) -> Plan:
    """Return a plan whose runs are on a recording of its own, still without runs."""
    name = describe(visibility).replace(', ', '_').replace(' ', '')
    folder = f'data/detection_gap/{name}'
    world = ['--out', folder, '--version', VERSION, '--scenes', *_scenes()]
    world += ['--frames-per-scene', str(FRAMES_PER_SCENE), '--seed', str(SEED)]
    fog = [] if math.isinf(visibility) else ['--visibility', str(visibility)]
    simulate = Step(
        f'simulate_{name}',
        f'Simulate a driving world, {describe(visibility)}',
        ['tools/simulate_nuscenes.py', *world, *fog, '--workers', '1'],
        [plan.root / folder / VERSION / 'sample.json'],
        folder=plan.root / folder,
    )
    convert = Step(
        f'convert_{name}',
        f'Make the info files of {folder}',
        ['tools/create_data.py', '--root-path', folder, '--version', VERSION],
        [plan.root / folder / f'nuscenes_infos_{split}.pkl' for split in ('train', 'val')],
        after=[simulate.name],
    )
    work_dir = plan.work_dir / 'detection_gap' / name
    evaluators = ('val_evaluator', 'test_evaluator')
    options = [
        *(f'{stage}_dataloader.dataset.data_root={folder}/' for stage in _STAGES),
        *(f'{evaluator}.data_root={folder}/' for evaluator in evaluators),
        *(f'{evaluator}.ann_file={folder}/nuscenes_infos_val.pkl' for evaluator in evaluators),
        f'model.feature_cache={work_dir / "features"}',
    ]
    part = Plan(
        plan.root,
        work_dir,
        {'quickstart': options},
        first_steps={'quickstart': convert},
        label=f'{name}_',
        frozen_seed=SEED,
        elsewhere=elsewhere,
    )
    part.add_step(simulate)
    return part


def _scenes() -> list[str]:
    # Slow to import.
    from nuscenes.utils import splits

    mini = [*splits.mini_train, *splits.mini_val]
    others = [name for name in splits.train if name not in mini]
    return [*mini, *others[:MORE_TRAIN_SCENES]]


def _spectrum_step(plan: Plan, run: Run) -> Step:
    model = ['--model', run.config, str(plan.trained_config(run)), str(plan.checkpoint(run))]
    name = plan.step_name(run)
    tap = plan.read(METHODS[MSE]).model.student_tap
    words = [f'{key}={value}'.replace(' ', '') for key, value in tap.items()]
    return Step(
        f'spectrum_{name}',
        f"Measure the dimensions of {name}'s feature",
        [
            'tools/analyze_collapse.py',
            '--out',
            str(plan.folder(run) / 'spectrum'),
            *model,
            '--tap',
            *words,
        ],
        [plan.folder(run) / SPECTRUM],
        [name],
    )


def measure_detection_gap(plans: dict[float, Plan], seeds: Sequence[int]) -> list[Measured]:
    """Read what finished runs have scored.

    Args:
        plans: What :func:`plan_detection_gap` returned.
        seeds: As given to it.

    Returns:
        One for each visibility and method, in this order.

    Raises:
        CibaError: A run is not complete.
    """
    return [
        Measured(
            visibility,
            method,
            collect_scores(plan, [Run(METHODS[method], seed) for seed in seeds]),
        )
        for visibility, plan in plans.items()
        for method in methods_at(visibility)
    ]


def collect_scores(plan: Plan, runs: Sequence[Run]) -> dict[str, list[float]]:
    """Read the scores of finished students.

    Args:
        plan: Where they were trained.
        runs: One for each seed.

    Returns:
        By the keys of :data:`SCORES`, a value for each run.

    Raises:
        CibaError: A run is not complete.
    """
    found = [_read_scores(plan, run) for run in runs]
    return {name: [scores[name] for scores in found] for name in SCORES}


def _read_scores(plan: Plan, run: Run) -> dict[str, float]:
    folder = plan.folder(run)
    metrics = read_json(folder / 'metrics.json')
    (model,) = read_json(folder / SPECTRUM)['models']
    near, far = _read_map_by_distance(plan, folder)
    return {
        'nds': 100 * find_metric(metrics, 'NDS'),
        'map_near': 100 * near,
        'map_far': 100 * far,
        'rank': model['effective_rank'],
    }


def _read_map_by_distance(plan: Plan, folder: Path) -> tuple[float, float]:
    """Return mAP within and beyond :data:`NEAR`, computed once for each result file."""
    results = existing(folder / RESULTS_FOLDER / RESULTS_FILE)
    kept = folder / 'map_by_distance.json'
    if not kept.is_file() or kept.stat().st_mtime < results.stat().st_mtime:
        options = dict(option.split('=', 1) for option in plan.options['quickstart'])
        data_root = plan.root / options['test_evaluator.data_root']
        scores = measure_map_by_distance(results, data_root, VERSION, 'val', NEAR)
        write_file(kept, json.dumps(scores) + '\n')
    near, far = read_json(kept)
    return near, far


def measure_map_by_distance(
    results: Path, data_root: Path, version: str, split: str, border: float
) -> tuple[float, float]:
    """Measure nuScenes' mAP of near and of far objects.

    Ground truth and detections are split alike, by the distance of their centres from the ego
    vehicle; nuScenes' ranges of the classes hold as well.

    Args:
        results: Detections in nuScenes' submission format.
        data_root: Root of the data set.
        version: Of the data set.
        split: Of the data set, such as ``val``.
        border: Between near and far, metres.

    Returns:
        mAP of what is nearer than ``border``, and of the rest, each from 0 to 1.
    """
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.evaluate import DetectionEval
    from nuscenes.nuscenes import NuScenes

    evaluation = DetectionEval(
        NuScenes(version, str(data_root), verbose=False),
        config_factory('detection_cvpr_2019'),
        str(results),
        split,
        str(results.parent),
        verbose=False,
    )
    boxes = evaluation.gt_boxes, evaluation.pred_boxes

    def select(part: EvalBoxes, is_near: bool) -> EvalBoxes:
        selected = EvalBoxes()
        for token in part.sample_tokens:
            kept = [box for box in part[token] if (box.ego_dist < border) == is_near]
            selected.add_boxes(token, kept)
        return selected

    scores = []
    for is_near in (True, False):
        evaluation.gt_boxes, evaluation.pred_boxes = (select(part, is_near) for part in boxes)
        scores.append(evaluation.evaluate()[0].mean_ap)
    return scores[0], scores[1]


def tabulate_detection_gap(measured: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """Arrange means, sample deviations and Welch's p-values.

    Args:
        measured: What :func:`measure_detection_gap` returned.

    Returns:
        Header and rows. The p-values are of a method's NDS and mAP against those of the student
        without distillation and of the one with MSE, in the same air.
    """
    header = ['Air', 'Method']
    for title in SCORES.values():
        header += [title, f'{title}: p, {UNDISTILLED}', f'{title}: p, {MSE}']
    found = {(item.visibility, item.method): item for item in measured}
    body = []
    for item in measured:
        cells = [describe(item.visibility), item.method]
        for name in SCORES:
            cells.append(format_scores(item.values[name]))
            for other in (UNDISTILLED, MSE):
                is_compared = item.method not in (UNDISTILLED, other)
                reference = found[item.visibility, other]
                p_value = (
                    compare_scores(item.values[name], reference.values[name])
                    if is_compared
                    else None
                )
                cells.append(format_p_value(p_value))
        body.append(cells)
    return header, body


def tabulate_predictors(
    plans: dict[float, Plan], measured: Sequence[Measured]
) -> tuple[list[str], list[list[str]]]:
    """Put what Algorithm 1's validation says beside what distillation brought.

    Args:
        plans: What :func:`plan_detection_gap` returned.
        measured: What :func:`measure_detection_gap` returned.

    Returns:
        Header and rows, one for each visibility: metrics of the bottleneck that is distilled, and
        differences of mean NDS.
    """
    found = {(item.visibility, item.method): item.values['nds'] for item in measured}
    body, names = [], []
    for visibility, plan in plans.items():
        file = plan.folder(Run(BOTTLENECK, SEED)) / 'bottlenecks.json'
        metrics = read_json(file)['metrics']
        size = plan.read(METHODS[CIBA]).model.bottleneck.size
        names = [name for name in metrics if name.startswith(f'h{size}/')] + [
            name for name in metrics if name.startswith(('teacher/', 'student/'))
        ]
        nds = {
            method: float(np.mean(found[visibility, method])) for method in (UNDISTILLED, MSE, CIBA)
        }
        body.append(
            [
                describe(visibility),
                *(f'{metrics[name]:.3f}' for name in names),
                f'{nds[MSE] - nds[UNDISTILLED]:+.2f}',
                f'{nds[CIBA] - nds[UNDISTILLED]:+.2f}',
                f'{nds[CIBA] - nds[MSE]:+.2f}',
            ]
        )
    gains = [f'NDS, {a} - {b}' for a, b in ((MSE, 'none'), (CIBA, 'none'), (CIBA, MSE))]
    return ['Air', *names, *gains], body


# Colour, marker and line of each method.
_LINES = {
    UNDISTILLED: (GREY, 's', '--'),
    MSE: (ORANGE, 'v', '-'),
    CIBA: (BLUE, 'o', '-'),
    MSE_GT: (GREEN, '^', ':'),
}


def draw_detection_gap(measured: Sequence[Measured]) -> Figure:
    """Draw scores and effective rank over the visibility.

    Args:
        measured: What :func:`measure_detection_gap` returned.

    Returns:
        The figure, one panel for each of :data:`SCORES`; bars are sample deviations over seeds.
    """
    visibilities = list(dict.fromkeys(item.visibility for item in measured))
    methods = list(dict.fromkeys(item.method for item in measured))
    figure, panels = new_panels(1, len(SCORES), (3.4, 3.6))
    for axes, (name, title) in zip(panels, SCORES.items()):
        for index, method in enumerate(methods):
            colour, marker, style = _LINES[method]
            line = [item for item in measured if item.method == method]
            # Side by side, so that no bar hides another.
            shift = 0.08 * (index - (len(methods) - 1) / 2)
            draw_means(
                axes,
                [visibilities.index(item.visibility) + shift for item in line],
                [item.values[name] for item in line],
                color=colour,
                marker=marker,
                linestyle=style,
                label=method,
            )
        axes.set_title(title if name == 'rank' else f'{title} (%)', loc='left')
        axes.set_xticks(range(len(visibilities)), [describe(value) for value in visibilities])
        axes.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize='small', loc='lower left')
    return figure
