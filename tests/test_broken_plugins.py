"""Plugins that try to end uex: a command that did not do its work never looks as if it had."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from conftest import Ran

from uexcli import registry
from uexcli.errors import Exit, UexError

Uex = Callable[..., Ran]
ENDS = {
    "exit": "import sys; sys.exit(0)",
    "raise": "raise SystemExit",
    "hard": "import os; os._exit(0)",
    "typer": "import typer; raise typer.Exit(0)",
    "odd": "raise type('Odd', (BaseException,), {})('gone')",
    "good": "from uexcli.plugin import UexError; raise UexError('all is well', code=0)",
}
HOOK = "from uexcli.plugin import hookimpl\n@hookimpl\ndef uex_norms():\n    {end}\n"
DATASET = """
from dataclasses import dataclass
from typing import ClassVar
from uexcli.plugin import Dataset, Sample, hookimpl

@dataclass(frozen=True)
class Rotten(Dataset):
    name: ClassVar[str] = "rotten"
    summary: ClassVar[str] = "ends"

    def accepts(self, uri):
        {accepts}
        return uri.startswith("rotten:")

    def read(self, uri, *, split="train"):
        {read}

@hookimpl
def uex_datasets():
    return [Rotten]
"""


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Install a plugin of this text for the rest of the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [EntryPoint("rotten", "uex_rotten", "uex")])

    def install(text: str) -> None:
        (folder / "uex_rotten.py").write_text(text)
        sys.modules.pop("uex_rotten", None)
        registry.load.cache_clear()

    yield install
    sys.modules.pop("uex_rotten", None)
    registry.load.cache_clear()


def test_a_plugin_that_ends_where_it_is_loaded_is_broken_and_the_rest_works(
    release: Path, photos: Path, plugin: Callable[[str], None], uex: Uex
) -> None:
    (release / "cat" / "0.png").write_bytes(b"no image")
    for end in ENDS.keys() - {"good"}:
        for text in (ENDS[end], HOOK.format(end=ENDS[end])):
            plugin(text)
            ran = uex("verify", release, "--source", photos)
            assert ran.code == 1 and "checksum" in ran.out, (text, ran)
            assert "plugin 'rotten' is broken" in ran.err
            assert uex("plugins").code == 1


@pytest.mark.parametrize("end", list(ENDS))
def test_a_plugin_that_ends_while_it_works_is_an_error(end: str, plugin: Callable[[str], None], uex: Uex) -> None:
    plugin(DATASET.format(accepts="pass", read=ENDS[end]))
    ran = uex("fit", "rotten:x", "--method", "random")
    assert ran.code == Exit.CANNOT and ran.err.startswith("Error: ")
    assert end == "good" or "plugin 'rotten' tried to end uex" in ran.err
    assert os._exit.__module__ != "uexcli.cli.stray"


@pytest.mark.parametrize("end", ["exit", "hard", "odd"])
def test_a_dataset_that_ends_when_it_is_asked_is_passed_over(
    end: str, photos: Path, plugin: Callable[[str], None], uex: Uex
) -> None:
    plugin(DATASET.format(accepts=ENDS[end], read="return []"))
    ran = uex("fit", photos, "--method", "random")
    assert ran.code == 0
    assert ran.err.count("plugin 'rotten' is broken: dataset 'rotten'") == 1


@pytest.mark.parametrize("end", ["exit", "hard"])
@pytest.mark.parametrize("count", [3, 40], ids=["in a thread", "in a process"])
def test_a_plugin_that_ends_in_a_worker_is_an_error(end: str, count: int) -> None:
    code = f"""
import sys
from uexcli.cli.screen import command
from uexcli.io.pool import parallel

def work(number):
    {ENDS[end]}

@command
def body():
    list(parallel(work, range({count}), 2, processes=True))

import typer
try:
    body()
except typer.Exit as end:
    sys.exit(end.exit_code + 100)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 103, ran.stderr
    assert "Traceback" not in ran.stderr and ran.stderr.startswith("Error: ")


def test_an_interruption_is_no_broken_plugin(plugin: Callable[[str], None], uex: Uex) -> None:
    plugin(DATASET.format(accepts="pass", read="raise KeyboardInterrupt"))
    assert uex("fit", "rotten:x", "--method", "random").code == Exit.INTERRUPTED
    plugin("raise KeyboardInterrupt")
    assert uex("plugins").code == Exit.INTERRUPTED


@pytest.mark.parametrize("code", [0, 256, 7])
def test_an_error_has_a_code_of_uex(code: int, plugin: Callable[[str], None], uex: Uex) -> None:
    plugin(DATASET.format(accepts="pass", read=f"from uexcli.plugin import UexError; raise UexError('x', code={code})"))
    assert uex("fit", "rotten:x").code == Exit.CANNOT
    assert dataclasses.is_dataclass(registry.Broken) and UexError("x").code == Exit.CANNOT
