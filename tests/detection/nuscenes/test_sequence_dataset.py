import cv2
import numpy as np
import pytest
import torch
from nuscenes.eval.common.utils import quaternion_yaw
from nuscenes.nuscenes import NuScenes
from pyquaternion import Quaternion

from ciba_bev.detection.nuscenes.info_files import load_info_file, save_info_file
from ciba_bev.errors import CibaError
from ciba_bev.registry import DATASETS

FIRST_SCENE_FRAMES = 7


@pytest.fixture
def plain_pipeline(dataset_config):
    """The training pipeline without randomness."""
    pipeline = dataset_config('nuscenes_camera').pipeline
    return [step for step in pipeline if step['type'] != 'MultiViewWrapper']


@pytest.fixture
def two_scenes(build_dataset, simulated_nuscenes, tmp_path, plain_pipeline):
    """A sequence dataset of both scenes, one after the other in the file."""
    contents = [
        load_info_file(simulated_nuscenes / f'nuscenes_infos_{split}.pkl')
        for split in ('train', 'val')
    ]
    content = {
        'metainfo': contents[0]['metainfo'],
        'data_list': contents[0]['data_list'] + contents[1]['data_list'],
    }
    path = tmp_path / 'both_infos.pkl'
    save_info_file(content, path)

    def build(**changes):
        changes = {'pipeline': plain_pipeline, 'ann_file': str(path), **changes}
        return build_dataset('nuscenes_camera_sequence', **changes)

    return build


def frames_of(item):
    return item['data_samples'].metainfo['frames']


def tokens_of(item):
    return [frame['token'] for frame in frames_of(item)]


def test_an_item_is_the_current_frame_with_images_before_it(
    two_scenes, build_dataset, plain_pipeline
):
    item = two_scenes()[5]
    single = build_dataset('nuscenes_camera', pipeline=plain_pipeline)
    tokens = [single.get_data_info(index)['token'] for index in range(len(single))]
    chosen = [tokens.index(token) for token in tokens_of(item)]
    assert chosen[-1] == 5
    assert chosen == sorted(chosen)
    assert set(chosen) < {1, 2, 3, 4, 5}
    assert len(set(chosen)) == 4
    expected = torch.cat([single[index]['inputs']['img'] for index in chosen])
    assert torch.equal(item['inputs']['img'], expected)
    current = single[5]['data_samples']
    assert torch.equal(
        item['data_samples'].gt_instances_3d.bboxes_3d.tensor,
        current.gt_instances_3d.bboxes_3d.tensor,
    )
    assert item['data_samples'].token == current.token
    for index, frame in zip(chosen, frames_of(item)):
        metainfo = single[index]['data_samples'].metainfo
        np.testing.assert_array_equal(frame['lidar2cam'], metainfo['lidar2cam'])
        np.testing.assert_array_equal(frame['cam2img'], metainfo['cam2img'])


def test_past_images_are_decoded_into_the_place_of_the_sequence(two_scenes, monkeypatch):
    dataset = two_scenes()
    written = []
    split = cv2.split

    def note(image, planes):
        written.append(planes[0].ctypes.data)
        return split(image, planes)

    monkeypatch.setattr(cv2, 'split', note)
    images = dataset[5]['inputs']['img']
    assert images.is_contiguous()
    assert images.untyped_storage().nbytes() == images.numel() == 4 * 6 * 3 * 54 * 96
    # The current frame comes first.
    own, past = written[:6], written[6:]
    begin, size = images.data_ptr(), 3 * 54 * 96
    assert past == list(range(begin, begin + 18 * size, size))
    assert all(not begin <= address < begin + images.numel() for address in own)


def test_transforms_of_mmdet3d_give_the_same_sequences(two_scenes, plain_pipeline):
    stock = [{**step, 'type': step['type'].split('.')[-1]} for step in plain_pipeline]
    assert [step['type'] for step in stock] != [step['type'] for step in plain_pipeline]
    samples = []
    for pipeline in (plain_pipeline, stock):
        dataset = two_scenes(pipeline=pipeline)
        np.random.seed(0)
        samples.append(dataset[6])
    ours, theirs = samples
    assert torch.equal(ours['inputs']['img'], theirs['inputs']['img'])
    assert tokens_of(ours) == tokens_of(theirs)


def test_each_preceding_frame_is_left_out_at_times_and_by_the_seed(two_scenes):
    dataset = two_scenes()
    np.random.seed(0)
    drawn = [tuple(dataset._draw_queue(5)) for _ in range(60)]
    assert set(drawn) == {(2, 3, 4, 5), (1, 3, 4, 5), (1, 2, 4, 5), (1, 2, 3, 5)}
    np.random.seed(0)
    assert [tuple(dataset._draw_queue(5)) for _ in range(60)] == drawn


def test_frames_are_linked_in_the_queue(two_scenes):
    for frames in map(frames_of, two_scenes()):
        assert frames[0]['previous_token'] == ''
        for before, frame in zip(frames, frames[1:]):
            repeated = frame['token'] == before['token']
            assert frame['previous_token'] == ('' if repeated else before['token'])


