"""The methods that give a trained network: their arithmetic, their repeatability, and the network itself."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests import problems
from uexcli import plugin, registry
from uexcli.builtin.methods import _generator_training, _primer, deepconfuse
from uexcli.builtin.methods._primer import Classes, Marks
from uexcli.builtin.methods._unet import Generator
from uexcli.builtin.methods.deepconfuse import DeepConfuse, Duel, unrolled
from uexcli.builtin.methods.gue import GameUnlearnable, hardest, multiplier
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import SmallNet
from uexcli.core.optim import Adam
from uexcli.errors import UexError
from uexcli.plugin import Journal, Progress, State
from uexcli.testing import pictures

LINF = registry.load().find("norm", "linf").cls
METHODS = [GameUnlearnable, DeepConfuse]
EPS = 8 / 255


def least(cls: type[plugin.Method]) -> plugin.Method:
    return cls(**cls.test_options)


def make_problem(seed: int = 1, count: int = 24, side: int = 16, **changes: Any) -> BankProblem:
    norm = LINF()
    assert isinstance(norm, plugin.Norm)
    problem = problems.make(
        images=pictures(count, side=side),
        labels=torch.arange(count) % 3,
        rows=torch.zeros(count, dtype=torch.int64),
        keys=[f"{number}.png" for number in range(count)],
        num_rows=1,
        num_classes=3,
        norm=norm,
        eps=EPS,
        seed=seed,
        device=torch.device("cpu"),
        make_surrogate=lambda: SmallNet(num_classes=3, channels=3, size=side, width=4),
    )
    return problems.changed(problem, **changes)


def fit(method: plugin.Method, problem: BankProblem, on_step: plugin.OnStep = lambda _: None) -> dict[str, Tensor]:
    made = method.fit(problem, on_step)
    assert isinstance(made, nn.Module) and not made.training
    return made.state_dict()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------------------ arithmetic


def tiny_net(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    return torch.tanh(images.flatten(1) @ weights["first"]) @ weights["second"]


def test_the_gradient_through_the_unrolled_step_agrees_with_finite_differences() -> None:
    drawn = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=drawn, dtype=torch.float64)

    weights = {"first": normal(12, 5).requires_grad_(), "second": normal(5, 3).requires_grad_()}
    images, labels, matrix = normal(4, 3, 2, 2), torch.tensor([0, 1, 2, 1]), normal(12, 12).requires_grad_()

    def loss(matrix: Tensor) -> Tensor:  # a generator of one weight matrix
        noise = 0.1 * torch.tanh(images.flatten(1) @ matrix).view_as(images)
        return unrolled(tiny_net, weights, images + noise, images, labels, lr=0.7)

    assert torch.autograd.gradcheck(loss, (matrix,), eps=1e-6, atol=1e-7)
    (grad,) = torch.autograd.grad(loss(matrix), matrix)
    assert float(grad.abs().max()) > 1e-4


def test_the_unrolled_step_is_an_sgd_step() -> None:
    drawn = torch.Generator().manual_seed(4)
    weights = {"first": torch.randn(12, 5, generator=drawn), "second": torch.randn(5, 3, generator=drawn)}
    images, protected = torch.randn(4, 3, 2, 2, generator=drawn), torch.randn(4, 3, 2, 2, generator=drawn)
    labels = torch.tensor([0, 1, 2, 1])
    learning = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    after = unrolled(tiny_net, learning, protected, images, labels, lr=0.3)
    functional.cross_entropy(tiny_net(learning, protected), labels).backward()
    by_hand = {name: (weight - 0.3 * weight.grad).detach() for name, weight in learning.items()}  # type: ignore[operator]
    torch.testing.assert_close(after, functional.cross_entropy(tiny_net(by_hand, images), labels))


@pytest.mark.parametrize(
    ("wants", "falls", "strength"),
    [
        ((1.0, 0.0), (2.0, 0.0), 1.0),  # (1.5 * 4 - 2) / 4
        ((-1.0, 3.0), (2.0, 0.0), 2.0),  # they pull apart: (6 + 2) / 4
        ((4.0, 0.0), (2.0, 0.0), 0.0),  # F alone lowers q fast enough: (6 - 8) / 4 is below 0
        ((1.0, 1.0), (0.0, 0.0), 0.0),  # nothing to lower
    ],
)
def test_the_multiplier_is_that_of_bome(wants: Any, falls: Any, strength: float) -> None:
    made = multiplier([torch.tensor(wants)], [torch.tensor(falls)], eta=1.5)
    torch.testing.assert_close(made, torch.tensor(strength))
    direction = torch.tensor(wants) + made * torch.tensor(falls)
    squared = float(torch.tensor(falls).square().sum())
    assert float(direction @ torch.tensor(falls)) >= 1.5 * squared - 1e-6  # q falls as fast as promised


def test_the_multiplier_counts_the_generator_in_the_norm_and_not_in_the_product() -> None:
    made = multiplier([torch.tensor([1.0])], [torch.tensor([1.0]), torch.tensor([3.0])], eta=1.5)
    torch.testing.assert_close(made, torch.tensor((1.5 * 10 - 1) / 10))


def test_the_leaders_of_a_toy_end_where_they_should() -> None:
    """F = (t - 1)^2 / 2 and q = (t - g)^2 / 2: BOME brings the net t to 1, and the generator g to t."""
    net, made = torch.tensor([-1.0]), torch.tensor([2.0])
    for _ in range(2000):
        wants, gap = net - 1, net - made
        strength = multiplier([wants], [gap, -gap], eta=1.5)
        net, made = net - 0.02 * (wants + strength * gap), made + 0.02 * strength * gap
    assert abs(float(net) - 1) < 0.02 and abs(float(made - net)) < 0.02


def test_the_hardest_wrong_class_is_the_least_likely_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 5.0, 2.0]])
    labels = torch.tensor([2, 1])
    each = -functional.log_softmax(logits, 1)
    torch.testing.assert_close(hardest(logits, labels), (each[0, 1] + each[1, 0]) / 2)


def test_adam_is_torchs() -> None:
    ours, theirs = torch.tensor([1.0, -2.0]), torch.tensor([1.0, -2.0], requires_grad=True)
    adam, reference = Adam([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1)
    for step in range(5):
        grad = torch.tensor([0.3 - step, 0.01 * step])
        theirs.grad = grad.clone()
        reference.step()
        adam.step([grad])
    torch.testing.assert_close(ours, theirs.detach())


# ------------------------------------------------------------------------------------------ generator


@pytest.mark.parametrize(("channels", "side"), [(3, 8), (1, 9), (3, 16), (4, 23)])
def test_a_generator_takes_any_size_and_keeps_its_bound(channels: int, side: int) -> None:
    torch.manual_seed(5)
    generator = Generator(channels=channels, width=4, reach=EPS)
    images, rows = torch.rand(6, channels, side, side), torch.zeros(6, dtype=torch.int64)
    noise = generator(images, rows).detach()
    assert noise.shape == images.shape and float(noise.abs().max()) <= EPS * (1 + 1e-6)
    assert float(noise.std()) > 0.1 * EPS


def test_a_generator_can_draw_a_texture_of_its_own() -> None:
    """On a grey image, where there is nothing to sharpen: places within a cell differ, cells do not."""
    torch.manual_seed(6)
    generator = Generator(channels=3, width=4, reach=EPS)
    noise = generator(torch.full((2, 3, 160, 160), 0.5), torch.zeros(2, dtype=torch.int64)).detach()[0]
    cells = noise[:, 72:88, 72:88].unfold(1, 8, 8).unfold(2, 8, 8)  # away from the border, (3, 2, 2, 8, 8)
    torch.testing.assert_close(cells[:, 0, 0], cells[:, 1, 1], rtol=1e-3, atol=1e-4 * EPS)
    assert float(cells[:, 0, 0].std((1, 2)).min()) > 0.05 * EPS


def test_every_place_of_the_noise_knows_the_whole_image() -> None:
    torch.manual_seed(6)
    generator, far = Generator(channels=3, width=4, reach=EPS), torch.rand(1, 3, 160, 160)
    changed = far.clone()
    changed[:, :, :8, :8] = 0
    generator.eval()
    one, other = (generator(images, torch.zeros(1, dtype=torch.int64)).detach() for images in (far, changed))
    assert not torch.equal(one[..., -8:, -8:], other[..., -8:, -8:])


def test_the_noise_of_an_image_depends_on_that_image_alone() -> None:
    made = least(GameUnlearnable).fit(make_problem(), lambda _: None)
    assert isinstance(made, nn.Module)
    images = pictures(7, seed=9).float() / 255
    with torch.inference_mode():
        every = made(images, torch.zeros(7, dtype=torch.int64))
        alone = made(images[3:4], torch.full((1,), 5))
    torch.testing.assert_close(every[3:4], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(every[3], every[4], atol=1e-4)


@pytest.mark.parametrize("cls", METHODS)
def test_a_network_built_again_takes_the_weights_and_the_bound(cls: type[plugin.Method]) -> None:
    method = least(cls)
    weights = fit(method, make_problem())
    again = method.network(channels=3, size=16, num_rows=1)
    again.load_state_dict(weights, strict=True)
    assert float(again.get_buffer("reach")) == pytest.approx(EPS)


# ------------------------------------------------------------------------------------------ before the game


def coloured(count: int) -> Tensor:
    """Noise whose brightest channel is the class that `make_problem` gives the image."""
    images = pictures(count, side=16) // 2
    images[torch.arange(count), torch.arange(count) % 3] += 100
    return images


def prime(problem: BankProblem, on_step: plugin.OnStep, **passes: int) -> _generator_training.Course:
    """Make a course whose game is the marks again."""
    play = functools.partial(Marks, problem)
    return _primer.primed(problem, on_step, play=play, width=4, batch=12, batches=0, **passes)


def test_a_generator_learns_the_classes_and_keeps_them() -> None:
    problem, notes = make_problem(count=48, images=coloured(48)), list[str]()
    learnt: list[Tensor] = []

    def hear(told: Progress) -> None:
        notes.append(told.note)
        if told.stage == "learn classes" and told.note.startswith("pass 40,"):
            learnt.extend(weight.detach().clone() for weight in course._generator.down.state_dict().values())

    course = prime(problem, hear, classes=40, marks=1, passes=1)
    before = course._generator.down[0][0].weight.detach().clone()  # type: ignore[index, union-attr, operator]
    made = course.run()
    assert "error 0.0%" in next(note for note in notes if note.startswith("pass 40"))
    assert not torch.equal(before, made.down[0][0].weight)  # type: ignore[index, arg-type]
    assert all(map(torch.equal, learnt, made.down.state_dict().values())) and learnt  # statistics of batch norm, too


def test_marks_are_read_whatever_the_picture() -> None:
    """A reader's loss falls below chance, whatever lies under its marks; with hardly any noise it does not."""
    losses = []
    for eps in (64 / 255, 1e-9):
        problem = make_problem(count=48, images=coloured(48), eps=eps)
        reports: list[Progress] = []
        prime(problem, reports.append, classes=16, marks=24, passes=0).run()
        losses.append(float(reports[-1].note.split("cross-entropy ")[1].split()[0]))
    assert losses[0] < 0.8 < math.log(3) - 0.1 < losses[1]


