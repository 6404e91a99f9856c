"""BEVFormer, the camera student (Li et al., ECCV 2022)."""

from .detector import BEVFormer
from .encoder import BEVFormerEncoder, BEVFormerEncoderLayer
from .grid_mask import GridMask
from .head import BEVFormerHead
from .spatial_cross_attention import SpatialCrossAttention
from .temporal_self_attention import TemporalSelfAttention
from .transformer import BEVFormerTransformer

__all__ = [
    'BEVFormer',
    'BEVFormerEncoder',
    'BEVFormerEncoderLayer',
    'BEVFormerHead',
    'BEVFormerTransformer',
    'GridMask',
    'SpatialCrossAttention',
    'TemporalSelfAttention',
]
