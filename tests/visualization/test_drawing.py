"""What is drawn lies where it belongs."""

from __future__ import annotations

import json
import pathlib
import pickle

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes

from ciba_bev.errors import CibaError
from ciba_bev.visualization import (
    DrawnBoxes,
    box_corners,
    compose_sample_picture,
    draw_boxes_on_image,
    draw_nuscenes_sample,
    draw_points_on_image,
    project_points,
)
from ciba_bev.visualization.key_frame import draw_detectors
from ciba_bev.visualization.predictions import draw_predictions

INTRINSIC = np.array([[100.0, 0.0, 80.0], [0.0, 100.0, 45.0], [0.0, 0.0, 1.0]])
LIDAR2IMG = np.eye(4)
LIDAR2IMG[:3, :3] = INTRINSIC @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
BLACK = np.zeros((90, 160, 3), dtype=np.uint8)
BOX = np.array([[0.5, 12.0, 0.0, 4.0, 2.0, 2.0, 0.4]])


def test_box_covers_its_projection_and_nothing_else():
    drawn = draw_boxes_on_image(BLACK, BOX, LIDAR2IMG, [(255, 0, 0)])
    assert not BLACK.any()
    rows, columns = np.nonzero(drawn[..., 0] > 100)
    pixels, _ = project_points(box_corners(BOX)[0], LIDAR2IMG)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    np.testing.assert_allclose([columns.min(), columns.max()], [low[0], high[0]], atol=1.5)
    np.testing.assert_allclose([rows.min(), rows.max()], [low[1], high[1]], atol=1.5)
    assert not drawn[..., 1:].any()


def test_front_face_is_tinted():
    # Facing the camera: the front is the near face, its inside is tinted.
    facing = np.array([[0.0, 12.0, 0.0, 4.0, 4.0, 2.0, -np.pi / 2]])
    away = facing.copy()
    away[0, 6] = np.pi / 2
    for box, face_depth in ((facing, 10.0), (away, 14.0)):
        drawn = draw_boxes_on_image(BLACK, box, LIDAR2IMG, [(255, 0, 0)])
        # Right of the middle of the face and clear of all edges.
        column = int(80 + 100 * 0.8 / face_depth)
        row = int(45 - 100 * 0.2 / face_depth)
        assert 60 < drawn[row, column, 0] < 100
    # Within the near face but outside the far one, which is the front of this box.
    assert draw_boxes_on_image(BLACK, away, LIDAR2IMG, [(255, 0, 0)])[45, 97, 0] == 0


def test_boxes_behind_the_camera_are_not_drawn():
    behind = BOX * np.array([1, -1, 1, 1, 1, 1, 1])
    assert not draw_boxes_on_image(BLACK, behind, LIDAR2IMG, [(255, 0, 0)]).any()
    assert not draw_boxes_on_image(BLACK, np.zeros((0, 7)), LIDAR2IMG, []).any()


def test_box_around_the_camera_plane_stays_finite():
    beside = np.array([[2.0, 0.0, 0.0, 8.0, 2.0, 2.0, np.pi / 2]])
    drawn = draw_boxes_on_image(BLACK, beside, LIDAR2IMG, [(255, 0, 0)])
    _rows, columns = np.nonzero(drawn[..., 0] > 100)
    # Its inner side is one metre to the right: the far end at depth 4 is 25 pixels off centre.
    assert columns.min() == pytest.approx(105, abs=1)


def test_near_points_cover_far_ones():
    points = np.array([[0.0, 40.0, 0.0], [0.0, 5.0, 0.0], [0.0, -5.0, 0.0], [90.0, 5.0, 0.0]])
    drawn = draw_points_on_image(BLACK, points[[1, 0, 2, 3]], LIDAR2IMG)
    red, _, blue = drawn[44, 79].astype(int)
    assert red > blue
    rows, columns = np.nonzero(drawn.any(axis=-1))
    assert abs(rows - 44.5).max() <= 3
    assert abs(columns - 79.5).max() <= 3


