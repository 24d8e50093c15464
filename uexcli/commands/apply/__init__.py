"""Apply: a noise file and photos in, a protected release out; and merging what shards wrote."""

from uexcli.commands.apply.command import Result, run
from uexcli.commands.apply.request import Request

__all__ = ["Request", "Result", "run"]
