"""Groups of like images, for photos that come without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Thumbnails(nn.Module):
    """Images at thumbnail size as vectors: float `(N, C, S, S)` to `(N, C * side * side)`, in the same units."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Means over a grid."""
        down, across = (_means(int(length), self.side).to(images) for length in images.shape[2:])
        return (down @ images @ across.T).flatten(1)


def _means(length: int, count: int) -> Tensor:
    """Give the matrix `(count, length)` that takes means over `count` equal parts, which overlap where they must."""
    rows = torch.zeros(count, length)
    for part in range(count):
        begin, end = part * length // count, -(-(part + 1) * length // count)
        rows[part, begin:end] = 1 / (end - begin)
    return rows


def kmeans(features: Tensor, count: int, seed: int) -> Tensor:
    """Assign each feature vector `(N, F)` to one of `count` k-means clusters: int64 `(N,)`."""
    from sklearn.cluster import KMeans

    ids = KMeans(count, n_init=4, random_state=seed % 2**32).fit_predict(features.double().numpy())
    return torch.from_numpy(ids).long()
