"""SEM: REM without an adversary where the noise moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uexcli.builtin.methods.rem import RobustErrorMinimising
from uexcli.plugin import Method, Preset, hookimpl


@dataclass(frozen=True)
class StableErrorMinimising(RobustErrorMinimising):
    """REM in which the noise meets one uniform draw of rho instead of an adversary; theta still learns against one.

    An order of magnitude cheaper, and in its paper the stronger one under adversarial training.
    """

    name: ClassVar[str] = "sem"
    summary: ClassVar[str] = (
        "rem with random changes instead of an adversary while the noise moves; a tenth of the work"
    )
    paper: ClassVar[str] = "Liu et al., Stable Unlearnable Example, AAAI 2024, arXiv 2311.13091"
    presets: ClassVar[tuple[str, ...]] = ("quick",)
    adversarial_noise: ClassVar[bool] = False

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """A short training with few draws."""
        return Preset({"train_steps": 500, "batch": 128, "steps": 5, "step": 0.4, "draws": 2, "attack_steps": 3})


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [StableErrorMinimising]
