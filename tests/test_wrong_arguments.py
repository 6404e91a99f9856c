"""A wrong argument is one kind of error, for command lines and for callers of the library."""

from __future__ import annotations

import pytest

from ciba_bev.classification.latent_model import LatentModel
from ciba_bev.classification.synthetic import SyntheticDistillation, make_modalities
from ciba_bev.classification.vgg_sound.networks import VGGSoundNetwork
from ciba_bev.detection.attention import DeformableAttention
from ciba_bev.detection.bevformer.projection import lidar2img_matrices
from ciba_bev.detection.bevformer.transformer import BEVFormerTransformer
from ciba_bev.detection.nuscenes import LoadPointsFromMultiSweeps, NuScenesSequenceDataset
from ciba_bev.detection.object_dgcnn import ObjectDGCNNTransformer
from ciba_bev.engine.config_options import read_config_file
from ciba_bev.errors import CibaError, ConfigError
from nuscenes_simulation import SimulationError, SimulationSettings

RANGE = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: LatentModel(0, 1.5, 8), 'shared is 1.5'),
        (lambda: make_modalities(60), 'general_dims is 60'),
        (lambda: SyntheticDistillation('a.pth', 'a.py', loss='l1'), "loss is 'l1'"),
        (lambda: VGGSoundNetwork('smell'), "modality is 'smell'"),
        (lambda: DeformableAttention(20, 8), 'embed_dims 20'),
        (lambda: lidar2img_matrices({'token': '0a1b'}), "0a1b has no 'cam2img'"),
        (lambda: BEVFormerTransformer((4, 4), RANGE, num_spatial_points=6), 'num_spatial_points 6'),
        (lambda: ObjectDGCNNTransformer(self_attention='dgcnn'), "got 'dgcnn'"),
        (lambda: NuScenesSequenceDataset(queue_length=0), 'queue_length=0'),
        (lambda: LoadPointsFromMultiSweeps(load_dim=4), 'load_dim is 4'),
        (lambda: read_config_file('nowhere.py'), r'nowhere\.py: there is no such config'),
    ],
)
def test_wrong_arguments_are_config_errors(call, message):
    with pytest.raises(ConfigError, match=message) as raised:
        call()
    assert isinstance(raised.value, CibaError)
    assert isinstance(raised.value, ValueError)


def test_wrong_settings_of_the_simulation_are_value_errors():
    """It does not depend on the package, and has an error of its own."""
    with pytest.raises(ValueError, match='supersampling is 9') as raised:
        SimulationSettings(supersampling=9)
    assert isinstance(raised.value, SimulationError)
