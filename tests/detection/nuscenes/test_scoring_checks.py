import json
import shutil

import pytest
from mmdet3d.evaluation import NuScenesMetric

from ciba_bev.detection.nuscenes.data_checks import DataError
from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file
from ciba_bev.detection.nuscenes.scoring_checks import check_scoring
from ciba_bev.registry import HOOKS


@pytest.fixture
def root(simulated_nuscenes, tmp_path):
    """A copy of the tables and info files, which scoring reads."""
    folder = tmp_path / 'nuscenes'
    shutil.copytree(
        simulated_nuscenes, folder, ignore=shutil.ignore_patterns('samples', 'sweeps', 'can_bus')
    )
    return folder


@pytest.fixture
def test_data(build_dataset, root):
    """Builds the test data of the copy."""

    def build(split='val', **changes):
        changes.setdefault('ann_file', f'nuscenes_infos_{split}.pkl')
        return build_dataset('nuscenes_camera', 'val', data_root=str(root), **changes)

    return build


@pytest.fixture
def metric(root):
    """Builds a metric on the copy."""

    def build(ann_file='nuscenes_infos_val.pkl', **arguments):
        return NuScenesMetric(str(root), str(root / ann_file), **arguments)

    return build


def formatting(folder):
    return {'format_only': True, 'jsonfile_prefix': str(folder)}


def test_what_the_devkit_scores_passes(test_data, metric, root):
    check_scoring(test_data(), metric())
    # A copy of the info file is as good.
    shutil.copy(root / 'nuscenes_infos_val.pkl', root / 'copy.pkl')
    check_scoring(test_data(), metric('copy.pkl'))


def test_frames_of_another_info_file_are_refused(test_data, metric, tmp_path):
    message = r'scored against other frames(.|\n)*infos_train\.pkl.*infos_val\.pkl'
    with pytest.raises(DataError, match=message):
        check_scoring(test_data('train'), metric())
    with pytest.raises(DataError, match='scored against other frames'):
        check_scoring(test_data('train'), metric(**formatting(tmp_path)))


def test_a_frame_of_the_same_name_in_another_place_is_another(test_data, metric, root):
    content = load_info_file(root / 'nuscenes_infos_val.pkl')
    content['data_list'][4]['ego2global'][0][3] += 1.0
    save_info_file(content, root / 'moved.pkl')
    with pytest.raises(DataError, match=r'frame 4 is .* or has another pose'):
        check_scoring(test_data(), metric('moved.pkl'))


@pytest.mark.parametrize(
    ('indices', 'message'),
    [(3, r'mini_val, and 4 of its 7 frames are missing\. Take indices out'), ([2, 5], 'indices')],
)
def test_a_part_of_the_split_is_refused(test_data, metric, indices, message):
    with pytest.raises(DataError, match=message):
        check_scoring(test_data(indices=indices), metric())


def test_a_part_may_be_predicted_if_positions_stay(test_data, metric, tmp_path):
    check_scoring(test_data(indices=3), metric(**formatting(tmp_path)))
    with pytest.raises(DataError, match='does not begin at its start'):
        check_scoring(test_data(indices=[2, 5]), metric(**formatting(tmp_path)))


def test_frames_of_no_scored_split_are_refused(test_data, metric):
    with pytest.raises(DataError, match='mini_val, and 7 of its 7 frames are missing and 7 frames'):
        check_scoring(test_data('train'), metric('nuscenes_infos_train.pkl'))


def test_the_test_split_has_no_annotations(test_data, metric, root, tmp_path):
    content = load_info_file(root / 'nuscenes_infos_val.pkl')
    content['metainfo']['version'] = 'v1.0-test'
    save_info_file(content, root / 'nuscenes_infos_test.pkl')
    dataset = test_data(ann_file='nuscenes_infos_test.pkl')
    with pytest.raises(DataError, match=r'v1\.0-test, which cannot be scored.*--format-only'):
        check_scoring(dataset, metric('nuscenes_infos_test.pkl'))
    check_scoring(dataset, metric('nuscenes_infos_test.pkl', **formatting(tmp_path)))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda root: shutil.rmtree(root / 'maps'), 'the map is missing'),
        (lambda root: shutil.rmtree(root / 'v1.0-mini'), 'no such folder of tables'),
        (lambda root: (root / 'v1.0-mini/log.json').unlink(), r'log\.json: the table is missing'),
        (
            lambda root: (root / 'v1.0-mini/sample_data.json').write_text('[{"token": "a'),
            r'sample_data\.json: the table is truncated',
        ),
        (
            lambda root: (root / 'v1.0-mini/scene.json').write_text('[{"token": ]'),
            r'scene\.json: the table is truncated or damaged',
        ),
    ],
)
def test_what_the_devkit_cannot_open_is_named(test_data, metric, root, tmp_path, damage, message):
    damage(root)
    with pytest.raises(DataError, match=message):
        check_scoring(test_data(), metric())
    check_scoring(test_data(), metric(**formatting(tmp_path)))


def test_the_tables_are_those_that_the_devkit_reads(root):
    from nuscenes import NuScenes

    # Without any one of them, or the map, it does not open.
    for path in [*(root / 'v1.0-mini').glob('*.json'), *(root / 'maps').iterdir()]:
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises((AssertionError, FileNotFoundError)):
            NuScenes('v1.0-mini', str(root), verbose=False)
        path.write_bytes(kept)
    assert len(json.loads((root / 'v1.0-mini' / 'map.json').read_text())) >= 1


def test_the_hook_checks_scoring_before_the_first_step(test_data, metric, root):
    from types import SimpleNamespace

    (root / 'v1.0-mini' / 'log.json').unlink()
    dataset = test_data()
    loader = SimpleNamespace(dataset=dataset)
    evaluator = SimpleNamespace(metrics=[metric()])
    runner = SimpleNamespace(
        cfg={},
        train_dataloader=SimpleNamespace(dataset=None),
        train_loop=SimpleNamespace(val_begin=1, max_epochs=1),
        val_loop=object(),
        val_dataloader=loader,
        val_evaluator=evaluator,
        test_dataloader=loader,
        test_evaluator=evaluator,
    )
    hook = HOOKS.build({'type': 'ciba_bev.CheckDataHook', 'show_progress': False})
    for stage in (hook.before_train, hook.before_val, hook.before_test):
        with pytest.raises(DataError, match=r'log\.json: the table is missing'):
            stage(runner)
    # A training that never validates needs no tables, only the images, which are not there.
    runner.train_loop.val_begin = 2
    with pytest.raises(DataError, match='CAM_FRONT'):
        hook.before_train(runner)
