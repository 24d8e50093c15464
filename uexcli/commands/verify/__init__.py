"""Verify: whether a release is bounded, complete and intact."""

from uexcli.commands.verify.command import LINES, SCHEMA, Request, Result, run

__all__ = ["LINES", "SCHEMA", "Request", "Result", "run"]
