"""The report: one file that stands alone, tells what is true, and fits a phone."""

from __future__ import annotations

import base64
import html.parser
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Ran, bright
from PIL import Image

from uexcli.io.reports import confusion, contact_sheet, curves, evaluation, leaderboard

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Strict(html.parser.HTMLParser):
    """Reads a page and refuses tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


def run_of(curve: list[float], **changes: Any) -> dict[str, Any]:
    known = {"train_accuracy": 0.99, "early_stop": curve[-1], "confusion": [[8, 2], [5, 5]], "auc": None,
             "frozen_auc": None}  # fmt: skip
    return {"curve": curve, **known, **changes}


def cell_of(against: str, peak: float | None, **changes: Any) -> dict[str, Any]:
    made = {
        "target": "small",
        "against": against,
        "clean": {"runs": [run_of([0.5, 0.9])]},
        "protected": {"runs": [run_of([0.6, 0.3])]},
        "clean_part": None,
        "intervals": {"clean": 0.02, "protected": 0.03},
        "groups": {},
        "learnability_last": peak,
        "learnability_peak": peak,
        "chance": 0.5,
    }
    return {**made, **changes}


def document(**changes: Any) -> dict[str, Any]:
    probe = {"net": "linear", "held_out": 0.99, "clean": 0.2, "flagged": True}
    made = {
        "cells": [cell_of("jpeg:10", 1.3), cell_of("none", 0.25), cell_of("adversarial", None)],
        "warnings": ["only 50 test images"],
        "train_images": 1000,
        "test_images": 50,
        "test_source": "held out",
        "classes": ["cat", "<b>dog</b>"],
        "chance": 0.5,
        "targets": ["small"],
        "seeds": 1,
        "size": 32,
        "view": "squash",
        "scenario": "",
        "max_learnability": 0.2,
        "passed": False,
        "detect": {"clean": [{**probe, "flagged": False}], "protected": [probe]},
        "versions": {"torch": "2"},
        "device": "cpu",
    }
    return {**made, **changes}


def page(**changes: Any) -> str:
    return evaluation.page(document(**changes), heading="What & <why>", facts={"release": "<out>"}, sheet=None)


def test_the_page_is_whole_and_what_users_wrote_is_escaped() -> None:
    text = page()
    Strict(text)
    assert "What &amp; &lt;why&gt;" in text and "&lt;b&gt;dog" in text
    assert "<b>dog</b>" not in text and "<out>" not in text


def test_the_page_says_what_was_measured() -> None:
    text = page()
    assert "<strong>all</strong> is still learnt" in text and "<b>jpeg:10</b>" in text
    assert "only 50 test images" in text and "failed: at most 0.20 was allowed" in text
    assert "90.0 ± 2.0" in text and "30.0 ± 3.0" in text
    assert "cannot be told" in text
    assert "65% of the test images are right" in text
    assert text.count("<polyline") == 6
    assert "Doubts" not in page(warnings=[])


def test_charts_have_names_and_nothing_is_fetched() -> None:
    text = page()
    for tag, attrs in Strict(text).seen:
        if tag == "svg" or attrs.get("role") == "img":
            assert attrs.get("aria-label")
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href", "data", "action"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"url\(|@import|https?://", text)


def test_scenarios_with_other_classes_have_a_confusion_of_the_first_and_no_step_without_a_number() -> None:
    three = [[1, 0, 0], [0, 1, 0], [0, 0, 9]]
    cells = [
        cell_of("none", 0.9, at="merged into 3", value=3.0, protected={"runs": [run_of([0.6], confusion=three)]}),
        cell_of("none", 0.8, at="merged into 2", value=2.0),
        cell_of("none", 0.7, at="merged into groups.csv", value=None),
    ]
    text = page(cells=cells, at="merged into 2")
    assert "Confusion of 2 classes" in text and ": 65% of the test images" in text
    shown = text[text.index("By scenario") :].partition("</svg>")[0]
    assert ">2</text>" in shown and ">3</text>" in shown and "nan" not in shown


def test_many_classes_have_no_room_for_names() -> None:
    table = [[1] * 60 for _ in range(60)]
    cell = cell_of("none", 0.5, protected={"runs": [run_of([0.1, 0.2], confusion=table)]})
    text = page(cells=[cell], classes=[f"class {number}" for number in range(60)])
    assert text.count("<rect") == 3600 and ">class 7</text>" not in text
    assert "<text" not in confusion.picture(table, [f"class {number}" for number in range(60)])


def test_a_confusion_matrix_has_heads_at_both_sides_and_numbers() -> None:
    shown = confusion.picture([[8, 0], [4, 96]], ["cat", "a very long name of a class"])
    Strict(shown)
    assert shown.count(">cat</text>") == 2 and shown.count(">a very long nam…</text>") == 2
    assert re.findall(r">(\d+)</text>", shown) == ["8", "4", "96"]  # nothing is written for none
    assert [">8<" in cell or ">96<" in cell for cell in re.findall(r'<text class="on".*?</text>', shown)] == [True] * 2
    assert shown.count("rotate") == 2 and "rotate" not in confusion.picture([[1, 0], [0, 1]], ["0", "1"])


def test_the_axes_of_curves_have_numbers() -> None:
    shown = curves.plot([curves.by_epoch("em", [0.1] * 30, "hue-0")], said="x", ticks=curves.epochs(30))
    ticks = re.findall(r">([^<>]+)</text>", shown)
    assert ticks == ["0%", "25%", "50%", "75%", "100%", "1", "5", "10", "15", "20", "25", "30", "epoch"]
    assert list(curves.epochs(3).values()) == ["1", "2", "3"] and len(curves.epochs(200)) <= 9
    assert "<circle" in curves.plot([curves.by_epoch("em", [0.1], "hue-0")], said="x", ticks=curves.epochs(1))


def test_names_at_the_ends_of_curves_do_not_lie_upon_each_other() -> None:
    lines = [curves.by_epoch(f"row {number}", [0.1, 0.02], curves.hue(number)) for number in range(18)]
    height = curves.room_for(len(lines))
    shown = curves.plot(lines, said="x", ticks=curves.epochs(2), size=(720, height), named=True)
    Strict(shown)
    levels = sorted(float(y) for y in re.findall(r'<text class="named" x="[\d.]+" y="([-\d.]+)"', shown))
    assert len(levels) == 18 and levels[0] > 0 and levels[-1] < height
    assert min(after - before for before, after in pairwise(levels)) >= 12
    assert len({curves.hue(number) for number in range(18)}) == 18


def test_the_sheet_of_a_report_takes_the_colour_of_its_page() -> None:
    grey = np.full((16, 16, 1), 120, np.uint8)
    shown = contact_sheet.contact_sheet([(grey, grey)] * 2, 1.0, side=32)
    assert shown.shape[2] == 4 and shown[0, 0, 3] == 0 and shown[32, 12].tolist() == [120, 120, 120, 255]
    assert contact_sheet.contact_sheet([(grey, grey)] * 2, 1.0, paper=True)[0, 0].tolist() == list(contact_sheet.PAPER)
    assert contact_sheet.side_by_side(grey, grey, 1.0)[0, 0].tolist() == list(contact_sheet.PAPER)


def test_the_command_writes_it(tmp_path: Path, uex: Callable[..., Ran]) -> None:
    photos = bright(tmp_path / "photos", ("cat", "dog"), 20)
    assert uex("fit", photos, "--method", "random", "--seed", 1, "-o", "n.safetensors").code == 0
    assert uex("apply", "n.safetensors", photos, "-o", "release").code == 0
    words = ("eval", photos, "release", "--target", "small:width=4,batch=8", "--epochs", 4, "--report", "r.html")
    ran = uex(*words)
    assert ran.code == 0, ran.err
    text = Path("r.html").read_text()
    Strict(text)
    assert "as secret as the noise" in text and "random" in text
    picture = re.search(r"data:image/png;base64,([^\"]+)", text)
    assert picture is not None
    assert Image.open(io.BytesIO(base64.b64decode(picture[1]))).width > 200
    again = uex(*words)
    assert again.code == 2 and "--force" in again.err
    assert uex(*words, "--force").code == 0
    Path("file").touch()
    assert uex(*words[:-1], "file/r.html").code == 3


def rows() -> list[dict[str, Any]]:
    side, clean = {"last": [0.3, 0.4], "peak": [0.5, 0.6]}, {"last": [0.9, 0.9], "peak": [0.9, 0.9]}
    cell = {"target": "small", "clean": clean, "protected": side, "learnability_last": 0.4, "learnability_peak": 0.6}
    first = {
        "name": "em|x",
        "fit_seconds": 12.3,
        "bound": "linf 8/255",
        "psnr": 32.1,
        "findings": 0,
        "worst_peak": 0.55,
        "chance": 0.1,
        "seeds": 2,
        "train_images": 10,
        "test_images": 10,
        "size": 32,
        "device": "cpu",
        "detected": True,
        "warnings": ["few <images>"],
        "cells": [{**cell, "against": "jpeg:10"}, {**cell, "against": "none"}],
    }
    return [first, {**first, "name": "lsp", "fit_seconds": None, "findings": 2, "cells": first["cells"][1:]}]


def test_the_leaderboard_is_a_table(tmp_path: Path) -> None:
    made = leaderboard.write(tmp_path, "Methods", rows())
    text = made[0].read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {10}
    assert lines[0].startswith("| method | worst | plain | jpeg:10 |")
    assert "90.0 / 90.0" in lines[2] and "35.0 / 55.0" in lines[3] and "2 findings" in lines[4]
    shown = made[2].read_text()
    Strict(shown)
    assert "few &lt;images&gt;" in shown


def side_of(*curves: list[float]) -> dict[str, Any]:
    return {
        "last": [curve[-1] for curve in curves],
        "peak": [max(curve) for curve in curves],
        "curves": list(curves),
        "curve": [sum(values) / len(values) for values in zip(*curves, strict=True)],
        "interval": 0.02,
    }


def row_of(name: str, worst: float, **changes: Any) -> dict[str, Any]:
    cells = [
        {
            "target": "small", "against": against, "clean": side_of([0.5, 0.9], [0.6, 0.9]),
            "protected": side_of([0.2, worst], [0.1, worst]), "learnability_last": worst, "learnability_peak": worst,
            "verdict": "told",
        }
        for against in ("none", "jpeg:10")
    ]  # fmt: skip
    made = {"row": name, "method": name, "cells": cells, "warnings": [], "worst_peak": worst, "test_source": "held out"}
    return {**rows()[0], **made, "name": name, **changes}


def test_the_leaderboard_draws_every_row_and_opens_each() -> None:
    one = row_of("<em>", 0.3, made_with={"eps": "8/255"}, published={"none": 12.34}, scenario="half")
    text = leaderboard.html("Methods", [one, row_of("lsp", 0.5)])
    page = Strict(text)
    heads = re.findall(r"<th scope=col>([^<]*)</th>", text)
    assert heads[:4] == ["method", "worst", "plain", "jpeg:10"]
    pictures = [attrs["aria-label"] or "" for tag, attrs in page.seen if tag == "svg"]
    assert sum("<em> 30.0, lsp 50.0, clean 90.0" in said for said in pictures) == 2  # for a desk, and for a phone
    wide = text[text.index('<div class="desk">') : text.index('<div class="phone">')]
    assert wide.count("<polyline") == 3 and ">&lt;em&gt;</text>" in wide and ">clean</text>" in wide
    assert text.count('<details class="row">') == 2
    links = [str(attrs["href"]) for tag, attrs in page.seen if tag == "a"]
    assert {"#row-1", "#row-2"} <= set(links)
    assert {link[1:] for link in links} <= {attrs.get("id") for _, attrs in page.seen}
    inside = text[text.index('id="row-1"') : text.index('id="row-2"')]
    assert "8/255" in inside and "half" in inside and inside.count("<polyline") == 2 * 4 and "90.0 ± 2.0" in inside
    assert "<small>paper 12.3</small>" in text and text.count("paper 12.3") == 1
    assert not any(tag == "script" for tag, _ in page.seen)


def test_a_doubt_is_told_once_with_the_rows_it_was_seen_in() -> None:
    few = "only 20 test images"
    fits = "under '{}', target 'small', the target fits only {}% of its images"
    ours = [row_of("a", 0.3, warnings=[few, fits.format("none", 50.5), fits.format("jpeg:10", 8)]),
            row_of("b", 0.4, warnings=[few, fits.format("none", 70)])]  # fmt: skip
    text = leaderboard.markdown("x", ours)
    assert text.count(few) == 1 and f"- {few} (seen in all rows)" in text
    assert "- the target fits only 8% to 70% of its images (seen in: a under plain, jpeg:10; b under plain)" in text
    both = row_of("a", 0.3, warnings=[fits.format("none", 50.5)])
    both["cells"].append({**both["cells"][0], "target": "linear"})
    assert "(seen in: a under plain (small))" in leaderboard.markdown("x", [both])
    page = leaderboard.html("x", ours)
    assert page.partition('id="doubts"')[2].count(few) == 1


def test_what_does_not_compare_stands_apart_and_what_cannot_be_told_below() -> None:
    silent = row_of("mute", 0.1)
    silent["cells"][0]["verdict"] = "unclear"
    ours = [row_of("a", 0.3, set="one"), {**silent, "set": "one"}, row_of("a", 0.2, set="one", question="into x")]
    text = leaderboard.markdown("x", ours)
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## one", "## one, into x"]
    names = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("|")]
    assert names == ["| method", "| ---", "| (clean)", "| a", "| (cannot be told)", "| mute", *names[:4]]
    page = leaderboard.html("x", ours)
    Strict(page)
    assert page.count('<table class="board">') == 2 and page.count('<tr class="silent">') == 1
    assert "<summary><b>mute (one)</b> cannot be told</summary>" in page


def test_the_values_of_a_scenario_are_a_curve() -> None:
    ours = [
        row_of(
            f"em, share {value}", 1 - float(value) / 2, row="em", varies={"key": "share", "value": value, "place": n}
        )
        for n, value in enumerate(("0.25", "0.5", "1.0"))
    ]
    page = leaderboard.html("x", list(reversed(ours)))
    shown = page[page.index("<h2>em by share</h2>") :].partition("</svg>")[0]
    line = re.search(r'<polyline class="hue-0" points="([^"]+)"', shown)
    assert line is not None
    places = [[float(number) for number in point.split(",")] for point in line[1].split()]
    across = [x for x, _ in places]
    assert (across[1] - across[0]) * 2 == pytest.approx(across[2] - across[1], abs=0.3)
    assert [y for _, y in places] == sorted(y for _, y in places)  # less is learnt of more
    assert shown.count('<circle class="hue-0"') == 3
    assert ">0.25</text>" in shown and "clean, plain" in shown
    assert "by share" not in leaderboard.html("x", ours[:1])


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Image.Image, int]]:
    folder = tmp_path_factory.mktemp("shots")

    def shoot(text: str, width: int, *, dark: bool) -> tuple[Image.Image, int]:
        """A screenshot, and how wide the page wants to be."""
        script = 'document.title = "wide " + document.documentElement.scrollWidth'
        path, picture = folder / "page.html", folder / "shot.png"
        path.write_text(text.replace("</main>", f"</main><script>{script}</script>"))

        def browse(wish: str) -> str:
            words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            words += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1400"]
            words += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", wish, path.as_uri()]
            return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout

        browse(f"--screenshot={picture}")
        found = re.search(r"<title>wide (\d+)</title>", browse("--dump-dom"))
        assert found is not None
        with Image.open(picture) as image:
            return image.convert("RGB"), int(found[1])

    return shoot


@needs_chromium
def test_a_leaderboard_fits_a_phone(shots: Callable[..., tuple[Image.Image, int]]) -> None:
    names = [f"a method with a long name {number}" for number in range(4)]
    image, wide = shots(leaderboard.html("Methods", [row_of(name, 0.3) for name in names]), 500, dark=True)
    assert wide <= 500
    assert max(image.getpixel((3, image.height // 2))) < 60


@needs_chromium
@pytest.mark.parametrize("width", [500, 1100])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it(width: int, dark: bool, shots: Callable[..., tuple[Image.Image, int]]) -> None:
    image, wide = shots(page(), width, dark=dark)
    assert wide <= width
    corner = image.getpixel((3, image.height // 2))
    assert isinstance(corner, tuple)
    assert (max(corner) < 60) if dark else (min(corner) > 230)
    colours = [colour for _, colour in image.getcolors(10**6) or [] if isinstance(colour, tuple)]
    assert any(red > 1.5 * blue + 40 for red, _, blue in colours), "no bar is drawn in the protected side's colour"
