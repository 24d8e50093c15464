"""Bench: every row from fit to table, nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Ran, bright, opened

from uexcli.commands import bench
from uexcli.commands.bench import command, test_sets
from uexcli.commands.bench.recipes import Photos
from uexcli.messages import Listener as Heard

Uex = Callable[..., Ran]
RECIPES = """
photos = "photos"
epochs = 8
targets = ["small:width=4,batch=8"]
against = ["none", "bdr:2"]
seeds = 1
folds = 1

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

SETS = "[[set]]\nname = 'a'\nphotos = 'p'\n[[set]]\nname = 'b'\nphotos = 'q'\n"


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


def test_a_pretrained_net_sees_large_photos_at_its_own_size_in_every_row(photos: Path, uex: Uex) -> None:
    for path in photos.rglob("*.png"):
        opened(path).resize((100, 100)).save(path)
    head = "photos = 'photos'\ntargets = ['linear', 'probe:efficientnet_lite0,random']\nfolds = 1\nepochs = 1\n"
    Path("r.toml").write_text(head + "[[row]]\nmethod = 'random'\n[[row]]\nname = 'again'\nmethod = 'random'\n")
    ran = uex("bench", "r.toml", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    sizes = [{cell["target"]: cell["size"] for cell in row["evaluation"]["cells"]} for row in ran.json["rows"]]
    runs = [run for row in ran.json["rows"] for cell in row["evaluation"]["cells"] for run in cell["clean"]["runs"]]
    assert all(run["right_images"] == [] for run in runs)
    assert sizes == [{"linear": 64, "probe:efficientnet_lite0,random": 224}] * 2


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
        ("photos = 'p'\n[[set]]\nname = 'a'\nphotos = 'p'\n[[row]]", 2, "photos stands beside [[set]]"),
        ("[[set]]\nphotos = 'p'\n[[row]]", 2, "a [[set]] needs name"),
        ("set = 'a'\n[[row]]", 2, "'set' is a text, not a list"),
        ("[[set]]\nname = 'a'\nphotos = 'p'\nsize = 3\n[[row]]", 2, "unknown key of a set"),
        ("[[set]]\nname = '../a'\nphotos = 'p'\n[[row]]", 2, "cannot name a folder"),
        ("[[set]]\nname = 'a'\nphotos = 'p'\n[[row]]\nset = 'b'", 2, "unknown set"),
        ("[[set]]\nname = 'a'\nphotos = 'p'\n[[set]]\nname = 'a'\nphotos = 'q'\n[[row]]", 2, "two sets are called"),
        ("photos = 'p'\n[[row]]\nset = 'b'", 2, "unknown set"),
        (f"{SETS}[[row]]\nname = 'r'\nrelease = 'x'", 2, "one release for several sets"),
        ("photos = 'p'\n[[row]]\nname = 'r'\nrelease = 'x'", 2, "x: no such release"),
        ("photos = 'p'\ntest = true\n[[row]]", 2, "'test' is true, not a text"),
        ("photos = 'p'\n[[row]]\nshare = 0", 2, "--share 0"),
        ("photos = 'p'\n[[row]]\nshare = [0.5, 2]", 2, "not a number from 0 to 1"),
        ("photos = 'p'\n[[row]]\nshare = []", 2, "at least 1"),
        ("photos = 'p'\n[[row]]\nshare = [0.5]\nmerge = [2, 3]", 2, "lists of share and of merge"),
        ("photos = 'p'\n[[row]]\nshare = [1, 1.0]", 2, "a value of share twice"),
        ("photos = 'p'\n[[row]]\nmerge = 1", 2, "'merge' is the number 1"),
        ("photos = 'p'\n[[row]]\nmerge = 'gone.csv'", 2, "gone.csv: no such file"),
        ("photos = 'p'\n[[row]]\npairs = 'gone.csv'", 2, "gone.csv: no such file"),
        ("photos = 'p'\n[[row]]\ninto_test = 'x'", 2, "there is no --into"),
        ("photos = 'p'\nview = 'crop'\n[[row]]\ninto = 'x'", 2, "--into"),
        ("photos = 'p'\n[[row]]\nprotect_class = 3", 2, "'protect_class' is the number 3"),
        ("photos = 'p'\n[[row]]\npublished = { none = 'x' }", 2, "not a number from 0 to 100"),
        ("photos = 'p'\n[[row]]\npublished = { none = 101 }", 2, "not a number from 0 to 100"),
        ("photos = 'p'\n[[row]]\npublished = { 'jpeg:9' = 1 }", 2, "unknown countermeasure that is published"),
        ("photos = 'p'\n[[row]]\nweights = 'a'\noptions = { weights = 'b' }", 2, "weights twice"),
        ("photos = 'p'\n[[row]]\nweights = 'a'\nrelease = 'x'", 2, "is not fitted here"),
        ("photos = 'p'\noptions = { small = 3 }\n[[row]]", 2, "not a table"),
        (
            "photos = 'p'\ntargets = ['linear']\noptions = { small = { width = 4 } }\n[[row]]",
            2,
            "not among the targets",
        ),
        ("photos = 'p'\ntargets = ['small']\noptions = { small = { wide = 4 } }\n[[row]]", 2, "Did you mean 'width'"),
        ("photos = 'p'\ntargets = ['small']\noptions = { small = { width = 'x' } }\n[[row]]", 2, "is no int"),
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


def idx(root: Path, **splits: int) -> str:
    """MNIST files of so many random digits, a class in turn."""
    root.mkdir(exist_ok=True)
    for split, count in splits.items():
        prefix = {"train": "train", "test": "t10k"}[split]
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        head = np.array([0x803, count, 28, 28], ">u4").tobytes()
        (root / f"{prefix}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (root / f"{prefix}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">u4").tobytes() + labels.tobytes())
    return f"mnist:{root}"


