"""Evaluate: what a net still learns from a release, beside what it learns from the clean photos."""

from uexcli.commands.evaluate.command import Cell, Partial, Result, Side, check, protocol_of, run
from uexcli.commands.evaluate.request import Request

__all__ = ["Cell", "Partial", "Request", "Result", "Side", "check", "protocol_of", "run"]