# ------------------------------------------------------------------------------------------ fits


class Put(Journal):
    """Counts the states, and puts the fit down at the `at`-th, which it keeps."""

    def __init__(self, at: int | None = None) -> None:
        self.count = 0
        self.kept: dict[str, Any] | None = None
        self._at = at

    def save(self, state: Callable[[], State], *, milestone: bool = False) -> None:
        self.count += 1
        if self.count == self._at:
            self.kept = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state().items()}
            raise KeyboardInterrupt


class Taken(Journal):
    """Gives a state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def load(self) -> State:
        return self._state


@pytest.mark.parametrize("cls", METHODS)
def test_the_same_seed_gives_the_same_bytes(cls: type[plugin.Method]) -> None:
    torch.manual_seed(1)
    first = fit(least(cls), make_problem())
    torch.manual_seed(2)  # the state of the global generator does not matter
    before = torch.get_rng_state()
    assert same(first, fit(least(cls), make_problem()))
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(first, fit(least(cls), make_problem(seed=2)))


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("adam", [False, True])
def test_a_fit_put_down_anywhere_gives_the_same_bytes(cls: type[plugin.Method], adam: bool) -> None:
    method = least(cls)
    if isinstance(method, GameUnlearnable):
        method = dataclasses.replace(method, adam=adam)
    elif isinstance(method, DeepConfuse):
        method = dataclasses.replace(method, checkpoints=3 * int(adam))
    method = dataclasses.replace(method, classes=int(adam), marks=3 * int(adam))  # 3: another reader on the way
    told: list[str] = []
    count = Put()
    whole = fit(method, make_problem(journal=count), lambda report: told.append(report.note))
    for at in range(1, count.count + 1):
        journal = Put(at)
        with pytest.raises(KeyboardInterrupt):
            fit(method, make_problem(journal=journal))
        assert journal.kept is not None
        again: list[str] = []
        resumed = fit(
            method, make_problem(journal=Taken(journal.kept)), lambda report, to=again: to.append(report.note)
        )
        assert same(whole, resumed)
        assert again[-1] == told[-1]


class Odd(SmallNet):
    """A surrogate with dropout, a frozen layer, and weights that it never uses."""

    def __init__(self) -> None:
        super().__init__(num_classes=3, channels=3, size=16, width=4)
        self.unused = nn.Linear(2, 2)
        self.body[0].requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to logits `(B, K)`."""
        return super().forward(functional.dropout(images, 0.3, self.training))


