"""Bounds that were meant for another norm, and how a bound is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, picture
from PIL import Image

from uexcli import registry

Uex = Callable[..., Ran]
NORMS = [name for name in sorted(registry.load().names("norm")) if name != "lpips"]


def test_a_linf_bound_under_the_method_s_own_l2_is_refused_before_the_work(photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--method", "lsp", "--eps", "8/255")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "--eps 8/255: far below what is usual for norm 'l2', which is 0.6" in line and "at 16 px" in line
    assert line.endswith("or --norm linf --eps 8/255.")
    assert uex("fit", photos, "--method", "lsp", "--norm", "linf", "--eps", "8/255").code == 0


@pytest.mark.parametrize("eps", ["8/255", "16/255", "0.03"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("method", ["em", "random", "lsp", "ar"])
def test_every_method_refuses_a_bound_that_leaves_nothing(
    method: str, norm: str, eps: str, photos: Path, uex: Uex
) -> None:
    cls = registry.load().find("method", method).cls
    ran = uex("fit", photos, "--method", method, "--norm", norm, "--eps", eps, "--size", 64, "-n")
    assert ran.code == 2
    if cls.norms and norm not in cls.norms:
        assert "does not work under norm" in ran.err
    else:
        assert f"norm '{norm}'" in ran.err and "--eps" in ran.err.partition("Leave")[2]


@pytest.mark.parametrize("eps", ["255", "1e6"])
def test_a_bound_far_above_is_refused_too(eps: str, photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--method", "random", "--norm", "l2", "--eps", eps)
    assert ran.code == 2 and "far above" in ran.err and "--norm linf" not in ran.err


@pytest.mark.parametrize("norm", [name for name in NORMS if registry.load().find("norm", name).cls().bounded])
def test_what_is_usual_and_what_is_near_it_is_taken(norm: str, photos: Path, uex: Uex) -> None:
    made = registry.load().find("norm", norm).cls()
    usual = made.parse(made.usual(3, 16))
    for factor in (1, 0.5, 2):
        eps = max(1, round(usual * factor)) if made.sparse else f"{usual * factor:.6g}"
        ran = uex("fit", photos, "--method", "random", "--norm", norm, "--eps", eps, "-n", "-q")
        assert ran.code == 0, ran.err


def test_verify_refuses_a_bound_of_another_norm_than_the_release_s(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "--method", "lsp", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "r").code == 0
    ran = uex("verify", "r", "--source", photos, "--eps", "8/255")
    assert ran.code == 2 and "norm 'l2'" in ran.err and "in this release" in ran.err
    assert uex("verify", "r", "--source", photos, "--eps", "0.7").code == 0


def test_the_largest_change_is_told_beside_the_bound_at_its_own_size(tmp_path: Path, uex: Uex) -> None:
    for label, side in (("cat", 16), ("dog", 32)):
        for index in range(4):
            path = tmp_path / "photos" / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(index, side)).save(path)
    assert uex("fit", "photos", "--method", "lsp", "--size", 16, "-o", "n").code == 0
    ran = uex("apply", "n", "photos", "-o", "r", "--json")
    size, allowed = ran.json["nearest"]
    assert 0 < size <= allowed * (1 + 1e-6)
    (line,) = [
        line for line in uex("apply", "n", "photos", "-o", "r2").out.splitlines() if line.startswith("Every file")
    ]
    eps = ran.json["eps"]
    fitted = "" if allowed == eps else f" ({eps:.4g} at 16 px)"
    assert line == f"Every file was decoded again: largest l2 {size:.4g} of {allowed:.4g}{fitted}."
    large = uex("apply", "n", "photos/dog", "-o", "r3", "--json")
    assert large.code != 0 or large.json["nearest"][1] == pytest.approx(2 * eps)
