"""Self-attention between queries as dynamic graph convolution (DGCNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...precision import full_products


class GraphSelfAttention(nn.Module):
    """Two edge convolutions over the graph of the queries and their neighbours in feature space.

    The graph is recomputed before each convolution. As in the reference implementation and its
    published weights, two things differ from DGCNN's paper: the neighbours of a query are the
    *farthest* ``num_neighbors`` others (its top-k keeps the largest distances), and the feature of
    an edge is (neighbour, query) instead of (neighbour - query, query).

    Args:
        embed_dims: Channels.
        num_neighbors: Edges per query (K in the paper).
        dropout: Dropout of the output, before the residual connection.
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
        """Update the queries from their neighbours.

        Args:
            query: (B, Q, C).
            query_pos: Positional part of the query, (B, Q, C).

        Returns:
            (B, Q, C).
        """
        first = self._convolve(self.conv1, query + query_pos)
        second = self._convolve(self.conv2, first)
        return query + self.dropout(first + second)

    def _convolve(self, convolution: nn.Sequential, query: Tensor) -> Tensor:
        """Apply an edge convolution and take the maximum over edges, (B, Q, C) to (B, Q, C)."""
        conv, norm, activation = convolution
        with full_products():
            distance = torch.cdist(query.float(), query.float())
        neighbors = distance.topk(min(self.num_neighbors, query.size(1)), dim=-1).indices
        batch = torch.arange(len(query), device=query.device).view(-1, 1, 1)
        # A convolution of pairs is the sum of two halves, each computed once per query.
        of_neighbor, of_center = conv.weight.flatten(1).chunk(2, dim=1)
        center = F.linear(query, of_center).unsqueeze(2)
        edges = F.linear(query, of_neighbor)[batch, neighbors] + center
        return activation(norm(edges.permute(0, 3, 1, 2))).max(-1).values.transpose(1, 2)
