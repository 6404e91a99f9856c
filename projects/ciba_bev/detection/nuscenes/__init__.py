"""nuScenes data: info files, single frames, sequences, and checks before they are used."""

from .can_bus import absolute_can_bus, can_bus_from_ego_pose, relative_can_bus
from .check_data_hook import CheckDataHook, check_nuscenes_data
from .class_balancing import CBGSDataset
from .data_checks import DataError, DataProblem
from .frame_dataset import NuScenesFrameDataset
from .metric import NuScenesDetectionMetric
from .scene_sampler import SceneSequenceSampler
from .sequence_dataset import NuScenesSequenceDataset
from .sweeps import LoadPointsFromMultiSweeps

__all__ = [
    'CBGSDataset',
    'CheckDataHook',
    'DataError',
    'DataProblem',
    'LoadPointsFromMultiSweeps',
    'NuScenesDetectionMetric',
    'NuScenesFrameDataset',
    'NuScenesSequenceDataset',
    'SceneSequenceSampler',
    'absolute_can_bus',
    'can_bus_from_ego_pose',
    'check_nuscenes_data',
    'relative_can_bus',
]
