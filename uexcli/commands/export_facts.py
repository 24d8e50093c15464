"""What a model says of the noise it holds, or makes."""

from __future__ import annotations

from typing import Any

from uexcli.io import noise_file


def facts(noise: noise_file.Noise) -> dict[str, Any]:
    """What whoever runs a model must know."""
    norm = noise.recipe["norm"]
    return {
        "method": noise.recipe["method"]["name"],
        "mode": noise.recipe["granularity"]["name"],
        "norm": {"name": norm["name"], "options": norm.get("options", {})},
        "eps": noise.eps,
        "channels": noise.channels,
        "size": noise.size,
    }
