"""Groups of like images, for photos that come without labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pixel_features(images: Tensor, side: int = 8) -> Tensor:
    """Images at thumbnail size as vectors: uint8 `(N, C, S, S)` to float32 `(N, C * side * side)` in [0, 1]."""
    at_once = max(16, 2**24 // images[0].numel())
    parts = [functional.adaptive_avg_pool2d(part.cpu().float() / 255, side) for part in images.split(at_once)]
    return torch.cat(parts).flatten(1)


def kmeans(features: Tensor, count: int, seed: int) -> Tensor:
    """Assign each feature vector `(N, F)` to one of `count` k-means clusters: int64 `(N,)`."""
    from sklearn.cluster import KMeans

    ids = KMeans(count, n_init=4, random_state=seed % 2**32).fit_predict(features.double().numpy())
    return torch.from_numpy(ids).long()
