"""What each method claims, checked without training; and what methods, norms, modes and patches do on real files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tests import problems
from uexcli import plugin, registry
from uexcli.builtin.methods import ar, rem, sep
from uexcli.builtin.methods._passes import Crafting, Teaching
from uexcli.builtin.methods._weight_noise import levels, step_behind_noise
from uexcli.builtin.methods.pil import Pil
from uexcli.core.fit.patch import Patch, lift, paste
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import SmallNet
from uexcli.core.seeding import generator
from uexcli.core.training import perturb_weights
from uexcli.io.noise import noise_file
from uexcli.testing import pictures

Uex = Callable[..., Any]
EPS = 8 / 255


def problem(
    rows: Tensor, *, count: int = 24, side: int = 16, norm: str = "linf", seed: int = 0, **changes: Any
) -> BankProblem:
    found = registry.load().make(plugin.Norm, "norm", norm)  # type: ignore[type-abstract]
    made = problems.make(
        images=pictures(count, side=side),
        labels=torch.arange(count) % 3,
        rows=rows,
        keys=[f"{number}.png" for number in range(count)],
        num_rows=int(rows.max()) + 1,
        num_classes=3,
        norm=found,
        eps=found.parse(found.usual(3, side)),
        seed=seed,
        device=torch.device("cpu"),
        make_surrogate=lambda: SmallNet(num_classes=3, channels=3, size=side, width=4),
    )
    return problems.changed(made, **changes)


def method(name: str, **options: Any) -> plugin.Method:
    cls: Any = registry.load().find("method", name).cls
    made: plugin.Method = cls(**options)
    return made


def hear(_: plugin.Progress) -> None:
    """Listen to no progress."""


OWN, BY_CLASS = torch.arange(24), torch.arange(24) % 3


# ----------------------------------------------------------------------------- methods without a net


def normal(seed: int) -> Callable[..., Tensor]:
    """What draws standard normal values of a shape."""
    drawn = generator(seed, "ar")
    return lambda *shape: torch.randn(shape, generator=drawn)


def test_ars_filter_is_silent_on_its_own_class_and_loud_on_others() -> None:
    kernels = ar.Autoregressive()._draw(10, 3, 32, normal(3), hear)
    classes = torch.arange(200) % 10
    fields = ar.grown(torch.randn(200, 3, 36, 36, generator=generator(4, "start")), kernels[classes])[..., 4:, 4:]
    fields /= fields.flatten(1).norm(dim=1).view(-1, 1, 1, 1)  # as they are published: at L2 length 1
    heard = ar.answers(fields, kernels)
    own = torch.zeros_like(heard, dtype=torch.bool).scatter(1, classes[:, None], True)
    assert float(heard[own].max()) < 1e-4
    assert float(heard[~own].min()) > 0.2
    assert float(heard[~own].median()) > 2


def test_ar_grows_each_value_from_its_eight_neighbours() -> None:
    start = torch.randn(2, 3, 7, 8, generator=generator(0, "start"), dtype=torch.float64)
    kernels = torch.randn(2, 3, 3, 3, generator=generator(0, "kernels"), dtype=torch.float64)
    kernels[..., 2, 2] = 0
    slow = start.clone()
    for image, channel, line, column in itertools.product(range(2), range(3), range(2, 7), range(2, 8)):
        window = slow[image, channel, line - 2 : line + 1, column - 2 : column + 1]
        slow[image, channel, line, column] = (kernels[image, channel] * window).sum()
    torch.testing.assert_close(ar.grown(start, kernels), slow)


def test_ar_reaches_its_stated_length() -> None:
    task = problem(OWN, norm="l2")
    made = method("ar")
    bound = float(made.usual_eps(3, 16) or 0)
    assert bound == 0.5
    assert made.usual_eps(3, 96) == "3"
    bank = made.fit(problems.changed(task, eps=bound), hear)
    assert isinstance(bank, Tensor)
    torch.testing.assert_close(bank.flatten(1).norm(dim=1), torch.full((24,), 0.5), rtol=1e-4, atol=0)


def test_ops_finds_what_a_search_over_everything_finds() -> None:
    task = problem(BY_CLASS, norm="l0")
    network = method("ops", pixels=2).fit(task, hear)
    assert isinstance(network, nn.Module)
    taken: set[tuple[int, int]] = set()
    corners = list(itertools.product((0.0, 1.0), repeat=3))
    for row in range(3):
        images = task.images[task.rows == row].double().numpy() / 255
        places: list[int] = []
        for pixel in range(2):
            scored = []
            for place, (number, corner) in itertools.product(range(256), enumerate(corners)):
                if (place, number) in taken or place in places:
                    continue
                apart = np.abs(np.array(corner)[None, :] - images.reshape(len(images), 3, -1)[:, :, place])
                scored.append((apart.mean() / apart.std(), place, number))
            _, place, number = max(scored)
            assert int(network.places[row, pixel]) == place  # type: ignore[index]
            assert tuple(network.colours[row, pixel].tolist()) == corners[number]  # type: ignore[index]
            places.append(place)
            taken.add((place, number))
    shown = task.inputs(torch.arange(24))
    changed = shown + network(shown, task.rows)
    assert int(((changed - shown).abs() > 1e-6).any(1).flatten(1).sum(1).max()) <= 2
    for image, row in zip(changed, task.rows.tolist(), strict=True):
        for pixel in range(2):
            line, column = divmod(int(network.places[row, pixel]), 16)  # type: ignore[index]
            torch.testing.assert_close(image[:, line, column], network.colours[row, pixel])  # type: ignore[index]


def test_cudas_filters_come_from_the_key_alone() -> None:
    made = method("cuda")
    first = made.fit(problem(BY_CLASS, seed=5), hear)
    other_photos = problem(BY_CLASS, seed=5, images=pictures(24, side=16, seed=9))
    again = made.fit(other_photos, hear)
    other_key = made.fit(problem(BY_CLASS, seed=6), hear)
    assert isinstance(first, nn.Module) and isinstance(again, nn.Module) and isinstance(other_key, nn.Module)
    filters: Any = first.filters
    assert torch.equal(filters, again.filters)  # type: ignore[arg-type]
    assert not torch.equal(filters, other_key.filters)  # type: ignore[arg-type]
    assert filters.shape == (3, 3, 3)
    for each in filters:
        assert int((each == 1).sum()) == 1
        assert float(each[each != 1].max()) <= 0.3
    assert method("cuda").network(channels=3, size=224, num_rows=2).filters.shape == (2, 9, 9)


def test_cuda_filters_depth_wise_with_zeros_outside_and_divides_by_the_largest() -> None:
    task = problem(BY_CLASS)
    network = method("cuda").fit(task, hear)
    assert isinstance(network, nn.Module)
    shown = task.inputs(torch.arange(24))
    filters: Any = network.filters
    for index in range(24):
        weight = filters[int(task.rows[index])].expand(3, 1, 3, 3)
        filtered = functional.conv2d(shown[index : index + 1], weight, padding=1, groups=3)
        wanted = filtered / filtered.max() - shown[index : index + 1]
        torch.testing.assert_close(network(shown[index : index + 1], task.rows[index : index + 1]), wanted)


def test_pils_closed_form_is_the_gradient() -> None:
    pil, count, classes = Pil(), 20, 5
    draw = generator(0, "pil")
    matrix = torch.randn(classes, 48, generator=draw, dtype=torch.float64)
    images = torch.rand(count, 48, generator=draw, dtype=torch.float64)
    labels = torch.arange(count) % classes
    noise = (torch.rand(count, 48, generator=draw, dtype=torch.float64) - 0.5).requires_grad_(True)
    d = -noise  # what is published is x - d
    own = functional.cross_entropy(d @ matrix.T, labels, reduction="sum")
    hidden = functional.log_softmax((images - d) @ matrix.T, 1)
    uniform = torch.full_like(hidden, 1 / classes)
    loss = pil.weight * own + (1 - pil.weight) * functional.kl_div(hidden, uniform, reduction="sum")
    (wanted,) = torch.autograd.grad(loss, noise)
    found = pil._pull(images @ matrix.T, noise.detach() @ matrix.T, labels) @ matrix
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


# -------------------------------------------------------------------------------- methods with a net


def test_nudging_along_the_gradient_is_moving() -> None:
    for rows in (OWN, BY_CLASS):
        task = problem(rows)
        model, batch = task.build(), torch.tensor([5, 2, 11, 8, 20])
        moved, nudged = (task.start(random=False) for _ in range(2))
        frozen = task.freeze(model)
        for _ in range(3):
            task.move(model, moved, batch, step=0.2)
            leaf = task.published(nudged, batch).requires_grad_(True)
            loss = functional.cross_entropy(frozen(leaf), task.labels[batch], reduction="sum")
            task.apply_gradient(nudged, batch, torch.autograd.grad(loss, leaf)[0], step=0.2)
        assert float(moved.abs().max()) > 0
        torch.testing.assert_close(nudged, moved, rtol=0, atol=1e-6)


def test_noise_towards_other_labels_lowers_their_loss() -> None:
    task = problem(OWN)
    model, delta, targets = task.build(), task.start(random=False), (task.labels + 1) % 3
    before = task.judge(model, delta, labels=targets).losses
    for _ in range(5):
        task.move(model, delta, torch.arange(24), step=0.2, labels=targets)
    after = task.judge(model, delta, labels=targets).losses
    assert bool((after < before).all())


def test_emax_climbs_until_the_net_is_wrong() -> None:
    task = problem(OWN)
    run = method("emax", epochs=30, batch=12, rounds=4, lr=0.05)
    words: list[str] = []
    run.fit(task, lambda progress: words.append(progress.note))
    clean = Teaching(task, epochs=30, batch=12, lr=0.05)
    clean.go_on(lambda: None, lambda _: None)
    assert task.judge(clean.model, task.start(random=False)).error < 0.2
    assert float(words[-1].split()[-1].rstrip("%")) >= 90, words[-1]


def test_advpoison_keeps_the_run_with_the_lowest_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(OWN)
    judged: list[tuple[float, Tensor]] = []
    judge = BankProblem.judge

    def listening(self: BankProblem, model: nn.Module, delta: Tensor, only: Any = None, labels: Any = None) -> Any:
        verdict = judge(self, model, delta, only, labels)
        assert torch.equal(labels, (self.labels + 1) % 3)
        judged.append((float(verdict.losses.mean()), delta.clone()))
        return verdict

    monkeypatch.setattr(BankProblem, "judge", listening)
    bank = method("tap", epochs=2, steps=3, restarts=3).fit(task, hear)
    assert len(judged) == 3
    assert len({tuple(delta.flatten().tolist()) for _, delta in judged}) == 3
    assert torch.equal(bank, min(judged, key=lambda pair: pair[0])[1])


def test_sep_pulls_features_towards_the_target_class_of_each_checkpoint() -> None:
    task = problem(OWN)
    made = sep.SelfEnsemble(epochs=2, checkpoints=3, steps=4, step=0.3, inner=2, batch=8)
    run = sep._Run(made, task, hear)
    run._learn()
    assert len(run._kept) == 3
    weights = [torch.cat([weight.flatten() for weight in model.parameters()]) for model in run._kept]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    bank = run.result()
    assert isinstance(bank, Tensor)
    targets, every = (task.labels + 2) % 3, torch.arange(24)  # 5 classes on, of 3
    for model in run._kept:
        net = sep._Net(made, task, model)
        assert net._means is not None
        features = model.eval().features(task.inputs(every))  # type: ignore[operator]
        wanted = torch.stack([features[task.labels == label].mean(0) for label in range(3)])
        torch.testing.assert_close(net._means, wanted, rtol=1e-3, atol=1e-4)
        before, after = (
            (net._run(images) - net._means[targets]).square().mean()
            for images in (task.inputs(every), task.published(bank, every))
        )
        assert float(after) < float(before)


@pytest.mark.parametrize("reduced", [False, True])
def test_seps_step_is_the_mean_gradient_or_the_corrected_sum(reduced: bool) -> None:
    task = problem(OWN)
    made = sep.SelfEnsemble(epochs=1, checkpoints=2, inner=3, reduced=reduced, features=False)
    run = sep._Run(made, task, hear)
    run._learn()
    nets = [sep._Net(made, task, model) for model in run._kept]
    batch = torch.arange(6)
    found = run._gradient(nets, batch)
    shown, targets = task.inputs(batch), run._targets[batch]
    outer = [net.gradient(shown, targets) for net in nets]
    mean = (outer[0] + outer[1]) / 2
    if not reduced:
        torch.testing.assert_close(found, mean)
        return
    total, inner = torch.zeros_like(mean), shown
    for which in torch.randint(2, (3,), generator=task.generator("checkpoints")).tolist():
        total = total + nets[which].gradient(inner, targets) - outer[which] + mean
        inner = (shown + (inner - 0.125 * EPS * total.sign() - shown).clamp(-EPS, EPS)).clamp(0, 1)
    torch.testing.assert_close(found, total)


def test_rems_adversary_stays_in_its_radius_and_raises_the_loss() -> None:
    task = problem(OWN)
    run = rem._Run(rem.RobustErrorMinimising(attack_steps=5), task, hear)
    batch = torch.arange(24)
    views = task.inputs(batch)
    attacked = run._attacked(views, batch)
    assert float((attacked - views).abs().max()) <= 4 / 255 + 1e-6
    losses = [functional.cross_entropy(run._frozen(images), task.labels) for images in (views, attacked)]
    assert float(losses[1]) > float(losses[0])


def test_rems_gradient_goes_back_through_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    task = problem(OWN)
    run = rem._Run(rem.RobustErrorMinimising(draws=2, attack_steps=1), task, hear)
    monkeypatch.setattr(run, "_radius", 0.0)  # then the loss is a function of the noise and the views alone
    batch = torch.arange(24)
    state = run._draws.get_state()
    found = run._gradient(batch)
    run._draws.set_state(state)
    leaf = task.published(run._delta, batch).requires_grad_(True)
    total = torch.zeros(())
    for _ in range(2):
        seen = task.view(leaf, run._draws)
        run._uniform(seen)  # draws what the adversary starts from
        total = total + functional.cross_entropy(run._frozen(seen.clamp(0, 1)), task.labels, reduction="sum")
    torch.testing.assert_close(found, torch.autograd.grad(total, leaf)[0])


def test_sem_meets_no_adversary_while_the_noise_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = method("sem", train_steps=2, steps=2, draws=2, attack_steps=2)
    attacks = []
    attacked = rem._Run._attacked

    def counted(self: rem._Run, views: Tensor, batch: Tensor) -> Tensor:
        attacks.append(len(batch))
        return attacked(self, views, batch)

    monkeypatch.setattr(rem._Run, "_attacked", counted)
    made.fit(problem(OWN), hear)
    assert len(attacks) == 2  # one a step of theta
    attacks.clear()
    method("rem", train_steps=2, steps=2, draws=2, attack_steps=2).fit(problem(OWN), hear)
    assert len(attacks) == 2 + 2 * 4 + 4  # and one a draw of each noise step, and in the last pass


def test_shaken_weights_come_back_to_the_bit() -> None:
    model = problem(OWN).build()
    before = [weight.clone() for weight in model.parameters()]
    with perturb_weights(model, 0.1, generator(0, "shake")):
        moved = [
            float((weight - old).detach().square().mean().sqrt())
            for weight, old in zip(model.parameters(), before, strict=True)
        ]
        assert 0.05 < max(moved) < 0.2
    assert all(torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True))


def test_pue_steps_along_the_mean_gradient_over_jittered_nets() -> None:
    task = problem(BY_CLASS)
    model, batch = task.build(), torch.arange(24)
    delta = task.start(random=False)
    frozen = task.freeze(model)
    settings: dict[str, Any] = {"step": 0.1, "most": 0.1, "copies": 3, "view": None}
    step_behind_noise(task, frozen, model, delta, batch, generator=generator(1, "weights"), **settings)
    wanted, draws = task.start(random=False), generator(1, "weights")
    assert levels(0.1)[0] == 0 and levels(0.1)[-1] == pytest.approx(0.1) and len(levels(0.1)) == 21
    for std in levels(0.1):
        total: Any = 0.0
        leaf = task.published(wanted, batch).requires_grad_(True)
        for _ in range(3 if std else 1):
            with perturb_weights(model, std, draws):
                frozen.refresh()
                loss = functional.cross_entropy(frozen(leaf), task.labels, reduction="sum")
                total = total + torch.autograd.grad(loss, leaf)[0]
        task.apply_gradient(wanted, batch, total, step=0.1)
    torch.testing.assert_close(delta, wanted, rtol=0, atol=1e-6)


def test_pue_jitters_once_the_surrogate_is_mostly_right() -> None:
    words: list[str] = []
    task = problem(BY_CLASS)
    made = method("em", weight_noise=0.02, copies=2, rounds=12, theta_steps=6, batch=12)
    plain = method("em", rounds=12, theta_steps=6, batch=12)
    bank = made.fit(task, lambda progress: words.append(progress.note))
    assert task.execution.engine.tally.trained > 12 * 6 * 12  # more passes than the steps of theta alone
    assert not torch.equal(bank, plain.fit(problem(BY_CLASS), hear))  # type: ignore[arg-type]


def test_crafting_visits_every_image_of_a_pass() -> None:
    task = problem(BY_CLASS)
    crafting = Crafting(task, task.start(random=False), steps=2, step=0.1, batch=7)
    crafting.go_on(task.build(), lambda: None, lambda _: None)
    assert crafting.passed == 1
    assert task.execution.engine.tally.moved == 48


# ----------------------------------------------------------------------- patches, sets, what is refused


@pytest.mark.parametrize("text", ["8", "8:random"])
def test_a_patch_is_pasted_where_it_is_lifted(text: str) -> None:
    patch = Patch.parse(text)
    keys = [str(number) for number in range(40)]
    places = patch.places(keys, 20, seed=3)
    assert int(places.min()) >= 0 and int(places.max()) <= 12
    assert (len(places.unique(dim=0)) > 20) == patch.random
    assert torch.equal(places[5:], patch.places(keys[5:], 20, seed=3))  # by name, not by order
    drawn = torch.rand(40, 3, 8, 8)
    whole = paste(drawn, places, 20)
    assert torch.equal(lift(whole, places, 8), drawn)
    assert float(whole.sum()) == pytest.approx(float(drawn.sum()), rel=1e-4)


@pytest.mark.parametrize("rows", [OWN, BY_CLASS])
def test_a_patch_moves_as_noise_that_is_zero_elsewhere(rows: Tensor) -> None:
    patch = Patch(8, random=True)
    task = problem(rows, patch=patch)
    model, batch = task.build(), torch.arange(24)
    bank = task.start(random=False)
    assert bank.shape[2:] == (8, 8)
    task.move(model, bank, batch, step=0.5)
    places = patch.places(task.keys, 16, task.seed)
    leaf = task.inputs(batch).requires_grad_(True)
    loss = functional.cross_entropy(task.freeze(model)(leaf), task.labels, reduction="sum")
    grad = lift(torch.autograd.grad(loss, leaf)[0], places, 8)
    summed = torch.zeros_like(bank).index_add_(0, task.rows, grad)
    wanted = -0.5 * EPS * summed.sign()
    agree = (bank - wanted).abs() < 1e-6  # but where the image's box cuts, of which pictures have none
    assert float(agree.float().mean()) > 0.99


def test_patches_and_sets_go_all_the_way(photos: Path, uex: Uex) -> None:
    words = ("--patch", "6:random", "--mode", "classwise", "--method", "random", "--seed", 1, "-O", "sets=2")
    assert uex("fit", photos, "-o", "noise", *words).code == 0
    noise = noise_file.read(Path("noise"))
    assert noise.delta is not None and noise.delta.shape == (4, 3, 6, 6)  # two classes, two sets
    assert sorted(set(noise.rows.tolist())) == [0, 1, 2, 3]
    (photos / "cat" / "new.png").write_bytes((photos / "dog" / "0.png").read_bytes())
    ran = uex("apply", "noise", photos, "-o", "out", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["new"] == 1
    boxes = set()
    for name in ("0", "1", "2", "3", "new"):
        before, after = (np.asarray(Image.open(root / "cat" / f"{name}.png")) for root in (photos, Path("out")))
        changed = (before != after).any(2)
        lines, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
        assert lines[-1] - lines[0] < 6 and columns[-1] - columns[0] < 6
        boxes.add((lines[0], columns[0]))
    assert len(boxes) > 1
    assert uex("verify", "out", "--source", photos).code == 0
    assert "on a patch of images of 16 px" in uex("info", "noise").out
    assert uex("preview", "noise", photos / "cat" / "0.png").code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--method", "ops", "--mode", "samplewise"), "makes no samplewise noise"),
        (("--method", "gue", "--mode", "classwise"), "makes no classwise noise"),
        (("--method", "ops", "--norm", "linf"), "does not work under norm 'linf'"),
        (("--method", "pil", "--patch", "6"), "makes no patches"),
        (("--method", "gue", "--compile"), "cannot be compiled"),
        (("--method", "emax", "-O", "steps=0"), "at least 1"),
        (("--method", "ar", "-O", "largest=0.01"), "larger -O largest"),
        (("--method", "em", "--norm", "unbounded"), "sets no bound"),
        (("--method", "cuda", "--patch", "4"), "makes no patches"),
        (("--norm", "ssim", "--patch", "4"), "judges whole images"),
        (("--method", "random", "--patch", "16"), "as big as the image"),
        (("--patch", "0"), "not a patch"),
        (("--patch", "8:left"), "not a patch"),
        (("--mode", "classwise", "-O", "sets=9"), "too few images"),
        (("--mode", "classwise", "-O", "sets=0"), "at least 1"),
        (("--method", "sep", "-O", "inner=0"), "at least 1"),
        (("--method", "rem", "--preset", "huang2021"), "preset"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_before_work(
    photos: Path, uex: Uex, words: tuple[str, ...], complaint: str
) -> None:
    ran = uex("fit", photos, "-o", "noise", *words)
    assert ran.code in (2, 3)
    assert complaint in ran.err, ran.err
    assert not list(Path.cwd().glob("noise*"))


@pytest.mark.parametrize("name", ["cuda", "ops"])
def test_a_network_by_class_protects_new_images_of_the_class(photos: Path, uex: Uex, name: str) -> None:
    assert uex("fit", photos, "-o", "noise", "--method", name, "--seed", 1).code == 0
    held = noise_file.read(Path("noise"))
    assert held.delta is None and held.network
    (photos / "cat" / "new.png").write_bytes((photos / "dog" / "0.png").read_bytes())
    ran = uex("apply", "noise", photos, "-o", "out", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["new"] == 1
    again = uex("apply", "noise", photos, "-o", "out")
    assert "nothing to do" in again.out
    checked = uex("verify", "out", "--source", photos, "--json")
    assert checked.code == 0, checked.out
    assert checked.json["bounded"] is (name == "ops")
    if name == "cuda":
        assert "none is promised" in checked.json["checks"]["bound"]
        assert "no bound is promised" in uex("verify", "out", "--source", photos).out
    else:
        for path in photos.glob("*/*.png"):
            before, after = (
                np.asarray(Image.open(root / path.parent.name / path.name)) for root in (photos, Path("out"))
            )
            assert int((before != after).any(2).sum()) <= 1
    assert "a network of" in uex("info", "noise").out
    assert uex("preview", "noise", photos / "cat" / "0.png").code == 0


def test_a_noise_file_whose_network_does_not_fit_says_so(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "-o", "noise", "--method", "cuda", "--seed", 1).code == 0
    held = noise_file.read(Path("noise"))
    noise_file.write(Path("noise"), dataclasses.replace(held, network={"filters": torch.zeros(2, 5, 5)}))
    ran = uex("apply", "noise", photos, "-o", "out")
    assert ran.code == 3
    assert "do not fit the method 'cuda'" in ran.err
    noise_file.write(Path("noise"), dataclasses.replace(held, network={}))
    assert "neither a bank nor a network" in uex("apply", "noise", photos, "-o", "out").err


def test_the_methods_are_listed_side_by_side(uex: Uex) -> None:
    listed = {row["name"]: row for row in uex("plugins", "--kind", "method", "--json").json["plugins"]}
    assert listed["em"]["cost"] == 1
    assert listed["rem"]["cost"] > listed["sem"]["cost"] > 1
    assert listed["lsp"]["cost"] is None
    assert listed["gue"]["new_images"] == "yes" and listed["em"]["new_images"] == "if shared"
    assert listed["uc"]["new_images"] == "yes" and listed["cuda"]["new_images"] == "if shared"
    assert listed["shield"]["new_images"] == "no" and listed["band"]["new_images"] == "if shared"
    assert listed["cuda"]["norm"] == "unbounded"
    shown = uex("plugins", "--kind", "method").out
    for words in ("advpoison", "tap", "synper", "emin", "seconds"):
        assert words in shown


@pytest.mark.parametrize(
    "recipe",
    [
        {"patch": "99"},
        {"patch": "99:random"},
        {"patch": "4:random"},
        {"patch": "9" * 5000},
        {"patch": "abc"},
        {"patch": 6},
        {"size": 10**12},
        {"size": 0},
        {"size": True},
        {"channels": 2},
        {"channels": -1},
    ],
)
@pytest.mark.parametrize("words", [("--patch", "6:random", "--method", "random"), ("--method", "cuda")])
def test_a_recipe_that_does_not_fit_its_noise_is_damage(
    photos: Path, uex: Uex, recipe: dict[str, Any], words: tuple[str, ...]
) -> None:
    assert uex("fit", photos, "-o", "noise", "--seed", 1, *words).code == 0
    held = noise_file.read(Path("noise"))
    header = {**held.header, "recipe": {**held.header["recipe"], **recipe}}
    noise_file.write(Path("noise"), dataclasses.replace(held, header=header))
    ran = uex("apply", "noise", photos, "-o", "out")
    if "cuda" in words and recipe == {"patch": "4:random"}:  # it says nothing about a network
        assert ran.code == 0
        return
    assert ran.code == 3, ran.err
    assert "damaged noise file" in ran.err


def test_a_networks_options_of_another_type_are_told(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "-o", "noise", "--seed", 1, "--method", "cuda").code == 0
    held = noise_file.read(Path("noise"))
    described = {**held.header["recipe"]["method"], "options": {"kernel": 3.5, "blur": None}}
    header = {**held.header, "recipe": {**held.header["recipe"], "method": described}}
    noise_file.write(Path("noise"), dataclasses.replace(held, header=header))
    ran = uex("apply", "noise", photos, "-o", "out")
    assert ran.code == 3
    assert "method 'cuda'" in ran.err


def test_one_pixel_by_one_level_is_a_clean_copy(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "-o", "noise", "--seed", 1, "--method", "ops").code == 0
    assert uex("apply", "noise", photos, "-o", "out").code == 0
    clean = np.asarray(Image.open(photos / "cat" / "0.png")).copy()
    clean[3, 3, 0] += 1
    Image.fromarray(clean).save(Path("out") / "cat" / "0.png")
    found = uex("verify", "out", "--source", photos, "--json").json["findings"]
    assert {"leak", "checksum"} == {finding["code"] for finding in found}
