"""A simulated driving world, recorded by a LiDAR and six cameras in the nuScenes format."""

from .dataset_writer import simulate_nuscenes
from .errors import SimulationError
from .settings import SimulationSettings, resolve_scene_names

__all__ = ['SimulationError', 'SimulationSettings', 'resolve_scene_names', 'simulate_nuscenes']