@pytest.mark.parametrize("cls", METHODS)
def test_a_surrogate_with_dropout_repeats_and_its_frozen_layer_stays(cls: type[plugin.Method]) -> None:
    made: list[tuple[Odd, Tensor]] = []

    def build() -> nn.Module:
        net = Odd()
        made.append((net, net.body[0].weight.detach().clone()))
        return net

    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights.append(fit(least(cls), make_problem(make_surrogate=build)))
    assert same(*weights)
    assert made and all(torch.equal(net.body[0].weight, drawn) for net, drawn in made)


def test_a_pass_goes_over_a_small_set_several_times() -> None:
    problem, seen = make_problem(count=24), list[int]()

    class Watching(Marks):
        def step(self, batch: Tensor, share: float) -> Tensor:
            seen.extend(batch.tolist())
            return super().step(batch, share)

    stages = [_generator_training.Stage("play", 1, lambda made: Watching(problem, made))]
    _generator_training.Course(problem, stages, width=4, batch=12, batches=5, on_step=lambda _: None).run()
    assert len(seen) == 3 * 24 and all(seen.count(image) == 3 for image in range(24))
    assert seen[:24] != seen[24:48] and sorted(seen[:24]) == sorted(seen[24:48])


@pytest.mark.parametrize("cls", METHODS)
def test_an_odd_image_is_never_a_batch_alone(cls: type[plugin.Method]) -> None:
    fit(dataclasses.replace(least(cls), batch=3), make_problem(count=7, side=8))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="batch 3"):
        cls(batch=2)  # type: ignore[call-arg]
    with pytest.raises(UexError, match="one image"):
        fit(least(cls), make_problem(count=1))
    with pytest.raises(UexError, match="one image"):
        least(cls).rehearse(make_problem(count=1))


