"""Operators with more than one backend; callers never choose, the tensors' device does."""

from .deformable_attention import deformable_attention

__all__ = ['deformable_attention']
