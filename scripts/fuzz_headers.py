"""Puts wrong values into every field of every document that uex reads, and runs the commands that read it.

    python scripts/fuzz_headers.py
    python scripts/fuzz_headers.py --only noise --share 0.1

Each command must end with one of uex's exit codes, in time, and say what is wrong in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import safetensors
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from uexcli.cli.app import app
from uexcli.io.noise import state_file
from uexcli.io.onnx import networks as onnx_files
from uexcli.io.release import staging

SLOW = 120.0  # seconds; of a process that is one of many
FEW = 3
CODES = {0, 1, 2, 3}
DIGITS, DEEP, GONE = "<digits>", "<deep>", "<gone>"  # what json.dumps cannot write, and no value at all
RAW = {DIGITS: "9" * 5000, DEEP: "[" * 3000 + "]" * 3000}
WRONG: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 2**40, 2**70, -(2**70), 2**256, 10**400, 1e-300, 1e300, -0.0,
    float("nan"), float("inf"), "", "x", "../../x", "8/255", "1e300", "nan", "x" * 300, "x" * 10**6, "\udcff", "\0",
    "\x1b[2J", "[/x]", "a\nb", [], [1], ["x"], ["x", "x"], [[]], [["x"]], [None], {}, {"x": 1}, {"name": 1},
    {"name": "x"}, {"": {"": [[]]}}, DIGITS, DEEP, GONE,
]  # fmt: skip
WRONG.append(json.loads("[" * 40 + "]" * 40))


@dataclass(frozen=True)
class Case:
    """A document, how it is read and written, and the command lines that read it, after `before` each time."""

    path: str
    commands: tuple[str, ...]
    load: Callable[[Path], Any] = lambda path: json.loads(path.read_text())
    save: Callable[[Path, str], None] = lambda path, text: cast(None, path.write_text(text))
    remove: tuple[str, ...] = ()  # what the commands would find done already


def uex(line: str) -> Any:
    """Run a command line in this process."""
    return CliRunner().invoke(app, line.split())


def good(line: str) -> None:
    """Run one that must work."""
    ran = uex(line)
    assert ran.exit_code == 0, f"{line}: {ran.output} {ran.exception!r}"


def header(path: Path) -> Any:
    """Of a noise file."""
    with safetensors.safe_open(path, "pt") as opened:
        return json.loads(opened.metadata()["uex"])


def with_header(path: Path, text: str, entry: str = "uex") -> None:
    """Put another header into a safetensors file."""
    save_file({name: tensor.clone() for name, tensor in load_file(path).items()}, path, {entry: text})


def state(path: Path) -> Any:
    """Of an interrupted fit."""
    with safetensors.safe_open(path, "pt") as opened:
        return json.loads(opened.metadata()["uex.state"])


def model(path: Path) -> Any:
    """Of an ONNX model."""
    return json.loads(next(item.value for item in onnx.load(path).metadata_props if item.key == onnx_files.ENTRY))


def with_model(path: Path, text: str) -> None:
    """Put other metadata into an ONNX model."""
    changed = onnx.load(path)
    for item in changed.metadata_props:
        if item.key == onnx_files.ENTRY:
            item.value = text.encode("utf-8", "replace").decode()
    onnx.save(changed, path)


def first_line(path: Path) -> Any:
    """Of a journal."""
    return json.loads(path.read_text().splitlines()[0])


def with_first_line(path: Path, text: str) -> None:
    """Put another line first."""
    path.write_text("\n".join([text, *path.read_text().splitlines()[1:]]) + "\n")


NOISE = ("info {}", "info --json {}", "apply {} photos -o out --jobs 1", "verify release --source photos --noise {}",
         "preview {} photos/cat/0.png -o look.png -f")  # fmt: skip
SHARED = (*NOISE, "apply {} new -o out --jobs 1", "export {} out.onnx -f")
FIT = "fit photos --method random -o {}"
STATES = {"em": "-O rounds=1 -O steps=1", "pil": "-O epochs=1"}
RESUME = "fit photos --method {} -o {} --resume"


def cases() -> dict[str, Case]:
    """All of them."""
    noises = {
        "own": NOISE, "class": (*NOISE, "apply {} new -o out --jobs 1"), "all": SHARED, "patch": NOISE,
        "cluster": SHARED, "network": SHARED,
    }  # fmt: skip
    made = {
        f"noise-{name}": Case(
            f"{name}.noise.safetensors",
            tuple(line.format(f"{name}.noise.safetensors") for line in lines),
            header,
            with_header,
        )
        for name, lines in noises.items()
    }
    made["noise-own"] = replace(
        made["noise-own"], commands=(*made["noise-own"].commands, FIT.format("own.noise.safetensors"))
    )
    for method, options in STATES.items():
        name = f"s-{method}.noise.safetensors"
        made[f"state-{method}"] = Case(
            f"{name}.state", (f"{RESUME.format(method, name)} {options}",), state,
            lambda path, text: with_header(path, text, "uex.state"), (name,),
        )  # fmt: skip
    made["part"] = Case(
        "parts.part-1-of-2/uex-part.json",
        ("merge parts", "apply own.noise.safetensors photos -o parts --shard 1/2 --jobs 1", "merge parts --force"),
    )
    made["facts"] = Case("release/uex-release.json", (
        "verify release --source photos", "verify release", "apply own.noise.safetensors photos -o release --jobs 1",
        "eval photos release --target small --epochs 1 --cells cells", "convert release webdataset:out"))  # fmt: skip
    made["receipt"] = Case("own.noise.receipt.json", (
        "apply own.noise.safetensors photos -o release --jobs 1", "merge parts",
        "apply own.noise.safetensors photos -o out --jobs 1"))  # fmt: skip
    resumed = ("apply own.noise.safetensors photos -o half --resume --jobs 1",)
    made["journal"] = Case("half.partial/.uex-journal.jsonl", resumed, first_line, with_first_line, ("half",))
    made["job"] = Case("half.partial/.uex-job.json", resumed, remove=("half",))
    onnx_lines = ("apply all.noise.safetensors photos -o out --jobs 1 --engine onnx:all.onnx",)
    made["model"] = Case("all.onnx", onnx_lines, model, with_model)
    onnx_lines = ("apply network.noise.safetensors photos -o out --jobs 1 --engine onnx:network.onnx",)
    made["network-model"] = Case("network.onnx", onnx_lines, model, with_model)
    made["cell"] = Case("cells/CELL", ("eval photos release --target small --epochs 4 --cells cells",))
    return made


MADE = {
    "own": "fit photos --method random",
    "class": "fit photos --method random --mode classwise",
    "all": "fit photos --method random --mode universal",
    "patch": "fit photos --method random --patch 4:random",
    "cluster": "fit photos --method random --mode clusterwise -O clusters=2 -O encoder=pixels",
    "network": "fit photos --method deepconfuse -O epochs=1 -O rounds=1 -O batches=1 -O checkpoints=1 "
               "-O generator_width=8",
}  # fmt: skip


def prepare(root: Path, names: Collection[str]) -> None:
    """Make the documents of these cases, in the working folder."""
    for number, label in enumerate(("cat", "dog")):
        (root / "photos" / label).mkdir(parents=True)
        (root / "new" / label).mkdir(parents=True)
        for index in range(6):
            coarse = np.random.default_rng(10 * number + index).integers(0, 80, (4, 4, 3), np.uint8) + 150 * number
            shown = Image.fromarray(coarse.astype(np.uint8)).resize((8, 8), Image.Resampling.BICUBIC)
            shown.save(root / ("new" if index == 5 else "photos") / label / f"{index}.png")
    models = {"model": "all", "network-model": "network"}
    wanted = {"own", *(models.get(name, name.removeprefix("noise-")) for name in names)}
    for name, line in MADE.items():
        if name in wanted:
            good(f"{line} -o {name}.noise.safetensors")
    for name, noise in models.items():
        if name in names:
            good(f"export {noise}.noise.safetensors {noise}.onnx")
    for name, options in STATES.items():
        if f"state-{name}" in names:
            with changed(state_file.StateFile, "remove", state_file.StateFile._finish):
                good(f"fit photos --method {name} {options} -o s-{name}.noise.safetensors")
            (root / f"s-{name}.noise.safetensors").unlink()
    good("apply own.noise.safetensors photos -o release --jobs 1")
    for shard in ("1/2", "2/2"):
        good(f"apply own.noise.safetensors photos -o parts --shard {shard} --jobs 1")
    with changed(staging, "finish", _stop):
        uex("apply own.noise.safetensors photos -o half --jobs 1")
    if "cell" in names:
        good("eval photos release --target small --epochs 4 --cells cells")
        one = min((root / "cells").glob("*.json"), key=lambda path: "outcome" not in path.read_text())
        one.rename(root / "cells/CELL")


@contextlib.contextmanager
def changed(holder: Any, name: str, value: Any) -> Iterator[None]:
    """Change something for a while."""
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def spoilt(document: Any) -> Iterator[tuple[str, str]]:
    """Every field replaced by every wrong value, taken away, or joined by an unknown one: what it is, and the text."""

    def places(value: Any, where: str) -> Iterator[tuple[list[Any], str]]:
        for key in value if isinstance(value, dict) else range(min(len(value), 2)) if isinstance(value, list) else ():
            yield [key], f"{where}/{key}"
            for path, name in places(value[key], f"{where}/{key}"):
                yield [key, *path], name

    for path, name in [*places(document, ""), (["unknown"], "/unknown"), ([], "")]:
        for number, value in enumerate(WRONG):
            changed = copy.deepcopy(document)
            if not path:
                changed = value
            else:
                holder = changed
                for key in path[:-1]:
                    holder = holder[key]
                if isinstance(value, str) and value == GONE:
                    if path == ["unknown"]:
                        continue
                    del holder[path[-1]]
                else:
                    holder[path[-1]] = value
            text = json.dumps(changed)
            for mark, raw in RAW.items():
                text = text.replace(json.dumps(mark), raw)
            yield f"{name} = {number}: {str(value)[:30]!r}", text


def run(name: str, share: float, seed: int = 0, failed: Callable[[str], None] | None = None) -> Counter[int]:
    """Go through the wrong values of a document, or a share of them, but a few; counts the exit codes.

    Raises:
        AssertionError: a command ended in another way than it should, and nobody is told by `failed`.
    """
    case, found = cases()[name], Counter[int]()
    draw = random.Random(f"{name} {seed}")
    root = Path.cwd()
    clean = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    path = root / case.path
    if path.name == "CELL":  # its name depends on what it is of
        path = path.with_name(json.loads(path.read_text())["key"][:40] + ".json")
        (root / case.path).rename(path)
    document = case.load(path)
    wrong = list(spoilt(document))
    for what, text in draw.sample(wrong, max(FEW, round(share * len(wrong)))):
        for line in case.commands:
            _clean(root, clean, case)
            try:
                case.save(path, text)
            except (ValueError, UnicodeError):
                continue  # nobody can write it
            try:
                found[_ended(line)] += 1
            except AssertionError as error:
                told = f"{name} {what}\nuex {line}\n{error}"
                if failed is None:
                    raise AssertionError(told) from error.__cause__
                failed(told)
    _clean(root, clean, case)
    return found


def _ended(line: str) -> int:
    """Run a command line; gives its exit code, if it ended as it should."""
    began = time.monotonic()
    ran = uex(line)
    told = f"exit {ran.exit_code}: {ran.stderr[-600:]}"
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        at = traceback.extract_tb(ran.exception.__traceback__)[-3:]
        raise AssertionError(f"{told}{ran.exception!r}"[:900] + f" at {[f'{one.name}:{one.lineno}' for one in at]}")
    assert ran.exit_code in CODES, told
    assert time.monotonic() - began < SLOW, f"{told} after {time.monotonic() - began:.0f} s"
    if ran.exit_code > 1:
        lines = ran.stderr.splitlines()
        assert sum(one.startswith("Error: ") for one in lines) == 1 and len(lines[-1]) < 2000, told
    return int(ran.exit_code)


def _clean(root: Path, clean: dict[Path, bytes], case: Case) -> None:
    """Put the folder back."""
    for path in [path for path in root.rglob("*") if path.is_file() and path not in clean]:
        path.unlink()
    for folder in ("out", "half", *case.remove):
        shutil.rmtree(root / folder, ignore_errors=True)
    for path, data in clean.items():
        if not path.exists() or path.stat().st_size != len(data) or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)


def main() -> None:
    """Run all of them, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--share", type=float, default=1.0, help="of the wrong values")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=cases(), default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        os.environ["XDG_CACHE_HOME"] = place + "-cache"
        wanted = [given.only] if given.only else [*cases()]
        prepare(Path(place), wanted)
        for name in wanted:
            found = run(name, given.share, given.seed, lambda told: print(told, flush=True))
            codes = ", ".join(f"{count:,} with exit {code}" for code, count in sorted(found.items()))
            print(f"{name}: {sum(found.values()):,} runs: {codes}", flush=True)


if __name__ == "__main__":
    main()
