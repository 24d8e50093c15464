"""The step of the noise, against a slow plain loop; the error-minimising method as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import reference
from tests import problems
from uexcli import plugin, registry
from uexcli.core.fit import engine, pgd
from uexcli.core.fit.engine import Engine
from uexcli.core.fit.frozen import Frozen
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import SmallNet
from uexcli.core.pixels import survival
from uexcli.core.seeding import generator
from uexcli.testing import pictures

EPS = 8 / 255


def problem(
    rows: Tensor, *, side: int = 8, count: int = 12, norm: str = "linf", images: Tensor | None = None
) -> BankProblem:
    found = registry.load().make(plugin.Norm, "norm", norm)  # type: ignore[type-abstract]
    return problems.make(
        images=pictures(count, side=side) if images is None else images,
        labels=torch.arange(count) % 3,
        rows=rows,
        keys=[str(number) for number in range(count)],
        num_rows=int(rows.max()) + 1,
        num_classes=3,
        norm=found,
        eps=EPS if norm == "linf" else 0.5,
        seed=0,
        device=torch.device("cpu"),
        make_surrogate=lambda: SmallNet(num_classes=3, channels=3, size=side, width=4),
    )


def slow_steps(task: BankProblem, model: nn.Module, delta: Tensor, batch: Tensor, step: float, steps: int) -> Tensor:
    """Huang et al.'s step, one image at a time, in float64."""
    model = model.double().eval()
    bank = delta.double().clone()
    for _ in range(steps):
        total = torch.zeros_like(bank)
        for index in batch.tolist():
            row = int(task.rows[index])
            shown = (task.images[index].double() / 255 + bank[row]).clamp(0, 1).requires_grad_(True)
            loss = nn.functional.cross_entropy(model(shown[None]), task.labels[index : index + 1])
            total[row] += torch.autograd.grad(loss, shown)[0]
        for row in task.rows[batch].unique().tolist():
            if task.norm.name == "linf":
                bank[row] = (bank[row] - step * task.eps * total[row].sign()).clamp(-task.eps, task.eps)
            else:
                moved = bank[row] - step * task.eps * total[row] / total[row].norm()
                bank[row] = moved * min(1.0, task.eps / float(moved.norm()))
            if task.per_sample:
                image = task.images[int((task.rows == row).nonzero())].double() / 255
                bank[row] = (image + bank[row]).clamp(0, 1) - image
    return bank


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("rows", [torch.arange(12), torch.arange(12) % 3, torch.zeros(12, dtype=torch.int64)])
def test_a_step_is_what_a_slow_loop_does(rows: Tensor, norm: str) -> None:
    task = problem(rows, norm=norm)
    model = task.build()
    delta = task.fill(task.start(random=True)) / 2
    batch = torch.tensor([0, 3, 4, 7, 9])
    wanted = slow_steps(task, task.build(), delta, batch, 0.3, 3)
    task.move(model, delta, batch, step=0.3, steps=3)
    close = (delta.double() - wanted).abs() < 1e-5
    assert float(close.double().mean()) > 0.998  # a float32 gradient of about zero may have the other sign


def test_rows_the_batch_does_not_touch_stay() -> None:
    task = problem(torch.arange(12))
    delta = task.fill(task.start(random=True))
    before = delta.clone()
    task.move(task.build(), delta, torch.tensor([2, 5]), step=0.2)
    moved = (delta != before).flatten(1).any(1)
    assert moved.nonzero().flatten().tolist() == [2, 5]


@pytest.mark.parametrize("ascend", [False, True])
def test_steps_lower_the_loss_or_raise_it(ascend: bool) -> None:
    task = problem(torch.arange(12))
    model, delta, everything = task.build(), task.start(random=False), torch.arange(12)

    def loss() -> float:
        with torch.inference_mode():
            return float(nn.functional.cross_entropy(model.eval()(task.published(delta, everything)), task.labels))

    before = loss()
    task.move(model, delta, everything, step=0.2, steps=5, ascend=ascend)
    assert loss() > before if ascend else loss() < before


