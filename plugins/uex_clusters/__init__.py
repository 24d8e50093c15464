"""Unlearnable Clusters: noise that needs no labels, and protects new photos too."""

from __future__ import annotations

from uex_clusters.clusterwise import Clusterwise
from uex_clusters.uc import UnlearnableClusters
from uexcli.plugin import Granularity, Method, hookimpl


@hookimpl
def uex_granularities() -> list[type[Granularity]]:
    """Register."""
    return [Clusterwise]


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [UnlearnableClusters]