def board(folder: str = "out") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(Path(folder, "leaderboard.json").read_text())["rows"]
    return rows


def test_several_sets_and_the_scenarios_of_a_row(photos: Path, uex: Uex) -> None:
    bright(Path("more/train"), ("cat", "dog", "emu"), 16, invert=True)
    bright(Path("more/test"), ("cat", "dog", "emu"), 8, invert=True, first=50)
    Path("groups.csv").write_text("class,group\ncat,fur\ndog,fur\nemu,bird\n")
    Path("r.toml").write_text("""
targets = ["small"]
epochs = 10
folds = 1
against = ["none"]

[options.small]
width = 4
batch = 4

[[set]]
name = "one"
photos = "photos"
limit = 40

[[set]]
name = "two"
photos = "more/train"

[[row]]
method = "random"
seed = 1
published = { none = 94.2 }

[[row]]
name = "shares"
method = "random"
seed = 2
set = "two"
share = [1.0, 0.5]

[[row]]
name = "merged"
set = ["two"]
method = "random"
seed = 3
merge = "groups.csv"
""")
    ran = uex("bench", "r.toml", "-o", "out")
    assert ran.code == 0, ran.err
    assert "Test images of one: some of the photos, held out." in ran.out + ran.err
    assert "are not in the release" not in ran.err, "the limit left them out"
    rows = board()
    assert [row["set"] for row in rows] == ["one"] + ["two"] * 4
    assert {row["name"] for row in rows} == {"random", "shares, share 1.0", "shares, share 0.5", "merged"}
    by_name = {(row["set"], row["name"]): row for row in rows}
    one, two = by_name["one", "random"], by_name["two", "random"]
    assert (one["train_images"], one["test_images"], one["test_source"]) == (32, 8, "held out")
    assert (two["train_images"], two["test_images"], two["test_source"]) == (48, 24, str(Path("more/test")))
    assert {cell["target"] for row in rows for cell in row["cells"]} == {"small:width=4,batch=4"}
    half, merged = by_name["two", "shares, share 0.5"], by_name["two", "merged"]
    assert half["varies"] == {"key": "share", "value": "0.5", "place": 1} and "50%" in half["scenario"]
    assert merged["question"] == "merged as in groups.csv" and merged["varies"] is None
    assert merged["chance"] == pytest.approx(2 / 3) and two["chance"] == pytest.approx(1 / 3)
    assert two["published"] == {"none": 94.2} and two["made_with"] == {}
    assert Path("out/two/random.noise.safetensors").is_file() and Path("out/one/random/cat").is_dir()
    page = Path("out/leaderboard.html").read_text()
    assert "24 clean test images (more/test)" in page and "<h2>shares by share (two)</h2>" in page
    assert "(paper 94.2)" in Path("out/leaderboard.md").read_text()
    assert "two, merged as in groups.csv: protected side" in " ".join(ran.out.split())


