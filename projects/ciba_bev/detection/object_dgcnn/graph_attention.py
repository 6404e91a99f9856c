"""Self-attention between queries as dynamic graph convolution (DGCNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GraphSelfAttention(nn.Module):
    """Two edge convolutions over the graph of each query and its neighbours in feature space.

    The graph is drawn anew before each convolution. Two things differ from DGCNN's paper because
    the reference implementation, and so every published weight, does: an edge joins a query to
    the *farthest* ``num_neighbors`` others (its top-k of distances keeps the largest), and its
    feature is (neighbour, query) rather than (neighbour - query, query).

    Args:
        embed_dims: Channels.
        num_neighbors: Edges per query (K in the paper).
        dropout: On the output, before the input is added.
    """

    def __init__(
        self, embed_dims: int = 256, num_neighbors: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        self.conv1 = self._edge_convolution(embed_dims)
        self.conv2 = self._edge_convolution(embed_dims)
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def _edge_convolution(embed_dims: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(2 * embed_dims, embed_dims, kernel_size=1, bias=False),
            nn.BatchNorm2d(embed_dims),
            nn.ReLU(inplace=True),
        )

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        """Mix queries (B, Q, C) with their graph neighbours; returns (B, Q, C)."""
        first = self.conv1(self._edges(query + query_pos)).max(-1).values.transpose(1, 2)
        second = self.conv2(self._edges(first)).max(-1).values.transpose(1, 2)
        return query + self.dropout(first + second)

    def _edges(self, query: Tensor) -> Tensor:
        """Edge features (neighbour, query), (B, 2C, Q, K), of queries (B, Q, C)."""
        distance = torch.cdist(query.float(), query.float())
        neighbors = distance.topk(min(self.num_neighbors, query.size(1)), dim=-1).indices
        batch = torch.arange(len(query), device=query.device).view(-1, 1, 1)
        center = query.unsqueeze(2).expand(-1, -1, neighbors.size(-1), -1)
        edges = torch.cat((query[batch, neighbors], center), dim=-1)
        return edges.permute(0, 3, 1, 2)