@pytest.mark.parametrize('offset', [0, FIRST_SCENE_FRAMES])
def test_nothing_from_before_the_scene_gets_in(two_scenes, offset):
    dataset = two_scenes()
    tokens = [dataset.get_data_info(index)['token'] for index in range(len(dataset))]
    first = frames_of(dataset[offset])
    assert [frame['token'] for frame in first] == [tokens[offset]] * 4
    assert [frame['previous_token'] for frame in first] == [''] * 4
    second = frames_of(dataset[offset + 1])
    assert [frame['token'] for frame in second] == [tokens[offset]] * 3 + [tokens[offset + 1]]
    assert [frame['previous_token'] for frame in second[:-1]] == [''] * 3
    assert second[-1]['previous_token'] == tokens[offset]


def motion_in_tables(devkit, before, after):
    poses = []
    for token in (before, after):
        lidar = devkit.get('sample_data', devkit.get('sample', token)['data']['LIDAR_TOP'])
        poses.append(devkit.get('ego_pose', lidar['ego_pose_token']))
    translations = [np.array(pose['translation']) for pose in poses]
    yaws = [quaternion_yaw(Quaternion(pose['rotation'])) for pose in poses]
    turned = np.degrees(np.angle(np.exp(1j * (yaws[1] - yaws[0]))))
    return translations[1] - translations[0], turned


@pytest.mark.parametrize('split', ['train', 'val'])
def test_motion_is_that_of_the_ego_poses(build_dataset, simulated_nuscenes, split):
    devkit = NuScenes('v1.0-mini', str(simulated_nuscenes), verbose=False)
    moved = 0
    for item in build_dataset('nuscenes_camera_sequence', split):
        for frame in frames_of(item):
            if frame['previous_token']:
                translation, turned = motion_in_tables(
                    devkit, frame['previous_token'], frame['token']
                )
            else:
                translation, turned = np.zeros(3), 0.0
            np.testing.assert_allclose(frame['can_bus'][:3], translation, atol=1e-9)
            assert frame['can_bus'][17] == pytest.approx(turned, abs=1e-6)
            assert frame['can_bus'].dtype == np.float64
            moved += np.linalg.norm(translation) > 0.1
    assert moved > 0


def test_in_test_mode_the_frame_before_is_named_not_loaded(build_dataset):
    dataset = build_dataset('nuscenes_camera_sequence', 'val')
    previous = ''
    (scene,) = dataset.scenes()
    for index in scene:
        item = dataset[index]
        assert item['inputs']['img'].shape[0] == 6
        (frame,) = frames_of(item)
        assert frame['previous_token'] == previous
        previous = frame['token']


def test_points_are_the_current_frames(dataset_config):
    config = dataset_config('nuscenes_lidar_camera')
    config.pipeline = [step for step in config.pipeline if step['type'] != 'PointShuffle']
    frame = DATASETS.build(config)[4]
    config.type = 'ciba_bev.NuScenesSequenceDataset'
    item = DATASETS.build(config)[4]
    assert torch.equal(item['inputs']['points'], frame['inputs']['points'])
    assert item['inputs']['img'].shape[0] == 24


@pytest.mark.parametrize('serialize', [True, False])
def test_frames_left_out_of_the_dataset_are_no_history(two_scenes, serialize):
    dataset = two_scenes(indices=[2, 3, 9, 10], serialize_data=serialize)
    tokens = [dataset.get_data_info(index)['token'] for index in range(4)]
    assert tokens_of(dataset[0]) == [tokens[0]] * 4
    assert set(tokens_of(dataset[3])) == {tokens[2], tokens[3]}
    subset = dataset.get_subset([3])
    assert tokens_of(subset[0]) == [tokens[3]] * 4
    dataset.get_subset_([1])
    assert tokens_of(dataset[0]) == [tokens[1]] * 4


def test_scenes_are_sorted_in_time(two_scenes):
    shuffled = [5, 12, 3, 8, 0, 6, 13]
    scenes = two_scenes(indices=shuffled).scenes()
    found = [[shuffled[index] for index in scene] for scene in scenes]
    assert found == [[0, 3, 5, 6], [8, 12, 13]]


@pytest.mark.parametrize(
    'augmentation',
    [
        {'type': 'GlobalRotScaleTrans'},
        {
            'type': 'RandomApply',
            'transforms': [{'type': 'RandomFlip3D', 'flip_ratio_bev_horizontal': 0.5}],
        },
    ],
)
def test_moving_the_lidar_frame_is_refused(two_scenes, plain_pipeline, augmentation):
    with pytest.raises(CibaError, match='LiDAR frame'):
        two_scenes(pipeline=[*plain_pipeline[:-1], augmentation, plain_pipeline[-1]])


def test_camera_matrices_must_be_packed(two_scenes, plain_pipeline):
    pack = {**plain_pipeline[-1], 'meta_keys': ('token', 'cam2img')}
    with pytest.raises(CibaError, match='must pack lidar2cam'):
        two_scenes(pipeline=[*plain_pipeline[:-1], pack])


def test_a_queue_needs_a_frame(two_scenes):
    with pytest.raises(CibaError, match='queue_length=0'):
        two_scenes(queue_length=0)
    assert len(tokens_of(two_scenes(queue_length=1)[3])) == 1
