"""What noise is drawn from: all bits of a secret, so that trying seeds against a release finds nothing."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import uexcli
from tests.conftest import CLASSES, bright, opened, picture
from uexcli import plugin
from uexcli.builtin.methods import lsp
from uexcli.core import seeding
from uexcli.core.fit.patch import Patch
from uexcli.core.seeding import Secret, keyed_uniform, new_seed
from uexcli.io.noise import noise_file

Uex = Callable[..., Any]
ROOT = Path(uexcli.__file__).parent.parent
TRIED = 512  # seeds that the attack tries: the window of torch's 32 bits in which the right one lies


# ------------------------------------------------------------------------------------- the generator


def test_torch_keeps_32_bits_of_a_seed_which_is_why_noise_is_not_drawn_from_it() -> None:
    one, two = (torch.rand(9, generator=torch.Generator().manual_seed(seed)) for seed in (123, 123 + (7 << 32)))
    assert torch.equal(one, two)


@pytest.mark.parametrize("bit", [0, 31, 32, 47, 48, 63, 64, 127, 128, 255])
def test_every_bit_of_the_seed_counts(bit: int) -> None:
    seed = 0x1234_5678_9ABC_DEF0_1122_3344_5566_7788
    for draw in (
        lambda made: made.uniform(64), lambda made: made.normal(64), lambda made: made.integers(2**40, 64),
        lambda made: made.permutation(64),
    ):  # fmt: skip
        first: Tensor = draw(Secret(seed, "x"))
        assert torch.equal(first, draw(Secret(seed, "x")))
        assert not torch.equal(first, draw(Secret(seed ^ (1 << bit), "x")))
        assert not torch.equal(first, draw(Secret(seed, "y")))
    starts = [keyed_uniform(["a"], (8,), each) for each in (seed, seed ^ (1 << bit))]
    assert not torch.equal(*starts)


def test_draws_are_as_they_are_said_to_be() -> None:
    secret = Secret(5, "draws")
    flat, bell = secret.uniform(40_000), secret.normal(40_000)
    assert (flat.dtype, bell.dtype) == (torch.float32, torch.float32)
    assert -1 <= float(flat.min()) < -0.999
    assert 0.999 < float(flat.max()) < 1
    assert abs(float(flat.mean())) < 0.02
    assert float(flat.square().mean()) == pytest.approx(1 / 3, abs=0.01)
    assert abs(float(bell.mean())) < 0.02
    assert float(bell.std()) == pytest.approx(1, abs=0.02)
    whole = secret.integers(6, 60_000)
    assert whole.dtype == torch.int64
    assert whole.bincount().tolist() == pytest.approx([10_000] * 6, rel=0.05)
    assert secret.integers(3).shape == ()
    assert secret.permutation(100).sort().values.tolist() == list(range(100))


def test_a_fit_draws_128_bits(photos: Path, uex: Uex) -> None:
    seeds = [new_seed() for _ in range(64)]
    assert len(set(seeds)) == 64
    assert 120 < max(seeds).bit_length() <= 128
    assert {bit for seed in seeds for bit in range(128) if seed >> bit & 1} == set(range(128))
    for number in range(3):
        ran = uex("fit", photos, "--method", "random", "-o", f"{number}.noise.safetensors", "--json")
        assert ran.code == 0, ran.err
    kept = [noise_file.read(Path(f"{number}.noise.safetensors")).header["seed"] for number in range(3)]
    assert len(set(kept)) == 3
    assert max(kept).bit_length() > 100


@pytest.mark.parametrize("seed", ["-1", str(2**256)])
def test_a_seed_that_is_none_is_refused(photos: Path, uex: Uex, seed: str) -> None:
    ran = uex("fit", photos, "--method", "random", "--seed", seed)
    assert ran.code == 2
    assert "not between 0 and 2^256 - 1" in ran.err


def test_a_seed_of_ones_own_is_told_to_be_guessable(photos: Path, uex: Uex) -> None:
    said = "can be guessed"
    assert said in uex("fit", photos, "--method", "random", "--seed", "7", "--dry-run").err
    assert said not in uex("fit", photos, "--method", "random", "--seed", str(2**127), "--dry-run").err
    assert said not in uex("fit", photos, "--method", "random", "--dry-run").err


def test_what_apply_draws_for_older_noise_files_has_not_changed() -> None:
    """Places of patches follow from all bits of the seed, as they always did: older noise lands where it was fitted."""
    assert Patch(4, random=True).places(["a.png", "b/c.jpg"], 16, 123456789012345).tolist() == [[4, 12], [1, 11]]


# ----------------------------------------------------------------------------------------- the attack


def _corners_by_torch(seed: int, size: int, count: int, rows: int) -> Tensor:
    """The corners of `lsp` as torch's generator would draw them, which keeps 32 bits of the seed."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(rows, size, generator=generator)
    return torch.stack([torch.randint(0, 2, (size,), generator=generator) for _ in range(count)]).float() * 2 - 1