def test_sample_of_a_simulated_data_set(simulated_nuscenes: pathlib.Path, tmp_path: pathlib.Path):
    nusc = NuScenes(version='v1.0-mini', dataroot=str(simulated_nuscenes), verbose=False)
    token = nusc.sample[3]['token']
    out_file = tmp_path / 'new' / 'sample.png'
    plain = draw_nuscenes_sample(nusc, token, out_file=out_file)
    np.testing.assert_array_equal(cv2.imread(str(out_file))[..., ::-1], plain)
    assert [path.name for path in out_file.parent.iterdir()] == ['sample.png']
    annotation = nusc.get('sample_annotation', nusc.sample[3]['anns'][0])
    prediction = {
        **{key: annotation[key] for key in ('translation', 'size', 'rotation')},
        'detection_name': 'bus',
        'detection_score': 0.5,
    }
    detected = draw_nuscenes_sample(nusc, token, predictions=[prediction], score_threshold=0.4)
    none = draw_nuscenes_sample(nusc, token, predictions=[prediction], score_threshold=0.6)
    assert detected.shape == none.shape
    assert (detected != none).any()


def test_detectors_side_by_side(simulated_nuscenes: pathlib.Path, tmp_path: pathlib.Path):
    nusc = NuScenes(version='v1.0-mini', dataroot=str(simulated_nuscenes), verbose=False)
    sample = nusc.sample[3]
    found = [
        {
            **{key: annotation[key] for key in ('translation', 'size', 'rotation')},
            'detection_name': 'bus',
            'detection_score': 0.5,
        }
        for annotation in (nusc.get('sample_annotation', token) for token in sample['anns'])
    ]
    results = {}
    for name, boxes in (('all', found), ('nothing', []), ('nothing again', [])):
        results[name] = tmp_path / f'{name}.json'
        results[name].write_text(json.dumps({'results': {sample['token']: boxes}}))
    out_file = tmp_path / 'row.png'
    draw_detectors(simulated_nuscenes, 'v1.0-mini', out_file, '3', results)
    picture = cv2.imread(str(out_file))
    # Four panels of one width; below their titles, equal ones show equal boxes.
    width = picture.shape[1] // 4
    truth, first, second, third = (
        picture[60:, width * index : width * (index + 1)].astype(int) for index in range(4)
    )
    assert abs(second - third).mean() < 0.1
    assert abs(first - second).mean() > 0.5
    assert abs(truth - second).mean() > 0.5
    with pytest.raises(CibaError, match='has no detections for sample'):
        draw_detectors(simulated_nuscenes, 'v1.0-mini', out_file, '4', results)


def test_missing_image_is_named(simulated_nuscenes: pathlib.Path, tmp_path: pathlib.Path):
    nusc = NuScenes(version='v1.0-mini', dataroot=str(simulated_nuscenes), verbose=False)
    nusc.dataroot = str(tmp_path)
    with pytest.raises(CibaError, match='LIDAR_TOP'):
        draw_nuscenes_sample(nusc, nusc.sample[0]['token'])


