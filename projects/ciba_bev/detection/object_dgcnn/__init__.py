"""Object-DGCNN, the LiDAR teacher (Wang and Solomon, NeurIPS 2021)."""

from .detector import ObjectDGCNN
from .graph_attention import GraphSelfAttention
from .head import ObjectDGCNNHead
from .sparse_encoder import SparseEncoder
from .transformer import ObjectDGCNNTransformer

__all__ = [
    'GraphSelfAttention',
    'ObjectDGCNN',
    'ObjectDGCNNHead',
    'ObjectDGCNNTransformer',
    'SparseEncoder',
]
