"""shield: band, whose textures can be read after more is done to the photo; told by a reader of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import problems
from tests.test_methods import hear, problem
from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.builtin.countermeasures.webp import Webp
from uexcli.builtin.methods import _reader, shield
from uexcli.builtin.methods._noticeable import Noticeable, luma_of
from uexcli.builtin.methods._textures import regions
from uexcli.builtin.methods.shield import Shield
from uexcli.io.noise import noise_file
from uexcli.testing import pictures

Uex = Callable[..., Any]
COUNT, SIDE = 60, 32


def task(seed: int = 1, **changes: Any) -> Any:
    draw = torch.Generator().manual_seed(0)
    rough = torch.randint(0, 60, (COUNT, 3, SIDE, SIDE), generator=draw)
    images = (pictures(COUNT, side=SIDE).int() * 3 // 4 + rough).clamp(0, 255).to(torch.uint8)
    made = problem(torch.arange(COUNT), count=COUNT, side=SIDE, seed=seed, images=images)
    return problems.changed(made, labels=torch.arange(COUNT) % 3, **changes)


def told(made: Any, levels: Tensor) -> float:
    """How much louder the place of the own class is than the loudest other, over whole photos: the mean log ratio."""
    textures, _ = Shield()._tools(made, torch.arange(COUNT))
    spectra = torch.fft.fft2(luma_of(levels.float())).abs().square()
    usual = torch.fft.fft2(luma_of(made.images.float())).abs().square().mean(0)
    near = torch.fft.fftfreq(SIDE).abs()
    scores = []
    for down, across in textures.places[:, 0].tolist():
        here = (near[:, None] - down) ** 2 + (near - across) ** 2 < 0.03**2
        scores.append((spectra[:, here].sum(1) / usual[here].sum()).log())
    found = torch.stack(scores, 1)
    own = found.gather(1, made.labels[:, None])[:, 0]
    return float((own - found.scatter(1, made.labels[:, None], -torch.inf).amax(1)).mean())


def published(made: Any, delta: Tensor) -> Tensor:
    return (made.images.float() + 255 * delta).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("codec", [Jpeg(10), Webp(10)])
def test_its_textures_are_told_through_codecs_better_than_those_it_starts_from(codec: Any) -> None:
    made = task()
    textures, _ = Shield()._tools(made, torch.arange(COUNT))
    first = textures(made.inputs(torch.arange(COUNT)), made.labels)
    last = Shield(steps=20).fit(made, hear)
    shown = [codec.apply(published(made, noise), torch.Generator()) for noise in (first, last)]
    before, after = (told(made, levels) for levels in shown)
    assert after > before + 0.1, (before, after)


def test_the_noise_keeps_the_bound_and_is_band_in_blue() -> None:
    made = task()
    delta = Shield(steps=3).fit(made, hear)
    assert float(delta.abs().max()) <= made.eps * (1 + 1e-6)
    assert torch.equal(delta[:, 0], delta[:, 1])
    textures, _ = Shield()._tools(made, torch.arange(COUNT))
    first = textures(made.inputs(torch.arange(COUNT)), made.labels)
    torch.testing.assert_close(delta[:, 2], first[:, 2])
    assert not torch.equal(delta[:, 0], first[:, 0])


def test_the_loss_is_lowest_where_the_textures_are_the_classes_own() -> None:
    made = task()
    textures, reader = Shield()._tools(made, torch.arange(COUNT))
    images = made.inputs(torch.arange(COUNT))
    losses = [float(reader.loss(images + textures(images, (made.labels + off) % 3), made.labels)) for off in range(3)]
    clean = float(reader.loss(images, made.labels))
    assert losses[0] < clean < min(losses[1:])


def test_treatments_are_the_real_ones_and_let_gradients_pass() -> None:
    images = task().inputs(torch.arange(8)).requires_grad_(True)
    seen, generator = set(), torch.Generator().manual_seed(0)
    for _ in range(40):
        shown = _reader.treated(images, _reader.drawn(generator), generator)
        (grad,) = torch.autograd.grad(shown.sum(), images)
        assert torch.equal(grad, torch.ones_like(images))
        seen.add(round(float((shown - images).detach().abs().mean()), 4))
    assert len(seen) > 10 and 0.0 in seen
    plain = (images.detach() * 255).round().to(torch.uint8)
    wanted = Jpeg(10).apply(plain, generator).float() / 255
    shown = [_reader.treated(images.detach(), Jpeg(10), torch.Generator().manual_seed(seed)) for seed in range(20)]
    same = [torch.allclose(each, wanted, atol=1e-6) for each in shown]
    assert 4 < sum(same) < 16  # half of the time on another grid


def test_each_window_has_the_texture_of_its_region() -> None:
    which = torch.tensor([[0, 1], [1, 2]])
    found = _reader.wanted(regions(64, 2), which)
    assert found.shape == (2, 15, 15)
    assert found[:, 0, 0].tolist() == [0, 1] and found[:, 0, 5].tolist() == [1, 2]


@pytest.mark.parametrize("side", [5, 8, 27])
def test_images_of_any_side(side: int) -> None:
    made = problem(torch.arange(24), count=24, side=side, images=pictures(24, side=side))
    delta = Shield(steps=1).fit(made, hear)
    assert delta.shape == (24, 3, side, side) and bool(delta.isfinite().all())
    assert float(delta.abs().amax((1, 2, 3)).min()) > 0.5 * made.eps


def test_it_goes_on_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from uexcli.plugin import Journal

    class Kept(Journal):
        held: Any = None

        def load(self) -> Any:
            return self.held

        def save(self, state: Any, *, milestone: bool = False) -> None:
            found = state()
            if self.held is None:
                self.held = {**found, "delta": found["delta"].clone()}

    monkeypatch.setattr(shield, "AT_ONCE", 25 * SIDE**2)
    journal = Kept()
    whole = Shield(steps=2).fit(task(journal=journal), hear)
    assert journal.held["done"] == 25
    heard: list[float] = []
    again = Shield(steps=2).fit(task(journal=journal), lambda report: heard.append(report.done))
    assert torch.equal(whole, again) and heard == [50, 60]


def test_photos_of_any_kind(photos: Path, uex: Uex) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 61), np.uint8)).save(photos / "cat" / "gray.png")
    Image.new("RGB", (70, 40), (90, 120, 40)).save(photos / "dog" / "flat.png")
    words = ("--method", "shield", "-O", "steps=3", "--seed", 1, "-o", "n")
    ran = uex("fit", photos, *words)
    assert ran.code == 0, ran.err
    assert noise_file.read(Path("n")).delta is not None
    assert uex("apply", "n", photos, "-o", "out").code == 0
    assert uex("verify", "out", "--source", photos).code == 0
    flat = np.asarray(Image.open("out/dog/flat.png")).astype(int)
    assert flat.std(axis=(0, 1)).min() > 2
    other = uex("fit", photos, "--method", "shield", "--norm", "l2", "-o", "m")
    assert other.code == 2 and "does not work under norm 'l2'" in other.err
    share = uex("fit", photos, "--method", "shield", "-O", "blue=2", "-o", "m")
    assert share.code == 2 and "blue must be in [0, 1]" in share.err


def test_groups_stand_in_for_labels(photos: Path, uex: Uex) -> None:
    flat = Path("flat")
    flat.mkdir()
    for number, path in enumerate(photos.glob("*/*.png")):
        (flat / f"{number}.png").write_bytes(path.read_bytes())
    ran = uex("fit", flat, "--method", "shield", "-O", "steps=2", "-o", "n")
    assert ran.code == 0 and "clusters stand in" in ran.err, ran.err


def test_against_adversaries_it_moves_green_alone() -> None:
    made = task()
    method = Shield(steps=3, against="adversarial")
    delta = method.fit(made, hear)
    textures, _ = method._tools(made, torch.arange(COUNT))
    first = textures(made.inputs(torch.arange(COUNT)), made.labels)
    torch.testing.assert_close(delta[:, [0, 2]], first[:, [0, 2]])
    assert not torch.equal(delta[:, 1], first[:, 1])
    assert float(delta.abs().max()) <= made.eps * (1 + 1e-6)


def test_with_jnd_it_moves_within_what_is_noticeable() -> None:
    made = task()
    images = made.inputs(torch.arange(COUNT))
    delta = Shield(steps=3, jnd=0.5).fit(made, hear)
    assert bool((delta.abs() <= 0.5 * Noticeable()(luma_of(images)) + 1e-6).all())
    assert float(delta.abs().amax((1, 2, 3)).min()) > 0
