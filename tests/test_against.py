"""Countermeasures: each does what its description says, alone and in a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.functional import gaussian_blur

from uexcli import plugin
from uexcli.builtin.countermeasures.ueraser import plasma
from uexcli.commands.evaluate.jobs import against_of
from uexcli.core.augment import squares
from uexcli.core.eval.against import PLAIN, Against
from uexcli.core.nets import SmallNet
from uexcli.core.seeding import generator, global_seed
from uexcli.errors import UsageError
from uexcli.registry import load
from uexcli.testing import pictures

SIDE = 16


def make(spec: str) -> plugin.Countermeasure:
    return load().make(plugin.Countermeasure, "countermeasure", spec)  # type: ignore[type-abstract]


def applied(spec: str, images: Tensor) -> Tensor:
    return make(spec).apply(images, generator(0, "test"))


def batched(spec: str, images: Tensor, labels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    return make(spec).batch(images, labels, generator(seed, "test"))


def noisy(count: int = 8, side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=generator(1, "noisy"), dtype=torch.uint8)


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_bit_depth_keeps_the_highest_bits(bits: int) -> None:
    images = noisy()
    made = applied(f"bdr:{bits}", images)
    step = 2 ** (8 - bits)
    assert bool((made % step == 0).all())
    assert bool(((images.int() - made.int()) < step).all()) and bool((made <= images).all())


@pytest.mark.parametrize(("kernel", "sigma"), [(3, 1.0), (7, 3.0)])
def test_gaussian_blurs_as_torchvision_does(kernel: int, sigma: float) -> None:
    images = noisy()
    wanted = gaussian_blur(images.float(), [kernel, kernel], [sigma, sigma])
    made = applied(f"gaussian:{kernel},{sigma}", images)
    assert float((made.float() - wanted).abs().max()) <= 0.5 + 1e-3
    assert float(made.float().std()) < 0.5 * float(images.float().std())


def test_a_blur_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="sigma"):
        make("gaussian:3,0.1")


def test_median_is_the_median_of_the_neighbours() -> None:
    images = noisy(2)
    made = applied("median", images)
    for line, column in ((1, 1), (7, 9), (14, 14)):
        around = images[:, :, line - 1 : line + 2, column - 1 : column + 2].flatten(2).float().median(2).values
        assert torch.equal(made[:, :, line, column].float(), around)


def test_resizing_takes_fine_noise_and_leaves_what_is_smooth() -> None:
    smooth, rough = pictures(4), noisy(4)
    assert float((applied("resize:0.5", smooth).float() - smooth.float()).abs().mean()) < 0.2 * float(
        smooth.float().std()
    )
    assert float(applied("resize:0.5", rough).float().std()) < 0.6 * float(rough.float().std())


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_resizing_rounds_twice_and_is_bilinear_else(share: float) -> None:
    images, small = noisy(4, 32), round(32 * share)
    shrunk = functional.interpolate(images.float(), (small, small), mode="bilinear", antialias=True)
    exact = functional.interpolate(shrunk, (32, 32), mode="bilinear")
    change = (applied(f"resize:{share}", images).float() - exact).abs()
    assert float(change.max()) < 2 and float(change.mean()) < 0.5


def test_crop_enlarges_the_middle() -> None:
    images = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    images[:, :, 4:12, 4:12] = 200
    assert bool((applied("crop:0.5", images) == 200).all())


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_a_lower_quality_changes_more(codec: str) -> None:
    images = noisy(4, 32)
    changes = [
        float((applied(f"{codec}:{quality}", images).float() - images.float()).abs().mean()) for quality in (90, 10)
    ]
    assert 0 < changes[0] < changes[1]


def test_uniform_noise_stays_within_its_levels() -> None:
    images = torch.full((64, 3, SIDE, SIDE), 0.5)
    made, _ = batched("uniform-noise:8", images, torch.ones(64, 1))
    change = (made - images) * 255
    assert 7.9 < float(change.abs().max()) <= 8 + 1e-3
    assert abs(float(change.mean())) < 0.1


def test_cutout_blacks_out_one_square() -> None:
    made, _ = batched("cutout:0.5", torch.ones(200, 3, SIDE, SIDE), torch.ones(200, 1))
    black = made.eq(0)
    assert torch.equal(black.any(1), black.all(1))
    sides = torch.stack([black[:, 0].any(2).sum(1), black[:, 0].any(1).sum(1)], 1)
    assert torch.equal(sides.prod(1), black[:, 0].flatten(1).sum(1))
    assert int(sides.max()) == SIDE // 2 and int(sides.min()) >= SIDE // 4


def test_squares_cover_their_share() -> None:
    inside = squares(torch.full((1, 2), 0.5), torch.tensor([0.5]), 16, 8)
    assert inside.shape == (1, 1, 16, 8) and float(inside.float().mean()) == 0.25


@pytest.mark.parametrize("spec", ["cutmix:1,1", "cutmix:1", "mixup"])  # a part pasted twice is of unknown content
def test_labels_are_mixed_as_the_images_are(spec: str) -> None:
    count = 32
    labels = torch.eye(count)
    images = (torch.arange(count) / count).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE).clone()
    made, shares = batched(spec, images, labels)
    torch.testing.assert_close(made.mean((1, 2, 3)), shares @ (torch.arange(count) / count), atol=1e-5, rtol=0)
    torch.testing.assert_close(shares.sum(1), torch.ones(count))
    assert float((shares.max(1).values < 1).float().mean()) > 0.2
    if spec != "mixup":  # pasted squares, no sums
        known = (made.unsqueeze(-1) - torch.arange(count) / count).abs().min(-1).values
        assert float(known.max()) < 1e-6


@pytest.mark.parametrize("spec", ["randaugment", "autoaugment", "ueraser"])
def test_each_image_is_augmented_by_itself(spec: str) -> None:
    image = pictures(1, side=32).float() / 255
    images, labels = image.expand(16, -1, -1, -1).contiguous(), torch.ones(16, 1)
    measure = make(spec)
    made, shares = measure.batch(images, labels, generator(2, "test"))
    made = measure.attack(nn.Identity(), made, shares, generator(3, "test"))
    assert len({one.numpy().tobytes() for one in made}) > 8
    before = torch.random.get_rng_state()
    measure.attack(nn.Identity(), *measure.batch(images, labels, generator(2, "test")), generator(3, "test"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ueraser_max_keeps_the_draw_with_the_highest_loss() -> None:
    images, labels = pictures(8, side=32).float() / 255, functional.one_hot(torch.arange(8) % 2, 2).float()
    seen: list[Tensor] = []

    def net(shown: Tensor) -> Tensor:
        seen.append(shown)
        return torch.stack([shown.mean((1, 2, 3)), -shown.mean((1, 2, 3))], 1) * 10

    kept = make("ueraser:max").attack(net, images, labels, generator(4, "test"))
    losses = torch.stack([functional.cross_entropy(net(shown), labels, reduction="none") for shown in seen[:5]])
    assert len(seen) == 10
    for position, best in enumerate(losses.argmax(0).tolist()):
        assert torch.equal(kept[position], seen[best][position])


# what kornia 0.9.0's diamond_square gives with roughness uniform in .3 to .7, over 6,000 draws of three channels at
# 32 px and 3,000 at 64: standard deviation of all values and within a map, mean lowest and highest value of a map, and
# the correlation of a pixel with its neighbour, and with those a quarter and half of the side away
KORNIA = {
    32: (0.1058, 0.0844, 0.2166, 0.7833, 0.8858, 0.5151, 0.3562),
    64: (0.0999, 0.0783, 0.2082, 0.7939, 0.9500, 0.5496, 0.3789),
}


def correlation(one: Tensor, other: Tensor) -> float:
    return float((one * other).mean() / (one.square().mean() * other.square().mean()).sqrt())


@pytest.mark.parametrize("side", list(KORNIA))
def test_plasma_is_as_strong_and_as_smooth_as_kornias(side: int) -> None:
    made = plasma(torch.zeros(1500, 3, side, side), generator(0, "plasma"))
    spread, within, low, high, *alike = KORNIA[side]
    assert made.shape == (1500, 3, side, side) and float(made.min()) >= 0 and float(made.max()) <= 1
    assert float(made.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(made.std()) == pytest.approx(spread, abs=0.003)
    assert float(made.std((2, 3)).mean()) == pytest.approx(within, abs=0.003)
    assert float(made.amin((2, 3)).mean()) == pytest.approx(low, abs=0.01)
    assert float(made.amax((2, 3)).mean()) == pytest.approx(high, abs=0.01)
    around = made - 0.5
    found = [correlation(around[..., :-away], around[..., away:]) for away in (1, side // 4, side // 2)]
    assert found == pytest.approx(alike, abs=0.03)
    assert correlation(around[:, 0], around[:, 1]) == pytest.approx(0, abs=0.05)  # each channel has its own


def test_plasma_fits_any_size() -> None:
    for shape in ((4, 1, 24, 24), (4, 3, 9, 21), (4, 3, 1, 1)):
        assert plasma(torch.zeros(shape), generator(0, "plasma")).shape == shape


def test_ueraser_changes_images_as_much_as_the_papers_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TrivialAugment, of which torchvision's is used: kornia 0.9.0, on 8,000 ramps, .0974 and .2948."""
    monkeypatch.setattr(v2, "TrivialAugmentWide", nn.Identity)
    ramp = torch.linspace(0, 1, 32).expand(2000, 3, 32, 32).contiguous()
    made = make("ueraser").attack(nn.Identity(), ramp, torch.ones(2000, 1), generator(0, "ueraser"))
    assert float((made - ramp).abs().mean()) == pytest.approx(0.0974, abs=0.005)
    assert float(((made < 1e-6) | (made > 1 - 1e-6)).float().mean()) == pytest.approx(0.2948, abs=0.015)


