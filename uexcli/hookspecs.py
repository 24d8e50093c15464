"""What can be extended: the table of contents of the plugin system.

Every hook takes nothing and returns classes from `uexcli.plugin`. A plugin is a module with any of these functions
marked `@uexcli.plugin.hookimpl`, made known by an entry point of the group `uex`:

    from uexcli.plugin import Norm, hookimpl

    class Mine(Norm): ...

    @hookimpl
    def uex_norms() -> list[type[Norm]]:
        return [Mine]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from uexcli import plugin

PROJECT = "uex"
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def uex_methods() -> list[type[plugin.Method]]:  # type: ignore[empty-body]
    """How the noise is found: `em`, `random`, `lsp`, ..."""


@hookspec
def uex_norms() -> list[type[plugin.Norm]]:  # type: ignore[empty-body]
    """What "small" means: `linf`, `l2`, `ssim`, ..."""


@hookspec
def uex_granularities() -> list[type[plugin.Granularity]]:  # type: ignore[empty-body]
    """Which images share a noise: `samplewise`, `classwise`, `universal`, ..."""


@hookspec
def uex_surrogates() -> list[type[plugin.Surrogate]]:  # type: ignore[empty-body]
    """The nets the noise is fitted against: `small`, `resnet18`, ..."""


@hookspec
def uex_datasets() -> list[type[plugin.Dataset]]:  # type: ignore[empty-body]
    """Where images come from: `folder`, `cifar10:ROOT`, ..."""


@hookspec
def uex_countermeasures() -> list[type[plugin.Countermeasure]]:  # type: ignore[empty-body]
    """What an attacker does to protected images before training: `jpeg:10`, `grayscale`, ..."""


@hookspec
def uex_targets() -> list[type[plugin.Target]]:  # type: ignore[empty-body]
    """Who tries to learn from protected images: `small`, `resnet18`, ..."""
