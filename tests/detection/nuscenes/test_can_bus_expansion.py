import json

import numpy as np
import pytest

from ciba_bev.detection.nuscenes.can_bus_expansion import CanBusMotion, find_can_bus_folder
from ciba_bev.detection.nuscenes.data_checks import DataError


def pose_message(time):
    return {
        'utime': time,
        'accel': [time, 1, 2],
        'rotation_rate': [3, 4, 5],
        'vel': [6, 7, 8],
        'pos': [0, 0, 0],
        'orientation': [1, 0, 0, 0],
    }


@pytest.fixture
def expansion(tmp_path):
    folder = tmp_path / 'can_bus'
    folder.mkdir()
    messages = [pose_message(time) for time in (100, 120, 140)]
    # scene-0161 is one of those the devkit knows to be without CAN bus data.
    for scene in ('scene-0061', 'scene-0161'):
        (folder / f'{scene}_pose.json').write_text(json.dumps(messages))
    return tmp_path


@pytest.mark.parametrize(('time', 'expected'), [(120, 120), (139, 120), (999, 140), (50, 100)])
def test_the_last_message_not_later_counts(expansion, time, expected):
    motion = CanBusMotion(expansion).at('scene-0061', time)
    np.testing.assert_array_equal(motion, [expected, 1, 2, 3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize('scene', ['scene-0161', 'scene-0002'])
def test_scenes_without_messages_are_noted_once(expansion, scene):
    motion = CanBusMotion(expansion)
    assert motion.at(scene, 100) is None
    assert motion.at(scene, 120) is None
    assert motion.scenes_without == [scene]
    assert motion.at('scene-0061', 120) is not None


def test_the_folder_or_its_parent_may_be_given(expansion):
    assert find_can_bus_folder('elsewhere', expansion) == expansion
    assert find_can_bus_folder('elsewhere', expansion / 'can_bus') == expansion


def test_the_root_and_its_neighbours_are_looked_through(expansion, tmp_path):
    assert find_can_bus_folder(expansion, None) == expansion
    assert find_can_bus_folder(expansion / 'nuscenes', None) == expansion
    assert find_can_bus_folder(tmp_path / 'a' / 'b', None) is None


def test_a_wrong_folder_is_named(tmp_path):
    with pytest.raises(DataError, match='--can-bus') as raised:
        find_can_bus_folder(tmp_path, tmp_path / 'nowhere')
    assert str(tmp_path / 'nowhere') in str(raised.value)