class _OldSecret(plugin.Secret):
    """What noise was drawn from before: torch's generator."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._drawn = seeding.generator(seed, purpose)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._drawn) * 2 - 1

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._drawn)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=self._drawn)

    def permutation(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self._drawn)


def _read_off(release: Path, block: int) -> Tensor:
    """What a reader of the release knows of the corners: block means of each class, less the mean of all classes."""
    means = []
    for label in CLASSES:
        pictures = [np.asarray(opened(path), dtype=np.float64) for path in sorted((release / label).iterdir())]
        mean = np.stack(pictures).mean(0).transpose(2, 0, 1)
        side = mean.shape[1] // block
        means.append(mean.reshape(3, side, block, side, block).mean((2, 4)).ravel())
    found = torch.from_numpy(np.stack(means))
    return found - found.mean(0)


def _attack(release: Path, seed: int) -> float:
    """Try the seeds around the one that torch would have had, and give the best correlation: 1 is a hit."""
    block = 4
    seen = _read_off(release, block)
    right = seeding.derive(seed, "lsp") & 0xFFFFFFFF
    best = 0.0
    for tried in range(right - TRIED // 2, right + TRIED // 2):
        corners = _corners_by_torch(tried % 2**32, seen.shape[1], len(CLASSES), len(CLASSES)).double()
        differing = corners - corners.mean(0)
        best = max(best, float(torch.corrcoef(torch.stack((seen.ravel(), differing.ravel())))[0, 1]))
    return best


@pytest.mark.parametrize("old", [True, False], ids=["torch's generator", "a secret"])
def test_trying_seeds_against_a_release_of_class_wise_lsp(tmp_path: Path, uex: Uex, old: bool) -> None:
    """The attack gets all but the seed itself: names, settings, and a window in which torch's seed must lie.

    It finds noise that was drawn by torch's generator, which shows that it works, and not what is drawn today. The best
    of many wrong seeds is right by half at times, hence a seed of the test's own.
    """
    photos = tmp_path / "photos"
    for number, label in enumerate(CLASSES):
        (photos / label).mkdir(parents=True)
        for index in range(60):
            Image.fromarray(picture(1000 * number + index)).save(photos / label / f"{index}.png")
    with mock.patch.object(seeding, "Secret", _OldSecret if old else Secret):
        words = ("--mode", "classwise", "-o", "n.noise.safetensors", "--eps", "1.0", "--seed", str(2**127 + 1))
        ran = uex("fit", photos, "--method", "lsp", *words)
    assert ran.code == 0, ran.err
    assert uex("apply", "n.noise.safetensors", photos, "-o", "release").code == 0
    found = _attack(Path("release"), noise_file.read(Path("n.noise.safetensors")).header["seed"])
    assert found > 0.6 if old else found < 0.5


def test_the_attacks_model_of_lsp_is_lsp() -> None:
    secret = _OldSecret(11, "lsp")
    secret.normal(2, 48)
    assert torch.equal(lsp._corners(2, 48, secret), _corners_by_torch(seeding.derive(11, "lsp"), 48, 2, 2))


# ------------------------------------------------------------------------------ who else draws by torch

# What methods and granularities may draw from torch's generators, as no noise can be told from it.
ALLOWED = {
    "augment", "classes' view", "marks' view", "rehearsal", "view", "views", "views and starts",  # crops and flips
    "linear net", "weights",  # first weights of a net, and what is added to them while it learns
    "checkpoints", "subset", "theta",  # which nets and images come next
}  # fmt: skip
# with a number behind: orders, crops
STEMS = ("pass ", "round ", "step ", "view ", "batches ", "treatments ", "lessons ")
RANDOM = {
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial",
    "normal", "normal_", "uniform_", "random_", "manual_seed", "seed", "default_rng", "Generator", "RandomState",
    "global_seed", "derive", "shuffle", "randbits",
}  # fmt: skip


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def _parts() -> list[Path]:
    builtin = ROOT / "uexcli" / "builtin"
    found = [*(builtin / "methods").glob("*.py"), *(builtin / "granularities").glob("*.py")]
    return sorted([*found, *(builtin / "norms").glob("*.py"), *(ROOT / "plugins").rglob("*.py")])


def test_methods_take_torchs_generator_for_no_secret_only() -> None:
    seen = set()
    for path in _parts():
        for name, call in _calls(path):
            if name != "generator" or not call.args:
                continue
            purpose = call.args[0]
            if isinstance(purpose, ast.JoinedStr):
                assert isinstance(purpose.values[0], ast.Constant)
                assert purpose.values[0].value in STEMS, f"{path.name}: {ast.unparse(purpose)}"
            elif isinstance(purpose, ast.Constant):
                assert purpose.value in ALLOWED, f"{path.name}: {purpose.value!r} is drawn from torch's generator"
                seen.add(purpose.value)
    assert {"linear net", "weights", "checkpoints"} <= seen


# file: what it draws by name from torch or numpy, and why that is no secret
DRAWS = {
    "_generator_training.py": {
        "Generator",
        "global_seed",
        "randperm",
    },  # a network called so; first weights; orders
    "_hardened.py": {"rand", "randint"},  # where an adversary starts that a net is taught to bear; flips
    "_primer.py": {"global_seed", "randperm"},  # first weights of a layer; which image stands under which noise
    "_reader.py": {"multinomial", "rand", "randint", "randn"},  # which treatment a step of the noise meets
    "_shown.py": {"randint"},  # which treatment a batch meets
    "_textures.py": {"RandomState"},  # what flat photos are given to have a texture, the same for all
    "ar.py": {"normal"},  # of `secret`, as in lsp
    "deepconfuse.py": {"Generator", "randint"},  # that network; which checkpoint a step is against
    "em.py": {"randperm"},  # a subset of the images
    "gue.py": {"Generator"},
    "lsp.py": {"normal"},
    "pil.py": {"rand"},  # first weights of the linear net
    "rem.py": {"rand"},  # where the adversary starts, which is not published
    "sep.py": {"randint"},  # which checkpoints a step averages over
    "uc.py": {"Generator", "manual_seed"},  # first weights of a network whose one input is secret
}


def test_nobody_else_draws_noise_by_torch_or_numpy() -> None:
    drawn = {path.name: {name for name, _ in _calls(path)} & RANDOM for path in _parts()}
    assert {name: found for name, found in drawn.items() if found} == DRAWS


def test_methods_that_need_no_photos_do_not_hang_on_torch(uex: Uex) -> None:
    """The contract finds a method that draws its noise from torch's generator."""
    from uexcli.builtin.methods.random import Random
    from uexcli.testing import check_method

    @dataclasses.dataclass(frozen=True)
    class Careless(Random):
        name = "careless"

        def fit(self, problem: plugin.Problem, on_step: plugin.OnStep) -> Tensor:
            on_step(plugin.Progress(1, 1))
            return problem.fill(torch.rand(problem.shape, generator=problem.generator("noise")) - 0.5)

    check_method(Random())
    with pytest.raises(AssertionError, match="2\\^32 can be tried"):
        check_method(Careless())