def test_moving_noise_leaves_the_surrogate_as_it_was() -> None:
    task = problem(torch.arange(12))
    model = task.build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task.move(model, task.start(random=False), torch.arange(12), step=0.2, steps=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_noise_of_one_image_stays_inside_its_box() -> None:
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).repeat(6).view(12, 1, 1, 1).expand(12, 3, 8, 8)
    task = problem(torch.arange(12), images=black_and_white.contiguous())
    delta = task.start(random=False)
    task.move(task.build(), delta, torch.arange(12), step=1.0, steps=4)
    shown = black_and_white / 255 + delta
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1
    assert float(delta.abs().max()) > 0


def moved_in_parts(micro: int, rows: Tensor, dtype: torch.dtype, *, augment: bool = False) -> Tensor:
    """The bank after a few steps on 48 images, never more than `micro` of them at once."""
    low = torch.bfloat16 if dtype == torch.bfloat16 else None
    task = problems.changed(problem(rows, count=48, side=16), engine=Engine(micro), autocast=low)
    model = task.build().to(torch.float32 if low else dtype)
    delta = (task.fill(task.start(random=True)) / 2).to(torch.float32 if low else dtype)
    view = generator(0, "view") if augment else None
    task.move(model, delta, torch.arange(48), step=0.2, steps=4, generator=view)
    return delta


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("rows", [torch.arange(48), torch.arange(48) % 3])
def test_the_micro_batch_does_not_matter(rows: Tensor, augment: bool) -> None:
    whole = moved_in_parts(48, rows, torch.float64, augment=augment)
    for micro in (1, 7, 16):
        torch.testing.assert_close(
            moved_in_parts(micro, rows, torch.float64, augment=augment), whole, rtol=0, atol=1e-12
        )


def test_in_bfloat16_the_micro_batch_hardly_matters() -> None:
    whole, parts = (moved_in_parts(micro, torch.arange(48), torch.bfloat16) for micro in (48, 7))
    levels = [(255 * delta).round().to(torch.int8) for delta in (whole, parts)]
    assert float((levels[0] == levels[1]).float().mean()) >= 0.999


@pytest.mark.parametrize("rows", [torch.arange(48), torch.arange(48) % 3])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(
    rows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = moved_in_parts(48, rows, torch.float64)
    real, sizes = engine.move, []

    def scarce(forward: Any, bank: Tensor, parts: Any, step: Any) -> Tensor:
        sizes.append(max(len(part.images) for part in parts))
        if sizes[-1] > 12:
            raise torch.OutOfMemoryError("no")
        return real(forward, bank, parts, step)

    monkeypatch.setattr(engine, "move", scarce)
    torch.testing.assert_close(moved_in_parts(48, rows, torch.float64), wanted, rtol=0, atol=1e-12)
    assert sizes[:3] == [48, 24, 12]
    monkeypatch.setattr(engine, "move", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("never")))
    with pytest.raises(torch.OutOfMemoryError):
        moved_in_parts(4, rows, torch.float64)


def trained(surrogate: str, channels: int = 3, size: int = 32) -> nn.Module:
    """A net whose batch norms have seen something."""
    made: Any = registry.load().find("surrogate", surrogate).cls()
    torch.manual_seed(0)
    model = made.build(num_classes=5, channels=channels, size=size).train()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.1, 0.1) if parameter.dim() == 1 else None
    for _ in range(3):
        model(torch.rand(8, channels, size, size))
    return model


@pytest.mark.parametrize("surrogate", ["small", "resnet18"])
def test_a_frozen_net_gives_the_same_logits_and_gradients(surrogate: str) -> None:
    model = trained(surrogate).double()
    images, labels = torch.rand(4, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    frozen = Frozen(model, images[:2])
    wanted = model.eval()(images)
    torch.testing.assert_close(frozen(images).double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        pgd.input_gradient(frozen, images, labels), pgd.input_gradient(model, images, labels), rtol=1e-3, atol=1e-7
    )
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen._net.modules())


