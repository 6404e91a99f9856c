"""Operators with several backends, selected by the device of the tensors."""

from .deformable_attention import deformable_attention

__all__ = ['deformable_attention']