def small() -> SmallNet:
    with global_seed(0, "net"):
        return SmallNet(num_classes=2, channels=3, size=SIDE, width=8)


def loss_of(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float(functional.cross_entropy(net.eval()(images), labels).detach())


def test_the_adversary_stays_within_its_bound_and_raises_the_loss() -> None:
    net, images = small(), pictures(16).float() / 255
    labels = torch.arange(16) % 2
    shares = functional.one_hot(labels, 2).float()
    grown = {}
    for spec in ("adversarial:8/255", "adversarial-fast:8/255", "adversarial:2/255"):
        made = make(spec).attack(net.eval(), images, shares, generator(0, "test"))
        eps = float(spec.rpartition(":")[2].partition("/")[0]) / 255
        reach = 3 if "fast" in spec else 1  # its start, twice the bound, is not cut back
        assert reach - 1 < float((made - images).abs().max()) / eps <= reach + 1e-4
        assert float(made.min()) >= 0 and float(made.max()) <= 1
        grown[spec] = loss_of(net, made, labels) - loss_of(net, images, labels)
    assert grown["adversarial:8/255"] > grown["adversarial:2/255"] > 0
    assert grown["adversarial:8/255"] >= grown["adversarial-fast:8/255"] > 0


def test_an_l2_adversary_bounds_the_norm_of_a_whole_image() -> None:
    net, images = small().eval(), pictures(16).float() / 255
    labels = torch.arange(16) % 2
    shares = functional.one_hot(labels, 2).float()
    grown = {}
    for eps in (0.25, 1.0):
        made = make(f"adversarial:{eps},10,l2").attack(net, images, shares, generator(0, "test"))
        lengths = (made - images).flatten(1).norm(dim=1)
        assert float(lengths.max()) <= eps + 1e-4 and float(lengths.mean()) > 0.9 * eps
        assert float(made.min()) >= 0 and float(made.max()) <= 1
        grown[eps] = loss_of(net, made, labels) - loss_of(net, images, labels)
    change = made - images
    assert float(change.abs().max()) > 2 * float(change.abs().mean())  # along the gradient, not its signs
    noise = torch.randn(images.shape, generator=generator(1, "test"))
    random = (images + noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).clamp(0, 1)
    assert grown[1.0] > 2 * grown[0.25] > 0 and grown[1.0] > 3 * (
        loss_of(net, random, labels) - loss_of(net, images, labels)
    )


def test_adversaries_of_two_norms_do_not_compare() -> None:
    assert make("adversarial:4/255").strength == pytest.approx(4 / 255)
    assert make("adversarial:1,10,l2").strength is None


def test_an_attack_leaves_the_net_as_it_was() -> None:
    net, images = small(), pictures(8).float() / 255
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes: list[bool] = []
    net.body.register_forward_hook(lambda module, *_: modes.append(module.training))
    against = against_of(load(), "adversarial:8/255")
    loss = against.loss(
        net, images, torch.arange(8) % 2, generator(0, "test"), num_classes=2, forward=lambda model, seen: model(seen)
    )
    assert modes == [False] * 10 + [True] and net.training
    frozen = {name for name, tensor in before.items() if not name.endswith(("running_mean", "running_var", "tracked"))}
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in frozen)
    assert int(net.body[1].num_batches_tracked) == 1
    loss.backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_projection_takes_out_what_a_linear_net_reads() -> None:
    count = 300
    labels = torch.arange(count) % 3
    noise = torch.randint(-12, 13, (3, 3, SIDE, SIDE), generator=generator(3, "noise"))
    images = (pictures(count).int() + noise[labels]).clamp(0, 255).to(torch.uint8)
    made = make("orthogonal-projection").prepare(images, labels, generator(0, "test"))

    def kept(shown: Tensor) -> float:
        flat = shown.flatten(1).float()
        return float((flat @ noise.flatten(1).float().T).argmax(1).eq(labels).float().mean())

    differences = [
        abs(float((one.flatten(1).float() @ (noise[0] - noise[1]).flatten().float()).std())) for one in (images, made)
    ]
    assert kept(images) > 0.9
    assert differences[1] < 0.5 * differences[0]


