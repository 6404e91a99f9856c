"""The nuScenes dataset of short sequences of frames, for temporal models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterable, Sequence

import numpy as np
from mmengine.dataset import Compose
from torch import Tensor

from ...errors import ConfigError
from ...registry import DATASETS
from ..loading import empty_for_batch
from .can_bus import relative_can_bus
from .data_checks import NeededFields
from .frame_dataset import NuScenesFrameDataset, iterate_transforms

FRAME_META_KEYS = ('cam2img', 'lidar2cam')
# These transform the LiDAR frame at random, differently for each frame of a sequence.
LIDAR_FRAME_AUGMENTATIONS = (
    'GlobalRotScaleTrans',
    'BEVFusionGlobalRotScaleTrans',
    'RandomFlip3D',
    'BEVFusionRandomFlip3D',
    'GlobalAlignment',
    'ObjectSample',
    'ObjectNoise',
    'PolarMix',
    'LaserMix',
)
# A sequence has only the points of the current frame.
POINT_TRANSFORMS = (
    'LoadPointsFromFile',
    'LoadPointsFromMultiSweeps',
    'PointsRangeFilter',
    'PointSample',
    'PointShuffle',
)


@DATASETS.register_module()
class NuScenesSequenceDataset(NuScenesFrameDataset):
    """The current frame of nuScenes with the images of previous frames.

    An item is packed as in mmdet3d, for the current (last) frame, with these additions:

    - ``inputs['img']``: tensor (T * cameras, 3, H, W), oldest frame first;
    - ``data_samples.metainfo['frames']``: a list of T dictionaries, oldest frame first, with

      - ``token`` (str): sample token;
      - ``lidar2cam`` (list of arrays (4, 4)): from the frame's LiDAR to each camera;
      - ``cam2img`` (list of arrays (3, 3) or (4, 4)): intrinsics, as augmented;
      - ``can_bus`` (array (18,)): ego motion relative to the frame's predecessor in the
        sequence, see :mod:`.can_bus`;
      - ``previous_token`` (str): token of that predecessor, '' if there is none.

    In training, T is ``queue_length``: of the ``queue_length`` frames before the current one in its
    scene, one is dropped at random, as in BEVFormer, which varies the time step. At the start of a
    scene its first frame is repeated; a repeated frame, like the first one of the sequence, has no
    predecessor.

    In test mode, T is 1, the predecessor is the previous sample of the scene, and the model is
    expected to store the state of that one.

    Args:
        queue_length: Number of frames in a training item, including the current one.
        **kwargs: See :class:`NuScenesFrameDataset`.

    Raises:
        DataError: The info file lacks temporal fields.
        ConfigError: ``queue_length`` is less than 1, or the pipeline transforms the LiDAR frame at
            random or does not pack the camera matrices.
    """

    def __init__(self, queue_length: int = 4, **kwargs: Any) -> None:
        if queue_length < 1:
            raise ConfigError(f'queue_length={queue_length}: give 1 or more frames.')
        self.queue_length = queue_length
        super().__init__(**kwargs)
        self._check_pipeline()
        self._image_pipeline = Compose(
            [
                transform
                for transform in self.pipeline.transforms
                if type(transform).__name__ not in POINT_TRANSFORMS
            ]
        )

    @property
    def needed_fields(self) -> NeededFields:
        """The parts of an info that this dataset reads."""
        return replace(super().needed_fields, temporal=True)

    def full_init(self) -> None:
        """Load the info file and index its frames."""
        if self._fully_initialized:
            return
        # Serialised after indexing, because iterating over serialised infos is slow.
        serialize, self.serialize_data = self.serialize_data, False
        super().full_init()
        self._index_frames(self.data_list)
        self.serialize_data = serialize
        if serialize:
            self.data_bytes, self.data_address = self._serialize_data()

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep only some of the samples.

        Args:
            indices: Their indices; an integer N for the first N samples, or the last if negative.
        """
        super().get_subset_(indices)
        self._index_frames(self.get_data_info(index) for index in range(len(self)))

    def get_subset(self, indices: Sequence[int] | int) -> NuScenesSequenceDataset:
        """Return a dataset of some of the samples.

        Args:
            indices: Their indices; an integer N for the first N samples, or the last if negative.

        Returns:
            The smaller dataset; scenes begin with its first frame.
        """
        subset = super().get_subset(indices)
        subset._index_frames(subset.get_data_info(index) for index in range(len(subset)))
        return subset

    def scenes(self) -> list[list[int]]:
        """List the samples of each scene.

        Returns:
            Indices; scenes in order of first occurrence, frames in order of time.
        """
        members: dict[str, list[int]] = {}
        for index, scene in enumerate(self._scenes):
            members.setdefault(scene, []).append(index)
        return [sorted(scene, key=self._frame_numbers.__getitem__) for scene in members.values()]

    def prepare_data(self, index: int) -> dict | None:
        """Load a sequence.

        Args:
            index: Index of the current frame.

        Returns:
            The packed sequence; None in training if the current frame has no objects.

        Raises:
            DataError: The pipeline fails because a file of a frame is missing or damaged.
        """
        packed = super().prepare_data(index)
        if packed is None:
            return None
        current = packed['data_samples']
        if self.test_mode:
            previous = self._previous[index]
            frames = [self._describe_frame(current.metainfo, index, previous)]
        else:
            queue = self._draw_queue(index)
            images = packed['inputs']['img']
            queue_images = empty_for_batch((len(queue), *images.shape), images.dtype)
            queue_images[-1] = images
            frames = []
            for position, member in enumerate(queue):
                metainfo = current.metainfo
                if position < len(queue) - 1:
                    metainfo = self._load_images(member, queue_images[position])
                previous = queue[position - 1] if position else None
                if previous == member:
                    previous = None
                frames.append(self._describe_frame(metainfo, member, previous))
            packed['inputs']['img'] = queue_images.flatten(0, 1)
        current.set_metainfo({'frames': frames})
        return packed

    def _index_frames(self, infos: Iterable[dict]) -> None:
        self._tokens: list[str] = []
        self._scenes: list[str] = []
        self._frame_numbers: list[int] = []
        previous_tokens = []
        can_buses = []
        for info in infos:
            self._tokens.append(info['token'])
            self._scenes.append(info['scene_token'])
            self._frame_numbers.append(info['frame_idx'])
            previous_tokens.append(info['prev'])
            can_buses.append(info['can_bus'])
        index_of_token = {token: index for index, token in enumerate(self._tokens)}
        self._previous = [index_of_token.get(token) for token in previous_tokens]
        self._can_bus = np.array(can_buses, dtype=np.float64)

    def _draw_queue(self, index: int) -> list[int]:
        """Draw the frames of a training item; mmengine seeds NumPy in each worker."""
        past = [index]
        for _ in range(self.queue_length):
            previous = self._previous[past[0]]
            past.insert(0, past[0] if previous is None else previous)
        del past[np.random.randint(self.queue_length)]
        return past

    def _load_images(self, index: int, out: Tensor) -> dict:
        """Load the images of one frame into a tensor; return what is known about them."""
        info = self.get_data_info(index)
        info['box_type_3d'] = self.box_type_3d
        info['box_mode_3d'] = self.box_mode_3d
        info['img_out'] = out
        try:
            packed = self._image_pipeline(info)
        except Exception:
            self._explain_failure(index)
            raise
        # Only our own packing takes the hint.
        if packed['inputs']['img'] is not out:
            out.copy_(packed['inputs']['img'])
        metainfo: dict = packed['data_samples'].metainfo
        return metainfo

    def _describe_frame(self, metainfo: dict, index: int, previous: int | None) -> dict:
        previous_can_bus = None if previous is None else self._can_bus[previous]
        return {
            'token': self._tokens[index],
            'lidar2cam': [np.asarray(matrix) for matrix in metainfo['lidar2cam']],
            'cam2img': [np.asarray(matrix) for matrix in metainfo['cam2img']],
            'can_bus': relative_can_bus(self._can_bus[index], previous_can_bus),
            'previous_token': '' if previous is None else self._tokens[previous],
        }

    def _check_pipeline(self) -> None:
        transforms = list(iterate_transforms(self.pipeline))
        names = [type(transform).__name__ for transform in transforms]
        moving = [name for name in names if name in LIDAR_FRAME_AUGMENTATIONS]
        if moving:
            raise ConfigError(
                f'{self.ann_file}: the pipeline of NuScenesSequenceDataset has '
                f'{", ".join(moving)}, which would move the LiDAR frame by another amount in each '
                'frame of a sequence and break the motion between them. Take it out; augment the '
                'images instead.'
            )
        for transform in transforms:
            packed = getattr(transform, 'meta_keys', FRAME_META_KEYS)
            missing = [key for key in FRAME_META_KEYS if key not in packed]
            if missing:
                raise ConfigError(
                    f'{self.ann_file}: {type(transform).__name__} in the pipeline of '
                    f'NuScenesSequenceDataset must pack {", ".join(missing)}. Add it to its '
                    'meta_keys.'
                )