def test_a_dataset_is_tested_on_its_own_test_split(tmp_path: Path) -> None:
    found = [test_sets.find(Photos("", idx(tmp_path / "both", train=40, test=20), test=test), Heard()) for test in
             (None, False, "elsewhere")]  # fmt: skip
    assert [(test.uri is None, test.own_split) for test in found] == [(False, True), (True, False), (False, False)]
    assert found[0].words(f"mnist:{tmp_path / 'both'}") == f"the test split of mnist:{tmp_path / 'both'}"
    alone = test_sets.find(Photos("", idx(tmp_path / "one", train=40)), Heard())
    assert alone.uri is None
    few = test_sets.find(Photos("", idx(tmp_path / "both", train=40, test=20), limit=1), Heard())
    assert few.uri is None, "its test images are of classes that are not trained on"
    assert few.beyond == "39 of 40 photos are not in the release"


def test_folds_beside_test_images_are_refused_before_any_fit(tmp_path: Path, uex: Uex) -> None:
    uri = idx(tmp_path / "both", train=40, test=20)
    Path("r.toml").write_text(f"photos = '{uri}'\ntargets = ['linear']\nfolds = 5\n[[row]]\nmethod = 'random'\n")
    ran = uex("bench", "r.toml", "-o", "out")
    assert ran.code == 2 and "there are test images" in ran.err and not list(Path("out").rglob("*.safetensors"))


def test_what_a_dataset_leaves_out_is_told_once(tmp_path: Path, uex: Uex) -> None:
    uri = idx(tmp_path / "both", train=40, test=20)
    Path("r.toml").write_text(f"photos = '{uri}'\ntargets = ['linear']\nepochs = 1\n[[row]]\nmethod = 'random'\n")
    ran = uex("bench", "r.toml", "-o", "out")
    assert "40 training and 20 test images" in ran.err
    assert ran.err.count("left out, as of the split test") == 1


def test_weights_of_a_row_are_its_surrogates(photos: Path, uex: Uex) -> None:
    Path("r.toml").write_text(
        RECIPES.partition("[[row]]")[0] + "[[row]]\nmethod = 'random'\nweights = 'gone.safetensors'\n"
    )
    ran = uex("bench", "r.toml", "-o", "out")
    assert ran.code == 2 and "weights" in ran.err  # random takes none


def test_rows_that_cannot_be_told_stand_below() -> None:
    def row(name: str, peak: float, verdict: str) -> bench.Row:
        known = {"against": "none", "verdict": verdict, "learnability_peak": peak, "tells": verdict != "unclear"}
        cell = SimpleNamespace(**known, protected=SimpleNamespace(mean=lambda _: peak))
        return bench.Row(name, "m", None, None, None, None, None, SimpleNamespace(cells=(cell,)))  # type: ignore[arg-type]

    rows = [row("mute", 0.1, "unclear"), row("b", 0.8, "alike"), row("a", 0.4, "told")]
    assert [one.name for one in command.ranked(rows)] == ["a", "b", "mute"]
