"""Bench: methods against countermeasures on sets of photos, as one resumable command."""

from uexcli.commands.bench.command import TRAININGS, Request, Result, Row, run

__all__ = ["TRAININGS", "Request", "Result", "Row", "run"]
