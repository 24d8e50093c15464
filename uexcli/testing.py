"""The contracts that every registered thing keeps, shipped for plugin authors.

    from uexcli.testing import check

    def test_contract():
        check(MyNorm)

`check` takes a class or a configured instance and raises AssertionError with what is broken.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uexcli import api
from uexcli.core.nets import SmallNet
from uexcli.core.noise import check as check_bank
from uexcli.core.pixels import SLACK, measure, publish
from uexcli.core.problem import BankProblem
from uexcli.core.seeding import generator
from uexcli.core.trial import MemoryTrial
from uexcli.errors import UexError
from uexcli.registry import load

SIDE = 16
CLOSE = 1e-4


def pictures(count: int = 12, channels: int = 3, side: int = SIDE, seed: int = 0) -> Tensor:
    """Smooth random pictures that are nowhere saturated: uint8 `(count, channels, side, side)`."""
    coarse = torch.rand(count, channels, 4, 4, generator=generator(seed, "pictures"))
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (60 + 135 * smooth).to(torch.uint8)


def check(thing: type[api.Plugin] | api.Plugin) -> None:
    """Check a plugin class, or a configured instance of one, against the contract of its kind."""
    instance = thing if isinstance(thing, api.Plugin) else thing()
    _check_description(type(instance))
    for base, contract in CONTRACTS.items():
        if isinstance(instance, base):
            contract(instance)
            return
    raise AssertionError(f"{type(instance).__name__} is of no kind that uex knows")


def _check_description(cls: Any) -> None:
    for name in (cls.name, *cls.aliases):
        assert name and name == name.lower() and " " not in name, f"'{name}' is no lower-case name"
    assert cls.summary, f"{cls.name}: no summary"
    if not dataclasses.is_dataclass(cls):
        raise AssertionError("a plugin class must be a frozen dataclass")
    for item in dataclasses.fields(cls):
        assert item.metadata.get("help"), f"option '{item.name}' has no help"


def check_norm(norm: api.Norm) -> None:
    """Norms project into the ball, are idempotent, leave small noise alone, and keep rows and images together."""
    images = pictures(6).float() / 255
    eps = norm.parse(norm.usual(3, SIDE))
    delta = torch.randn(images.shape, generator=generator(1, "delta")) * torch.logspace(-3, 0, 6).view(-1, 1, 1, 1)
    projected = norm.project(delta, eps, images)
    size = norm.size(projected, images)
    assert size.shape == (6,), f"size gives {tuple(size.shape)}, not one number a row"
    assert bool((size <= eps * (1 + CLOSE)).all()), "project leaves the ball"
    torch.testing.assert_close(norm.project(projected, eps, images), projected, msg="project is not idempotent")
    within = norm.size(delta, images) <= eps
    assert bool(within.any()), "the contract found no noise small enough to be left alone"
    torch.testing.assert_close(projected[within], delta[within], msg="project changes noise inside the ball")
    assert float(norm.size(delta * 0, images).abs().max()) < 1e-6, "no noise has a size"
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    again = norm.project(delta[order], eps, images[order])
    torch.testing.assert_close(again, projected[order], msg="rows are judged against each other's images")
    steepest = norm.steepest(delta)
    assert steepest.shape == delta.shape and bool(steepest.isfinite().all())
    assert bool(((steepest * delta).flatten(1).sum(1) > 0).all()), "steepest does not climb"
    assert bool(norm.steepest(delta * 0).isfinite().all()), "steepest of a zero gradient is not finite"
    filled = norm.size(norm.fill(delta, eps, images), images)
    assert bool((filled <= eps * (1 + CLOSE)).all()), "fill leaves the ball"
    assert bool((filled >= 0.9 * eps).all()), "fill does not bring rows to the bound"
    assert norm.reach(eps) > 0
    assert abs(norm.rescale(eps, (SIDE, SIDE), (SIDE, SIDE)) - eps) < 1e-9, "rescale changes the bound at one size"
    whole = pictures(6)
    written = publish(whole, 3 * delta, norm, eps)
    assert bool((measure(whole, written, norm) <= eps * (1 + SLACK)).all()), "the written pixels break the bound"
    assert not torch.equal(written, whole), "nothing is written at the usual bound"


def check_granularity(granularity: api.Granularity) -> None:
    """Rows are dense int64 from 0 and repeatable; what can assign gives rows of the same bank."""
    labels = torch.arange(24) % 3
    features = torch.rand(24, 12, generator=generator(2, "features")) + labels.unsqueeze(1)

    def rows() -> Tensor:
        return granularity.rows(labels, lambda: features, generator(3, "rows"))

    first = rows()
    assert first.shape == (24,) and first.dtype == torch.int64, "rows must be int64, one an image"
    assert sorted(set(first.tolist())) == list(range(int(first.max()) + 1)), "rows are not dense from 0"
    assert torch.equal(first, rows()), "rows differ from call to call"
    assert granularity.own == (len(first.unique()) == 24), "`own` does not say whether rows serve one image"
    memory = granularity.memory(first, lambda: features)
    assert all(isinstance(tensor, Tensor) for tensor in memory.values()), "memory must be tensors"
    if granularity.can_assign:
        assigned = granularity.assign(labels, lambda: features, memory)
        assert torch.equal(assigned, first), "assign gives fitted images other rows"
        return
    try:
        granularity.assign(labels, lambda: features, memory)
    except UexError:
        return
    raise AssertionError("assign works although can_assign is false")


def check_method(method: api.Method) -> None:
    """Methods give a finite bank of the right shape, inside the bound on written pixels; same seed, same bytes."""
    norm = load().find("norm", method.default_norm).cls()
    assert isinstance(norm, api.Norm)
    eps = norm.parse(method.default_eps or norm.usual(3, SIDE))
    images, labels = pictures(24), torch.arange(24) % 3
    for rows in (torch.arange(24), labels, torch.zeros(24, dtype=torch.int64)):

        def fit(seed: int, rows: Tensor = rows) -> Tensor:
            problem = BankProblem(
                images=images.clone(),
                labels=labels.clone(),
                rows=rows.clone(),
                keys=[f"{number}.png" for number in range(24)],
                num_rows=int(rows.max()) + 1,
                num_classes=3,
                norm=norm,
                eps=eps,
                seed=seed,
                device=torch.device("cpu"),
                make_surrogate=lambda: SmallNet(num_classes=3, channels=3, size=SIDE, width=4),
            )
            reports: list[api.Progress] = []
            bank = method.fit(problem, reports.append)
            assert reports and reports[-1].done <= reports[-1].total, "fit reports no progress"
            assert torch.equal(problem.images, images), "fit changes the images"
            work = method.work(problem)
            assert 0 <= work.expected <= work.most, "the work expected is more than the most"
            return check_bank(bank, problem, method.name)

        bank = fit(1)
        assert torch.equal(bank, fit(1)), "the same seed gives another bank"
        assert not torch.equal(bank, fit(2)), "another seed gives the same bank"
        written = publish(images, bank[rows], norm, eps)
        assert bool((measure(images, written, norm) <= eps * (1 + SLACK)).all()), "the written pixels break the bound"
        assert not torch.equal(written, images), "nothing is written"


def check_surrogate(surrogate: api.Surrogate) -> None:
    """Surrogates give logits and features of any image size and channels, and gradients to the image."""
    for channels, size in ((3, 32), (1, 28), (3, 64)):
        model = surrogate.build(num_classes=5, channels=channels, size=size).eval()
        images = torch.rand(2, channels, size, size, requires_grad=True)
        logits = model(images)
        features = model.features(images)  # type: ignore[operator]
        assert logits.shape == (2, 5), f"logits have the shape {tuple(logits.shape)}"
        assert features.dim() == 2 and len(features) == 2, f"features have the shape {tuple(features.shape)}"
        (grad,) = torch.autograd.grad(logits.square().sum(), images)
        assert bool(grad.isfinite().all()) and float(grad.abs().max()) > 0, "no gradient reaches the image"


def check_dataset(dataset: api.Dataset) -> None:
    """Datasets refuse a missing place in one line; those that can write give the same keys, labels and pixels back."""
    with tempfile.TemporaryDirectory() as folder:
        scheme = "" if dataset.name == "folder" else f"{dataset.name}:"
        nowhere = f"{scheme}{Path(folder) / 'nowhere'}"
        assert dataset.accepts(nowhere), f"it does not accept {dataset.name}:ROOT"
        try:
            dataset.read(nowhere)
        except UexError:
            pass
        else:
            raise AssertionError("it reads from a missing place")
        if not dataset.can_write:
            return
        arrays = [image.permute(1, 2, 0).numpy() for image in pictures(4)]
        samples = [api.Sample(f"{'ab'[n % 2]}/{n}.png", "ab"[n % 2], array=array) for n, array in enumerate(arrays)]
        dataset.write(f"{scheme}{folder}", samples)
        _same_samples(dataset.read(f"{scheme}{folder}"), samples)


def _same_samples(found: list[api.Sample], wanted: list[api.Sample]) -> None:
    from uexcli.io.images import open_photo

    by_key = {sample.key: sample for sample in found}
    assert set(by_key) == {sample.key for sample in wanted}, "the keys change"
    for sample in wanted:
        assert by_key[sample.key].label == sample.label, "the labels change"
        same = np.array_equal(open_photo(by_key[sample.key]).pixels, open_photo(sample).pixels)
        assert same, "the pixels change"


def check_countermeasure(countermeasure: api.Countermeasure) -> None:
    """Countermeasures keep shape and type, leave their input alone, do change a picture, and repeat themselves."""
    noisy = pictures(6).float() + 16 * torch.randn(6, 3, SIDE, SIDE, generator=generator(4, "noise"))
    images = noisy.clamp(0, 255).to(torch.uint8)
    before = images.clone()
    changed = countermeasure.apply(images, generator(5, "apply"))
    assert changed.shape == images.shape and changed.dtype == torch.uint8, "shape or type changes"
    assert torch.equal(images, before), "it writes into its input"
    assert not torch.equal(changed, images), "it changes nothing"
    assert torch.equal(countermeasure.apply(images, generator(5, "apply")), changed), "it does not repeat itself"
    grey = images[:, :1].contiguous()
    assert countermeasure.apply(grey, generator(6, "apply")).shape == grey.shape, "one-channel images change shape"


def check_target(target: api.Target) -> None:
    """Targets give accuracies in [0, 1], one an epoch, and repeat themselves."""
    images, labels = pictures(40), torch.arange(40) % 2
    images[labels == 1] //= 2

    def trial() -> MemoryTrial:
        return MemoryTrial(images[:32], labels[:32], images[32:], labels[32:], 2, 0, 1, torch.device("cpu"))

    outcome = target.evaluate(trial())
    assert outcome.curve and all(0 <= value <= 1 for value in (*outcome.curve, outcome.train_accuracy))
    assert target.evaluate(trial()).curve == outcome.curve, "the same seed gives another curve"
    assert target.work(trial()) >= 0


CONTRACTS: dict[type[Any], Any] = {
    api.Norm: check_norm,
    api.Granularity: check_granularity,
    api.Method: check_method,
    api.Surrogate: check_surrogate,
    api.Dataset: check_dataset,
    api.Countermeasure: check_countermeasure,
    api.Target: check_target,
}
