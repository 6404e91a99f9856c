"""The records that a recorded scene adds to the nuScenes tables."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np

from .nuscenes_tables import (
    CATEGORY_OF_CLASS,
    Record,
    Tables,
    empty_tables,
    link_chain,
    make_token,
    matrix_to_quaternion,
    visibility_token,
    yaw_to_quaternion,
)
from .road import CARRIAGEWAY_HALF_WIDTH, Road
from .scene_recording import (
    RecordedAnnotation,
    RecordedFrame,
    Scene,
    frame_times,
    log_name,
    record_filename,
    timestamp_at,
    write_image,
)
from .sensor_rig import (
    CAMERA_CHANNELS,
    LIDAR_CHANNEL,
    MountedSensor,
    mounted_cameras,
    mounted_lidar,
)
from .settings import KEY_FRAME_INTERVAL, SimulationSettings
from .traffic import ego_pose

_MAP_RESOLUTION = 0.1


def scene_tables(
    scene: Scene, settings: SimulationSettings, frames: list[RecordedFrame], root: pathlib.Path
) -> Tables:
    """Build the records of one scene and write its map mask.

    Args:
        scene: The scene.
        settings: Size and density of the recording.
        frames: All its key frames, in order.
        root: Data root with a `maps` folder.

    Returns:
        The scene's part of all tables.
    """
    tables = empty_tables()
    key = (scene.seed, scene.name)
    log_token, map_token = make_token('log', *key), make_token('map', *key)
    map_file = f'maps/{map_token}.png'
    _write_map_mask(scene.road, root / map_file)
    tables['log'].append(
        {
            'token': log_token,
            'logfile': log_name(scene),
            'vehicle': 'n900',
            'date_captured': '2020-09-13',
            'location': 'simulated-town',
        }
    )
    tables['map'].append(
        {
            'token': map_token,
            'category': 'semantic_prior',
            'filename': map_file,
            'log_tokens': [log_token],
        }
    )
    sensors = [mounted_lidar(), *mounted_cameras(settings.image_width, settings.image_height)]
    for sensor in sensors:
        tables['calibrated_sensor'].append(_calibration_record(scene, sensor))
    scene_token = make_token('scene', *key)
    for frame in frames:
        sample_token = make_token('sample', *key, frame.index)
        tables['sample'].append(
            {
                'token': sample_token,
                'timestamp': timestamp_at(scene, frame.index * KEY_FRAME_INTERVAL),
                'scene_token': scene_token,
            }
        )
        for time, is_key_frame in frame_times(settings, frame.index):
            _add_sensor_records(tables, scene, settings, sample_token, time, is_key_frame)
    link_chain(tables['sample'])
    for channel in (LIDAR_CHANNEL, *CAMERA_CHANNELS):
        marker = f'__{channel}__'
        link_chain([row for row in tables['sample_data'] if marker in row['filename']])
    _add_annotations(tables, scene, frames)
    tables['scene'].append(
        {
            'token': scene_token,
            'log_token': log_token,
            'nbr_samples': len(frames),
            'first_sample_token': tables['sample'][0]['token'],
            'last_sample_token': tables['sample'][-1]['token'],
            'name': scene.name,
            'description': 'Simulated street with parked and moving traffic',
        }
    )
    return tables


def _calibration_token(scene: Scene, channel: str) -> str:
    return make_token('calibrated_sensor', scene.seed, scene.name, channel)


def _calibration_record(scene: Scene, sensor: MountedSensor) -> Record:
    intrinsic = [] if sensor.intrinsic is None else sensor.intrinsic.tolist()
    return {
        'token': _calibration_token(scene, sensor.channel),
        'sensor_token': make_token('sensor', sensor.channel),
        'translation': sensor.translation.tolist(),
        'rotation': matrix_to_quaternion(sensor.rotation),
        'camera_intrinsic': intrinsic,
    }


def _add_sensor_records(
    tables: Tables,
    scene: Scene,
    settings: SimulationSettings,
    sample_token: str,
    time: float,
    is_key_frame: bool,
) -> None:
    """Add the ego pose of one moment and the sensor files recorded then."""
    timestamp = timestamp_at(scene, time)
    position, yaw = ego_pose(scene.road, scene.ego_motion, time)
    pose_token = make_token('ego_pose', scene.seed, scene.name, timestamp)
    tables['ego_pose'].append(
        {
            'token': pose_token,
            'timestamp': timestamp,
            'rotation': yaw_to_quaternion(yaw),
            'translation': position.tolist(),
        }
    )
    for channel in (LIDAR_CHANNEL, *CAMERA_CHANNELS) if is_key_frame else (LIDAR_CHANNEL,):
        is_lidar = channel == LIDAR_CHANNEL
        tables['sample_data'].append(
            {
                'token': make_token('sample_data', scene.seed, scene.name, channel, timestamp),
                'sample_token': sample_token,
                'ego_pose_token': pose_token,
                'calibrated_sensor_token': _calibration_token(scene, channel),
                'timestamp': timestamp,
                'fileformat': 'pcd' if is_lidar else 'jpg',
                'is_key_frame': is_key_frame,
                'height': 0 if is_lidar else settings.image_height,
                'width': 0 if is_lidar else settings.image_width,
                'filename': record_filename(scene, channel, timestamp, is_key_frame),
            }
        )


def _add_annotations(tables: Tables, scene: Scene, frames: list[RecordedFrame]) -> None:
    """Add instances and their annotations.

    An object is annotated from the first to the last key frame in which a sensor noticed it, for
    as long as it stays within range: annotators, too, follow an object through an occlusion.
    """
    sightings: dict[int, list[tuple[int, RecordedAnnotation]]] = {}
    for frame in frames:
        for annotation in frame.annotations:
            sightings.setdefault(annotation.object_index, []).append((frame.index, annotation))
    for object_index, sighted in sightings.items():
        noticed = [
            order
            for order, (_, annotation) in enumerate(sighted)
            if annotation.lidar_points > 0 or annotation.visible > 0
        ]
        if not noticed:
            continue
        item = scene.objects[object_index]
        instance_token = make_token('instance', scene.seed, scene.name, object_index)
        records = []
        for frame_index, annotation in sighted[noticed[0] : noticed[-1] + 1]:
            length, width, height = item.size.tolist()
            attributes = [annotation.attribute] if annotation.attribute else []
            records.append(
                {
                    'token': make_token('annotation', instance_token, frame_index),
                    'sample_token': make_token('sample', scene.seed, scene.name, frame_index),
                    'instance_token': instance_token,
                    'visibility_token': visibility_token(annotation.visible, annotation.covered),
                    'attribute_tokens': [make_token('attribute', name) for name in attributes],
                    'translation': annotation.position.tolist(),
                    'size': [width, length, height],
                    'rotation': yaw_to_quaternion(annotation.yaw),
                    'num_lidar_pts': annotation.lidar_points,
                    'num_radar_pts': 0,
                }
            )
        link_chain(records)
        tables['sample_annotation'].extend(records)
        tables['instance'].append(
            {
                'token': instance_token,
                'category_token': make_token('category', CATEGORY_OF_CLASS[item.class_name]),
                'nbr_annotations': len(records),
                'first_annotation_token': records[0]['token'],
                'last_annotation_token': records[-1]['token'],
            }
        )


def _write_map_mask(road: Road, path: pathlib.Path) -> None:
    """Write the carriageway and sidewalks as nuScenes' semantic prior, 10 cm a pixel."""
    size = int(np.ceil((road.points.max() + 60.0) / _MAP_RESOLUTION))
    edges = []
    for across in (CARRIAGEWAY_HALF_WIDTH + 4.4, -CARRIAGEWAY_HALF_WIDTH - 4.4):
        x, y, _ = road.place(road.stations, across)
        edges.append(np.stack([x, y], axis=1) / _MAP_RESOLUTION)
    mask = np.zeros((size, size), dtype=np.uint8)
    # The mask's first row is the northernmost, as in nuScenes.
    for first in range(len(road.stations) - 1):
        quad = np.concatenate([edges[0][first : first + 2], edges[1][first : first + 2][::-1]])
        quad[:, 1] = size - quad[:, 1]
        cv2.fillConvexPoly(mask, np.round(quad).astype(np.int32), 255)
    write_image(path, mask)
