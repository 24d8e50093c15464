"""Verify: whether a release is bounded, complete and intact."""

from uexcli.commands.verify.command import run
from uexcli.commands.verify.result import LINES, SCHEMA, Request, Result

__all__ = ["LINES", "SCHEMA", "Request", "Result", "run"]
