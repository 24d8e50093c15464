"""The contracts that every registered thing keeps, shipped for plugin authors.

    from uexcli.testing import check

    def test_contract():
        check(MyNorm)

`check` takes a class or a configured instance and raises AssertionError with what is broken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from uexcli import plugin
from uexcli.core import seeding
from uexcli.core.eval.trial import MemoryTrial
from uexcli.core.fit.bank import NoiseBank
from uexcli.core.fit.data import Data
from uexcli.core.fit.execution import Execution
from uexcli.core.fit.noise import check as check_made
from uexcli.core.fit.noise import noise_of
from uexcli.core.fit.patch import Patch, paste
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import SmallNet
from uexcli.core.pixels import SLACK, measure, publish
from uexcli.core.seeding import Secret, generator, global_seed
from uexcli.errors import UexError
from uexcli.registry import load

SIDE = 16
CLOSE = 1e-4


def pictures(count: int = 12, channels: int = 3, side: int = SIDE, seed: int = 0) -> Tensor:
    """Smooth random pictures that are nowhere saturated: uint8 `(count, channels, side, side)`."""
    coarse = torch.rand(count, channels, 4, 4, generator=generator(seed, "pictures"))
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (60 + 135 * smooth).to(torch.uint8)


def check(thing: type[plugin.Plugin] | plugin.Plugin) -> None:
    """Check a plugin class, or a configured instance of one, against the contract of its kind."""
    if isinstance(thing, plugin.Plugin):
        instance = thing
    else:
        instance = (
            thing(**thing.test_options)
            if issubclass(thing, (plugin.Method, plugin.Surrogate, plugin.Target))
            else thing()
        )
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


def check_norm(norm: plugin.Norm) -> None:
    """Norms project into the ball, are idempotent, leave small noise alone, and keep rows and images together.

    One that is not `bounded` leaves all noise alone.
    """
    if (lacking := norm.missing_requirement()) is not None:
        raise AssertionError(f"norm '{norm.name}' cannot be checked here: {lacking}")
    images = pictures(6).float() / 255
    eps = norm.parse(norm.usual(3, SIDE))
    delta = torch.randn(images.shape, generator=generator(1, "delta")) * torch.logspace(-3, 0, 6).view(-1, 1, 1, 1)
    delta[0, :, 1:], delta[0, :, :, 1:] = 0, 0  # one faint pixel: a ball that counts pixels has no dense noise in it
    projected = norm.project(delta, eps, images)
    size = norm.size(projected, images)
    assert size.shape == (6,), f"size gives {tuple(size.shape)}, not one number a row"
    if norm.bounded:
        assert bool((size <= eps * (1 + CLOSE)).all()), "project leaves the ball"
    else:
        assert torch.equal(projected, delta), "project changes noise although `bounded` is false"
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
    if norm.bounded:
        assert bool((filled <= eps * (1 + CLOSE)).all()), "fill leaves the ball"
        assert bool((filled[1:] >= 0.9 * eps).all()), "fill does not bring dense rows to the bound"
    assert norm.reach(eps) > 0
    assert abs(norm.rescale(eps, (SIDE, SIDE), (SIDE, SIDE)) - eps) < 1e-9, "rescale changes the bound at one size"
    whole = pictures(6)
    written = publish(whole, 3 * delta, norm, eps)
    assert bool((measure(whole, written, norm) <= eps * (1 + SLACK)).all()), "the written pixels break the bound"
    assert not torch.equal(written, whole), "nothing is written at the usual bound"


def check_granularity(granularity: plugin.Granularity) -> None:
    """Rows are dense int64 from 0 and repeatable; what can assign gives rows of the same bank."""
    labels = torch.arange(24) % 3
    features = torch.rand(24, 12, generator=generator(2, "features")) + labels.unsqueeze(1)

    keys = [f"{number}.png" for number in range(24)]

    def rows() -> Tensor:
        return granularity.rows(labels, lambda: features, Secret(3, "rows"), keys=keys)

    first = rows()
    assert first.shape == (24,) and first.dtype == torch.int64, "rows must be int64, one an image"
    assert sorted(set(first.tolist())) == list(range(int(first.max()) + 1)), "rows are not dense from 0"
    assert torch.equal(first, rows()), "rows differ from call to call"
    assert granularity.per_sample == (len(first.unique()) == 24), (
        "`per_sample` does not say whether rows serve one image"
    )
    memory = granularity.memory(first, lambda: features)
    assert all(isinstance(tensor, Tensor) for tensor in memory.values()), "memory must be tensors"
    if granularity.can_assign:
        assigned = granularity.assign(labels, lambda: features, memory, keys=keys)
        assert torch.equal(assigned, first), "assign gives fitted images other rows"
        near = granularity.near(first, lambda: features, memory)
        if near is not None:
            assert near.shape == (24,) and float(near.min()) >= 0, "near must be one number an image, 0 or more"
            assert float(near.max()) <= 1 + CLOSE, "a fitted image lies beyond all that were fitted"
        chooser = granularity.chooser(memory)
        if chooser is not None:
            chosen = [chooser(features[index : index + 1]) for index in range(24)]
            assert torch.equal(torch.cat([row for row, _ in chosen]), first), "chooser and assign do not agree"
        return
    try:
        granularity.assign(labels, lambda: features, memory, keys=keys)
    except UexError:
        return
    raise AssertionError("assign works although can_assign is false")


def check_method(method: plugin.Method) -> None:
    """Methods give finite noise inside the bound on written pixels; same seed, same bytes, also when put down between.

    Tried with a noise of each image's own, one a class, and one for all, as far as the method makes such noise.
    """
    images, labels = pictures(24), torch.arange(24) % 3
    sharing = {"samplewise": torch.arange(24), "classwise": labels, "universal": torch.zeros(24, dtype=torch.int64)}
    known = {name: rows for name, rows in sharing.items() if name in (method.modes or sharing)}
    assert known, f"'{method.name}' makes noise for none of the modes that come with uex"
    for rows in known.values():
        problem = _problem(method, images, labels, rows, seed=1)
        norm, eps = problem.norm, problem.eps
        count = _Count()
        bank = _noise(method, problem, journal=count)
        work = method.work(24, rows=problem.num_rows)
        assert 0 <= work.expected <= work.most, "the work expected is more than the most"
        again = _problem(method, images, labels, rows, seed=1)
        assert torch.equal(bank, _noise(method, again, journal=plugin.Journal())), "the same seed gives other noise"
        if method.seeded:
            other = _noise(method, _problem(method, images, labels, rows, seed=2), journal=plugin.Journal())
            assert not torch.equal(bank, other), "another seed gives the same noise"
        if method.seeded and not method.needs_surrogate:
            with _torch_draws_known():
                other = _noise(method, _problem(method, images, labels, rows, seed=2), journal=plugin.Journal())
                mine = _noise(method, again, journal=plugin.Journal())
            assert not torch.equal(mine, other), "its noise hangs on torch's generator, of which 2^32 can be tried"
        if count.saved > 1:
            stopped = _Stop(1 + count.saved // 2)
            with contextlib.suppress(_Stopped):
                _noise(method, problem, journal=stopped)
            resumed = _noise(method, problem, journal=_Load(stopped.kept))
            assert torch.equal(bank, resumed), "going on from a state gives other noise"
        written = publish(images, bank, norm, eps)
        assert bool((measure(images, written, norm) <= eps * (1 + SLACK)).all()), "the written pixels break the bound"
        assert not torch.equal(written, images), "nothing is written"
        if method.takes_patches:
            noise = dataclasses.replace(problem.noise, patch=Patch(SIDE // 2, random=True))
            patched = dataclasses.replace(problem, noise=noise)
            assert noise.places is not None
            outside = paste(torch.ones(24, 1, SIDE // 2, SIDE // 2), noise.places, SIDE) == 0
            assert not bool((_noise(method, patched, journal=plugin.Journal()) * outside).any()), "a patch has no edge"


@contextlib.contextmanager
def _torch_draws_known() -> Iterator[None]:
    """Let torch's generators draw the same whatever the seed is, as for a reader who tried all that they keep of it."""
    derive = seeding.derive
    with mock.patch.object(seeding, "derive", lambda _seed, purpose: derive(0, purpose)):
        yield


