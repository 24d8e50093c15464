"""Who learns: a net from scratch, a pretrained one at its own size, blind attackers and those who know the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran, bright

from uexcli import plugin
from uexcli.commands import evaluate
from uexcli.commands.evaluate import command
from uexcli.commands.evaluate import jobs as eval_jobs
from uexcli.commands.evaluate import protocol as eval_protocol
from uexcli.messages import Listener
from uexcli.registry import load

Uex = Callable[..., Ran]
CPU = torch.device("cpu")
TINY = ("--target", "small:width=8,batch=8", "--epochs", 8, "--folds", 1)
HERE = "probe:efficientnet_lite0,random"


class Heard(Listener):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


def jobs(protocol: eval_protocol.Protocol, heard: Listener, **changes: Any) -> list[tuple[str, str, int]]:
    settings = {"side": 300, "sized": False, "strict": True, **changes}
    made = eval_jobs.jobs_of(load(), protocol, CPU, 64, listener=heard, **settings)
    return [(job.name, job.against.spec, job.size) for job in made]


def test_large_photos_are_shown_to_a_pretrained_net_at_its_own_size() -> None:
    protocol = eval_protocol.Protocol(against=("none", "jpeg:10"), pretrained=(HERE,), large_only=True)
    fast = eval_jobs.NARROW
    wanted = [(fast, "none", 64), (fast, "jpeg:10", 64)]
    assert jobs(protocol, Heard()) == [*wanted, (HERE, "none", 224)]
    assert jobs(protocol, Heard(), side=96) == wanted  # small ones are not, unless a protocol says so
    assert jobs(protocol, Heard(), sized=True) == wanted  # nor where the user chose a size
    named = eval_protocol.Protocol(name="mine", pretrained=(HERE,))
    assert jobs(named, Heard(), side=32)[-1] == (HERE, "none", 64)


def test_where_no_pretrained_net_is_at_hand_it_is_said() -> None:
    heard = Heard()
    made = jobs(eval_protocol.Protocol(pretrained=("probe:efficientnet_lite0,gone.pth",)), heard)
    assert made == [(eval_jobs.NARROW, "none", 64)]
    (text,) = heard.warned
    assert text.startswith("the main threat was not tried") and "uexcli[photos]" in text and "`weights=" in text


def test_of_several_pretrained_nets_those_at_hand_are_tried() -> None:
    heard = Heard()
    made = jobs(eval_protocol.Protocol(pretrained=(HERE, "probe:efficientnet_lite0,gone.pth")), heard)
    assert made == [(eval_jobs.NARROW, "none", 64), (HERE, "none", 224)]
    assert [text.partition(" was")[0] for text in heard.warned] == ["target 'probe:efficientnet_lite0,gone.pth'"]


def test_a_target_that_is_named_sees_large_photos_at_its_own_size_too() -> None:
    protocol = eval_protocol.Protocol(targets=(HERE, "linear"))
    assert jobs(protocol, Heard()) == [
        (HERE, "none", 224),
        ("linear", "none", 64),
    ]


@pytest.mark.parametrize(
    ("targets", "pretrained", "wanted"),
    [((), (), ("probe",)), (("linear",), (), ()), ((), ("finetune",), ("finetune",))],
)
def test_named_targets_take_the_place_of_the_usual_ones(
    targets: tuple[str, ...], pretrained: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    request = evaluate.Request("photos", "release", targets=targets, pretrained=pretrained)
    made = evaluate.protocol_of(request)
    assert made.pretrained == wanted and made.large_only == (not pretrained)


def test_protocols_try_pretrained_nets_in_one_column_each() -> None:
    for name in ("quick", "battery"):
        protocol = eval_protocol.read(name)
        assert protocol.pretrained == ("probe", "finetune")
        assert len(set(protocol.against)) == len(protocol.against)


def test_weights_that_are_not_there_are_refused_before_any_work(photos: Path, uex: Uex) -> None:
    ran = uex("eval", photos, photos, "--target", "probe", "--weights", "gone.pth")
    assert ran.code == 2 and "gone.pth: no such file" in ran.err


def test_weights_that_no_target_takes_are_refused(release: tuple[Path, str], uex: Uex) -> None:
    ran = uex("eval", *release, *TINY, "--weights", "gone.pth")
    assert ran.code == 2 and "--weights: no pretrained net is tried" in ran.err


def test_large_photos_fit_into_memory_or_are_shown_smaller() -> None:
    assert eval_jobs.fits(1000, 224, 3, 10**10) and not eval_jobs.fits(100_000, 224, 3, 10**10)
    assert eval_jobs.fits(10**9, 224, 3, None)


@pytest.fixture
def release(uex: Uex) -> tuple[Path, str]:
    photos = bright(Path("photos"), ("cat", "dog", "owl"), 20)
    assert uex("fit", photos, "--method", "random", "--mode", "classwise", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "release").code == 0
    return photos, "release"


def test_an_informed_attacker_knows_which_images_share_noise(release: tuple[Path, str], uex: Uex) -> None:
    blind = uex("eval", *release, *TINY, "--json")
    assert blind.code == 0, blind.err
    assert [cell["against"] for cell in blind.json["cells"]] == ["none"] and blind.json["attacker"] == "blind"
    words = ("eval", *release, *TINY, "--attacker", "informed")
    ran = uex(*words, "--json")
    found = {(cell["against"], cell["informed"]) for cell in ran.json["cells"]}
    assert found == {
        ("none", False),
        ("class-mean", True),
    }
    shown = uex(*words, "--report", "r.html")
    assert "class-mean (informed)" in shown.out
    assert "Worst of a blind attacker" in shown.out and "Worst of an informed attacker" in shown.out
    page = Path("r.html").read_text()
    assert "Blind attacker." in page and "Informed attacker" in page


def test_an_informed_attacker_can_do_all_that_a_blind_one_can(release: tuple[Path, str], uex: Uex) -> None:
    shown = uex("eval", *release, *TINY, "--attacker", "informed", "--against", "class-mean").out.replace("\n", " ")
    blind, _, informed = shown.partition("Worst of a blind attacker: ")[2].partition("Worst of an informed attacker: ")
    assert blind.strip() and informed.startswith(blind.strip())


def test_an_informed_attacker_of_an_unknown_release_knows_no_more(release: tuple[Path, str], uex: Uex) -> None:
    photos, _ = release
    ran = uex("eval", photos, photos, *TINY, "--attacker", "informed", "--json")
    assert "the release does not say by what method" in ran.err
    assert [cell["informed"] for cell in ran.json["cells"]] == [False]
    assert uex("eval", photos, photos, "--attacker", "infromed").code == 2


def test_what_undoes_a_method_is_there() -> None:
    registry = load()
    for kind in ("method", "granularity"):
        for name in registry.names(kind):
            cls = registry.find(kind, name).cls
            assert issubclass(cls, plugin.Method | plugin.Granularity)
            for spec in cls.undone_by:
                assert eval_jobs.against_of(registry, spec).parts


def test_two_lists_at_once_are_no_curve() -> None:
    made = command.scenarios_of(evaluate.Request("p", "r", shares=(0.5, 1.0), merges=("2", "3")))
    assert len(made) == 4 and all(value is None for _, value in made.values())
    one = command.scenarios_of(evaluate.Request("p", "r", merges=("2", "3")))
    assert [value for _, value in one.values()] == [2.0, 3.0]


def test_shares_and_merged_classes_as_lists(release: tuple[Path, str], uex: Uex) -> None:
    words = ("eval", *release, *TINY, "--share", "0.5,1", "--merge", "2")
    ran = uex(*words, "--json")
    assert ran.code == 0, ran.err
    cells = {cell["at"]: cell for cell in ran.json["cells"]}
    assert set(cells) == {"share 50%", "share 100%"}
    assert [cells[at]["value"] for at in ("share 50%", "share 100%")] == [0.5, 1.0]
    assert ran.json["reused"] == 1  # one clean side for both
    assert uex(*words, "--json").json["reused"] == 5
    curve = cells["share 50%"]["protected"]["runs"][0]["part_curves"]
    assert set(curve) == {"protected", "clean"} and {len(part) for part in curve.values()} == {8}
    assert all(run["right_images"] == [] for run in cells["share 50%"]["clean"]["runs"])
    shown = uex(*words, "--report", "r.html")
    assert "Scenario: 50% of the images protected" in shown.out.replace("\n", " ") or "50% of the images" in shown.err
    assert "By scenario" in Path("r.html").read_text()


def test_shares_that_round_alike_are_told_apart() -> None:
    request = evaluate.Request("photos", "release", shares=(0.001, 0.002, 0.07, 0.5))
    assert list(command.scenarios_of(request)) == ["share 0.1%", "share 0.2%", "share 7%", "share 50%"]


@pytest.mark.parametrize("words", [("--share", "half"), ("--share", "0.5,2"), ("--merge", "1,2"), ("--share", "0")])
def test_lists_that_cannot_be_meant_are_refused(words: tuple[str, ...], photos: Path, uex: Uex) -> None:
    ran = uex("eval", photos, photos, *words)
    assert ran.code == 2 and words[0] in ran.err
