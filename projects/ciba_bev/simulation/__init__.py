"""A simulated driving world, recorded by a LiDAR and six cameras in the nuScenes format."""

from .dataset_writer import simulate_nuscenes
from .settings import SimulationSettings, resolve_scene_names

__all__ = ['SimulationSettings', 'resolve_scene_names', 'simulate_nuscenes']
