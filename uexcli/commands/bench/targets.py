"""The targets of a bench: those of its protocol or its recipes, with the options that the recipes have for them."""

from __future__ import annotations

from typing import Any

from uexcli.commands import evaluate
from uexcli.commands.bench.recipes import Recipes
from uexcli.commands.evaluate.jobs import as_text, jobs_of
from uexcli.commands.evaluate.protocol import Protocol
from uexcli.errors import UsageError, unknown
from uexcli.messages import Listener
from uexcli.registry import load, options_of
from uexcli.runtime import machine


def judged(recipes: Recipes) -> dict[str, Any]:
    """What the evaluation of each row is asked for.

    Raises:
        UsageError: options for a target that is not asked for, or that it does not have.
    """
    lists = {key: tuple(recipes.judged[key]) for key in ("targets", "against", "pretrained") if key in recipes.judged}
    found = {**recipes.judged, **lists}
    if recipes.options:
        found["targets"] = _with_options(recipes, evaluate.protocol_of(evaluate.Request("", "", **found)).targets)
    return found


def check(recipes: Recipes, device: str) -> Protocol:
    """Make everything that the evaluation needs, and give the protocol.

    Raises:
        UsageError: unknown names, or what does not go together.
        UexError: a target lacks what it needs.
    """
    request = evaluate.Request("", "", **judged(recipes))
    asked = evaluate.protocol_of(request)
    evaluate.check(request, asked)
    strict = asked.name == ""
    jobs_of(load(), asked, machine.pick_device(device), asked.size or 32, strict=strict, listener=Listener())
    return asked


def _with_options(recipes: Recipes, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Write the options of targets into their names: what a name already says takes precedence."""
    registry = load()
    named = [spec for spec in targets if spec != "auto"]
    read = {spec: registry.read("target", spec) for spec in named}
    for name in recipes.options:
        if name not in {cls.name for cls, _ in read.values()}:
            raise UsageError(
                f"[options.{name}]: '{name}' is not among the targets.", hint="Name it in targets = [...]."
            )
    made = []
    for spec in targets:
        cls, written = read.get(spec, (None, {}))
        more = []
        for key, value in (recipes.options.get(cls.name, {}) if cls else {}).items():
            if cls is None or key not in options_of(cls):
                raise unknown(f"option of target '{spec}'", key, options_of(cls) if cls else ())
            if "," in as_text(value):
                raise UsageError(f"[options.{cls.name}]: {key} holds a comma.", hint="Write a protocol file for it.")
            more += [f"{key}={as_text(value)}"] if key not in written else []
        made.append(spec + (":" if more and ":" not in spec else "," if more else "") + ",".join(more))
    return tuple(made)
