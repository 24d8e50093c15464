"""From loaded photos to the problem a method is handed, and how long it will take."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor

from uexcli import api
from uexcli.commands.fit_setup import Setup
from uexcli.core import clusters, seeding
from uexcli.core.engine import Engine
from uexcli.core.patch import Patch
from uexcli.core.pixels import survival
from uexcli.core.problem import BankProblem
from uexcli.core.store import Store
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.registry import load

PSEUDO_CLASSES = 10


def pick_labels(loaded: samples.Loaded, seed: int) -> tuple[Tensor, str]:
    """The labels, or k-means ids where there are none."""
    if len(loaded.labels):
        return loaded.labels, f"{len(loaded.found.classes)} classes"
    count = min(PSEUDO_CLASSES, max(2, len(loaded.images) // 2))
    ids = clusters.kmeans(clusters.pixel_features(loaded.images), count, seeding.derive(seed, "pseudo-labels"))
    ids = ids.unique(return_inverse=True)[1]
    return ids, f"none; {int(ids.max()) + 1} k-means clusters stand in"


def make_problem(
    setup: Setup, loaded: samples.Loaded, labels: Tensor, seed: int, store: Store
) -> tuple[BankProblem, dict[str, Tensor]]:
    """Put the data on the device and give every image its row; also what the granularity wants remembered."""
    parts, device = setup.parts, setup.device
    stretched = int(setup.recipe["photo_side"])
    num_classes = int(labels.max()) + 1
    images = loaded.images.to(device) if not store.in_files else loaded.images

    def features() -> Tensor:
        return clusters.pixel_features(images)

    keys = loaded.found.keys
    rows = parts.granularity.rows(labels, features, seeding.generator(seed, "rows"), keys=keys)
    num_rows = int(rows.max()) + 1
    if (
        rows.shape != labels.shape
        or rows.dtype != torch.int64
        or len(rows.unique()) != num_rows
        or int(rows.min()) != 0
    ):
        raise UexError(f"granularity '{parts.granularity.name}' gave rows that are not dense int64 from 0.")
    memory = parts.granularity.memory(rows, features)
    surrogate = parts.surrogate

    def make() -> torch.nn.Module:
        assert surrogate is not None
        return surrogate.build(num_classes=num_classes, channels=images.shape[1], size=images.shape[2])

    problem = BankProblem(
        images=images,
        labels=labels.to(images.device),
        rows=rows.to(images.device),
        keys=keys,
        num_rows=num_rows,
        num_classes=num_classes,
        norm=parts.norm,
        eps=setup.eps,
        seed=seed,
        device=device,
        make_surrogate=make,
        autocast=setup.autocast,
        store=store,
        engine=Engine(compiled=setup.compiled),
        patch=Patch.parse(setup.recipe["patch"]) if "patch" in setup.recipe else None,
        survival=survival(setup.size, stretched).to(device) if stretched > setup.size else None,
    )
    return problem, memory


def estimate(method: api.Method, problem: BankProblem) -> tuple[float, float] | None:
    """Time a few passes on this machine and multiply: expected and most seconds; None where no passes are needed."""
    work = method.work(len(problem.images), own=problem.own)
    if not work.most:
        return None
    if problem.norm.needs_images and not problem.own:  # a network's noise: only the surrogate's passes are timed
        problem = dataclasses.replace(problem, norm=load().make(api.Norm, "norm", "linf"), eps=8 / 255)  # type: ignore[type-abstract]
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
