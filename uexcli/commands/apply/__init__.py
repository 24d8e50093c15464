"""Apply: a noise file and photos in, a protected release out; and merging what shards wrote."""

from uexcli.commands.apply.command import Request, Result, run

__all__ = ["Request", "Result", "run"]