def test_a_frozen_net_follows_its_net() -> None:
    model = trained("small")
    images = torch.rand(4, 3, 32, 32)
    frozen = Frozen(model, images[:2])
    places = [parameter.data_ptr() for parameter in frozen._net.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
    model.train()(images)
    frozen.refresh()
    torch.testing.assert_close(frozen(images), model.eval()(images), rtol=1e-4, atol=1e-4)
    assert [parameter.data_ptr() for parameter in frozen._net.parameters()] == places


class Moody(nn.Module):
    """Asks its input for values, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.norm(self.conv(images))
        return seen.mean((2, 3)) if float(images.sum()) > 0 else seen.amax((2, 3))


class Drawing(Moody):
    """Draws while it is traced, so that a trace computes something else."""

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)).mean((2, 3)) + torch.randn(4)


class Constant(Moody):
    """Has a tensor that is no buffer; a trace makes one of it."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.full((3, 1, 1), 0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images - self.mean - torch.tensor([0.1]))).mean((2, 3))


@pytest.mark.parametrize("model", [Moody(), Drawing(), Constant()])
def test_nets_that_are_hard_to_trace_give_what_they_give(model: nn.Module) -> None:
    images = torch.rand(4, 3, 8, 8)
    frozen = Frozen(model, images)
    torch.manual_seed(1)
    found = frozen(images)
    torch.manual_seed(1)
    torch.testing.assert_close(found, model.eval()(images))


class Around(nn.Module):
    """Two skip connections, one in place, and a sum of two ways that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.other = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        seen = self.one(images)
        seen += images
        return (self.other(seen) + self.two(seen) + seen).sum((2, 3))


def test_of_the_gradient_a_share_passes_the_branches() -> None:
    model, images = Around(), torch.rand(2, 3, 4, 4).requires_grad_(True)
    frozen = Frozen(model, images.detach(), branches=0.25)
    found = frozen(images)
    torch.testing.assert_close(found, model(images))
    (grad,) = torch.autograd.grad(found[:, 1].sum(), images)
    one, two, other = (each.weight.detach()[:, :, 0, 0] for each in (model.one, model.two, model.other))
    # the sum of two convolutions is itself a branch around the last connection
    wanted = (torch.eye(3) + 0.25 * (two + other))[1] @ (torch.eye(3) + 0.25 * one)
    torch.testing.assert_close(grad, wanted.view(1, 3, 1, 1).expand_as(grad))


class Scaled(Around):
    """Its branch is added by a method, a tenth of another one by an argument."""

    def forward(self, images: Tensor) -> Tensor:
        seen = self.one(images).add(images)
        return torch.add(seen, self.two(seen), alpha=0.1).sum((2, 3))


def test_branches_are_added_in_any_way_that_is_a_plain_sum() -> None:
    model, images = Scaled(), torch.rand(2, 3, 4, 4).requires_grad_(True)
    found = Frozen(model, images.detach(), branches=0.25)(images)
    torch.testing.assert_close(found, model(images))
    (grad,) = torch.autograd.grad(found[:, 1].sum(), images)
    one, two = (each.weight.detach()[:, :, 0, 0] for each in (model.one, model.two))
    wanted = (torch.eye(3) + 0.1 * two)[1] @ (torch.eye(3) + 0.25 * one)
    torch.testing.assert_close(grad, wanted.view(1, 3, 1, 1).expand_as(grad))


class Aliased(Around):
    """Goes on with what a sum in place has changed, under its old name: faded, it would be another net."""

    def forward(self, images: Tensor) -> Tensor:
        seen = self.one(images)
        again = seen
        again += images
        return (self.two(again) + seen).sum((2, 3))


def test_a_net_that_fading_would_change_is_left_as_it_is() -> None:
    model, images = Aliased(), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(Frozen(model, images, branches=0.25)(images), model(images))


def test_the_branches_of_a_residual_net_are_faded() -> None:
    model, images = trained("resnet18"), torch.rand(2, 3, 32, 32).requires_grad_(True)
    grads = {}
    for share in (1.0, 0.5, 0.0):
        found = Frozen(model, images.detach(), branches=share)(images)
        torch.testing.assert_close(found, model.eval()(images), rtol=1e-4, atol=1e-4)
        (grads[share],) = torch.autograd.grad(found[:, 0].sum(), images)
    assert (
        grads[0.0].norm() > 0
        and not torch.allclose(grads[1.0], grads[0.5])
        and not torch.allclose(grads[0.5], grads[0.0])
    )


def test_the_plain_reference_loop_finds_the_same_noise() -> None:
    """Huang et al.'s whole algorithm, in float64 where it matters: same surrogate, same batches, same bank."""
    rows = torch.arange(48)
    task = problem(rows, count=48, side=16)
    run = reference.fit(
        task.images,
        task.labels,
        rows,
        task.build,
        own=True,
        steps=3,
        theta_steps=2,
        batch=48,
        rounds=2,
        lr=0.05,
        stop=0.0,
    )
    options = {"theta_steps": 2, "steps": 3, "batch": 48, "rounds": 2, "step": 0.1, "lr": 0.05, "stop": 0.0}
    mine = method(**options, settled=False)
    judged: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        real = BankProblem.judge

        def judge(self: BankProblem, model: nn.Module, delta: Tensor, only: Tensor | None = None) -> plugin.Verdict:
            judged.append(delta.clone())
            return real(self, model, delta, only)

        patch.setattr(BankProblem, "judge", judge)
        mine.fit(task, lambda _: None)
    assert len(run.errors) == len(judged) == 2
    assert float(((judged[-1] - run.delta).abs() < 1e-5).float().mean()) > 0.97


def test_presets_carry_the_papers_constants() -> None:
    cls: Any = registry.load().find("method", "em").cls
    own, shared = (cls.preset("huang2021", per_sample=own) for own in (True, False))
    assert (own.surrogate, own.eps) == ("resnet18", "8/255")
    assert (own.options["theta_steps"], own.options["steps"], own.options["batch"]) == (10, 20, 512)
    assert (shared.options["steps"], shared.options["subset"], own.options["subset"]) == (1, 0.2, 1.0)
    for name in cls.presets:
        cls(**cls.preset(name, per_sample=False).options)


def test_a_subset_moves_shared_noise_and_is_stratified() -> None:
    from uexcli.builtin.methods.em import _stratified

    task = problems.changed(problem(torch.arange(60) % 3, count=60), labels=torch.arange(60) % 3)
    only = _stratified(task, 0.2)
    assert task.labels[only].bincount().tolist() == [4, 4, 4]
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BankProblem, "move", lambda _self, _model, _delta, batch, **_: seen.append(batch))
        method(subset=0.2, rounds=1, theta_steps=1, batch=5).fit(task, lambda _: None)
    assert torch.cat(seen).sort().values.tolist() == only.tolist()


