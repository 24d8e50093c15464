"""Fit: a dataset in, a noise file out."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from uexcli import __version__, plugin
from uexcli.commands.fit import memory as fit_memory
from uexcli.commands.fit import resume
from uexcli.commands.fit.default_method import told_of_method
from uexcli.commands.fit.memory import Memory, told
from uexcli.commands.fit.problem import Made, estimate, make_problem
from uexcli.commands.fit.progress import Whole
from uexcli.commands.fit.request import Request
from uexcli.commands.fit.setup import Setup, check_enough, output_of, prepare
from uexcli.commands.protect.source import ENCODER_WEIGHTS
from uexcli.core import seeding
from uexcli.core.fit import noise as bank
from uexcli.core.fit.engine import Tally
from uexcli.core.fit.problem import BankProblem
from uexcli.core.quality import psnr
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, samples
from uexcli.io.claims import claim
from uexcli.io.noise import noise_file
from uexcli.messages import Listener, duration, tell_notes
from uexcli.registry import load
from uexcli.runtime import machine

__all__ = ["Plan", "Request", "Result", "run"]


@dataclass(frozen=True)
class Plan:
    """What a fit will do, as told before it starts."""

    output: Path
    images: int
    classes: int
    labels: str
    size: int
    channels: int
    method: str
    mode: str
    rows: int
    patch: str | None
    norm: str
    eps: str
    surrogate: str | None
    device: str
    seconds: float | None
    most_seconds: float | None
    memory: int  # bytes at the most
    in_files: int  # bytes
    network: bool = False  # the noise is computed by a network
    bounded: bool = True
    encoder: str | None = None  # the net whose features told images that are alike
    ensemble: tuple[str, ...] = ()  # nets beside the surrogate


@dataclass(frozen=True)
class Result:
    """What a fit did. `written` is False where the output was there already, or with --dry-run."""

    plan: Plan
    written: bool
    already: bool = False
    seconds: float = 0.0
    outcome: str = ""  # the method's final status
    largest: float = 0.0
    at_bound: float = 0.0
    psnr: float = 0.0
    skipped: tuple[samples.Skipped, ...] = ()
    passes: Tally = field(default_factory=Tally)


def run(request: Request, listener: Listener | None = None) -> Result:
    """Fit noise and write the noise file.

    Raises:
        UexError: see `uexcli.errors` and the README's table of bad inputs.
    """
    heard = Whole(listener or Listener())
    if request.dry_run:
        return _run(request, heard)
    with claim(output_of(request)):
        return _run(request, heard)


def _run(request: Request, listener: Whole) -> Result:
    setup = prepare(request)
    setup, seed = resume.take_up(request, setup)
    memory = fit_memory.settle(request, setup)
    loaded = _read(setup, request, memory, listener)
    existing = setup.existing
    if existing is not None:
        seed = existing.seed
    elif request.seed is not None:
        seed = request.seed
    elif seed is None:
        seed = seeding.new_seed()
    made_of = make_problem(setup, loaded, seed, memory.store, listener)
    problem = made_of.problem
    times = None if existing else estimate(setup.parts.method, problem)
    plan = _plan(setup, made_of, times, memory)
    job = {
        "uexcli": __version__,
        "recipe": setup.recipe,
        "eps": setup.eps,
        "seed": seed,
        "photos": _fingerprint(loaded),
        "device": setup.device.type,
        "encoder": made_of.encoder,
    }
    if existing is not None:
        if existing.header.get(ENCODER_WEIGHTS) != made_of.encoder:
            raise UsageError(
                f"{setup.output} was fitted with other weights of '{plan.encoder}'.",
                hint="Use `output` for another name, or `force=True` to replace it.",
            )
        if request.seed is None and seeding.can_be_guessed(existing.header.get("seed")):
            listener.warn(
                f"the seed of {setup.output} can be guessed, and its noise made again: "
                "fit to another name for what you release"
            )
        if not request.dry_run:
            resume.clear(setup, job, listener)
        return Result(plan, written=False, already=True, skipped=loaded.skipped)
    if setup.asked is not None:
        listener.say(told_of_method(load(), setup.asked, setup.parts.method))
    _announce(plan, request.seed, listener)
    tell_notes(setup.found.notes, listener)
    if request.dry_run:
        return Result(plan, written=False, skipped=loaded.skipped)
    atomic.check_room(setup.output, math.prod(problem.shape))

    outcome = ""

    def on_step(progress: plugin.Progress) -> None:
        nonlocal outcome
        outcome = progress.note
        listener.fit(progress)

    listener.begin(plan.seconds)
    began = time.perf_counter()
    with resume.keeping(request, setup, job, memory.store, listener) as journal:
        problem = dataclasses.replace(problem, journal=journal)
        problem.execution.engine.tally = Tally()  # without those of the estimate
        made = bank.check(setup.parts.method.fit(problem, on_step), problem, setup.parts.method)
        seconds = time.perf_counter() - began
        journal.end()
        if isinstance(made, Tensor):
            made = bank.on_grid(made, problem)
        measured = bank.measure(bank.noise_of(made, problem), problem)
        _check(measured, problem, plan, listener)
        noise = noise_file.Noise(
            delta=made.cpu() if isinstance(made, Tensor) else None,
            network={} if isinstance(made, Tensor) else {name: part.cpu() for name, part in made.state_dict().items()},
            rows=problem.rows.cpu(),
            keys=tuple(loaded.found.keys),
            digests=loaded.digests,
            classes=loaded.found.classes,
            memory=made_of.memory,
            header={
                "uexcli": __version__,
                "recipe": setup.recipe,
                "eps": setup.eps,
                "eps_text": setup.eps_text,
                "seed": seed,
                "dataset": {"uri": str(request.photos), "count": plan.images, "fingerprint": _fingerprint(loaded)},
                "measured": measured,
                "torch": torch.__version__,
                "device": setup.device.type,
                **({} if made_of.encoder is None else {ENCODER_WEIGHTS: made_of.encoder}),
            },
        )
        noise_file.write(setup.output, noise, memory.store.release)
        journal.remove()
    return Result(
        plan,
        written=True,
        seconds=seconds,
        outcome=outcome,
        largest=measured["largest"],
        at_bound=measured["at_bound"],
        psnr=psnr(measured["rms_levels"]),
        passes=problem.execution.engine.tally,
        skipped=loaded.skipped,
    )


def _check(measured: Mapping[str, float], problem: BankProblem, plan: Plan, listener: Listener) -> None:
    """Refuse no noise at all; warn of less than was allowed."""
    if measured["rms_levels"] == 0:
        raise UexError(f"method '{plan.method}' found no noise at all.", hint="Try other `options`, or a larger `eps`.")
    if measured["at_bound"] == 0 and problem.norm.bounded:
        listener.warn("the noise of not one image reaches the bound")


def _read(setup: Setup, request: Request, memory: Memory, listener: Listener) -> samples.Loaded:
    """Decode the photos; refuse those the existing output was not fitted on."""
    loaded = samples.load(
        setup.found,
        setup.size,
        setup.channels,
        on_error=request.on_error,
        on_done=lambda done, total: listener.step(plugin.Progress(done, total, stage="read")),
        mapped=memory.mapped,
    )
    for lost in loaded.skipped:
        listener.warn(f"skipped {lost.reason}")
    check_enough(str(request.photos), loaded.found)
    existing = setup.existing
    if existing is not None and existing.header["dataset"].get("fingerprint") != _fingerprint(loaded):
        raise UsageError(
            f"{setup.output} was fitted on other photos.",
            hint="Use `output` for another name, or `force=True` to replace it.",
        )
    return loaded


def _fingerprint(loaded: samples.Loaded) -> str:
    return noise_file.fingerprint(loaded.found.keys, loaded.digests)


def _plan(setup: Setup, made: Made, estimate: tuple[float, float] | None, memory: Memory) -> Plan:
    problem, encoder = made.problem, setup.parts.encoder
    return Plan(
        output=setup.output,
        images=len(problem.images),
        classes=problem.num_classes,
        labels=made.labels,
        size=setup.size,
        channels=setup.channels,
        method=setup.parts.method.name,
        mode=setup.parts.granularity.name,
        rows=problem.num_rows,
        patch=setup.recipe.get("patch"),
        norm=setup.parts.norm.name,
        eps=setup.eps_text,
        surrogate=setup.parts.surrogate.name if setup.parts.surrogate else None,
        device=machine.name_of(setup.device),
        seconds=estimate[0] if estimate else None,
        most_seconds=estimate[1] if estimate else None,
        memory=memory.most,
        in_files=memory.in_files,
        network=setup.parts.method.gives_network,
        bounded=setup.parts.norm.bounded,
        encoder=encoder.name if encoder is not None and made.encoder is not None else None,
        ensemble=tuple(net.name for net in setup.parts.ensemble),
    )


def _against(nets: list[str]) -> str:
    """Name each net once, though some are there at several sides."""
    names = list(dict.fromkeys(nets))
    return f" against {' and '.join(names)}{f' ({len(nets)} nets)' if len(nets) > len(names) else ''}"


def _announce(plan: Plan, seed: int | None, listener: Listener) -> None:
    surrogate = _against([plan.surrogate, *plan.ensemble]) if plan.surrogate else ""
    shape = f"{plan.size} x {plan.size} x {plan.channels}"
    listener.say(f"{plan.images:,} images at {shape}; labels: {plan.labels}")
    size, _, where = (plan.patch or "").partition(":")
    patch = f", patches of {size} px{' at random places' if where else ''}" if plan.patch else ""
    rows = "a network" if plan.network else f"{plan.rows:,} noises"
    bound = f"{plan.norm} <= {plan.eps}" if plan.bounded else f"{plan.norm}: changes of any size"
    alike = f", alike to {plan.encoder}" if plan.encoder else ""
    listener.say(f"{plan.method}{surrogate}, {plan.mode} ({rows}{alike}){patch}, {bound}, on {plan.device}")
    files = f"; images and noise, {told(plan.in_files)}, lie in files beside the output" if plan.in_files else ""
    if seeding.can_be_guessed(seed):
        listener.say("a seed that you choose can be guessed, and the noise made again: give none for what you release")
    listener.say(f"memory: at most about {told(plan.memory)}{files}")
    if plan.seconds is not None and plan.most_seconds is not None:
        most = f", at most {duration(plan.most_seconds)}" if plan.most_seconds > plan.seconds else ""
        listener.say(f"estimated time: about {duration(plan.seconds)}{most}")
