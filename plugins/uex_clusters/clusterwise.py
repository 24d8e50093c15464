"""Cluster-wise: images that look alike share a noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Granularity, Secret, option

if TYPE_CHECKING:
    from torch import Tensor, nn

CENTRES, FARTHEST = "centres", "farthest"  # in the noise file: float32 (R, F) and (R,)
STARTS = 4  # of k-means


def means(points: Tensor, rows: Tensor) -> Tensor:
    """Give the mean of the points `(N, F)` of each row, rows int64 `(N,)` dense from 0: `(R, F)`."""
    count = int(rows.max()) + 1
    sums = points.new_zeros(count, points.shape[1]).index_add_(0, rows, points)
    return sums / rows.bincount(minlength=count).unsqueeze(1)


@dataclass(frozen=True)
class Clusterwise(Granularity):
    """Row k is cluster k's; a new photo takes the noise of the nearest centre, which the noise file keeps."""

    name: ClassVar[str] = "clusterwise"
    default_without_labels: ClassVar[bool] = True
    summary: ClassVar[str] = "images of a k-means cluster share a noise; needs no labels, protects new photos too"
    paper: ClassVar[str] = "Zhang et al., Unlearnable Clusters, CVPR 2023"
    can_assign: ClassVar[bool] = True

    clusters: int = option(10, "how many k-means clusters")
    encoder: str = option("auto", "what is clustered: features of a pretrained surrogate, NAME[:FILE], or pixels")

    def __post_init__(self) -> None:
        """Refuse what is no number of clusters."""
        if self.clusters < 1:
            raise ValueError("clusters must be at least 1")

    def rows(self, labels: Tensor, features: Callable[[], Tensor], secret: Secret, *, keys: Sequence[str]) -> Tensor:
        """K-means on the features, Euclidean, seeded; numbered so that no cluster is empty."""
        import torch
        from sklearn.cluster import KMeans

        points = features().double()
        seed = int(secret.integers(2**31))
        fitted = KMeans(min(self.clusters, len(points)), n_init=STARTS, random_state=seed).fit(points.numpy())
        dense: Tensor
        _, dense = torch.unique(torch.from_numpy(fitted.labels_).long(), return_inverse=True)
        return dense

    def memory(self, rows: Tensor, features: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The centres, each the mean of its cluster, and how far the farthest image of each cluster lies from it."""
        import torch

        points = features().double()
        centres = means(points, rows)
        distances = (points - centres[rows]).norm(dim=1)
        farthest = distances.new_zeros(len(centres)).scatter_reduce_(0, rows, distances, "amax")
        usual = farthest[farthest > 0]  # a cluster of one photo has no extent of its own
        if len(usual):
            farthest = torch.where(farthest > 0, farthest, usual.median())
        return {CENTRES: centres.float(), FARTHEST: farthest.float()}

    def assign(
        self,
        labels: Tensor,
        features: Callable[[], Tensor],
        memory: Mapping[str, Tensor],
        *,
        keys: Sequence[str],
    ) -> Tensor:
        """The nearest centre, Euclidean."""
        import torch

        return torch.cdist(features().double(), memory[CENTRES].double()).argmin(1)

    def chooser(self, memory: Mapping[str, Tensor]) -> nn.Module | None:
        """The nearest centre."""
        from uex_clusters._chooser import Nearest

        return Nearest(memory[CENTRES], memory[FARTHEST]) if FARTHEST in memory else None

    def near(self, rows: Tensor, features: Callable[[], Tensor], memory: Mapping[str, Tensor]) -> Tensor | None:
        """The distance to the row's centre, over that of the farthest image that was fitted with it."""
        if FARTHEST not in memory:
            return None  # written before it was kept
        distances = (features().double() - memory[CENTRES].double()[rows]).norm(dim=1)
        shares: Tensor = distances / memory[FARTHEST].double()[rows].clamp(min=1e-12)
        return shares