def method(**options: Any) -> Any:
    return registry.load().find("method", "em").cls(**options)


@pytest.mark.parametrize("rows", [torch.arange(48), torch.arange(48) % 3])
def test_em_brings_the_surrogate_error_down_to_its_stop(rows: Tensor) -> None:
    task = problem(rows, count=48)
    seen: list[plugin.Progress] = []
    delta = method(stop=0.05, rounds=40, theta_steps=15, lr=0.05).fit(task, seen.append)
    assert float(seen[-1].note.rpartition(" ")[2].rstrip("%")) <= 5
    assert float(delta.abs().max()) <= EPS + 1e-6


@pytest.mark.parametrize("settled", [True, False])
def test_em_keeps_the_best_bank_it_saw(settled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = iter([0.5, 0.2, 0.9, 0.8])
    banks: list[Tensor] = []

    def judge(_task: BankProblem, _model: nn.Module, delta: Tensor, _only: Tensor | None = None) -> plugin.Verdict:
        banks.append(delta.clone())
        return plugin.Verdict(next(errors), torch.zeros(12))

    monkeypatch.setattr(BankProblem, "judge", judge)
    best = method(rounds=4, theta_steps=1, settled=settled).fit(problem(torch.arange(12)), lambda _: None)
    assert torch.equal(best, banks[1])
    assert not torch.equal(best, banks[3])


def test_the_stop_test_looks_at_what_would_be_published() -> None:
    task = problem(torch.arange(12))
    model = task.build()
    nothing, less_than_half_a_level = task.start(random=False), task.start(random=True) * 0.4 / 255
    assert torch.equal(task.judge(model, nothing).losses, task.judge(model, less_than_half_a_level).losses)


def test_lsp_is_linearly_separable_with_the_stated_length() -> None:
    from sklearn.linear_model import LogisticRegression

    task = problem(torch.arange(60), count=60, side=32, norm="l2")
    delta = registry.load().find("method", "lsp").cls().fit(task, lambda _: None)  # type: ignore[attr-defined]
    lengths = delta.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.5), rtol=1e-4, atol=0)
    flat, labels = delta.flatten(1).numpy(), task.labels.numpy()
    assert LogisticRegression(max_iter=200).fit(flat[::2], labels[::2]).score(flat[1::2], labels[1::2]) == 1
    assert torch.equal(delta[:, :, :8, :8], delta[:, :, :1, :1].expand(-1, -1, 8, 8))


