"""What the judge finds on real images: the battery against ten noises, what undoes some, the scenarios; resumable.

    python -m benchmarks.judge battery --data cifar10:ROOT --work FOLDER --out benchmarks/results
    python -m benchmarks.judge informed --data cifar10:ROOT --work FOLDER --out benchmarks/results
    python -m benchmarks.judge scenarios --data cifar10:ROOT --work FOLDER --out benchmarks/results
    python -m benchmarks.judge faces --data LFW --pairs PAIRS.csv --weights FILE --work FOLDER --out benchmarks/results
    python -m benchmarks.judge digits --data MNIST --work FOLDER --out benchmarks/results
    python -m benchmarks.judge photos --data PHOTOS --size 64 --epochs 20 --work FOLDER --out benchmarks/results

LFW holds `train` and `test` class folders, PHOTOS `train` and `val`, MNIST the IDX files of the 10,000 test digits.
FOLDER keeps noise, releases and trainings: a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uexcli.commands import apply, bench, evaluate, fit
from uexcli.io.images.photo_files import open_photo
from uexcli.io.sources import source_of
from uexcli.messages import Listener
from uexcli.plugin import Sample
from uexcli.registry import load

EPOCHS = 10
TARGET = "airbench:width=16"  # learns more than `small` in the same time on a CPU, and is nobody's surrogate here
ROWS = """
[[row]]
method = "em"
seed = 1

[[row]]
name = "em-class"
method = "em"
mode = "classwise"
seed = 1

[[row]]
method = "lsp"
norm = "linf"
eps = "8/255"
seed = 1

[[row]]
name = "random-class"
method = "random"
mode = "classwise"
seed = 1

[[row]]
method = "pil"
seed = 1

[[row]]
method = "gue"
preset = "quick"
seed = 1

[[row]]
method = "advpoison"
preset = "quick"
seed = 1

[[row]]
method = "band"
seed = 1

[[row]]
method = "shield"
seed = 1

[[row]]
name = "shield-adversarial"
method = "shield"
options.against = "adversarial"
seed = 1
"""  # a seed: the same noise on the next machine, whose trainings then go on with these
PHOTO_ROWS = """
[[row]]
method = "em"
seed = 1

[[row]]
name = "em-class"
method = "em"
mode = "classwise"
seed = 1

[[row]]
method = "pil"
seed = 1

[[row]]
method = "band"
seed = 1

[[row]]
method = "shield"
seed = 1

[[row]]
name = "shield-224"
method = "shield"
size = 224
seed = 1

[[row]]
name = "band-224"
method = "band"
size = 224
seed = 1

[[row]]
name = "band-224-octaves"
method = "band"
size = 224
options.octaves = 3
seed = 1

[[row]]
name = "shield-visible"
method = "shield"
eps = "16/255"
seed = 1

[[row]]
name = "band-no-labels"
method = "band"
no_labels = true
seed = 1

