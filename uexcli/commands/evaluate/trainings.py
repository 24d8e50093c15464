"""The trainings of an evaluation: which there are, which are done, how long the others take; and doing them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from uexcli import plugin
from uexcli.commands.evaluate import cache
from uexcli.commands.evaluate.cache import Cells
from uexcli.commands.evaluate.jobs import Job, surrogate
from uexcli.commands.evaluate.protocol import PLAIN, Protocol
from uexcli.commands.evaluate.scenario import Scenario, Side
from uexcli.core import seeding
from uexcli.core.eval.against import Against
from uexcli.core.eval.feature_cache import FeatureCache
from uexcli.core.eval.pooled import pooled
from uexcli.core.eval.scores import Pairs
from uexcli.core.eval.trial import Fresh, MemoryTrial
from uexcli.errors import UsageError
from uexcli.io.images import crops
from uexcli.io.images.photo_files import open_photo
from uexcli.io.release.shards import Shard
from uexcli.messages import Listener, duration
from uexcli.registry import Registry

PROBED = 256  # images a training is timed on


@dataclass(frozen=True)
class Ground:
    """What is trained and tested on: one scenario at one size, split into one fold or more."""

    folds: tuple[Scenario, ...]
    pairs: Pairs | None = None

    @property
    def test_labels(self) -> Tensor:
        """Of the test images of all folds, in their order: int64 `(N,)`."""
        return torch.cat([fold.test_labels for fold in self.folds])


Place = tuple[str, int]  # the scenario, and the size
Run = tuple[Job, str, int, int]  # side, seed and fold
Done = Mapping[tuple[Job, str, int], plugin.Outcome]  # side and seed, of all folds


@dataclass
class Plan:
    """All trainings of an evaluation."""

    registry: Registry
    grounds: Mapping[Place, Ground]
    jobs: list[Job]
    protocol: Protocol
    device: torch.device
    autocast: torch.dtype | None
    cells: Cells
    shard: Shard
    listener: Listener
    have: int = 0
    _features: FeatureCache = field(default_factory=FeatureCache)
    _found: dict[Run, plugin.Outcome] = field(default_factory=dict)
    _keys: dict[Run, str] = field(default_factory=dict)
    _facts: dict[Run, dict[str, object]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many trainings there are."""
        return sum(job.seeds * sum(len(fold.sides) for fold in self.ground(job).folds) for job in self.jobs)

    def ground(self, job: Job) -> Ground:
        """What a job trains and tests on."""
        return self.grounds[job.at, job.size]

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
                "(`fresh=True` does them again)"
            )
        if mine:
            self._do(mine)
        for run in todo:  # of other shards, which went on meanwhile
            outcome = None if run in self._found or self.cells.fresh else self.cells.load(self._keys[run])
            if outcome is not None:
                self._found[run] = outcome
        self.have = len(self._found)
        return self._done() if self.have == self.total else None

    def _done(self) -> dict[tuple[Job, str, int], plugin.Outcome]:
        """Put the folds together."""
        made = {}
        for job in self.jobs:
            folds = self.ground(job).folds
            tests = [len(fold.test_labels) for fold in folds]
            for name in folds[0].sides:
                trained = [len(fold.sides[name].labels) for fold in folds]
                for seed in range(job.seeds):
                    runs = [self._found[job, name, seed, fold] for fold in range(len(folds))]
                    made[job, name, seed] = pooled(runs, tests, trained)
        return made

    def _todo(self) -> list[Run]:
        """Look what is there; give the others, one countermeasure, fold and side after the other."""
        for place, ground in self.grounds.items():
            jobs = [job for job in self.jobs if (job.at, job.size) == place]
            for fold, scenario in enumerate(ground.folds):
                for name, side in scenario.sides.items():
                    self._look(jobs, fold, scenario, name, side, ground.pairs)
        order = {spec: place for place, spec in enumerate(dict.fromkeys(job.against.spec for job in self.jobs))}
        places = {place: number for number, place in enumerate(self.grounds)}
        todo = [run for run in self._keys if run not in self._found]
        return sorted(
            todo, key=lambda run: (order[run[0].against.spec], places[run[0].at, run[0].size], run[3], run[1])
        )

    def _look(
        self, jobs: Sequence[Job], fold: int, scenario: Scenario, name: str, side: Side, pairs: Pairs | None
    ) -> None:
        """Find what was kept of the trainings of one side."""
        images = cache.fingerprint(
            side.images, side.labels, scenario.test, scenario.test_labels, side.parts,
            *((pairs.left, pairs.right, pairs.same) if pairs else ()),
        )  # fmt: skip
        view = _told(side.views)
        for job in jobs:
            for seed in range(job.seeds):
                run = (job, name, seed, fold)
                trial = self._trial(run, side.images)
                self._facts[run] = cache.facts_of(self.registry, job.target, trial, images, view)
                self._keys[run] = self.cells.key(self._facts[run])
                outcome = self.cells.load(self._keys[run])
                if outcome is not None:
                    self._found[run] = outcome

    def _do(self, runs: list[Run]) -> None:
        seconds = self._estimates(runs)
        whole = sum(seconds[run[0]] for run in runs)
        words = "1 training" if len(runs) == 1 else f"{len(runs)} trainings"
        self.listener.say(f"{words}; estimated time: about {duration(whole)}")
        before = furthest = 0.0
        prepared: tuple[tuple[object, ...], Tensor] | None = None
        for run in runs:
            job, name, _, fold = run
            side, place = self._side(run), (job.against.spec, job.at, job.size, fold, name)
            known = None if self.cells.fresh else self.cells.load(self._keys[run])
            if known is not None:  # the same by another name, or done by another shard
                self._found[run] = known
                before += seconds[job]
                continue
            if prepared is None or prepared[0] != place:
                prepared = (place, job.against.prepare(side.images, side.labels))
            what = self._words(run)

            def on_step(p: plugin.Progress, job: Job = job, before: float = before, what: str = what) -> None:
                nonlocal furthest
                note = f"{what}: {p.note}" if p.note else what
                # a target of two parts counts each from nothing
                furthest = max(furthest, before + seconds[job] * min(1.0, p.done / p.total))
                self.listener.step(plugin.Progress(furthest, whole, note, "train"))

            outcome = job.target.evaluate(self._trial(run, prepared[1], on_step))
            self._found[run] = outcome
            self.cells.save(self._keys[run], {**self._facts[run], "side": name}, outcome, self.device)
            before += seconds[job]

    def _words(self, run: Run) -> str:
        """Say what is trained."""
        job, name, seed, fold = run
        against = "plain training" if job.against.spec == PLAIN else job.against.spec
        folds = len(self.ground(job).folds)
        parts = [name, job.name, against, job.at, f"seed {seed}", f"fold {fold + 1} of {folds}" if folds > 1 else ""]
        return ", ".join(part for part in parts if part)

    def _side(self, run: Run) -> Side:
        job, name, _, fold = run
        return self.ground(job).folds[fold].sides[name]

    def _trial(self, run: Run, images: Tensor, on_step: plugin.OnStep = lambda _: None) -> MemoryTrial:
        job, _, seed, fold = run
        scenario, side = self.ground(job).folds[fold], self._side(run)
        return MemoryTrial(
            images,
            side.labels,
            scenario.test,
            scenario.test_labels,
            len(scenario.classes),
            seed,
            self.protocol.epochs,
            self.device,
            self.autocast,
            on_step,
            _fresh(job.against, side),
            job.against,
            side.parts,
            self.ground(job).pairs,
            functools.partial(self._surrogate, side, len(scenario.classes)),
            self._features,
        )

    def _surrogate(self, side: Side, classes: int, name: str, weights: str) -> nn.Module:
        """Build a pretrained net for the images of a side."""
        made = surrogate(self.registry, name, weights)
        if not made.pretrained:
            raise UsageError(f"surrogate '{name}' is not pretrained.", hint="For example efficientnet_lite0.")
        if (lacking := made.missing_requirement()) is not None:
            raise lacking
        shape = side.images.shape
        return made.build(num_classes=classes, channels=int(shape[1]), size=int(shape[2]))

    def _estimates(self, runs: list[Run]) -> dict[Job, float]:
        """Time each target on a few images, once; seconds for one training of each job."""
        plain: dict[tuple[str, int], float] = {}
        for number, run in enumerate(runs):
            job = run[0]
            if (job.name, job.size) not in plain:
                self.listener.step(plugin.Progress(number, len(runs), job.name, "estimate"))
                side = self._side(run)
                trial = dataclasses.replace(self._trial(run, side.images), against=Against(PLAIN), seed=0)
                plain[job.name, job.size] = _estimate(job.target, trial) + _cutting(side, job.target, trial)
        return {job: plain[job.name, job.size] * job.against.cost * self._new(job) for job, *_ in runs}

    def _new(self, job: Job) -> float:
        """Say what share of its images a run of a frozen net has not met in other folds: each is encoded once."""
        frozen = not job.target.batches and not hasattr(job.target, "epochs")  # SimCLR trains, on its own batches
        return 1 / len(self.ground(job).folds) if frozen else 1.0


