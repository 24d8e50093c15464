"""Cluster-wise noise: images that look alike share one, so no labels are needed and new photos can be protected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Granularity, hookimpl, option

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Clusterwise(Granularity):
    """Row k is cluster k's; a new photo takes the noise of the nearest centre, which the noise file keeps."""

    name: ClassVar[str] = "clusterwise"
    summary: ClassVar[str] = "images of a k-means cluster share a noise; needs no labels, protects new photos too"
    paper: ClassVar[str] = "Zhang et al., Unlearnable Clusters, CVPR 2023"
    can_assign: ClassVar[bool] = True

    clusters: int = option(10, "how many k-means clusters")

    def __post_init__(self) -> None:
        """Refuse what is no number of clusters."""
        if self.clusters < 1:
            raise ValueError("clusters must be at least 1")

    def rows(
        self, labels: Tensor, features: Callable[[], Tensor], generator: Generator, *, keys: Sequence[str]
    ) -> Tensor:
        """K-means on the features, seeded; numbered so that no cluster is empty."""
        import torch
        from sklearn.cluster import KMeans

        points = features().double()
        seed = int(torch.randint(2**31, (1,), generator=generator))
        ids = KMeans(min(self.clusters, len(points)), n_init=4, random_state=seed).fit_predict(points.numpy())
        dense: Tensor
        _, dense = torch.unique(torch.from_numpy(ids).long(), return_inverse=True)
        return dense

    def memory(self, rows: Tensor, features: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The centres: the mean of each cluster, float32 `(R, F)`."""
        points = features().double()
        count = int(rows.max()) + 1
        sums = points.new_zeros(count, points.shape[1]).index_add_(0, rows, points)
        return {"centres": (sums / rows.bincount(minlength=count).unsqueeze(1)).float()}

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

        return torch.cdist(features().double(), memory["centres"].double()).argmin(1)


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Clusterwise]
