"""The experiment on detection in fog: its runs, its scores near and far, its tables."""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import DictAction
from nuscenes.nuscenes import NuScenes
from nuscenes.utils import splits
from scipy.stats import ttest_ind

from ciba_bev.errors import CibaError
from ciba_bev.reproduction.command import reproduce
from ciba_bev.reproduction.detection_gap import (
    BOTTLENECK,
    CIBA,
    METHODS,
    MSE,
    MSE_GT,
    SCORES,
    STUDENT,
    TEACHER,
    UNDISTILLED,
    VISIBILITIES,
    Measured,
    draw_detection_gap,
    measure_map_by_distance,
    plan_detection_gap,
    tabulate_detection_gap,
    tabulate_predictors,
)
from ciba_bev.reproduction.plan import Plan, Run

PROJECT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
AIRS = (math.inf, 40.0, 20.0)
NDS = {
    math.inf: {UNDISTILLED: (25.1, 25.9, 25.5), MSE: (27.0, 28.1, 27.2), CIBA: (27.9, 27.5, 28.3)},
    20.0: {
        UNDISTILLED: (15.1, 14.9, 15.4),
        MSE: (14.0, 14.1, 13.2),
        CIBA: (16.9, 17.5, 17.3),
        MSE_GT: (15.0, 15.2, 15.1),
    },
}


@pytest.fixture
def plan(tmp_path):
    return Plan(PROJECT, tmp_path / 'runs')


@pytest.fixture
def plans(plan):
    return plan_detection_gap(plan, SEEDS)


@pytest.fixture
def measured():
    return [
        Measured(air, method, {name: list(values) for name in SCORES})
        for air, methods in NDS.items()
        for method, values in methods.items()
    ]


def trainings(plan):
    return [step for step in plan.steps if step.resumes]


def options_of(step):
    words = step.command[step.command.index('--cfg-options') + 1 :]
    return dict(word.split('=', 1) for word in words)


def test_the_trainings_are_those_of_the_comparison(plan, plans):
    assert tuple(plans) == VISIBILITIES == AIRS
    count = Counter(Path(step.config).stem for step in trainings(plan))
    # One teacher for all; a bottleneck for each air; students for each air and seed.
    assert count == {
        TEACHER: 1,
        BOTTLENECK: 3,
        STUDENT: 9,
        METHODS[MSE]: 9,
        METHODS[CIBA]: 9,
        METHODS[MSE_GT]: 3,
    }
    names = [step.name for step in plan.steps]
    assert len(names) == len(set(names))
    for index, step in enumerate(plan.steps):
        assert set(step.after) <= set(names[:index]), step.name
        assert step.usual_minutes > 0


def test_every_air_has_its_own_recording_and_all_have_one_teacher(plan, plans):
    roots = {
        air: options_of(part.steps[2])['train_dataloader.dataset.data_root']
        for air, part in plans.items()
    }
    assert len(set(roots.values())) == 3
    for air, part in plans.items():
        (simulation,) = (step for step in part.steps if step.name.startswith('simulate'))
        words = simulation.command
        assert f'{words[words.index("--out") + 1]}/' == roots[air]
        assert ('--visibility' in words) == math.isfinite(air)
        scenes = set(words[words.index('--scenes') + 1 : words.index('--frames-per-scene')])
        # The quickstart's scenes, as many for training as there, and twice as many for scoring.
        assert scenes > {*splits.mini_train, *splits.mini_val}
        assert len(scenes & set(splits.train)) == len(splits.mini_train)
        assert len(scenes & set(splits.val)) == 2 * len(splits.mini_val)
        for step in trainings(part):
            options = options_of(step)
            assert options['train_dataloader.dataset.data_root'] == roots[air]
            # Algorithm 1's evaluator needs no annotations.
            assert options.get('val_evaluator.data_root', roots[air]) == roots[air]
            if 'model.teacher.checkpoint' in options:
                assert options['model.teacher.checkpoint'].endswith(
                    f'clear/{TEACHER}_seed0/epoch_8.pth'
                )
        for step in part.steps:
            if step.name.startswith('score_'):
                assert options_of(step)['test_dataloader.dataset.data_root'] == roots[air]


def test_the_students_of_all_seeds_follow_the_bottleneck_of_the_first(plan, plans):
    for part in plans.values():
        folder = part.folder(Run(BOTTLENECK, 0))
        for step in trainings(part):
            if METHODS[CIBA] in step.name:
                checkpoint = options_of(step)['model.bottleneck.checkpoint']
                assert checkpoint == str(folder / 'epoch_4.pth')
    seeds = {options_of(s)['randomness.seed'] for s in trainings(plan) if METHODS[CIBA] in s.name}
    assert seeds == {'0', '1', '2'}


