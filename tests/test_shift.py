"""shift: probes in closed form, the cycle of classes, treatments, and what the noise does to pretrained features."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from tests import problems
from tests.test_methods import BY_CLASS, OWN, hear, method, problem
from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.builtin.methods import _hardened, _heads, _shown
from uexcli.builtin.methods._noticeable import Noticeable
from uexcli.builtin.methods.shift import Shift, _Fit, others
from uexcli.builtin.surrogates.efficientnet_lite import EfficientnetLite1
from uexcli.commands.fit import setup
from uexcli.core.fit.patch import Patch
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import SmallNet
from uexcli.core.seeding import generator
from uexcli.io.noise import noise_file
from uexcli.plugin import Journal, Progress, State, UexError

Uex = Callable[..., Any]
ALONE = {"nets": "", "robust": 0.0, "batch": 5, "steps": 6}


def test_a_head_is_ridge_regression_on_standardised_features() -> None:
    features = torch.randn(200, 12, generator=generator(0, "features")) * torch.arange(1, 13) + 5
    labels = torch.arange(200) % 4
    head = _heads.fitted([(features[:70], labels[:70]), (features[70:], labels[70:])], 4)
    spread, mean = features.std(0, correction=0), features.mean(0)
    standard = ((features - mean) / spread).numpy()
    wanted = Ridge(alpha=_heads.RIDGE * 200).fit(standard, np.eye(4)[labels.numpy()]).predict(standard)
    np.testing.assert_allclose(head(features), wanted, atol=1e-4)


def of_classes(classes: int, *, seed: int = 0, rows: Tensor = OWN) -> BankProblem:
    return problem(rows, seed=seed, num_classes=classes, labels=torch.arange(24) % classes)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_every_class_is_moved_to_another_and_all_in_one_cycle(classes: int) -> None:
    task = of_classes(classes)
    found = others(task, 1)
    known = dict(zip(task.labels.tolist(), found.tolist(), strict=True))
    assert [known[label] for label in task.labels.tolist()] == found.tolist()
    seen, here = set(), 0
    for _ in range(classes):
        seen.add(here)
        here = known[here]
    assert seen == set(range(classes)) and here == 0


def test_the_cycle_is_keyed_by_the_seed() -> None:
    assert len({tuple(others(of_classes(10, seed=seed), 1).tolist()) for seed in range(8)}) > 6


def test_a_class_may_be_moved_to_several_others_and_photos_that_share_noise_to_one() -> None:
    task = problem(torch.arange(240), count=240, num_classes=4, labels=torch.arange(240) % 4)
    for spread, wanted in ((2, 2), (3, 3), (99, 3)):
        found = others(task, spread)
        assert not (found == task.labels).any()
        for label in range(4):
            shares = found[task.labels == label].bincount(minlength=4) / 60
            assert int((shares > 0).sum()) == wanted
            assert float(shares.max()) < 1.5 / wanted
    shared = problem(torch.arange(240) % 4, count=240, num_classes=4, labels=torch.arange(240) % 4)
    for label in range(4):
        assert len(set(others(shared, 3)[shared.labels == label].tolist())) == 1


def test_photos_are_treated_in_every_way_and_gradients_pass() -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator(0, "images")).requires_grad_(True)
    seen = set()
    for number in range(60):
        found = _shown.shown(images, generator(number, "view"))
        assert found.shape == images.shape
        (grad,) = torch.autograd.grad(found.sum(), images)
        assert float(grad.abs().sum()) > 0
        levels = found.detach()
        seen.add("gray" if torch.equal(levels[:, 0], levels[:, 1]) else "colour")
        seen.add("same" if torch.equal(levels, images) or torch.equal(levels, images.flip(3)) else "changed")
    assert {"gray", "colour", "changed"} <= seen  # a crop may keep all


@pytest.mark.parametrize("kind", sorted({*_shown.KINDS}))
def test_every_treatment_keeps_the_shape_and_is_drawn_by_the_generator(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shown, "KINDS", (kind,))
    for channels, side in ((3, 32), (1, 32), (3, 9)):
        images = torch.rand(2, channels, side, side, generator=generator(0, "images"))
        first, same = (_shown.shown(images, generator(3, "view")) for _ in range(2))
        assert first.shape == images.shape and torch.equal(first, same)
        if kind in ("resize", "crop", "jpeg crop"):
            others = [_shown.shown(images, generator(number, "view")) for number in range(8)]
            assert not all(torch.equal(first, other) for other in others)


def test_a_crop_shows_a_part_of_the_photo_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a ramp from left to right, what is seen is a part of it: its ends are nearer, and it still rises."""
    monkeypatch.setattr(_shown, "KINDS", ("crop",))
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    for number in range(12):
        found = _shown.shown(ramp, generator(number, "view"))
        spread = float(found.max() - found.min())
        assert _shown.NEAREST - 0.03 <= spread <= 1 + 1e-6
        assert (found.diff(dim=3) * (found[..., -1:] - found[..., :1]).sign() >= -1e-6).all()