def test_the_surrogates_stem_follows_the_image_size() -> None:
    resnet: Any = registry.load().find("surrogate", "resnet18").cls()
    small = resnet.build(num_classes=10, channels=3, size=32)
    large = resnet.build(num_classes=10, channels=3, size=224)
    assert small.net.conv1.stride == (1, 1)
    assert large.net.conv1.stride == (2, 2)
    assert sum(p.numel() for p in small.parameters()) == 11_173_962  # Huang et al.'s 11.17 M


def test_random_crops_are_cut_from_the_padded_image() -> None:
    from uexcli.core.augment import crop_and_flip

    images = pictures(200, side=16).float()
    seen = crop_and_flip(images, generator(0, "view"))
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    places = set()
    for image, around in zip(seen, padded, strict=True):
        cuts = {
            (down, right): around[:, down : down + 16, right : right + 16] for down in range(5) for right in range(5)
        }
        found = [(*place, False) for place, cut in cuts.items() if torch.equal(image, cut)]
        found += [(*place, True) for place, cut in cuts.items() if torch.equal(image, cut.flip(2))]
        assert found, "not a crop of its image"
        places.add(found[0])
    assert len({flip for *_, flip in places}) == 2
    assert len(places) > 30


def test_noise_is_fitted_as_resizing_will_leave_it() -> None:
    matrix = survival(8, 28)
    noise = torch.randn(4, 3, 8, 8, generator=generator(0, "noise"))
    wide = nn.functional.interpolate(noise, (28, 28), mode="bilinear")
    back = nn.functional.interpolate(wide, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(pgd.through(noise, matrix), back, rtol=1e-4, atol=1e-5)
    task = problems.changed(problem(torch.arange(12)), survival=matrix)
    model, delta, batch = task.build(), task.start(random=False), torch.arange(12)
    task.move(model, delta, batch, step=1e-3)
    grey = (task.images.float() / 255).requires_grad_(True)
    loss = nn.functional.cross_entropy(model.eval()(grey), task.labels, reduction="sum")
    (grad,) = torch.autograd.grad(loss, grey)
    descent = -(matrix.T @ grad @ matrix).sign()
    assert float((delta.sign() == descent).float().mean()) > 0.998


SHARING = ("advpoison", "em", "emax", "ops", "pil", "rem", "sep", "shift", "uc", "gue", "deepconfuse", "shield")


@pytest.mark.parametrize("name", SHARING)
def test_what_images_share_moves_by_sums_that_were_reduced(name: str) -> None:
    """Where a fit is shared by machines, whatever they share must be moved alike on all of them."""
    summed: list[Tensor] = []

    def reduce(tensor: Tensor) -> Tensor:
        summed.append(tensor)
        return tensor

    cls: Any = registry.load().find("method", name).cls
    method = cls(**cls.test_options)
    rows = torch.arange(24) % 3 if "classwise" in (cls.modes or ("classwise",)) else torch.arange(24)
    task = problem(rows, count=24, side=16)
    norm: Any = registry.load().find("norm", cls.default_norm).cls()
    own = {"norm": norm, "eps": norm.parse(method.usual_eps(3, 16) or norm.usual(3, 16))}
    task = problems.changed(task, labels=torch.arange(24) % 3, num_classes=3, reduce=reduce, **own)
    method.fit(task, lambda _: None)
    assert summed