@pytest.mark.parametrize("cls", METHODS)
def test_a_state_of_something_else_is_refused(cls: type[plugin.Method]) -> None:
    with pytest.raises(UexError, match="does not fit"):
        fit(least(cls), make_problem(journal=Taken({"passed": 0})))


@pytest.mark.parametrize("cls", METHODS)
def test_progress_ends_at_the_end(cls: type[plugin.Method]) -> None:
    reports: list[Progress] = []
    fit(least(cls), make_problem(), reports.append)
    stages = list(dict.fromkeys(report.stage for report in reports))
    assert stages == ["learn classes", "learn marks", "play"]
    shares = [report.done / report.total for report in reports]
    assert shares == sorted(shares) and shares[0] > 0
    assert reports[-1].done == reports[-1].total and "protected images" in reports[-1].note


@pytest.mark.parametrize("cls", METHODS)
def test_a_fit_that_diverges_says_so(cls: type[plugin.Method]) -> None:
    method = dataclasses.replace(least(cls), lr=1e30)  # type: ignore[type-var]
    with pytest.raises(UexError, match="diverged") as caught:
        fit(method, make_problem())
    assert "lr" in (caught.value.hint or "")


@pytest.mark.parametrize("cls", METHODS)
def test_a_handful_of_odd_images_in_low_precision(cls: type[plugin.Method]) -> None:
    weights = fit(least(cls), make_problem(count=13, side=11, autocast=torch.bfloat16))
    assert all(bool(value.isfinite().all()) for value in weights.values())
    assert all(value.dtype == torch.float32 for value in weights.values() if value.is_floating_point())