[[row]]
name = "uc-no-labels"
method = "uc"
eps = "8/255"
no_labels = true
seed = 1
"""
INFORMED = {  # by themselves: of some photos `ops` and `cuda` change nothing, and leave them out
    "ar": '[[row]]\nmethod = "ar"\nnorm = "linf"\neps = "8/255"\nseed = 1\n',
    "cuda": '[[row]]\nmethod = "cuda"\nseed = 1\n',
    "ops": '[[row]]\nmethod = "ops"\nseed = 1\n',
}


class Told(Listener):
    """Prints what is said."""

    def say(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print it."""
        print(f"Warning: {text}", flush=True)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("battery", "informed", "scenarios", "faces", "digits", "photos"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=2500)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--against", default="", help="countermeasures, with spaces; none: the whole battery")
    parser.add_argument("--pretrained", default="", help="targets in plain training alone, with spaces")
    parser.add_argument("--rows", default="", help="of the battery, with spaces; none: all of them")
    parser.add_argument("--size", type=int, default=0, help="at which photos are learnt, in px; 0: as they are")
    parser.add_argument("--view", default="", help="how trainers cut photos out")
    parser.add_argument("--shard", default=None, help="i/n of the trainings; the run without it writes the tables")
    parser.add_argument("--pairs", type=Path, default=None)
    parser.add_argument("--weights", default="", help="of mobilefacenet")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for folder in (given.work, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    kept, trainings = given.out / "judge-trainings", given.work / bench.TRAININGS
    if kept.is_dir():  # of an earlier machine's run
        shutil.copytree(kept, trainings, dirs_exist_ok=True)
    parts = {
        "battery": battery, "informed": informed, "scenarios": scenarios, "faces": faces, "digits": digits,
        "photos": photos,
    }  # fmt: skip
    parts[given.part](given)
    shutil.copytree(trainings, kept, dirs_exist_ok=True)


def battery(given: argparse.Namespace) -> None:
    """Ten noises against all countermeasures, or those that are named; the leaderboard."""
    test = written(given.data, given.work / "test", given.tests, split="test")
    _bench(given, "rows" if given.rows else "battery", _wanted(ROWS, given.rows), given.data, test)


def photos(given: argparse.Namespace) -> None:
    """The same of photos, whose noise is fitted at the side at which they are learnt unless the row says otherwise."""
    root = Path(given.data)
    name = f"view-{given.view}" if given.view else "photos"  # other crops are another question
    _bench(given, f"{name}-{given.size}", _wanted(PHOTO_ROWS, given.rows), str(root / "train"), root / "val")


def _wanted(text: str, names: str) -> str:
    rows = {_name(row): row for row in (f"[[row]]{row}" for row in text.split("[[row]]")[1:])}
    wanted = names.split() or list(rows)
    if unknown := sorted(set(wanted) - set(rows)):
        raise SystemExit(f"no row {', '.join(unknown)}: there are {', '.join(rows)}")
    return "\n".join(row for name, row in rows.items() if name in wanted)


def _name(row: str) -> str:
    (found,) = tomllib.loads(row)["row"]
    return str(found.get("name", found["method"]))


def informed(given: argparse.Namespace) -> None:
    """Methods that have something to undo, against those countermeasures that are named."""
    test = written(given.data, given.work / "test", given.tests, split="test")
    for name, row in INFORMED.items():
        _bench(given, f"informed-{name}", row, given.data, test)


def _bench(given: argparse.Namespace, name: str, rows: str, data: str, test: Path) -> None:
    against = given.against.split()
    head = [
        f"photos = {json.dumps(data)}",
        f"test = {json.dumps(str(test))}",
        f"limit = {given.count}",
        f"epochs = {given.epochs}",
        f"seeds = {given.seeds}",
        f"targets = [{json.dumps(given.target)}]",
        f"against = {json.dumps(['none', *against])}" if against else 'protocol = "battery"',
        *([f"size = {given.size}"] if given.size else []),
        *([f"view = {json.dumps(given.view)}"] if given.view else []),
        *([f"pretrained = {json.dumps(given.pretrained.split())}"] if given.pretrained else []),
    ]
    recipes = given.work / f"{name}.toml"
    recipes.write_text("\n".join(head) + "\n" + rows)
    made = bench.run(bench.Request(recipes, given.work, on_error="skip", shard=given.shard), Told())
    for path in made.tables:
        several = f"-{given.seeds}-seeds" if given.seeds > 1 else ""
        target = "" if given.target == TARGET else "-" + given.target.translate({ord(mark): "-" for mark in ":=,"})
        target += f"-{given.epochs}-epochs" if name == "rows" and given.epochs != EPOCHS else ""
        kind, colon, _ = data.partition(":")
        which = f"-{kind}" if colon and kind != "cifar10" else ""
        images = "" if name.startswith(("photos", "view")) else f"-{given.count}"
        shutil.copy(path, given.out / f"judge-{name}{images}{which}{several}{target}{path.suffix}")


def scenarios(given: argparse.Namespace) -> None:
    """Shares, one protected class, and merged classes; em sample-wise, target small."""
    test = written(given.data, given.work / "test", given.tests, split="test")
    noise, release = given.work / "em.noise.safetensors", given.work / "em"
    if not release.exists():
        _protect(given.data, noise, release, limit=given.count, method="em")
    asked: dict[str, dict[str, Any]] = {f"share {share}": {"shares": (share,)} for share in (0.2, 0.4, 0.6, 0.8, 1.0)}
    asked |= {"only ships": {"protect_classes": ("ship",)}, "into 5": {"merges": ("5",)}, "into 2": {"merges": ("2",)}}
    _judged(given, "scenarios", given.data, release, str(test), asked, targets=("small",))


def faces(given: argparse.Namespace) -> None:
    """Identities half and fully protected; pairs before and after."""
    train, test = Path(given.data) / "train", Path(given.data) / "test"
    noise, release = given.work / "faces.noise.safetensors", given.work / "faces"
    if not release.exists():
        _protect(str(train), noise, release, size=112, method="em")
    asked: dict[str, dict[str, Any]] = {"all identities": {}, "half of the identities": {"protect_classes": ("50%",)}}
    common = {"pairs": given.pairs, "pairs_middle": 0.5, "size": 112}
    _judged(
        given, "faces", str(train), release, str(test), asked, targets=(f"mobilefacenet:{given.weights}",), **common
    )


def digits(given: argparse.Namespace) -> None:
    """Wagle's review: em from ResNet-18's smaller cousin on 2,000 digits, learnt by ResNet-34 in 10 epochs."""
    images, labels = (_idx(Path(given.data), kind) for kind in ("images-idx3", "labels-idx1"))
    for name, part in (("digits", slice(0, 2000)), ("digits-test", slice(2000, 2000 + given.tests))):
        root = given.work / name
        for number, (image, label) in enumerate(zip(images[part], labels[part], strict=True)):
            path = root / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                Image.fromarray(image).save(path)
    photos, noise, release = given.work / "digits", given.work / "digits.noise.safetensors", given.work / "digits-em"
    if not release.exists():
        _protect(str(photos), noise, release, method="em", eps="16/255")
    asked: dict[str, dict[str, Any]] = {"resnet34": {}}
    _judged(given, "digits", str(photos), release, str(given.work / "digits-test"), asked, targets=("resnet34",))


def _protect(photos: str, noise: Path, release: Path, limit: int | None = None, **settings: Any) -> None:
    fit.run(fit.Request(photos, output=noise, seed=1, limit=limit, resume=True, **settings), Told())
    apply.run(apply.Request(noise, photos, release, limit=limit, resume=True), Told())


def _judged(
    given: argparse.Namespace,
    tag: str,
    photos: str,
    release: Path,
    test: str,
    asked: dict[str, dict[str, Any]],
    **common: Any,
) -> None:
    """Evaluate each scenario, and write the table of them."""
    found = {}
    for name, changes in asked.items():
        print(f"[{name}]", flush=True)
        made = evaluate.run(
            evaluate.Request(
                photos, str(release), test=test, epochs=given.epochs, seeds=given.seeds,
                cells=given.work / bench.TRAININGS, **common, **changes,
            ),
            Told(),
        )  # fmt: skip
        assert isinstance(made, evaluate.Result)
        cell = made.cells[0]
        sides = {"clean": cell.clean, "protected": cell.protected, "clean part": cell.clean_part}
        found[name] = {
            "share": made.share,
            "chance": made.chance,
            **{side: [run.last for run in runs.runs] for side, runs in sides.items() if runs is not None},
            "peak": [run.peak for run in cell.protected.runs],
            "early_stop": [run.early_stop for run in cell.protected.runs],
            "own": [run.train_accuracy for run in cell.protected.runs],
            "parts": [dict(run.parts) for run in cell.protected.runs],
            "groups": cell.groups,
            "auc": {side: [run.auc for run in getattr(cell, side).runs] for side in ("clean", "protected")},
            "frozen_auc": cell.clean.runs[0].frozen_auc,
            "seconds": [run.seconds for run in (*cell.clean.runs, *cell.protected.runs)],
            "confusion": cell.protected.runs[0].confusion,
            "intervals": cell.intervals,
            "train_images": made.train_images,
            "test_images": made.test_images,
            "target": cell.target,
            "machine": {**made.versions, "device": made.device},
            "warnings": made.warnings,
        }
        (given.out / f"judge-{tag}.json").write_text(json.dumps(found, indent=2) + "\n")
        print(
            {key: found[name][key] for key in ("clean", "protected", "peak", "auc") if key in found[name]}, flush=True
        )


def written(data: str, root: Path, count: int, *, split: str) -> Path:
    """Write the first images of a split as a class folder; PNG, so that their pixels are the same."""
    if not root.exists():
        part = root.with_name(f"{root.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for number, sample in enumerate(source_of(load(), data).read(split)[:count]):
            _save(sample, part / str(sample.label) / f"{number}.png")
        part.rename(root)
    return root


def _save(sample: Sample, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = open_photo(sample).pixels
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, compress_level=1)


def _idx(root: Path, kind: str) -> np.ndarray:
    """Read an IDX file, plain or gzipped."""
    path = next(iter(sorted(root.rglob(f"t10k-{kind}-ubyte*"))))
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


if __name__ == "__main__":
    main()