def test_points_of_a_real_frame_fall_into_their_boxes(real_frame: pathlib.Path):
    """On a real frame, points inside annotated boxes project into the boxes' outlines."""
    info_file = pickle.loads(next(real_frame.glob('*.pkl')).read_bytes())
    info = info_file['data_list'][0]
    points = np.fromfile(real_frame / info['lidar_points']['lidar_path'], dtype=np.float32).reshape(
        -1, 5
    )
    boxes = np.array([instance['bbox_3d'] for instance in info['instances']])
    images, lidar2img = {}, {}
    for channel, record in info['images'].items():
        images[channel] = cv2.imread(str(real_frame / record['img_path']))[..., ::-1]
        intrinsic = np.eye(4)
        intrinsic[:3, :3] = record['cam2img']
        lidar2img[channel] = intrinsic @ np.array(record['lidar2cam'])
    checked = 0
    for matrix in lidar2img.values():
        corners, depth = project_points(box_corners(boxes).reshape(-1, 3), matrix)
        corners, depth = corners.reshape(-1, 8, 2), depth.reshape(-1, 8)
        for box, outline in zip(boxes[(depth > 1).all(axis=1)], corners[(depth > 1).all(axis=1)]):
            offset = points[:, :3] - box[:3]
            cosine, sine = np.cos(box[6]), np.sin(box[6])
            forward = cosine * offset[:, 0] + sine * offset[:, 1]
            left = -sine * offset[:, 0] + cosine * offset[:, 1]
            own = np.stack([forward, left, offset[:, 2]], axis=1)
            inside = (np.abs(own) < box[3:6] / 2).all(axis=1)
            pixels, _ = project_points(points[inside, :3], matrix)
            checked += len(pixels)
            assert (pixels > outline.min(axis=0) - 1e-3).all()
            assert (pixels < outline.max(axis=0) + 1e-3).all()
    assert checked > 500
    names = list(info_file['metainfo']['categories'])
    labels = [names[instance['bbox_label_3d']] for instance in info['instances']]
    picture = compose_sample_picture(images, lidar2img, points, DrawnBoxes(boxes, labels))
    assert picture.std() > 20


@pytest.mark.parametrize('count', [0, 1, 4])
def test_any_number_of_cameras_and_no_ground_truth(count: int):
    """Each camera has a tile with the box in its colour; of nothing annotated there is no word."""
    channels = [f'camera {number}' for number in range(count)]
    predictions = DrawnBoxes(BOX, ['car'], np.array([0.9]))
    picture = compose_sample_picture(
        dict.fromkeys(channels, BLACK),
        dict.fromkeys(channels, LIDAR2IMG),
        np.zeros((0, 3)),
        ground_truth=None,
        predictions=predictions,
    )
    without = compose_sample_picture(
        dict.fromkeys(channels, BLACK),
        dict.fromkeys(channels, LIDAR2IMG),
        np.zeros((0, 3)),
        ground_truth=DrawnBoxes(np.zeros((0, 7)), []),
    )
    assert picture.shape == without.shape
    changed = (picture != without).any(axis=2)
    views = picture.shape[1] // 2
    tiles = changed[: len(changed) - views]
    assert tiles.any() == (count > 0)
    # Three in a row: the fourth stands below the first.
    rows = -(-count // 3)
    if rows > 1:
        lower = tiles[42 + (len(tiles) - 42) // rows :]
        assert lower[:, : picture.shape[1] // 3].any()
        assert not lower[:, picture.shape[1] // 3 :].any()


def test_images_of_another_shape_are_not_distorted():
    """A square image in a row of wide ones stays square: its circle stays round."""
    square = np.zeros((160, 160, 3), dtype=np.uint8)
    cv2.circle(square, (80, 80), 60, (255, 255, 255), -1)
    picture = compose_sample_picture(
        {'wide': BLACK, 'square': square},
        {'wide': LIDAR2IMG, 'square': LIDAR2IMG},
        np.zeros((0, 3)),
        DrawnBoxes(np.zeros((0, 7)), []),
    )
    white = (picture[:600] == 255).all(axis=2)
    white = cv2.morphologyEx(white.astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9)))
    rows, columns = np.nonzero(white)
    assert np.ptp(rows) > 200
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)


def test_missing_tables_are_named(simulated_nuscenes: pathlib.Path, tmp_path: pathlib.Path):
    results = tmp_path / 'results_nusc.json'
    results.write_text('{"results": {}}')
    info_file = simulated_nuscenes / 'nuscenes_infos_val.pkl'
    with pytest.raises(CibaError, match=r'v1\.0-mini: there are no nuScenes tables'):
        draw_predictions(results, info_file, tmp_path, tmp_path / 'show', 1, 0.3)
