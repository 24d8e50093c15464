"""Names that look like markup, escapes or several lines: every command shows them as text, and keeps JSON exact."""

from __future__ import annotations

import html
import json
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree as xml

import pytest
from conftest import Ran, bright, picture
from PIL import Image

from uexcli import plugin, registry
from uexcli.cli.grid import Grid, Styled
from uexcli.cli.screen import Screen
from uexcli.io.reports import leaderboard
from uexcli.io.reports.html import escape
from uexcli.messages import Overall
from uexcli.plugin import Progress
from uexcli.wording import visible

Uex = Callable[..., Ran]
NAMES = (
    "IMG [edited] 1.png",
    "holiday [/x].png",  # in a folder `holiday [`
    "[conceal]leak.png",
    "[link=x]click.png",
    ":smile: me.png",
    "red\x1b[31m.png",
    "two\nlines.png",
    "csi\x9b8mhidden.png",
    "left\u202egnp.png",
)
CLASSES = ("[b] dogs", "cats [x]\x1b[8m")
FOLDER = "my [link=y] photos\x1b]0;title\x07"


def safe(text: str) -> str:
    """Check that a terminal gets text alone, and give it on one line."""
    for char in text.replace("\n", ""):
        assert char.isprintable(), repr(char)
    return " ".join(text.split())


def hostile(root: Path) -> Path:
    """Two classes of pictures, of which one half have wicked names."""
    for number, label in enumerate(CLASSES):
        for index, name in enumerate([*NAMES, *(f"{index}.png" for index in range(9))]):
            path = root / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(100 * number + index) // 2 + 60 * number).save(path)
    return root


@pytest.fixture
def wicked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "400")
    return hostile(Path(FOLDER))


def said(ran: Ran) -> str:
    return safe(ran.out) + safe(ran.err)


def test_every_command_shows_wicked_names_as_text_and_json_has_them_exactly(wicked: Path, uex: Uex) -> None:
    noise, out = Path("n [x]\x1b[31m.noise.safetensors"), Path("release [conceal]\nx")
    shown, keys = visible(FOLDER), {f"{label}/{name}" for label in CLASSES for name in NAMES}

    fitted = uex("fit", wicked, "--method", "random", "--mode", "classwise", "-o", noise)
    assert fitted.code == 0, fitted.err
    assert visible(str(noise)) in said(fitted)
    assert uex("fit", wicked, "--method", "random", "-o", noise, "--dry-run", "--force", "--json").json["plan"][
        "output"
    ] == str(noise)

    told = uex("info", noise)
    assert all(visible(label) in said(told) for label in (*CLASSES, FOLDER, str(noise)))
    found = uex("info", noise, "--json").json
    assert set(found["classes"]) == set(CLASSES)
    assert found["header"]["dataset"]["uri"] == FOLDER

    planned = uex("apply", noise, wicked, "-o", out, "--dry-run")
    assert all(visible(key) in said(planned) for key in keys)
    applied = uex("apply", noise, wicked, "-o", out)
    assert applied.code == 0, applied.err
    assert visible(str(out)) in said(applied)

    for path in sorted(out.rglob("*.png"))[::2]:
        path.unlink()
    checked = uex("verify", out, "--source", wicked, "--junit", "v.xml")
    assert checked.code == 1
    findings = uex("verify", out, "--source", wicked, "--json").json["findings"]
    assert {item["path"] for item in findings} & keys
    assert all(visible(item["path"]) in said(checked) for item in findings)
    suite = xml.parse("v.xml").getroot()
    assert all(char.isprintable() or char == "\n" for text in suite.itertext() for char in text)
    lines = [json.loads(line) for line in uex("verify", out, "--source", wicked, "--jsonl").out.splitlines()]
    assert [line["finding"]["path"] for line in lines[:-1]] == [item["path"] for item in findings]

    photo = wicked / CLASSES[1] / NAMES[5]
    drawn = uex("preview", noise, photo, "-o", "[p]\x1b[1m.png")
    assert drawn.code == 0 and visible(NAMES[5]) in said(drawn) and "[p]\\x1b[1m.png" in drawn.out

    copied = uex("convert", wicked, "copy [x]\x1b[8m")
    assert copied.code == 0 and "copy [x]\\x1b[8m" in said(copied)
    assert shown in said(uex("convert", wicked, wicked / "within"))


