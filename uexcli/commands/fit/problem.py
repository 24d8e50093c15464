"""From loaded photos to the problem a method is handed, and how long it will take."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from uexcli import plugin
from uexcli.commands.fit.setup import Setup
from uexcli.commands.protect.features import Encoding
from uexcli.core import clusters, seeding
from uexcli.core.fit.bank import NoiseBank
from uexcli.core.fit.data import Data
from uexcli.core.fit.engine import Engine
from uexcli.core.fit.execution import Execution
from uexcli.core.fit.patch import Patch
from uexcli.core.fit.problem import BankProblem
from uexcli.core.fit.store import Store
from uexcli.core.pixels import survival
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.messages import Listener
from uexcli.registry import load

PSEUDO_CLASSES = 10


@dataclass(frozen=True)
class Made:
    """The problem of a fit, and what came of making it."""

    problem: BankProblem
    labels: str  # where they came from, in words
    memory: dict[str, Tensor]  # what the granularity wants remembered
    encoder: str | None  # the digest of the net whose features were used; None: none were, or thumbnails


def make_problem(setup: Setup, loaded: samples.Loaded, seed: int, store: Store, listener: Listener) -> Made:
    """Put the data on the device, give every image its row, and those without labels some.

    Without labels the groups that share a noise stand in for classes; where none is shared, k-means clusters do.
    """
    parts, device = setup.parts, setup.device
    stretched = int(setup.recipe["photo_side"])
    images = loaded.images.to(device) if not store.in_files else loaded.images
    count, channels, size = (int(side) for side in images.shape[:3])
    digest: str | None = None

    def told(done: int) -> None:
        listener.step(plugin.Progress(done, count, stage="look"))
        store.release()

    @functools.cache
    def features() -> Tensor:
        nonlocal digest
        encoding = Encoding(parts.encoder, channels=channels, size=size, seed=seed, device=device)
        digest = encoding.digest
        return encoding(images, told)

    keys = loaded.found.keys
    if len(loaded.labels):
        labels, source = loaded.labels, f"{len(loaded.found.classes)} classes"
    elif parts.granularity.needs_labels or parts.granularity.per_sample:
        labels, source = _pseudo_labels(images, seed, parts.grouper, device, told)
    else:  # the groups that share a noise are the classes, once they are known
        labels, source = torch.zeros(count, dtype=torch.int64), ""
    rows = parts.granularity.rows(labels, features, seeding.Secret(seed, "rows"), keys=keys)
    if not source:
        grouped = rows.shape == labels.shape and int(rows.max()) > 0
        source = f"none; {int(rows.max()) + 1} clusters stand in"
        labels, source = (rows, source) if grouped else _pseudo_labels(images, seed, parts.grouper, device, told)
    num_rows = int(rows.max()) + 1
    if (
        rows.shape != labels.shape
        or rows.dtype != torch.int64
        or len(rows.unique()) != num_rows
        or int(rows.min()) != 0
    ):
        raise UexError(f"granularity '{parts.granularity.name}' gave rows that are not dense int64 from 0.")
    memory = parts.granularity.memory(rows, features)
    surrogate, num_classes = parts.surrogate, int(labels.max()) + 1

    def make(net: plugin.Surrogate | None = surrogate) -> torch.nn.Module:
        assert net is not None
        return net.build(num_classes=num_classes, channels=channels, size=size)

    data = Data(images, labels.to(images.device), keys, num_classes, device, store)
    noise = NoiseBank(
        data,
        rows.to(images.device),
        num_rows,
        parts.norm,
        setup.eps,
        seed,
        survival=survival(setup.size, stretched).to(device) if stretched > setup.size else None,
        patch=Patch.parse(setup.recipe["patch"]) if "patch" in setup.recipe else None,
    )
    problem = BankProblem(
        data,
        noise,
        Execution(setup.autocast, Engine(compiled=setup.compiled)),
        make_surrogate=make,
        make_ensemble=[functools.partial(make, net) for net in parts.ensemble],
        known_features=features if surrogate is not None and surrogate == parts.encoder else None,
    )
    return Made(problem, source, memory, digest)


def _pseudo_labels(
    images: Tensor, seed: int, grouper: plugin.Surrogate | None, device: torch.device, told: Callable[[int], None]
) -> tuple[Tensor, str]:
    """Group images by the features of a pretrained net, or by their thumbnails, where there are no labels."""
    count = min(PSEUDO_CLASSES, max(2, len(images) // 2))
    channels, size = int(images.shape[1]), int(images.shape[2])
    encoding = Encoding(grouper, channels=channels, size=size, seed=seed, device=device)
    ids = clusters.kmeans(encoding(images, told), count, seeding.derive(seed, "pseudo-labels"))
    ids = ids.unique(return_inverse=True)[1]
    by = "" if grouper is None else f", by {grouper.name},"
    return ids, f"none; {int(ids.max()) + 1} k-means clusters{by} stand in"


def estimate(method: plugin.Method, problem: BankProblem) -> tuple[float, float] | None:
    """Time a few passes on this machine and multiply: expected and most seconds; None where no passes are needed."""
    seconds = method.rehearse(problem)
    if seconds is not None:
        return seconds, seconds
    work = method.work(len(problem.images), rows=problem.num_rows)
    if not work.most:
        return None
    if problem.norm.needs_images and not problem.per_sample:  # a network's noise: only the surrogate's passes are timed
        linf = load().make(plugin.Norm, "norm", "linf")  # type: ignore[type-abstract]
        problem = dataclasses.replace(problem, noise=dataclasses.replace(problem.noise, norm=linf, eps=8 / 255))
    model, delta = problem.build(), problem.start(random=False)
    batch = torch.arange(min(problem.chunk, len(problem.images)), device=problem.images.device)
    problem.move(model, delta, batch, step=0.0)
    _wait(problem.device)
    began = time.perf_counter()
    problem.move(model, delta, batch, step=0.0)
    _wait(problem.device)
    each = (time.perf_counter() - began) / len(batch)
    return work.expected * each, work.most * each


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
