"""The base classes a plugin author subclasses, a file for each kind; the only package of uexcli that a plugin needs.

A plugin class is a frozen dataclass. Class variables describe it, fields are its options (`-O key=value`, or
`jpeg:10` where a spec is written on the command line):

    @dataclass(frozen=True)
    class Half(Norm):
        name: ClassVar[str] = "half"
        summary: ClassVar[str] = "half as strict as linf"
        factor: float = option(2.0, "how much laxer")

Nothing here imports torch: keep heavy imports inside methods, so that `uex --help` stays fast.
Images are uint8 `(N, C, S, S)`; float images and noise are in units of the [0, 1] range, so 8/255 is 8 grey levels.
"""

from __future__ import annotations

from uexcli.errors import UexError, UsageError
from uexcli.plugin.base import OnStep, Plugin, Progress, State, hookimpl, option
from uexcli.plugin.countermeasure import Countermeasure
from uexcli.plugin.dataset import (
    HIDDEN,
    IMAGE_SUFFIXES,
    NO_IMAGE,
    Dataset,
    Sample,
    Unread,
    is_safe,
    split_folder,
    split_of,
)
from uexcli.plugin.granularity import Granularity, Secret
from uexcli.plugin.method import Method, Preset, Work
from uexcli.plugin.norm import Norm
from uexcli.plugin.problem import Frozen, Journal, Problem, Stream, Trainer, Verdict
from uexcli.plugin.surrogate import Surrogate
from uexcli.plugin.target import Outcome, Scores, Target, Trial

__all__ = [
    "HIDDEN",
    "IMAGE_SUFFIXES",
    "NO_IMAGE",
    "Countermeasure",
    "Dataset",
    "Frozen",
    "Granularity",
    "Journal",
    "Method",
    "Norm",
    "OnStep",
    "Outcome",
    "Plugin",
    "Preset",
    "Problem",
    "Progress",
    "Sample",
    "Scores",
    "Secret",
    "State",
    "Stream",
    "Surrogate",
    "Target",
    "Trainer",
    "Trial",
    "UexError",
    "Unread",
    "UsageError",
    "Verdict",
    "Work",
    "hookimpl",
    "is_safe",
    "option",
    "split_folder",
    "split_of",
]
