"""Bench: every row from fit to table, nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, bright

Uex = Callable[..., Ran]
RECIPES = """
photos = "photos"
epochs = 8
targets = ["small:width=4,batch=8"]
against = ["none", "bdr:2"]
seeds = 1

[[row]]
method = "random"
seed = 1

[[row]]
name = "lsp-linf"
method = "lsp"
norm = "linf"
eps = "16/255"
seed = 1
options = { block = 4 }
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return bright(tmp_path / "photos", ("cat", "dog"), 30)


def test_methods_against_countermeasures(photos: Path, uex: Uex) -> None:
    Path("r.toml").write_text(RECIPES)
    ran = uex("bench", "r.toml", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    rows = ran.json["rows"]
    assert {row["name"] for row in rows} == {"random", "lsp-linf"}
    table = json.loads(Path("out/leaderboard.json").read_text())
    assert table["schema"] == "uex.bench/1"
    assert [row["worst_peak"] for row in table["rows"]] == sorted(row["worst_peak"] for row in table["rows"])
    assert next(row for row in table["rows"] if row["name"] == "lsp-linf")["bound"] == "linf 16/255"
    assert all(len(row["cells"]) == 2 and row["findings"] == 0 for row in table["rows"])
    side = table["rows"][0]["cells"][0]["clean"]
    assert [len(curve) for curve in side["curves"]] == [8] and side["curve"] == side["curves"][0]
    assert side["curve"][-1] == side["last"][0] and max(side["curve"]) == side["peak"][0]
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    trained = sorted(Path("out/trainings").iterdir())
    outcomes = [path for path in trained if '"outcome"' in path.read_text()]
    assert len(outcomes) == 2 * 3  # the clean side is shared
    shown = uex("bench", "r.toml", "-o", "out")
    assert shown.code == 0, shown.err
    assert "(clean)" in shown.out and "bdr:2" in shown.out and "Written: out/leaderboard.md" in shown.out
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert sorted(Path("out/trainings").iterdir()) == trained


def test_a_release_made_elsewhere_takes_part(photos: Path, release: Path, uex: Uex) -> None:
    head = RECIPES.partition("[[row]]")[0]
    Path("r.toml").write_text(head + f"[[row]]\nname = 'theirs'\nrelease = '{release}'\n")
    ran = uex("bench", "r.toml", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    (row,) = ran.json["rows"]
    assert row["method"] == "made elsewhere" and row["seconds"] is None


def test_shards_share_a_folder(photos: Path, uex: Uex) -> None:
    Path("r.toml").write_text(RECIPES)
    first = uex("bench", "r.toml", "-o", "out", "--shard", "1/2")
    assert first.code == 0, first.err
    assert "trainings are left to other shards" in first.out and not Path("out/leaderboard.md").exists()
    assert uex("bench", "r.toml", "-o", "out", "--shard", "2/2").code == 0
    assert Path("out/leaderboard.html").exists()


@pytest.mark.parametrize(
    ("text", "code", "wanted"),
    [
        ("photos = ", 3, "cannot be read"),
        ("photos = 'photos'", 2, "one [[row]] or more"),
        ("[[row]]\nmethod = 'em'", 2, "photos ="),
        ("photos = 'p'\nseed = 1\n[[row]]\nmethod = 'em'", 2, "Did you mean 'seeds'"),
        ("photos = 'p'\n[[row]]\nmethd = 'em'", 2, "Did you mean 'method'"),
        ("photos = 'p'\n[[row]]\nmethod = 3", 2, "not a text"),
        ("photos = 'p'\n[[row]]\noptions = 3", 2, "not a table"),
        ("photos = 'p'\n[[row]]\nmethod = 'em'\n[[row]]\nmethod = 'em'", 2, "two rows are called 'em'"),
        ("photos = 'p'\n[[row]]\nname = '../out'", 2, "cannot name a folder"),
        ("photos = 'p'\n[[row]]\nname = 'trainings'", 2, "cannot name a folder"),
        ("photos = 'p'\n[[row]]\nmethod = 'ems'", 2, "unknown method"),
        ("photos = 'p'\nagainst = ['jpg:3']\n[[row]]\nmethod = 'em'", 2, "unknown countermeasure"),
        ("photos = 'p'\nlimit = '5'\n[[row]]\nmethod = 'em'", 2, "not a whole number"),
        ("photos = 'p'\nseeds = '3'\n[[row]]\nmethod = 'em'", 2, "seeds"),
        ("photos = 'p'\nview = 'sideways'\n[[row]]\nmethod = 'em'", 2, "unknown view"),
        ("photos = 'p'\nprotocol = 3\n[[row]]\nmethod = 'em'", 2, "not a text"),
        ("photos = 'p'\nrow = [1]", 2, "not a table"),
        ("photos = 'p'\nrow = []", 2, "at least 1"),
        (f"photos = 'p'\nlimit = {'9' * 5000}\n[[row]]\nmethod = 'em'", 3, "thousands of digits"),
        (f"photos = 'p'\nlimit = {'9' * 500}\n[[row]]\nmethod = 'em'", 2, "not a whole number"),
        (f"photos = 'p'\nagainst = {'[' * 3000}{']' * 3000}\n[[row]]\nmethod = 'em'", 3, "deeply"),
        ("photos = 'p'\n[[row]]\nseed = -1", 2, "not a whole number from 0"),
        ("photos = 'p'\n[[row]]\nsize = nan", 2, "not a whole number"),
        ("photos = 'p'\n[[row]]\noptions = { steps = [[1]] }", 2, "not a number or a text"),
        ("photos = 'gone'\n[[row]]\nmethod = 'random'", 2, "gone"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(text: str, code: int, wanted: str, uex: Uex) -> None:
    Path("bad.toml").write_text(text)
    ran = uex("bench", "bad.toml", "-o", "out")
    assert ran.code == code and wanted in ran.err, ran.err


def test_recipes_that_are_not_there(uex: Uex) -> None:
    assert uex("bench", "gone.toml").code == 2


def test_what_was_measured_on_other_images_does_not_compare(photos: Path, uex: Uex) -> None:
    other = bright(Path("others"), ("cat", "dog"), 20, invert=True)
    Path("r.toml").write_text(
        RECIPES.partition("[[row]]")[0] + f"[[row]]\nmethod = 'random'\n[[row]]\nname = 'theirs'\nrelease = '{other}'\n"
    )
    ran = uex("bench", "r.toml", "-o", "out")
    assert ran.code == 3 and "do not compare" in ran.err


def test_a_release_of_which_nothing_is_stated_takes_part(photos: Path, uex: Uex) -> None:
    other = bright(Path("others"), ("cat", "dog"), 30, invert=True)
    head = RECIPES.partition("[[row]]")[0]
    Path("r.toml").write_text(f"{head}[[row]]\nname = 'theirs'\nrelease = '{other}'\n")
    ran = uex("bench", "r.toml", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["rows"][0]["findings"] is None
    assert "not checked" in Path("out/leaderboard.md").read_text()
    Path("r.toml").write_text(f"{head}[[row]]\nname = 'theirs'\nrelease = '{other}'\neps = '8/255'\n")
    assert uex("bench", "r.toml", "-o", "out", "--json").json["rows"][0]["findings"] > 0
