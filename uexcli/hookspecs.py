"""What can be extended: the table of contents of the plugin system.

Every hook takes nothing and returns classes from `uexcli.api`. A plugin is a module with any of these functions
marked `@uexcli.api.hookimpl`, made known by an entry point of the group `uex`:

    from uexcli.api import Norm, hookimpl

    class Mine(Norm): ...

    @hookimpl
    def uex_norms() -> list[type[Norm]]:
        return [Mine]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from uexcli import api

PROJECT = "uex"
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def uex_methods() -> list[type[api.Method]]:  # type: ignore[empty-body]
    """How the noise is found: `em`, `random`, `lsp`, ..."""


@hookspec
def uex_norms() -> list[type[api.Norm]]:  # type: ignore[empty-body]
    """What "small" means: `linf`, `l2`, `ssim`, ..."""


@hookspec
def uex_granularities() -> list[type[api.Granularity]]:  # type: ignore[empty-body]
    """Which images share a noise: `samplewise`, `classwise`, `universal`, ..."""


@hookspec
def uex_surrogates() -> list[type[api.Surrogate]]:  # type: ignore[empty-body]
    """The nets the noise is fitted against: `small`, `resnet18`, ..."""


@hookspec
def uex_datasets() -> list[type[api.Dataset]]:  # type: ignore[empty-body]
    """Where images come from: `folder`, `cifar10:ROOT`, ..."""


@hookspec
def uex_countermeasures() -> list[type[api.Countermeasure]]:  # type: ignore[empty-body]
    """What an attacker does to protected images before training: `jpeg:10`, `grayscale`, ..."""


@hookspec
def uex_targets() -> list[type[api.Target]]:  # type: ignore[empty-body]
    """Who tries to learn from protected images: `small`, `resnet18`, ..."""