@pytest.mark.parametrize("cls", METHODS)
def test_noise_stays_inside_another_norm(cls: type[plugin.Method]) -> None:
    norm = registry.load().find("norm", "l2").cls()
    assert isinstance(norm, plugin.Norm)
    made = least(cls).fit(make_problem(norm=norm, eps=0.5), lambda _: None)
    assert isinstance(made, nn.Module) and math.isclose(float(made.get_buffer("reach")), 0.5)


@pytest.mark.parametrize("cls", METHODS)
def test_presets_are_options_of_the_method(cls: type[plugin.Method]) -> None:
    for name in cls.presets:
        cls(**cls.preset(name, per_sample=False).options)
    with pytest.raises(ValueError, match="at least 1"):
        cls(generator_width=0)  # type: ignore[call-arg]


def test_the_generator_learns_to_mislead() -> None:
    """DeepConfuse's loss on clean images rises where a frozen generator's does not: its steps climb."""
    problem = make_problem(count=48)
    notes: dict[float, str] = {}
    for rate in (1e-9, 1e-2):
        method = DeepConfuse(
            rounds=1,
            batches=0,
            epochs=12,
            checkpoints=0,
            classes=0,
            marks=0,
            augment=False,
            batch=16,
            generator_width=4,
            generator_lr=rate,
            anneal=False,
        )
        reports: list[Progress] = []
        method.fit(problem, reports.append)
        notes[rate] = reports[-1].note
    frozen, moved = (float(notes[rate].rsplit(", ", 1)[1].split()[0]) for rate in (1e-9, 1e-2))
    assert moved > frozen


def test_a_rehearsal_counts_all_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the game takes ten seconds an image here, those before one and two."""
    clock = [0.0]

    def slow(cls: type[Any], seconds: float) -> type[Any]:
        def step(self: Any, batch: Tensor, share: float) -> Tensor:
            clock[0] += seconds * len(batch)
            return torch.zeros(2)

        return type(cls.__name__, (cls,), {"step": step})

    monkeypatch.setattr(deepconfuse, "Duel", slow(Duel, 10))
    monkeypatch.setattr(_primer, "Classes", slow(Classes, 1))
    monkeypatch.setattr(_primer, "Marks", slow(Marks, 2))
    monkeypatch.setattr(_generator_training, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    task = make_problem()
    method = DeepConfuse(rounds=3, epochs=5, classes=7, marks=4, batch=8, batches=0, generator_width=4)
    made = method.rehearse(task)
    assert made == pytest.approx((3 * 5 * 10 + 7 * 1 + 4 * 2) * len(task.images))
    assert dataclasses.replace(method, batches=7).rehearse(task) == pytest.approx(3 * made)  # 24 images in 9 batches


def test_checkpoints_are_spread_over_a_round_and_bounded() -> None:
    task = make_problem(count=24)
    duel = Duel(
        DeepConfuse(epochs=2, batch=4, batches=0, checkpoints=4), task, Generator(channels=3, width=4, reach=EPS)
    )  # 12 batches a round
    kept: list[int] = []
    for passed in range(4):
        duel.begin(passed)
        for start in range(0, 24, 4):
            duel.step(torch.arange(start, start + 4), 0.0)
            kept.append(len(duel._kept))
    assert kept[:12] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4] and set(kept[12:]) == {4}
    firsts = [next(iter(weights.values())) for weights in duel._kept]
    assert not any(torch.equal(one, other) for one in firsts for other in firsts if one is not other)
    alone = Duel(DeepConfuse(batch=4, checkpoints=0), task, Generator(channels=3, width=4, reach=EPS))
    alone.step(torch.arange(4), 0.0)
    assert alone._kept == []


def test_a_rehearsal_leaves_the_fit_as_it_is() -> None:
    for cls in METHODS:
        plain, rehearsed = make_problem(), make_problem()
        seconds = least(cls).rehearse(rehearsed)
        assert seconds is not None and seconds > 0
        assert same(fit(least(cls), plain), fit(least(cls), rehearsed))
