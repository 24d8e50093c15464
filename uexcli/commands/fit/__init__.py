"""Fit: photos in, a noise file out."""

from uexcli.commands.fit.command import Request, Result, run

__all__ = ["Request", "Result", "run"]