def _problem(method: plugin.Method, images: Tensor, labels: Tensor, rows: Tensor, *, seed: int) -> BankProblem:
    norm = load().find("norm", method.default_norm).cls()
    assert isinstance(norm, plugin.Norm)
    eps = norm.parse(method.usual_eps(3, SIDE) or norm.usual(3, SIDE))
    keys = [f"{number}.png" for number in range(len(images))]
    data = Data(images.clone(), labels.clone(), keys, int(labels.max()) + 1, torch.device("cpu"))
    noise = NoiseBank(data, rows.clone(), int(rows.max()) + 1, norm, eps, seed)
    return BankProblem(
        data, noise, Execution(), make_surrogate=lambda: SmallNet(num_classes=3, channels=3, size=SIDE, width=4)
    )


def _noise(method: plugin.Method, problem: BankProblem, *, journal: plugin.Journal) -> Tensor:
    """Fit, and give each image's noise."""
    problem = dataclasses.replace(problem, journal=journal)
    images = problem.images.clone()
    reports: list[plugin.Progress] = []
    made = method.fit(problem, reports.append)
    assert reports and all(report.done <= report.total for report in reports), "fit reports no progress"
    shares = [report.done / report.total for report in reports]
    assert shares == sorted(shares), "its progress, the share of the whole fit, falls back"
    assert torch.equal(problem.images, images), "fit changes the images"
    every = torch.arange(len(images))
    checked = check_made(made, problem, method)
    noise = noise_of(checked, problem)(every)
    if isinstance(checked, nn.Module):
        rebuilt = method.network(channels=3, size=SIDE, num_rows=problem.num_rows)
        rebuilt.load_state_dict(checked.state_dict())
        again = noise_of(rebuilt.eval(), problem)(every)
        assert torch.equal(noise, again), "`network` builds another network than `fit` gave"
        single = noise_of(checked, problem)(every[:1])
        torch.testing.assert_close(single, noise[:1], msg="the noise of an image depends on the others of its batch")
    return noise


