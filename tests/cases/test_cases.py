"""Situations from public bug reports, each with the commands that used to end in a trace or worse.

The commands are the ``run.sh`` of the folders in ``../shared/cases``. They are run as they stand,
in a folder that looks like a clone, on the small data set of all tests, with untrained checkpoints.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = REPOSITORY.parent / 'shared' / 'cases'
MODELS_OF_CASES = {
    'case_student': 'quickstart_bevformer',
    'case_teacher': 'quickstart_object_dgcnn',
}

# For each case what its commands must say, one pattern for each command that fails; and what is
# left out of its commands: the beginning of a line, with dots for all that follows, too.
EXPECTED = {
    'balanced_sampling_without_a_class': (
        [r'error: .*_c/nuscenes_infos_train\.pkl: no frame has .*construction_vehicle.*classes'],
        (),
    ),
    'data_root_without_effect': (
        [
            r'error: .*case_root\.py: train_dataloader\.dataset\.data_root is /nowhere, and there',
            r'error: .*quickstart_bevformer\.py: train_dataloader\.dataset\.data_root is /nowhere',
            r'error: --cfg-options data\.samples_per_gpu: .* it is train_dataloader\.batch_size',
        ],
        (),
    ),
    'devkit_refuses_after_the_test': (
        [
            r'error: .*infos_val\.pkl: .*split mini_val, and 4 of its 7 frames are missing',
            r'error: .*_nomaps/maps/.*: the map is missing',
            r'error: .*infos_test\.pkl: the annotations of v1\.0-test are not public',
        ],
        # The test split of the simulated world has no tables.
        ('python tools/create_data.py',),
    ),
    'evaluator_left_behind': (
        [r'error: .*val_evaluator\.data_root is data/simulated/, and there is no such folder'],
        (),
    ),
    'four_numbers_a_point': (
        [
            r'error: .*\.bin: the points seem to have 4 numbers each, not the 5',
            r'error: .*infos_train\.pkl: it is 4, but LoadPointsFromFile .* has load_dim=5',
        ],
        (),
    ),
    'frames_without_objects': (
        [r'error: .*infos_train\.pkl: none of the 7 training frames has a usable object'],
        (),
    ),
    'no_loading_processes': ([], ()),
    'score_against_other_info_file': (
        [r'error: Predictions would be scored against other frames .*infos_train.*infos_val'],
        # Simulating takes a minute. That poses count as well as names is tested with the check.
        ('# 2. ...',),
    ),
}

# Cases whose commands are not run here: they need two processes, two trainings or a longer
# preparation. The tests that make the same situations, by file and function.
COVERED = {
    'create_data_traces': (
        'detection/nuscenes/test_info_creation.py',
        'test_what_devkit_and_converter_stumble_over_is_named',
    ),
    'info_files_replaced': (
        'detection/nuscenes/test_info_creation.py',
        'test_info_files_of_another_version_are_not_replaced_unasked',
    ),
    'one_frame_through_mmdet3d': (
        'engine/test_prediction.py',
        'test_functions_of_mmdet3d_give_the_same',
    ),
    'pictures_with_info_files_elsewhere': (
        'engine/test_testing.py',
        'test_pictures_with_info_files_elsewhere',
    ),
    'schedule_changed_before_resume': (
        'engine/test_resume_checks.py',
        'test_another_schedule_is_refused_with_both',
    ),
    'scoring_longer_than_the_timeout': (
        'engine/test_distributed.py',
        'test_scoring_may_take_longer_than_the_timeout',
    ),
}


def test_every_case_is_run_or_has_a_test_of_its_own():
    if not CASES.is_dir():
        pytest.skip(f'the cases are not at {CASES}')
    assert not EXPECTED.keys() & COVERED.keys()
    assert EXPECTED.keys() | COVERED.keys() == {path.parent.name for path in CASES.glob('*/run.sh')}
    for file, test in COVERED.values():
        assert f'def {test}(' in (REPOSITORY / 'tests' / file).read_text()


@pytest.fixture(scope='module')
def clone(simulated_nuscenes, tmp_path_factory):
    """A folder with what a clone has, the data and one checkpoint of each model."""
    if not CASES.is_dir():
        pytest.skip(f'the cases are not at {CASES}')
    folder = tmp_path_factory.mktemp('clone')
    for name in ('tools', 'configs', 'projects'):
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(simulated_nuscenes, folder / 'case_data')
    (folder / 'data').mkdir()
    (folder / 'data' / 'simulated').symlink_to(folder / 'case_data')
    init_default_scope('mmdet3d')
    for name, config in MODELS_OF_CASES.items():
        model = MODELS.build(Config.fromfile(REPOSITORY / 'configs' / f'{config}.py').model)
        (folder / name).mkdir()
        weights = {'state_dict': model.state_dict(), 'meta': {}}
        torch.save(weights, folder / name / 'epoch_1.pth')
    return folder


def commands_of(case, left_out):
    """The case's commands without those left out."""
    kept = []
    for line in (CASES / case / 'run.sh').read_text().splitlines():
        if any(line.startswith(end[:-4]) for end in left_out if end.endswith(' ...')):
            break
        if not line.startswith(left_out):
            kept.append(line)
    return '\n'.join(kept)


@pytest.mark.slow
@pytest.mark.parametrize('case', sorted(EXPECTED))
def test_ends_with_the_right_result_or_one_clear_sentence(case, clone):
    patterns, left_out = EXPECTED[case]
    environment = {
        **os.environ,
        'T': str(clone),
        'D': str(clone / 'case_data'),
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': str(REPOSITORY / 'projects'),
        'CUDA_VISIBLE_DEVICES': '',
        'OMP_NUM_THREADS': '1',
    }
    ended = subprocess.run(
        ['bash', '-c', commands_of(case, left_out)],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
    )
    said = ended.stdout + ended.stderr
    assert 'Traceback' not in said
    errors = re.split(r'^(?=error: )', ended.stderr, flags=re.M)[1:]
    assert len(errors) == len(patterns), said
    for error, pattern in zip(errors, patterns):
        assert re.match(pattern, error), error
    if not patterns:
        assert ended.returncode == 0
