"""The method of photos for which none is named."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest

from uexcli import plugin
from uexcli.builtin.methods.shift import Shift
from uexcli.commands.fit.default_method import USUAL_METHOD, Asked, told_of_method, usual_method
from uexcli.registry import Entry, Registry, load

ASKED = Asked(images=600, labelled=True, side=None, device="cpu")
HINT = "Fetch them."


@dataclasses.dataclass(frozen=True)
class Better(plugin.Method):
    """Holds best, takes long, and knows one norm and one mode."""

    name: ClassVar[str] = "better"
    summary: ClassVar[str] = "better noise"
    usual_most: ClassVar[int] = 1000
    needs_pretrained: ClassVar[bool] = True
    modes: ClassVar[tuple[str, ...]] = ("samplewise",)
    photo_side: ClassVar[int] = 224

    def fit(self, problem: plugin.Problem, on_step: plugin.OnStep) -> Any:
        """None."""
        return problem.start(random=False)


@dataclasses.dataclass(frozen=True)
class Good(Better):
    """Holds well, with no net."""

    name: ClassVar[str] = "good"
    summary: ClassVar[str] = "good noise"
    usual_most: ClassVar[int] = 0
    needs_surrogate: ClassVar[bool] = False
    needs_pretrained: ClassVar[bool] = False


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry, in which these two are all that is usual for anything."""
    found = load()
    fresh = dataclasses.replace(found, entries={kind: dict(entries) for kind, entries in found.entries.items()})
    for entry in fresh.entries["method"].values():
        monkeypatch.setattr(entry.cls, "usual_for", {})
    for cls, rank in ((Good, 1), (Better, 2)):
        monkeypatch.setattr(cls, "usual_for", {"photos": rank})
        fresh.entries["method"][cls.name] = Entry("method", cls, "stranger", "1")
    return fresh


def test_what_holds_best_is_chosen(known: Registry) -> None:
    assert usual_method(known, ASKED) == "better"
    said = told_of_method(known, ASKED, Better())
    assert said.startswith("photos: better, better noise") and f"`method={USUAL_METHOD}`" in said


@pytest.mark.parametrize(
    "other",
    [{"norm": "l2"}, {"mode": "classwise"}, {"patched": True}, {"preset": "huang2021"}, {"options": {"rounds": "3"}},
     {"labelled": False}, {"side": 32}, {"side": 8}, {"size": 64}],
    ids=str,
)  # fmt: skip
def test_what_cannot_do_what_was_asked_for_is_not_chosen(other: dict[str, Any], known: Registry) -> None:
    assert usual_method(known, dataclasses.replace(ASKED, **other)) == USUAL_METHOD


def test_small_photos_may_be_fitted_at_their_own_side(known: Registry) -> None:
    assert usual_method(known, dataclasses.replace(ASKED, size=128, photo=128)) == "better"
    assert usual_method(known, dataclasses.replace(ASKED, size=100, photo=128)) == USUAL_METHOD


def test_a_mode_in_which_it_does_little_is_not_what_it_is_chosen_for(
    known: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Better, "modes", ("samplewise", "classwise"))
    monkeypatch.setattr(Better, "usual_modes", ("samplewise",))
    assert usual_method(known, dataclasses.replace(ASKED, mode="classwise")) == USUAL_METHOD
    assert usual_method(known, dataclasses.replace(ASKED, mode="samplewise")) == "better"


def test_nets_that_were_named_are_those_that_have_to_be_here(known: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-O nets=` leaves none but the surrogate, and `--weights` says where that one is."""
    for net in ("efficientnet_lite0", "efficientnet_lite1"):
        missing = plugin.UexError("no weights.", hint=HINT)
        monkeypatch.setattr(
            known.find("surrogate", net).cls,
            "missing_requirement",
            lambda self, missing=missing: missing,
        )
    monkeypatch.setattr(Shift, "usual_for", {"photos": 3})
    assert usual_method(known, ASKED) == "good"
    options = {"nets": "", "weights": "lite0.pth"}
    assert usual_method(known, dataclasses.replace(ASKED, options=options)) == "shift"


def test_a_surrogate_leaves_those_that_take_it(known: Registry) -> None:
    assert usual_method(known, dataclasses.replace(ASKED, surrogate="efficientnet_lite0")) == "better"
    assert usual_method(known, dataclasses.replace(ASKED, surrogate="small")) == USUAL_METHOD


def test_what_takes_too_long_on_a_cpu_gives_way_and_is_named(known: Registry) -> None:
    many = dataclasses.replace(ASKED, images=1001)
    assert usual_method(known, many) == "good"
    assert "`method=better` holds better" in told_of_method(known, many, Good())
    assert usual_method(known, dataclasses.replace(many, device="cuda")) == "better"


def test_what_lacks_its_nets_gives_way_and_the_way_out_is_told(
    known: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = known.find("surrogate", "efficientnet_lite0").cls
    monkeypatch.setattr(net, "missing_requirement", lambda self: plugin.UexError("no weights.", hint=HINT))
    assert usual_method(known, ASKED) == "good"
    assert HINT in told_of_method(known, ASKED, Good())
