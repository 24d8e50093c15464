"""The progress of a fit: one share that never falls, whatever the method does, and a time left that is true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, picture
from PIL import Image

from uexcli import plugin, registry
from uexcli.commands import fit
from uexcli.commands.fit import progress
from uexcli.commands.fit.progress import Whole
from uexcli.messages import Listener, Overall

METHODS = sorted(registry.load().names("method"))


class Ear(Listener):
    """Keeps what it hears of progress."""

    def __init__(self) -> None:
        self.heard: list[plugin.Progress] = []

    def step(self, progress: plugin.Progress) -> None:
        self.heard.append(progress)


def shares_of(photos: Path, method: str, **options: object) -> list[float]:
    """Fit, and give the shares that were shown."""
    cls = registry.load().find("method", method).cls
    least = {key: str(value) for key, value in {**cls.test_options, **options}.items()}
    mode = "clusterwise" if cls.modes == ("clusterwise",) else None
    surrogate = "torchvision" if method == "uc" else "auto"
    ear = Ear()
    more = {"model": "resnet18", "weights": "random", "clusters": "2"} if method == "uc" else {}
    fit.run(
        fit.Request(str(photos), method=method, mode=mode, surrogate=surrogate, seed=1, options={**least, **more}), ear
    )
    assert all(isinstance(told, Overall) and told.stage == "fit" and told.total == 1 for told in ear.heard)
    return [told.done for told in ear.heard]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(picture(100 * number + index, 32)).save(root / label / f"{index}.png")
    return root


@pytest.mark.parametrize("method", METHODS)
def test_the_share_of_a_fit_never_falls_and_ends_at_the_end(method: str, pictures: Path) -> None:
    shares = shares_of(pictures, method)
    assert shares == sorted(shares)
    assert shares[-1] == 1 and all(share < 1 for share in shares[:-2])


@pytest.mark.parametrize("settled", [True, False])
def test_rounds_beyond_the_usual_ones_come_near_the_end_but_not_to_it(settled: bool, pictures: Path) -> None:
    shares = shares_of(pictures, "em", rounds=14, stop=0, settled=settled, theta_steps=1, steps=1)
    assert shares == sorted(shares)
    assert len(set(shares[:-1])) == len(shares) - 1 and shares[-2] < 1


@pytest.mark.parametrize("wild", [[0.5, 0.2, 1.0, 0.3, 1.0], [2.0, 0.0, 1.0]])
def test_a_strangers_progress_that_falls_back_is_shown_as_standing_still(wild: list[float]) -> None:
    ear = Ear()
    whole = Whole(ear)
    whole.step(plugin.Progress(3, 3, stage="read"))
    whole.begin(None)
    for done in wild:
        whole.fit(plugin.Progress(done, 1, "note", "stage"))
        whole.step(plugin.Progress(1, 9, stage="look"))
    shares = [told.done for told in ear.heard]
    assert shares == sorted(shares) and shares[-1] == 1


def test_the_time_left_is_the_estimate_at_first_and_the_pace_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    ear = Ear()
    whole = Whole(ear)
    whole.step(plugin.Progress(1, 10, stage="read"))
    whole.begin(600)
    left = [told.seconds_left for told in ear.heard if isinstance(told, Overall)]
    assert left == [None]  # of minutes to come, reading in a second says nothing
    for percent in range(1, 101):
        clock[0] = 12.0 * percent  # it takes twice as long as was thought
        whole.fit(plugin.Progress(percent, 100))
    left = [told.seconds_left for told in ear.heard[1:] if isinstance(told, Overall)]
    assert left[0] == pytest.approx(0.99 * 600)
    assert left[49] == pytest.approx(600, rel=0.01) and left[-1] == 0


def test_a_resumed_fit_counts_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    ear = Ear()
    whole = Whole(ear)
    whole.begin(None)
    for percent in (80, 85, 90):
        clock[0] += 10
        whole.fit(plugin.Progress(percent, 100))
    told = ear.heard[-1]
    assert isinstance(told, Overall) and told.seconds_left == pytest.approx(20)


def test_progress_off_a_terminal_names_what_is_done(
    photos: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uexcli.cli.screen.PLAIN_EVERY", -1.0)
    ran = uex("fit", photos, "-O", "rounds=1", "-O", "theta_steps=2")
    assert ran.code == 0
    lines = [line for line in ran.err.splitlines() if "%  " in line]
    percents = [int(line.partition("%")[0]) for line in lines]
    assert percents == sorted(percents) and percents[-1] == 100
    assert "fit, read 1 of 16" in lines[0] and "left" not in lines[0]
