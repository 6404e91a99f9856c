"""Transform past LiDAR sweeps into the frame of the key sweep.

mmdet3d's ``LoadPointsFromMultiSweeps`` transforms a sweep with the matrix ``lidar2sensor`` of the
info file, L = [R | t], as p R - t (points as rows). That was right for the converter of mmdet3d
1.1.0rc0 to rc2, which stored the negated translation of the *inverse* in t. Since 1.1.0rc3, the
converter stores the transform from the key sweep's frame to the past sweep's, whose inverse is
(p - t) R: points are displaced if the vehicle turned between the two sweeps (mmdet3d's issue 3054).
The poses of both sweeps are in the info files of all versions and are unambiguous.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from mmdet3d.datasets.transforms import LoadPointsFromMultiSweeps as MMDet3DSweepLoading

from ...errors import ConfigError
from ...registry import TRANSFORMS

TIME_LAG = 4
"""Column of the time since a point was measured."""


def sweep_to_key_transform(key: dict, sweep: dict) -> np.ndarray:
    """Return the transform from a past sweep's LiDAR frame to the key sweep's.

    Args:
        key: Info of the sample.
        sweep: One of its ``lidar_sweeps``.

    Returns:
        (4, 4) float64, metres: through the ego poses at both times if the info file has them, else
        the inverse of ``lidar2sensor``, which is right for files of mmdet3d 1.1.0rc3 and later.
    """
    poses = [
        (entry.get('ego2global'), entry['lidar_points'].get('lidar2ego')) for entry in (key, sweep)
    ]
    if any(matrix is None for pair in poses for matrix in pair):
        return invert_pose(np.asarray(sweep['lidar_points']['lidar2sensor'], dtype=np.float64))
    key_ego, key_lidar, sweep_ego, sweep_lidar = (
        np.array(matrix, dtype=np.float64) for pair in poses for matrix in pair
    )
    # Global positions are kilometres from the origin: use differences, for precision.
    sweep_ego[:3, 3] -= key_ego[:3, 3]
    key_ego[:3, 3] = 0.0
    return invert_pose(key_lidar) @ invert_pose(key_ego) @ sweep_ego @ sweep_lidar


def invert_pose(pose: np.ndarray) -> np.ndarray:
    """Return the inverse of rigid transforms.

    Args:
        pose: (..., 4, 4).

    Returns:
        (..., 4, 4), of the same dtype.
    """
    inverse = np.zeros_like(pose)
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3:] = -rotation @ pose[..., :3, 3:]
    inverse[..., 3, 3] = 1.0
    return inverse


@TRANSFORMS.register_module()
class LoadPointsFromMultiSweeps(MMDet3DSweepLoading):
    """Add past LiDAR sweeps to the key sweep, compensated for the motion of the vehicle.

    It replaces mmdet3d's transform of this name and differs only in the motion, see
    :mod:`ciba_bev.detection.nuscenes.sweeps`. The fifth feature of every point becomes the time
    since its measurement, in seconds, 0 for the key sweep.

    Args:
        sweeps_num: Maximum number of past sweeps.
        load_dim: Number of features of a point in the file, at least 5.
        use_dim: Features to keep: their columns, or the number of the first columns.
        backend_args: mmengine's file backend; None for the local disk.
        pad_empty_sweeps: Whether to repeat the key sweep ``sweeps_num`` times if there are no past
            sweeps.
        remove_close: Whether to remove points within a metre of the LiDAR of their sweep, along
            both axes.
        test_mode: Whether to use the latest sweeps instead of random ones.

    Raises:
        ConfigError: Points have no fifth feature.
    """

    def __init__(
        self,
        sweeps_num: int = 10,
        load_dim: int = 5,
        use_dim: int | Sequence[int] = (0, 1, 2, 4),
        backend_args: dict | None = None,
        pad_empty_sweeps: bool = False,
        remove_close: bool = False,
        test_mode: bool = False,
    ) -> None:
        use_dim = list(range(use_dim)) if isinstance(use_dim, int) else list(use_dim)
        if load_dim <= TIME_LAG or max(use_dim) >= load_dim:
            raise ConfigError(
                f'LoadPointsFromMultiSweeps: load_dim is {load_dim} and use_dim {use_dim}. The '
                'time since a measurement is the fifth feature, so load_dim must be 5 or more, '
                'and use_dim must be columns below it.'
            )
        super().__init__(
            sweeps_num=sweeps_num,
            load_dim=load_dim,
            use_dim=use_dim,
            backend_args=backend_args,
            pad_empty_sweeps=pad_empty_sweeps,
            remove_close=remove_close,
            test_mode=test_mode,
        )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the sweeps.

        Args:
            results: The sample's info with the key sweep in ``points``.

        Returns:
            The same dictionary, all sweeps in ``points``.

        Raises:
            ConfigError: The key sweep was loaded with another number of columns.
        """
        points = results['points']
        width = points.tensor.shape[1]
        if width != self.load_dim:
            raise ConfigError(
                f'LoadPointsFromMultiSweeps: the key sweep has {width} numbers per point, the past '
                f'ones {self.load_dim} (load_dim). Give LoadPointsFromFile use_dim={self.load_dim}.'
            )
        points.tensor[:, TIME_LAG] = 0
        clouds = [points]
        if results.get('lidar_sweeps'):
            for index in self._choose(len(results['lidar_sweeps'])):
                clouds.append(points.new_point(self._load(results, index)))
        elif self.pad_empty_sweeps:
            repeated = self._remove_close(points) if self.remove_close else points
            clouds += [repeated] * self.sweeps_num
        points = points.cat(clouds)
        if self.use_dim != list(range(width)):
            points = points[:, self.use_dim]
        results['points'] = points
        return results

    def _choose(self, available: int) -> np.ndarray:
        """Return the indices of the sweeps to add; the info file lists the latest first."""
        if available <= self.sweeps_num or self.test_mode:
            return np.arange(min(available, self.sweeps_num))
        return np.random.choice(available, self.sweeps_num, replace=False)

    def _load(self, results: dict[str, Any], index: int) -> np.ndarray:
        """Return a past sweep, (N, load_dim) float32, in the key sweep's frame."""
        sweep = results['lidar_sweeps'][index]
        points = self._load_points(sweep['lidar_points']['lidar_path'])
        points = np.copy(points).reshape(-1, self.load_dim)
        if self.remove_close:
            points = self._remove_close(points)
        transform = sweep_to_key_transform(results, sweep)
        points[:, :3] = points[:, :3] @ transform[:3, :3].T + transform[:3, 3]
        points[:, TIME_LAG] = results['timestamp'] - sweep['timestamp']
        return points
