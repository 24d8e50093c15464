"""The trainings of an evaluation: which there are, which are done, how long the others take; and doing them."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from uexcli import api
from uexcli.commands import eval_cells
from uexcli.commands.eval_cells import Cells
from uexcli.commands.eval_clean import CleanImages
from uexcli.commands.eval_protocol import PLAIN, Protocol
from uexcli.commands.eval_scenario import Scenario, Side
from uexcli.commands.listener import Listener, duration
from uexcli.core import seeding
from uexcli.core.against import Against
from uexcli.core.scores import Pairs
from uexcli.core.trial import Fresh, MemoryTrial
from uexcli.errors import UsageError
from uexcli.io import views
from uexcli.io.images import open_photo
from uexcli.io.shards import Shard
from uexcli.registry import Registry, build, convert, options_of

FAST = 64  # px; up to here the fast net is the default on a GPU
PROBED = 256  # images a training is timed on


@dataclass(frozen=True)
class Job:
    """A target under countermeasures, for each side and seed."""

    name: str
    target: api.Target
    against: Against
    seeds: int


Run = tuple[Job, str, int]  # side and seed
Done = Mapping[Run, api.Outcome]


def against_of(registry: Registry, spec: str, clean: CleanImages | None = None) -> Against:
    """Read `none`, `jpeg:10`, or `jpeg:10+cutmix`.

    Raises:
        UsageError: there is no such countermeasure, or not with these values.
        UexError: it lacks what it needs.
    """
    if spec == PLAIN:
        return Against(PLAIN)
    parts = tuple(registry.make(api.Countermeasure, "countermeasure", part) for part in spec.split("+"))
    for part in parts:
        if (lacking := part.lacks()) is not None:
            raise lacking
    return Against(spec, parts, clean or CleanImages(registry))


def jobs_of(
    registry: Registry, protocol: Protocol, device: torch.device, size: int, *, strict: bool, listener: Listener
) -> list[Job]:
    """Make all of them, for images of this side; what does not go together is refused if `strict`, else left out.

    Raises:
        UsageError: unknown names, options a target does not have, or nothing that goes together.
        UexError: a target lacks what it needs.
    """
    found = []
    clean = CleanImages(registry)
    measures = [against_of(registry, spec, clean) for spec in dict.fromkeys(protocol.against)]
    for spec in dict.fromkeys(protocol.targets):
        name = _default(device, size) if spec == "auto" else spec
        target = _target(registry, name, protocol)
        if (lacking := target.lacks()) is not None:
            raise lacking
        if protocol.view != views.SQUASH and not target.crops:
            listener.warn(f"target '{name}' sees the middles of the photos, not crops of them")
        for against in measures:
            if against.on_batches and not target.batches:
                text = f"'{against.spec}' changes the batches of a training, and target '{name}' trains on none."
                if strict:
                    raise UsageError(text, hint="Use another target for it.")
                listener.warn(f"left out: {text}")
                continue
            found.append(Job(name, target, against, protocol.seeds))
    if not found:
        raise UsageError("none of these countermeasures goes with these targets.")
    for name in protocol.options:
        registry.find("target", name)
    return list(dict.fromkeys(found))


def as_text(value: object) -> str:
    """Write a value of TOML as the command line has it."""
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default(device: torch.device, size: int) -> str:
    if device.type == "cpu":
        return "small"
    return "airbench" if device.type == "cuda" and size <= FAST else "resnet18"


def _target(registry: Registry, spec: str, protocol: Protocol) -> api.Target:
    """Make a target with the options that the protocol has for it, and those written in its name."""
    cls, _ = registry.read("target", spec)
    fields, options = options_of(cls), {}
    for key, value in protocol.options.get(cls.name, {}).items():
        if key not in fields:
            raise UsageError(f"protocol {protocol.name}: target '{cls.name}' has no option '{key}'.")
        options[key] = convert(as_text(value), fields[key], f"protocol {protocol.name}, [options.{cls.name}]")
    return registry.make(api.Target, "target", spec, options)  # type: ignore[type-abstract]


@dataclass
class Plan:
    """All trainings of an evaluation."""

    registry: Registry
    scenario: Scenario
    pairs: Pairs | None
    jobs: list[Job]
    protocol: Protocol
    device: torch.device
    autocast: torch.dtype | None
    cells: Cells
    shard: Shard
    listener: Listener
    have: int = 0
    _found: dict[Run, api.Outcome] = field(default_factory=dict)
    _keys: dict[Run, str] = field(default_factory=dict)
    _facts: dict[Run, dict[str, object]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many trainings there are."""
        return sum(job.seeds for job in self.jobs) * len(self.scenario.sides)

    def run(self) -> Done | None:
        """Do what is not done yet and is this shard's; None where others still have to do theirs.

        Raises:
            UexError: a training cannot be done, or its outcome cannot be kept.
        """
        todo = self._todo()
        mine = [run for run in todo if self.shard.holds(self._keys[run])]
        if self.cells.used:
            self.listener.say(
                f"{self.cells.used} of {self.total} trainings were done before, in {self.cells.folder} "
                "(--fresh does them again)"
            )
        if mine:
            self._do(mine)
        for run in todo:  # of other shards, which went on meanwhile
            outcome = None if run in self._found or self.cells.fresh else self.cells.load(self._keys[run])
            if outcome is not None:
                self._found[run] = outcome
        self.have = len(self._found)
        return self._found if self.have == self.total else None

    def _todo(self) -> list[Run]:
        """Look what is there; give the others, one countermeasure and side after the other."""
        for name, side in self.scenario.sides.items():
            images = eval_cells.fingerprint(
                side.images, side.labels, self.scenario.test, self.scenario.test_labels, side.parts,
                *((self.pairs.left, self.pairs.right, self.pairs.same) if self.pairs else ()),
            )  # fmt: skip
            view = _told(side.views)
            for job in self.jobs:
                for seed in range(job.seeds):
                    run = (job, name, seed)
                    trial = self._trial(job, side.images, side, seed)
                    self._facts[run] = eval_cells.facts_of(self.registry, job.target, trial, images, view)
                    self._keys[run] = self.cells.key(self._facts[run])
                    outcome = self.cells.load(self._keys[run])
                    if outcome is not None:
                        self._found[run] = outcome
        order = {spec: place for place, spec in enumerate(dict.fromkeys(job.against.spec for job in self.jobs))}
        todo = [run for run in self._keys if run not in self._found]
        return sorted(todo, key=lambda run: (order[run[0].against.spec], run[1]))

    def _do(self, runs: list[Run]) -> None:
        seconds = self._estimates(runs)
        whole = sum(seconds[run[0]] for run in runs)
        words = "1 training" if len(runs) == 1 else f"{len(runs)} trainings"
        self.listener.say(f"{words}; estimated time: about {duration(whole)}")
        before = 0.0
        prepared: tuple[tuple[str, str], Tensor] | None = None
        for run in runs:
            job, name, seed = run
            side, place = self.scenario.sides[name], (job.against.spec, name)
            known = None if self.cells.fresh else self.cells.load(self._keys[run])
            if known is not None:  # the same by another name, or done by another shard
                self._found[run] = known
                before += seconds[job]
                continue
            if prepared is None or prepared[0] != place:
                prepared = (place, job.against.prepare(side.images, side.labels))
            what = f"{name}, {job.name}, {job.against.spec}, seed {seed}"

            def on_step(p: api.Progress, job: Job = job, before: float = before, what: str = what) -> None:
                note = f"{what}: {p.note}" if p.note else what
                done = before + seconds[job] * min(1.0, p.done / p.total)
                self.listener.step(api.Progress(done, whole, note, "train"))

            outcome = job.target.evaluate(self._trial(job, prepared[1], side, seed, on_step))
            self._found[run] = outcome
            self.cells.save(self._keys[run], {**self._facts[run], "side": name}, outcome, self.device)
            before += seconds[job]

    def _trial(
        self, job: Job, images: Tensor, side: Side, seed: int, on_step: api.OnStep = lambda _: None
    ) -> MemoryTrial:
        return MemoryTrial(
            images,
            side.labels,
            self.scenario.test,
            self.scenario.test_labels,
            len(self.scenario.classes),
            seed,
            self.protocol.epochs,
            self.device,
            self.autocast,
            on_step,
            _fresh(job.against, side),
            job.against,
            side.parts,
            self.pairs,
            self._surrogate,
        )

    def _surrogate(self, name: str, weights: str) -> nn.Module:
        """Build a pretrained net for the images of this evaluation."""
        cls = self.registry.find("surrogate", name).cls
        given = {"weights": weights} if "weights" in options_of(cls) and weights != "auto" else {}
        if weights != "auto" and not given:
            raise UsageError(f"surrogate '{name}' takes no weights.")
        made = build(cls, given, f"surrogate '{name}'")
        assert isinstance(made, api.Surrogate)
        if not made.pretrained:
            raise UsageError(
                f"surrogate '{name}' knows nothing before it is trained.", hint="For example efficientnet_lite0."
            )
        if (lacking := made.lacks()) is not None:
            raise lacking
        shape = self.scenario.sides["clean"].images.shape
        return made.build(num_classes=len(self.scenario.classes), channels=int(shape[1]), size=int(shape[2]))

    def _estimates(self, runs: list[Run]) -> dict[Job, float]:
        """Time each target on a few images, once; seconds for one training of each job."""
        plain: dict[str, float] = {}
        for number, (job, name, _) in enumerate(runs):
            if job.name not in plain:
                self.listener.step(api.Progress(number, len(runs), job.name, "estimate"))
                side = self.scenario.sides[name]
                trial = self._trial(dataclasses.replace(job, against=Against(PLAIN)), side.images, side, 0)
                plain[job.name] = _estimate(job.target, trial) + _cutting(side, job.target, trial)
        return {job: plain[job.name] * job.against.cost for job, _, _ in runs}