# ------------------------------------------------------------------------------------- files for one


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_secrets_are_for_their_owner_alone_whatever_the_umask(photos: Path, tmp_path: Path, uex: Uex) -> None:
    noise = tmp_path / "n.noise.safetensors"
    noise.write_bytes(b"x")
    noise.chmod(0o666)
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "-o", noise, "--force").code == 0
    assert uex("apply", noise, photos, "-o", "release").code == 0
    held = bright(tmp_path / "held", CLASSES, 4, first=90)
    report = ["--report", "r.html", "--cells", "cells"]
    ran = uex("eval", photos, "release", "--test", held, "--target", "linear", "--epochs", 1, *report)
    assert ran.code in {0, 3}, ran.err
    assert uex("preview", noise, photos / "cat" / "0.png", "-o", "p.png").code == 0
    secrets = [noise, tmp_path / "n.noise.receipt.json", Path("p.png"), *Path("cells").glob("*.json")]
    if ran.code == 0:
        secrets.append(Path("r.html"))
    assert len(secrets) > 4
    assert {path.name: oct(_mode(path)) for path in secrets if _mode(path) != 0o600} == {}
    assert _mode(Path("cells")) == 0o700
    assert _mode(Path("release/uex-release.json")) == 0o666  # public, as the umask has it