def either_way(images: Tensor, wanted: Tensor) -> bool:
    return bool(
        torch.isclose(images, wanted, atol=1e-6).all() or torch.isclose(images, wanted.flip(3), atol=1e-6).all()
    )


def test_jpeg_is_the_real_codec_and_a_smaller_side_loses_what_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(2, 3, 32, 32, generator=generator(0, "images")).mul(255).round() / 255
    levels = (images * 255).round().to(torch.uint8)
    monkeypatch.setattr(_shown, "KINDS", ("jpeg",))
    found = _shown.shown(images, generator(0, "view"))
    made = [
        Jpeg(quality).apply(some, generator(0, "codec")) / 255
        for quality in range(20, 96)
        for some in (levels, levels.flip(3))
    ]
    assert any(torch.isclose(found, each, atol=1e-6).all() for each in made)
    monkeypatch.setattr(_shown, "KINDS", ("none",))
    assert either_way(_shown.shown(images, generator(0, "view")), images)
    monkeypatch.setattr(_shown, "KINDS", ("resize",))
    monkeypatch.setattr(_shown, "SMALLEST", 0.4)
    sharp = (images.diff(dim=3).abs().mean(), _shown.shown(images, generator(1, "view")).diff(dim=3).abs().mean())
    assert sharp[1] < 0.9 * sharp[0]


class Kept(Journal):
    """Keeps the last state, and stops the fit at one of them."""

    def __init__(self, state: State | None, stop: int) -> None:
        self.state, self.left = state, stop

    def load(self) -> State | None:
        return self.state

    def save(self, state: Callable[[], State], *, milestone: bool = False) -> None:
        self.state, self.left = copy.deepcopy(state()), self.left - 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("rows", [OWN, BY_CLASS])
def test_a_fit_that_was_stopped_at_any_step_ends_as_one_that_was_not(rows: Tensor) -> None:
    method = Shift(**{**ALONE, "steps": 3})
    wanted = method.fit(problem(rows), hear)
    for stop in (1, 2, 5, 8):
        kept = Kept(None, stop)
        with pytest.raises(KeyboardInterrupt):
            method.fit(problems.changed(problem(rows), journal=kept), hear)
        told: list[Progress] = []
        made = method.fit(problems.changed(problem(rows), journal=Kept(kept.state, 0)), told.append)
        assert torch.equal(made, wanted)
        shares = [each.done / each.total for each in told]
        assert shares == sorted(shares)


@pytest.mark.parametrize("rows", [OWN, BY_CLASS])
def test_the_noise_moves_photos_towards_their_other_class(rows: Tensor) -> None:
    task = problem(rows)
    method = Shift(**{**ALONE, "steps": 10})
    run = _Fit(method, task, hear)
    every = torch.arange(24)
    before = margin(run, task.inputs(every), task.labels)
    delta = run.run()
    assert float(delta.abs().max()) <= task.eps * (1 + 1e-6)
    assert margin(run, task.published(delta, every), task.labels) < before - 0.05


def test_with_jnd_no_photo_changes_by_more_than_is_noticeable() -> None:
    task = problem(OWN)
    every = torch.arange(24)
    limits = Noticeable().limits(task.inputs(every), 0.5)
    assert float(limits.min()) < task.eps
    delta = Shift(**ALONE, jnd=0.5).fit(task, hear)
    assert bool((delta.abs() <= limits + 1e-6).all()) and float(delta.abs().max()) > 0
    assert torch.equal(Shift(**ALONE, jnd=1000).fit(task, hear), Shift(**ALONE).fit(task, hear))
    for other in (problem(BY_CLASS), problems.changed(task, patch=Patch(4))):
        with pytest.raises(UexError, match="a noise for each photo, as big"):
            Shift(**ALONE, jnd=1).fit(other, hear)