def _told(drawn: views.Views | None) -> str | None:
    """Tell the photos that crops are cut from."""
    if drawn is None:
        return None
    digest = hashlib.sha256(f"{drawn.kind} {drawn.size} {drawn.channels};".encode())
    for sample in drawn.samples:
        digest.update(open_photo(sample).digest.encode())
    return digest.hexdigest()


def _fresh(against: Against, side: Side) -> Fresh | None:
    """Give what draws the crops of an epoch, which the countermeasures then change."""
    drawn = side.views
    if drawn is None:
        return None
    return lambda generator: against.prepare(drawn(generator), side.labels.cpu())


def _estimate(target: api.Target, trial: MemoryTrial) -> float:
    """Time one epoch on a few images and multiply by the target's work; seconds for one training."""
    count = len(trial.train_images)
    few = torch.randperm(count, generator=seeding.generator(0, "estimate"))[:PROBED].to(trial.train_images.device)
    probe = dataclasses.replace(
        trial, train_images=trial.train_images[few], train_labels=trial.train_labels[few],
        test_images=trial.test_images[:32], test_labels=trial.test_labels[:32], seed=0, epochs=1,
        on_step=lambda _: None, fresh=None, parts=None, pairs=None,
    )  # fmt: skip
    target.evaluate(probe)  # the first run pays for start-up
    began = time.perf_counter()
    target.evaluate(probe)
    each = (time.perf_counter() - began) / max(1.0, target.work(probe))
    tests = 0.3 * len(trial.test_images) * target.work(trial) / max(1, count)
    return max(1e-3, each * (target.work(trial) + tests))


def _cutting(side: Side, target: api.Target, trial: MemoryTrial) -> float:
    """Time the crops of a few photos; seconds for one training, which cuts each photo anew in every epoch."""
    if side.views is None or not target.crops:
        return 0.0
    few = dataclasses.replace(side.views, samples=side.views.samples[:32])
    began = time.perf_counter()
    few(seeding.generator(0, "estimate"))
    return (time.perf_counter() - began) / len(few.samples) * target.work(trial)