@pytest.mark.usefixtures("open_umask")
def test_an_exported_model_and_a_part_are_for_their_owner_alone(photos: Path, tmp_path: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "cuda", "-o", "n.noise.safetensors").code == 0
    pytest.importorskip("onnxscript")
    assert uex("export", "n.noise.safetensors", "m.onnx").code == 0
    assert _mode(Path("m.onnx")) == 0o600
    assert uex("apply", "n.noise.safetensors", photos, "-o", "r", "--shard", "1/2").code == 0
    parts = list(tmp_path.glob("r.part*/uex-part.json"))
    assert [oct(_mode(path)) for path in parts] == ["0o600"]


@pytest.mark.usefixtures("open_umask")
def test_the_state_of_a_fit_is_for_its_owner_alone(tmp_path: Path) -> None:
    from uexcli.io.noise import state_file

    path = tmp_path / "n.noise.safetensors.state"
    journal = state_file.StateFile(
        path, {"seed": 1}, stopping=lambda: False, stop=lambda: None, warn=print, release=lambda: None
    )
    journal.begin(resume=False)
    journal.save(lambda: {"delta": torch.zeros(3)}, milestone=True)
    assert _mode(path) == 0o600


@pytest.mark.usefixtures("open_umask")
def test_a_bench_draws_its_seeds_and_keeps_its_folder_to_itself(photos: Path, tmp_path: Path, uex: Uex) -> None:
    held = bright(tmp_path / "held", CLASSES, 4, first=90)
    recipe = tmp_path / "r.toml"
    rows = '[[row]]\nmethod = "random"\n[[row]]\nname = "chosen"\nmethod = "random"\nseed = 5\n'
    recipe.write_text(f'photos = "{photos}"\ntest = "{held}"\ntargets = ["linear"]\nepochs = 1\nseeds = 1\n{rows}')
    uex("bench", recipe, "-o", "one")
    uex("bench", recipe, "-o", "two")
    seeds = [noise_file.read(Path(folder) / "random.noise.safetensors").header["seed"] for folder in ("one", "two")]
    assert seeds[0] != seeds[1]
    assert min(seeds).bit_length() > 64
    assert noise_file.read(Path("one/chosen.noise.safetensors")).header["seed"] == 5
    assert _mode(Path("one")) == 0o700
    assert json.loads((Path("one") / "random" / "uex-release.json").read_text())


def test_noise_that_can_be_made_again_by_trying_is_told_of(photos: Path, uex: Uex) -> None:
    for name, chosen in (("own", ()), ("early", ("--seed", 2**48 - 1))):
        assert uex("fit", photos, "--method", "random", *chosen, "-o", name).code == 0
        again = uex("fit", photos, "--method", "random", "-o", name)
        assert "nothing to do" in again.out
        told = [again.err, uex("apply", name, photos, "-o", f"{name}-release").err, uex("info", name).out]
        assert ["can be guessed" in text for text in told] == [bool(chosen)] * 3
        assert uex("info", name, "--json").json["guessable"] is bool(chosen)


def test_a_bench_in_a_folder_of_everybody_says_so(photos: Path, uex: Uex) -> None:
    Path("r.toml").write_text(f'photos = "{photos}"\nepochs = 1\n[[row]]\nmethod = "random"\n')
    Path("there").mkdir(mode=0o755)
    Path("there").chmod(0o755)
    assert "others may look into there" in uex("bench", "r.toml", "-o", "there").err
    assert "others may look" not in uex("bench", "r.toml", "-o", "new").err