def margin(run: Any, images: Tensor, labels: Tensor) -> float:
    """By how much the true class is ahead of the other one, for the first net."""
    with torch.inference_mode():
        scores = run._heads[0](run._nets[0](images))
    other = run._others
    return float((scores.gather(1, labels[:, None]) - scores.gather(1, other[:, None])).mean())


def test_all_nets_of_the_ensemble_take_part() -> None:
    wide = problem(OWN, make_ensemble=[lambda: SmallNet(num_classes=3, channels=3, size=16, width=8)])
    run = _Fit(Shift(**ALONE), wide, hear)
    assert len(run._nets) == len(run._heads) == 2
    assert not torch.equal(run.run(), Shift(**ALONE).fit(problem(OWN), hear))


def test_one_class_is_refused_before_anything_is_done() -> None:
    task = problems.changed(problem(OWN), labels=torch.zeros(24, dtype=torch.int64), num_classes=1)
    for work in (lambda: Shift(**ALONE).fit(task, hear), lambda: Shift(**ALONE).rehearse(task)):
        with pytest.raises(UexError, match="two classes"):
            work()


def test_a_net_that_gives_no_numbers_is_refused() -> None:
    def broken(**_: Any) -> nn.Module:
        net = SmallNet(num_classes=3, channels=3, size=16)
        with torch.no_grad():
            next(net.parameters()).fill_(torch.nan)
        return net

    with pytest.raises(UexError, match="no number"):
        Shift(**ALONE).fit(problem(OWN, make_ensemble=[broken]), hear)


def test_nets_whose_side_changes_what_their_parts_are_called_are_one_kind() -> None:
    nets = [
        EfficientnetLite1(weights="random", side=side).build(num_classes=3, channels=3, size=64) for side in (64, 72)
    ]
    assert [*nets[0].state_dict()] != [*nets[1].state_dict()]
    assert len(_hardened.kinds(nets)) == 2
    _hardened.copied(nets[0], nets[1])
    assert len(_hardened.kinds(nets)) == 1


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch": 0}, {"step": 0.0}, {"momentum": 1.0}, {"jnd": -1.0}])
def test_what_cannot_run_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Shift(**options)


def test_it_runs_against_the_nets_that_are_named(photos: Path, uex: Uex) -> None:
    words = ("fit", photos, "--method", "shift", "-O", "weights=random", "-O", "side=32", "-O", "steps=1")
    words += ("-O", "robust=0")
    ran = uex(*words, "-O", "nets=efficientnet_lite1:weights=random", "-o", "two.safetensors")
    assert ran.code == 0, ran.err
    assert "through 2 nets" in ran.out
    recipe = noise_file.read(Path("two.safetensors")).recipe
    assert [net["name"] for net in recipe["ensemble"]] == ["efficientnet_lite1"]
    assert "efficientnet_lite1" in uex("info", "two.safetensors").out
    same, other = (f"nets=efficientnet_lite0:weights=random,side={side}" for side in (32, 40))
    ran = uex(*words, "-O", same, "-o", "one.safetensors")
    assert ran.code == 0 and "through 1 net)" in ran.out, ran.err
    ran = uex(*words, "-O", other, "-o", "sides.safetensors")
    assert "through 2 nets" in ran.out and "against efficientnet_lite0 (2 nets)" in ran.err
    assert "side=40" in uex("info", "sides.safetensors").out
    ran = uex(*words, "-O", "nets=small", "-o", "none.safetensors")
    assert ran.code == 2 and "is not pretrained" in ran.err
    ran = uex(*words, "-O", "nets=nosuch", "-o", "none.safetensors")
    assert ran.code == 2 and "nosuch" in ran.err