def _told(drawn: crops.Views | None) -> str | None:
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


def _estimate(target: plugin.Target, trial: MemoryTrial) -> float:
    """Time one epoch on a few images and multiply by the target's work; seconds for one training."""
    count = len(trial.train_images)
    few = torch.randperm(count, generator=seeding.generator(0, "estimate"))[:PROBED].to(trial.train_images.device)
    probe = dataclasses.replace(
        trial, train_images=trial.train_images[few], train_labels=trial.train_labels[few],
        test_images=trial.test_images[:32], test_labels=trial.test_labels[:32], seed=0, epochs=1,
        on_step=lambda _: None, fresh=None, parts=None, pairs=None, features=FeatureCache(0),
    )  # fmt: skip
    target.evaluate(probe)  # the first run pays for start-up
    began = time.perf_counter()
    target.evaluate(probe)
    each = (time.perf_counter() - began) / max(1.0, target.work(probe))
    tests = 0.3 * len(trial.test_images) * target.work(trial) / max(1, count)
    return max(1e-3, each * (target.work(trial) + tests))


def _cutting(side: Side, target: plugin.Target, trial: MemoryTrial) -> float:
    """Time the crops of a few photos; seconds for one training, which cuts each photo anew in every epoch."""
    if side.views is None or not target.crops:
        return 0.0
    few = dataclasses.replace(side.views, samples=side.views.samples[:32])
    began = time.perf_counter()
    few(seeding.generator(0, "estimate"))
    return (time.perf_counter() - began) / len(few.samples) * target.work(trial)