def test_countermeasures_in_a_row_are_done_in_their_order() -> None:
    images, labels = noisy(4, 32), torch.arange(4)
    both = against_of(load(), "grayscale+bdr:2")
    apart = applied("bdr:2", applied("grayscale", images))
    assert torch.equal(both.prepare(images, labels), apart)
    assert both.spec == "grayscale+bdr:2" and not both.on_batches
    mixed = against_of(load(), "jpeg:10+cutmix+adversarial-fast")
    assert mixed.on_batches and mixed.cost == 2


def test_plain_training_sees_the_plain_loss() -> None:
    net, images, labels = small().eval(), pictures(8).float() / 255, torch.arange(8) % 2

    def loss(against: Against, smooth: float = 0.0) -> Tensor:
        drawn = generator(0, "test")
        return against.loss(net, images, labels, drawn, num_classes=2, smooth=smooth, forward=lambda f, seen: f(seen))

    assert torch.equal(loss(PLAIN), functional.cross_entropy(net(images), labels))
    idle: Any = type("Idle", (plugin.Countermeasure,), {"name": "idle", "batch": lambda _, x, y, g: (x, y)})()
    wanted = functional.cross_entropy(net(images), labels, label_smoothing=0.2)
    torch.testing.assert_close(loss(Against("idle", (idle,)), 0.2), wanted)


@pytest.mark.parametrize(
    "spec",
    ["bdr:0", "bdr:8", "median:4", "resize:1", "crop:0", "cutout:0", "webp:101", "ueraser:most", "adversarial:0/255",
     "adversarial:8", "adversarial:1", "adversarial:1,10,l3", "adversarial:0,10,l2",
     "uniform-noise:0", "cutmix:0", "randaugment:0", "jpeg:0", "nothing", "jpeg:10+", "+"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        against_of(load(), spec)