class Gullible(nn.Module):
    """Sees how bright an image is, and, far louder, a checkerboard that changes of a few levels can write."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.loudness = nn.Parameter(torch.tensor([1.0, 6.0]))
        self.register_buffer("board", torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8))

    def features(self, images: Tensor) -> Tensor:
        seen = self.norm(images)
        return torch.stack([seen.mean((1, 2, 3)), (seen * self.board).mean((1, 2, 3))], 1) * self.loudness


def test_a_net_that_was_taught_bears_small_changes() -> None:
    bright = torch.tensor([90, 160, 90, 160] * 6).view(-1, 1, 1, 1)
    board = torch.tensor([[2, -2], [-2, 2]]).repeat(8, 8) * torch.tensor([1, -1] * 12).view(-1, 1, 1, 1)
    task = problems.changed(
        problem(OWN),
        images=(bright + board).to(torch.uint8).expand(-1, 3, -1, -1).contiguous(),
        labels=torch.tensor([0, 1] * 12),
        num_classes=2,
    )
    net = Gullible().eval()
    with torch.no_grad():
        head = _heads.fitted([(net.features(task.inputs(torch.arange(24))), task.labels)], 2)
    lessons = list(_hardened.harden(net, head, task, generator(0, "lessons"), bound=8 / 255, steps=1600))
    assert len(lessons) == 1600 and not net.loudness.requires_grad
    assert net.loudness[0] > net.loudness[1] / 2  # from a sixth
    assert torch.equal(net.norm.running_mean, torch.zeros(3))


def test_nets_that_differ_in_their_last_layer_alone_are_taught_once() -> None:
    nets = [SmallNet(num_classes=3, channels=3, size=16) for _ in range(3)]
    nets[2].load_state_dict({**nets[0].state_dict(), **{k: v for k, v in nets[2].state_dict().items() if "head" in k}})
    assert [[nets.index(net) for net in alike] for alike in _hardened.kinds(nets)] == [[0, 2], [1]]


def test_nets_are_taught_first_and_the_share_of_progress_never_falls() -> None:
    told: list[Progress] = []
    made = Shift(**{**ALONE, "robust": 1.0, "lessons": 3}).fit(problem(OWN), told.append)
    shares = [each.done / each.total for each in told]
    assert shares == sorted(shares) and shares[-1] == 1 and "3 of 3 lessons" in " ".join(each.note for each in told)
    assert not torch.equal(made, Shift(**ALONE).fit(problem(OWN), hear))


def test_nets_may_have_several_options() -> None:
    given = "efficientnet_lite1:side=128,weights=random, efficientnet_lite2,clip:a=b.pth"
    wanted = ("efficientnet_lite1:side=128,weights=random", "efficientnet_lite2", "clip:a=b.pth")
    assert Shift(nets=given).ensemble == wanted and Shift(nets=given).spare_nets == 3


def test_its_time_is_that_of_its_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second each time it is read: a look takes one, a step one, all else two, once."""
    clock = itertools.count()
    monkeypatch.setattr("uexcli.builtin.methods.shift.time.perf_counter", lambda: float(next(clock)))
    task = problem(OWN)
    assert Shift(**ALONE).rehearse(task) == pytest.approx(len(task.images) / 5 * (6 * 1 + 1) + 2)


def test_without_labels_groups_of_its_net_are_the_classes(photos: Path, uex: Uex) -> None:
    words = (
        "fit",
        photos,
        "--no-labels",
        "--method",
        "shift",
        "-O",
        "weights=random",
        "-O",
        "side=32",
        "-O",
        "steps=4",
    )
    words += ("--mode", "samplewise", "--seed", "1")
    ran = uex(*words, "-O", "nets=", "-O", "lessons=1", "-o", "groups.safetensors")
    assert ran.code == 0 and "k-means clusters, by efficientnet_lite0, stand in" in ran.err, ran.err
    assert (
        "k-means clusters stand in"
        in uex("fit", photos, "--no-labels", "--mode", "samplewise", "--method", "pil", "--dry-run").err
    )


def test_photos_are_fitted_at_a_side_that_the_nets_are_made_for(tmp_path: Path, uex: Uex) -> None:
    for label in ("a", "b"):
        for number in range(2):
            path = tmp_path / "large" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(number, 140)).save(path)
    words = ("fit", tmp_path / "large", "--dry-run", "--json", "-O", "weights=random", "-O", "nets=")
    assert uex(*words, "--method", "shift").json["plan"]["size"] == 140
    assert uex(*words, "--method", "shift", "--size", 64).json["plan"]["size"] == 64
    assert uex(*words[:4], "--method", "random").json["plan"]["size"] == 64


@pytest.mark.parametrize(
    ("side", "device", "wanted"),
    [(500, "cpu", 224), (128, "cpu", 128), (128, "cuda", 128), (500, "cuda", 224), (40, "cpu", 40), (5, "cpu", 8)],
)
def test_noise_is_not_fitted_at_more_than_the_photos_have(side: int, device: str, wanted: int) -> None:
    assert setup.side_of_photos(Shift(), side, device) == wanted
    assert setup.side_of_photos(method("random"), side, device) == {"cpu": 64, "cuda": 224}[device]