def test_all_spectra_are_of_the_feature_that_is_distilled_into(plan, plans):
    tap = plan.read(METHODS[MSE]).model.student_tap
    spectra = [step for step in plan.steps if step.name.startswith('spectrum_')]
    assert len(spectra) == len(trainings(plan)) - 1 - 3
    for step in spectra:
        words = step.command[step.command.index('--tap') + 1 :]
        assert f'module={tap.module}' in words
        # The shell's words are what the tool reads as a dict.
        parser = argparse.ArgumentParser()
        parser.add_argument('--tap', nargs='+', action=DictAction)
        assert parser.parse_args(['--tap', *words]).tap == dict(tap)


def test_p_values_are_scipys(measured):
    header, body = tabulate_detection_gap(measured)
    rows = {(row[0], row[1]): dict(zip(header, row)) for row in body}
    row = rows['fog, 20 m', CIBA]
    for other in (UNDISTILLED, MSE):
        expected = ttest_ind(NDS[20.0][CIBA], NDS[20.0][other], equal_var=False).pvalue
        shown = row[f'NDS: p, {other}']
        assert shown == ('< 0.001' if expected < 0.001 else f'{expected:.3f}')
    assert row['NDS'] == '17.23 ± 0.31'
    assert rows['clear', MSE][f'NDS: p, {MSE}'] == ''
    assert rows['clear', UNDISTILLED][f'NDS: p, {MSE}'] == ''


def test_predictors_stand_beside_the_gains(plans, measured):
    plans = {air: plans[air] for air in NDS}
    for part in plans.values():
        folder = part.folder(Run(BOTTLENECK, 0))
        folder.mkdir(parents=True)
        metrics = {'h8/explained': 0.5, 'h4/explained': 0.25, 'student/dynamic': 0.75}
        (folder / 'bottlenecks.json').write_text(json.dumps({'metrics': metrics}))
    header, body = tabulate_predictors(plans, measured)
    row = dict(zip(header, body[1]))
    assert row['h8/explained'] == '0.500'
    assert 'h4/explained' not in row
    # 17.2333 - 13.7667
    assert row[f'NDS, {CIBA} - {MSE}'] == '+3.47'


def test_the_figure_shows_the_means(measured):
    panels = draw_detection_gap(measured).axes
    assert len(panels) == 4
    for axes in panels:
        lines = {container.get_label(): container.lines[0] for container in axes.containers}
        assert set(lines) == set(NDS[20.0])
        assert list(lines[CIBA].get_ydata()) == pytest.approx(
            [sum(NDS[air][CIBA]) / 3 for air in NDS]
        )


@pytest.fixture(scope='module')
def perfect_results(simulated_nuscenes):
    """A submission that has every annotation of the validation scene, with its distance."""
    nuscenes = NuScenes('v1.0-mini', str(simulated_nuscenes), verbose=False)
    scene = next(scene for scene in nuscenes.scene if scene['name'] == 'scene-0103')
    results, token = {}, scene['first_sample_token']
    from nuscenes.eval.detection.utils import category_to_detection_name

    while token:
        sample = nuscenes.get('sample', token)
        lidar = nuscenes.get('sample_data', sample['data']['LIDAR_TOP'])
        ego = nuscenes.get('ego_pose', lidar['ego_pose_token'])['translation']
        results[token] = []
        for annotation in sample['anns']:
            content = nuscenes.get('sample_annotation', annotation)
            name = category_to_detection_name(content['category_name'])
            if name is None:
                continue
            box = {
                'sample_token': token,
                **{key: content[key] for key in ('translation', 'size', 'rotation')},
                'velocity': [0.0, 0.0],
                'detection_name': name,
                'detection_score': 0.5,
                'attribute_name': '',
            }
            distance = math.dist(content['translation'][:2], ego[:2])
            results[token].append((distance, box))
        token = sample['next']
    return results


def write_results(path, results, is_kept):
    meta = {'use_camera': True, 'use_lidar': False, 'use_radar': False}
    meta |= {'use_map': False, 'use_external': False}
    boxes = {
        token: [box for distance, box in found if is_kept(distance)]
        for token, found in results.items()
    }
    path.write_text(json.dumps({'meta': meta, 'results': boxes}))
    return path


@pytest.mark.parametrize('border', [12.0, 20.0])
def test_near_and_far_objects_are_scored_apart(
    simulated_nuscenes, perfect_results, tmp_path, border
):
    def measure(is_kept):
        results = write_results(tmp_path / 'results.json', perfect_results, is_kept)
        return measure_map_by_distance(results, simulated_nuscenes, 'v1.0-mini', 'mini_val', border)

    near, far = measure(lambda distance: True)
    assert near > 0.2
    assert far > 0.2
    # Who finds only the near ones loses nothing near, and everything far.
    assert measure(lambda distance: distance < border) == pytest.approx((near, 0))
    assert measure(lambda distance: distance >= border) == pytest.approx((0, far))


def test_real_data_are_refused(tmp_path):
    with pytest.raises(CibaError, match='--demo'):
        reproduce(tmp_path, ['detection_gap'], [0])