class _Stopped(Exception):
    """A fit was put down."""


class _Count(plugin.Journal):
    """Counts the moments at which a fit could be put down."""

    def __init__(self) -> None:
        self.saved = 0

    def save(self, state: Callable[[], plugin.State], *, milestone: bool = False) -> None:
        state()
        self.saved += 1


class _Stop(_Count):
    """Keeps the state of one such moment, and puts the fit down."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {}
        self._at = at

    def save(self, state: Callable[[], plugin.State], *, milestone: bool = False) -> None:
        super().save(state)
        if self.saved == self._at:
            kept = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state().items()}
            self.kept = kept
            raise _Stopped


class _Load(plugin.Journal):
    """Gives a state to go on from."""

    def __init__(self, state: plugin.State) -> None:
        self._state = state

    def load(self) -> plugin.State | None:
        return self._state


def check_surrogate(surrogate: plugin.Surrogate) -> None:
    """Surrogates give features of any image size and channels, and where they have one a gradient, and logits.

    The features of an image do not depend on the others of its batch.
    """
    if (lacking := surrogate.missing_requirement()) is not None:
        raise AssertionError(f"surrogate '{surrogate.name}' cannot be checked here: {lacking}")
    for channels, size in ((3, 32), (1, 28), (3, 64)):
        model = surrogate.build(num_classes=5, channels=channels, size=size).eval()
        images = torch.rand(2, channels, size, size, generator=generator(7, "images")).requires_grad_(True)
        features = model.features(images)  # type: ignore[operator]
        assert features.dim() == 2 and len(features) == 2, f"features have the shape {tuple(features.shape)}"
        assert bool(features.isfinite().all()), "features are not finite"
        single = model.features(images[:1])  # type: ignore[operator]
        close = 1e-3 * float(features.detach().abs().max())
        torch.testing.assert_close(single, features[:1], rtol=0, atol=close, msg="images are not seen one by one")
        if not surrogate.has_gradient:
            continue
        logits = model(images)
        assert logits.shape == (2, 5), f"logits have the shape {tuple(logits.shape)}"
        (grad,) = torch.autograd.grad(logits.square().sum(), images)
        assert bool(grad.isfinite().all()) and float(grad.abs().max()) > 0, "no gradient reaches the image"


def check_dataset(dataset: plugin.Dataset) -> None:
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
        samples = [plugin.Sample(f"{'ab'[n % 2]}/{n}.png", "ab"[n % 2], array=array) for n, array in enumerate(arrays)]
        dataset.write(f"{scheme}{folder}", samples)
        _same_samples(dataset.read(f"{scheme}{folder}"), samples)


def _same_samples(found: list[plugin.Sample], wanted: list[plugin.Sample]) -> None:
    from uexcli.io.images.photo_files import open_photo

    by_key = {sample.key: sample for sample in found}
    assert set(by_key) == {sample.key for sample in wanted}, "the keys change"
    for sample in wanted:
        assert by_key[sample.key].label == sample.label, "the labels change"
        same = np.array_equal(open_photo(by_key[sample.key]).pixels, open_photo(sample).pixels)
        assert same, "the pixels change"


def check_countermeasure(countermeasure: plugin.Countermeasure) -> None:
    """Countermeasures keep shape and type, leave their input alone, do change something, and repeat themselves.

    What they change may be the images before training, or a batch, its labels included, while it goes on. To one that
    learns from clean images, ours are given, whatever it names.
    """
    if (lacking := countermeasure.missing_requirement()) is not None:
        raise AssertionError(f"countermeasure '{countermeasure.name}' cannot be checked here: {lacking}")
    for channels in (3, 1):
        noisy = pictures(12, channels).float() + 16 * torch.randn(12, channels, SIDE, SIDE, generator=generator(4, "n"))
        images = noisy.clamp(0, 255).to(torch.uint8)
        labels = torch.arange(12) % 3
        before, clean = images.clone(), pictures(20, channels)

        def once(images: Tensor = images, labels: Tensor = labels, clean: Tensor = clean) -> Tensor:
            if countermeasure.clean is not None:
                return countermeasure.purify(images, clean, generator(5, "apply"))
            return countermeasure.prepare(images, labels, generator(5, "apply"))

        changed = once()
        assert changed.shape == images.shape and changed.dtype == torch.uint8, "shape or type changes"
        assert torch.equal(images, before), "it writes into its input"
        assert torch.equal(once(), changed), "it does not repeat itself"
        shown, shares = images.float() / 255, nn.functional.one_hot(labels, 3).float()
        net = _fixed_net(channels)
        first, second = (_under(countermeasure, net, shown.clone(), shares.clone()) for _ in range(2))
        for one, other, given in zip(first, second, (shown, shares), strict=True):
            assert one.shape == given.shape and one.dtype == torch.float32, "a batch changes its shape or type"
            assert torch.equal(one, other), "it does not repeat itself on batches"
        assert float(first[0].min()) >= 0 and float(first[0].max()) <= 1 + CLOSE, "a batch leaves [0, 1]"
        close = nn.functional.l1_loss(first[1].sum(1), torch.ones(12))
        assert float(close) < CLOSE, "the shares of the classes do not add up to 1"
        same = torch.equal(changed, images) and all(map(torch.equal, first, (shown, shares)))
        assert not same or channels == 1, "it changes nothing"
    assert countermeasure.cost >= 1, "a training under it costs less than a plain one"


def _fixed_net(channels: int) -> nn.Module:
    with global_seed(6, "net"):
        return SmallNet(num_classes=3, channels=channels, size=SIDE, width=4).eval().requires_grad_(False)


def _under(
    countermeasure: plugin.Countermeasure, net: nn.Module, images: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]:
    drawn = generator(7, "batch")
    images, shares = countermeasure.batch(images, shares, drawn)
    return countermeasure.attack(net, images, shares, drawn).detach(), shares


def check_target(target: plugin.Target) -> None:
    """Targets give accuracies in [0, 1], one an epoch, and repeat themselves; they report how far they are."""
    if (lacking := target.missing_requirement()) is not None:
        raise AssertionError(f"target '{target.name}' cannot be checked here: {lacking}")
    images, labels = pictures(40), torch.arange(40) % 2
    images[labels == 1] //= 2
    reports: list[plugin.Progress] = []

    def surrogate(name: str, weights: str) -> nn.Module:
        return SmallNet(num_classes=2, channels=3, size=SIDE, width=4)

    def trial() -> MemoryTrial:
        return MemoryTrial(
            images[:32], labels[:32], images[32:], labels[32:], 2, 0, 1, torch.device("cpu"),
            on_step=reports.append, make_surrogate=surrogate,
        )  # fmt: skip

    outcome = target.evaluate(trial())
    assert outcome.curve and all(0 <= value <= 1 for value in (*outcome.curve, outcome.train_accuracy))
    assert outcome.seconds > 0
    assert reports and all(report.done <= report.total for report in reports), "it reports no progress"
    assert target.evaluate(trial()).curve == outcome.curve, "the same seed gives another curve"
    assert target.work(trial()) >= 0


CONTRACTS: dict[type[Any], Any] = {
    plugin.Norm: check_norm,
    plugin.Granularity: check_granularity,
    plugin.Method: check_method,
    plugin.Surrogate: check_surrogate,
    plugin.Dataset: check_dataset,
    plugin.Countermeasure: check_countermeasure,
    plugin.Target: check_target,
}
