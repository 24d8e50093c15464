"""`python -m benchmarks.sweep --out CELLS.json`: does the reader see in a file what was written into it?

Writes pictures of our own making (`--write DIR` keeps them; always the same, see `benchmarks.pictures`), reads each by
uex's own reader and by the second decoder, and compares both with what is known to be in it. Prints a table by kind;
the cells go to `--out` as JSON: per kind and outcome how many files, or their names where something is amiss. `--only
PART` takes kinds by a part of their name, `--show differ` names the files of an outcome.

What the reader does is one of
    agree     it gives what was written: exactly, or within rounding where colours are converted or lossy
    shallow   it gives the upper 8 bits of more, and says so
    silent    it gives the upper 8 bits of more, and does not say so
    differ    it gives another picture
    refused   it refuses the file by name, though it shows a picture on a grid
    refused, rightly: the file shows none (floats, signed or 32-bit numbers), or does not tell which
The second decoder's are `agree`, `differ` and `none`, where there is none or it cannot read the file; and of the two
together `alike`, `apart`, or `one` where one of them reads it.
"""

from __future__ import annotations

import argparse
import collections
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures.cases import Case, cases
from uexcli import plugin
from uexcli.errors import UexError
from uexcli.io.images import photo_files

READER = ("agree", "shallow", "silent", "differ", "refused", "refused, rightly")
SECOND = ("agree", "differ", "none")
BOTH = ("alike", "apart", "one")
NEAR = 1.0  # 8-bit levels between 8 bits and 16


def read(case: Case, path: Path) -> tuple[str, np.ndarray | None, str]:
    """The outcome of uex's reader, and what it gives: uint8 or uint16 `(H, W, 1 to 4)`, or None and why."""
    try:
        photo = photo_files.open_photo(plugin.Sample(case.name, None, path=path), whole=True)
    except UexError as error:
        return ("refused" if case.truth is not None else "refused, rightly"), None, error.message
    alpha = photo.own_alpha
    values = photo.values if alpha is None else np.concatenate([photo.values, alpha[:, :, None]], 2)
    if case.truth is None or not same(values, case):
        return "differ", values, far(values, case)
    if values.dtype == case.truth.dtype:
        return "agree", values, ""
    said = any("to 8" in change for change in photo.changes)
    return ("shallow" if said else "silent"), values, ""


def same(values: np.ndarray, case: Case, more: float = 0.0) -> bool:
    """Whether values are those of a case."""
    truth = case.truth
    if truth is None or values.shape != truth.shape:
        return False
    change = difference(values, case)
    slack = max(case.slack, more) + (0.0 if values.dtype == truth.dtype else NEAR)
    return float(change.max()) <= slack + 1e-6 and (case.mean is None or float(change.mean()) <= case.mean)


def difference(values: np.ndarray, case: Case) -> np.ndarray:
    """How far each value is from the truth, in 8-bit levels; of clear pixels as they show."""
    assert case.truth is not None
    read_, truth = (part / (255 if part.dtype == np.uint8 else 65535) for part in (values, case.truth))
    if case.premultiplied:
        read_, truth = (
            np.concatenate([part[:, :, :-1] * part[:, :, -1:], part[:, :, -1:]], 2) for part in (read_, truth)
        )
    change: np.ndarray = 255 * np.abs(read_ - truth)
    return change


def far(values: np.ndarray, case: Case) -> str:
    """In words how a reading differs."""
    if case.truth is None:
        return f"read as {values.dtype} {values.shape}"
    if values.shape != case.truth.shape:
        return f"{values.shape} for {case.truth.shape}"
    return f"{difference(values, case).max():.1f} levels"


def second(case: Case) -> tuple[str, str]:
    """The outcome of the second decoder, and why."""
    from uexcli.io.images.second import decoder as decoders

    try:
        found = decoders.decode(case.data)
    except decoders.NoDecoder as error:
        return "none", str(error)
    if case.truth is None:
        return "differ", f"read as {found.values.dtype} {found.values.shape}"
    values = found.values
    if case.truth.shape[2] != values.shape[2]:  # a palette that happens to be grey, or opaque
        values = values[:, :, : case.truth.shape[2]]
    if found.clear:
        case = replace(case, premultiplied=True)
    return ("agree", "") if same(values, case, found.slack) else ("differ", far(values, case))


def alike(case: Case, values: np.ndarray | None) -> str:
    """Whether both decoders give the same: `alike`, `apart` or `one` where one of them reads it."""
    from uexcli.io.images.second import decoder as decoders

    if values is None:
        return "one"
    try:
        return "apart" if decoders.apart(values, case.data) else "alike"
    except decoders.NoDecoder:
        return "one"


def run(folder: Path, only: str) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Write and read all; by kind the names of the files by outcome, of the reader and of the second decoder."""
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    for case in cases():
        if only not in case.kind:
            continue
        path = folder / case.name
        if path.exists():
            raise SystemExit(f"{case.name} is there twice")
        path.write_bytes(case.data)
        outcome, values, why = read(case, path)
        other, reason = second(case)
        by = found.setdefault(case.kind, {"reader": {}, "second": {}, "both": {}})
        by["both"].setdefault(alike(case, values), []).append(case.name)
        by["reader"].setdefault(outcome, []).append(f"{case.name}: {why}" if why else case.name)
        by["second"].setdefault(other, []).append(f"{case.name}: {reason}" if reason else case.name)
    return found


def slim(found: dict[str, dict[str, dict[str, list[str]]]]) -> dict[str, Any]:
    """The cells for a file: names where something is amiss, counts by reason of what is refused, else counts."""

    def cell(outcome: str, names: list[str]) -> Any:
        if outcome == "refused":
            return collections.Counter(name.split(": ", 2)[-1] for name in names)
        return names if outcome in {"differ", "silent", "apart"} else len(names)

    return {
        kind: {who: {outcome: cell(outcome, names) for outcome, names in by[who].items()} for who in by}
        for kind, by in found.items()
    }


def table(found: dict[str, dict[str, dict[str, list[str]]]]) -> str:
    """The counts by kind, in Markdown."""
    heads = [*READER, *(f"second: {name}" for name in SECOND), *(f"both: {name}" for name in BOTH)]
    lines = ["| kind | files | " + " | ".join(heads) + " |", "|---" * (2 + len(heads)) + "|"]
    total: collections.Counter[str] = collections.Counter()
    for kind, by in found.items():
        counts = {name: len(by["reader"].get(name, [])) for name in READER}
        counts |= {f"second: {name}": len(by["second"].get(name, [])) for name in SECOND}
        counts |= {f"both: {name}": len(by["both"].get(name, [])) for name in BOTH}
        total.update(counts)
        files = sum(counts[name] for name in READER)
        lines.append(f"| {kind} | {files} | " + " | ".join(str(many or "") for many in counts.values()) + " |")
    files = sum(total[name] for name in READER)
    lines.append(f"| all | {files:,} | " + " | ".join(f"{total[name]:,}" for name in heads) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run it as a command."""
    import tempfile

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="where the cells go, as JSON")
    parser.add_argument("--write", type=Path, help="a new folder to keep the pictures in")
    parser.add_argument("--only", default="", help="kinds of which this is a part")
    parser.add_argument("--show", default="", help="name the files of this outcome")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = words.write or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = run(folder, words.only)
    print(table(found))
    for kind, by in found.items():
        for who in by:
            for name in by[who].get(words.show, []):
                print(f"{kind}: {who}: {name}")
    if words.out:
        words.out.write_text(json.dumps(slim(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
