"""Small fits for the tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from uexcli.core.fit.bank import NoiseBank
from uexcli.core.fit.data import Data
from uexcli.core.fit.execution import Execution
from uexcli.core.fit.problem import BankProblem


def make(**fields: Any) -> BankProblem:
    """A fit, from the fields of all of its parts: `images`, `rows`, `norm`, `engine` ..."""
    data = Data(**_taken(Data, fields))
    noise = NoiseBank(data, **_taken(NoiseBank, fields))
    execution = Execution(**_taken(Execution, fields))
    return BankProblem(data, noise, execution, **fields)


def changed(problem: BankProblem, **changes: Any) -> BankProblem:
    """The same fit with other fields, of whichever part they are."""
    data = dataclasses.replace(problem.data, **_taken(Data, changes))
    noise = dataclasses.replace(problem.noise, data=data, **_taken(NoiseBank, changes))
    execution = dataclasses.replace(problem.execution, **_taken(Execution, changes))
    return dataclasses.replace(problem, data=data, noise=noise, execution=execution, **changes)


def _taken(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {each.name: fields.pop(each.name) for each in dataclasses.fields(cls) if each.name in fields}
