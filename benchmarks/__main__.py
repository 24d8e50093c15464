"""`python -m benchmarks --data cifar10:ROOT`: measure, write JSON, print a table.

Cells that are there already are kept: an interrupted run goes on where it stopped. `--only` picks cells by a part of
their name, `--again` measures them anew, `--table` only prints what there is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cell import Cell

HERE = Path(__file__).parent
MANY, FEW = 50_000, 5_000


def cells(data: str, device: str) -> list[Cell]:
    """Give what is measured on a device."""
    common: dict[str, Any] = {"data": data, "device": device}
    if device == "cpu":
        small: dict[str, Any] = {**common, "count": FEW, "surrogate": "small", "target": "small"}
        more = {**small, "count": 2 * FEW}
        found = [
            Cell("em-sample-5k", **small),
            Cell("resnet18-512", surrogate="resnet18", options={"rounds": "1"}, count=512, **common),
            Cell("plain-sample-5k", plain=True, **small),
            Cell("em-class-5k", mode="classwise", **small),
            Cell("plain-sample-5k-settled", plain=True, settled=True, **{**small, "target": None}),
            Cell("em-sample-10k", **more),
            Cell("em-class-10k", mode="classwise", **more),
            Cell("clean-10k", method="none", **more),
            Cell("em-sample-5k-files", memory="0", **{**small, "target": None}),
            Cell("clean-5k", method="none", **small),
            Cell("pil-5k", method="pil", **{**small, "surrogate": "auto"}),
            Cell("plain-class-5k", mode="classwise", plain=True, **small),
        ]
    else:
        resnet: dict[str, Any] = {**common, "surrogate": "resnet18"}
        found = [
            Cell("em-sample-paper", preset="huang2021", **resnet),
            Cell("em-sample", **resnet),
            Cell("em-class", mode="classwise", **resnet),
        ]
    return [
        Cell("pil-50k", method="pil", count=MANY, **common),
        Cell("lsp-50k", method="lsp", count=MANY, **common),
        *found,
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--data", help="CIFAR-10, as cifar10:ROOT")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON files")
    parser.add_argument("--only", default="", help="a part of the names of the cells to measure")
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    parser.add_argument("--table", action="store_true", help="print what is there, measure nothing")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.table:
        if asked.data is None:
            parser.error("--data is needed to measure")
        for cell in cells(asked.data, asked.device):
            path = asked.out / f"{asked.device.partition(':')[0]}-{cell.name}.json"
            if asked.only in cell.name and (asked.again or not path.exists()):
                print(f"{cell.name} ...", file=sys.stderr, flush=True)
                run(cell, path)
    print(
        table(
            [
                json.loads(path.read_text())
                for path in sorted(asked.out.glob("*.json"))
                if not path.name.startswith("methods-")
            ]
        )
    )


def run(cell: Cell, path: Path) -> dict[str, Any]:
    """Measure a cell in a process of its own, and keep its row."""
    words = [sys.executable, "-m", "benchmarks.cell", json.dumps(dataclasses.asdict(cell))]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    row["cell"]["data"] = row["cell"]["data"].partition(":")[0]  # where it lay is nobody's business
    path.write_text(json.dumps(row, indent=1) + "\n")
    return row


Columns = Sequence[tuple[str, Callable[[dict[str, Any]], str]]]
COLUMNS: Columns = (
    ("cell", lambda row: row["cell"]["name"]),
    ("images", lambda row: f"{row['images']:,}"),
    ("net", lambda row: f"{row.get('surrogate') or '-'} {row.get('precision', '')}"),
    ("seconds", lambda row: f"{row['fit_seconds']:.1f}"),
    ("image-steps/s", lambda row: f"{row['steps_per_second']:,.0f}"),
    ("FLOP share", lambda row: f"{row['utilisation']:.0%}"),
    ("peak memory", lambda row: f"{(row.get('peak_gpu_bytes') or row['peak_bytes']) / 2**30:.2f} GiB"),
    ("target last", lambda row: f"{100 * row['target']['last'][0]:.1f} ± {100 * row['target']['last'][1]:.1f}"),
    ("target peak", lambda row: f"{100 * row['target']['peak'][0]:.1f} ± {100 * row['target']['peak'][1]:.1f}"),
    ("outcome", lambda row: row["outcome"]),
)


def table(rows: list[dict[str, Any]]) -> str:
    """Give the rows as a Markdown table; what a row lacks is left empty."""
    return table_of(COLUMNS, rows)


def table_of(columns: Columns, rows: list[dict[str, Any]]) -> str:
    """Give the columns of rows as a Markdown table; what a row lacks is left empty."""

    def shown(row: dict[str, Any]) -> list[str]:
        texts = []
        for _, text in columns:
            try:
                texts.append(text(row))
            except (KeyError, TypeError):
                texts.append("")
        return texts

    lines = [[name for name, _ in columns], ["---"] * len(columns), *map(shown, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
