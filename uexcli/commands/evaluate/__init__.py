"""Evaluate: what a net still learns from a release, beside what it learns from the clean photos."""

from uexcli.commands.evaluate.command import Cell, Partial, Request, Result, Side, check, protocol_of, run

__all__ = ["Cell", "Partial", "Request", "Result", "Side", "check", "protocol_of", "run"]