def test_evaluations_and_benches_show_wicked_names_as_text(uex: Uex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    photos = bright(Path("p [x]\x1b[8m"), ("dog [x]", "cat\x1b[8m[conceal]"), 30)
    assert uex("fit", photos, "--method", "random", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "r [x]\x1b[1m").code == 0
    asked = (
        "eval",
        photos,
        "r [x]\x1b[1m",
        "--epochs",
        8,
        "--target",
        "small:width=4,batch=8",
        "--protect-class",
        "dog*",
    )
    judged = uex(*asked, "--report", "report [x]\x1b[1m.html")
    assert judged.code == 0, judged.err
    assert "report [x]\\x1b[1m.html" in said(judged)
    page = Path("report [x]\x1b[1m.html").read_text()
    assert all(char.isprintable() or char == "\n" for char in page)
    assert html.escape("cat\\x1b[8m[conceal]") in page

    Path("r.toml").write_text(
        f"photos = {json.dumps(str(photos))}\nepochs = 8\ntargets = ['small:width=4,batch=8']\nagainst = ['none']\n"
        "[[row]]\nmethod = 'random'\n"
    )
    ran = uex("bench", "r.toml", "-o", "b [x]\x1b[1m")
    assert ran.code == 0, ran.err
    assert "b [x]\\x1b[1m/leaderboard.md" in said(ran)


def test_parts_and_exports_show_wicked_names_as_text(wicked: Path, uex: Uex) -> None:
    noise, out = "n[x]\x1b[1m", "r[x]\x1b[1m"
    assert uex("fit", wicked, "--method", "random", "--mode", "universal", "-o", noise).code == 0
    for part in ("1/2", "2/2"):
        said(uex("apply", noise, wicked, "-o", out, "--shard", part))
    merged = uex("merge", out)
    assert merged.code == 0 and "r[x]\\x1b[1m" in said(merged)
    pytest.importorskip("onnxscript")
    exported = uex("export", noise, "m[x]\x1b[1m.onnx")
    assert exported.code == 0 and "m[x]\\x1b[1m.onnx" in said(exported)


@pytest.mark.parametrize(
    "words",
    [
        ("fit", "{}"),
        ("fit", "photos", "--method", "{}"),
        ("fit", "photos", "--limit", "{}"),
        ("apply", "{}", "photos", "-o", "x"),
        ("verify", "{}"),
        ("verify", "photos", "--source", "photos", "--eps", "{}"),
        ("info", "{}"),
        ("eval", "photos", "{}"),
        ("eval", "photos", "photos", "--protocol", "{}"),
        ("bench", "{}"),
        ("convert", "{}", "x"),
        ("merge", "{}"),
        ("export", "{}", "x.onnx"),
        ("preview", "n", "{}"),
        ("plugins", "--kind", "{}"),
        ("demo", "--device", "{}"),
        ("--install-completion", "{}"),
        ("{}",),
    ],
)
def test_errors_repeat_what_was_typed_as_text(
    words: tuple[str, ...], photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    ran = uex(*(word.format("no [/x][link=y]\x1b[8m\u202e") for word in words))
    assert ran.code in (2, 3)
    assert "Traceback" not in ran.err
    assert "[/x][link=y]\\x1b[8m\\u202e" in said(ran)


@dataclass(frozen=True)
class Loud(registry.load().find("norm", "linf").cls):  # type: ignore[misc]
    name: ClassVar[str] = "[red]loud[/x]"
    summary: ClassVar[str] = "first\nsecond [conceal] \x1b[8m"
    aliases: ClassVar[tuple[str, ...]] = ("[/y]",)


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Two plugins with wicked names: one with a wicked summary, and one that fails with a wicked message."""
    module = types.ModuleType("uex_loud")
    module.__dict__["uex_norms"] = plugin.hookimpl(lambda: [Loud])
    monkeypatch.setitem(__import__("sys").modules, "uex_loud", module)
    (tmp_path / "uex_rotten.py").write_text("raise RuntimeError('[/x] \\x1b[8m\\n[link=z]')\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("[/z]loud\x1b[1m", "uex_loud", "uex"), EntryPoint("[/z]rotten", "uex_rotten", "uex")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: points)
    monkeypatch.setenv("COLUMNS", "400")
    registry.load.cache_clear()
    yield
    registry.load.cache_clear()


@pytest.mark.usefixtures("strangers")
def test_what_plugins_say_is_text(uex: Uex) -> None:
    reason = "RuntimeError: [/x] \\x1b[8m\\n[link=z]"
    listed = uex("plugins")
    assert listed.code == 1
    for text in ("[red]loud[/x]", "first\\nsecond [conceal] \\x1b[8m", "[/y]", "[/z]loud\\x1b[1m", reason):
        assert text in said(listed), text
    assert {"plugin": "[/z]rotten", "reason": "RuntimeError: [/x] \x1b[8m\n[link=z]"} in uex("plugins", "--json").json[
        "broken"
    ]
    looked = uex("doctor")
    assert looked.code == 1 and f"plugin [/z]rotten {reason}" in said(looked)
    said(uex("plugins", "--kind", "norm"))


def test_the_command_that_installs_what_is_missing_is_printed_whole(uex: Uex, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError, version

    def lacking(name: str) -> str:
        if name.startswith("onnx") and name != "onnxruntime":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("uexcli.commands.doctor.importlib.metadata.version", lacking)
    for width in ("60", "80", "400"):
        monkeypatch.setenv("COLUMNS", width)
        assert re.search(r"^.*pip install 'uexcli\[onnx\]'\s*$", uex("doctor").out, re.MULTILINE)


def test_nothing_is_markup_on_a_colour_terminal_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = "[link=x][conceal]a[/x] :smile:\n\x1b[8mb\u202e"
    table = Grid(title=text, caption=[text], lines="all")
    table.column(text)
    table.row(text)
    table.row([Styled(text, "bold"), text])
    with Screen() as screen:
        screen.say(text)
        screen.warn(text)
        screen.step(Progress(1, 2, text, text))
        screen.step(Overall(1, 2, text, text, None))
        screen.result("uex.test/1", {}, table, text)
    out, err = capsys.readouterr()
    for each in (out, err):
        plain = re.sub(r"\x1b\[(?:\?25[lh]|[0-9;]*[mKAG])", "", each)  # colours and bars, which are ours
        assert "\x1b" not in plain and "\u202e" not in plain
        assert not re.search(r"\x1b\[(?:[0-9;]*;)?8m", each)
        assert "[link=x][conceal]a[/x] :smile:\\n\\x1b[8mb\\u202e" in plain
    assert out.count("[conceal]") == 7


def test_pages_and_tables_hold_wicked_names_as_text() -> None:
    assert escape("<b>\x1b[8m\u202e\n'\"") == "&lt;b&gt;\\x1b[8m\\u202e\\n&#x27;&quot;"
    row = {
        "name": "x", "cells": [], "worst_peak": 0.5, "fit_seconds": 1.0, "bound": "a|b", "psnr": 30.0, "findings": 0,
        "detected": False, "warnings": ["<i>\x1b"], "seeds": 1, "train_images": 2, "test_images": 2, "size": 8,
        "chance": 0.5, "device": "cpu",
    }  # fmt: skip
    text = leaderboard.markdown("a <b> [x](y)\n\x1b", [row])
    assert text.startswith("# a \\<b\\> \\[x\\](y)\\\\n\\\\x1b\n")
    assert "| a\\|b |" in text
    page = leaderboard.html("t <b>\x1b", [row])
    assert "\x1b" not in page and "<i>" not in page and "t &lt;b&gt;\\x1b" in page
