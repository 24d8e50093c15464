"""The report of an evaluation: its figures, and pictures of some of the images, in one HTML file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from uexcli import __version__
from uexcli.commands.evaluate.cell import Side
from uexcli.commands.evaluate.result import Result
from uexcli.io import atomic
from uexcli.io.release import layout
from uexcli.io.reports import contact_sheet, evaluation
from uexcli.messages import visible

if TYPE_CHECKING:
    from uexcli.commands.evaluate.request import Request


def without_images(result: Result) -> Result:
    """Leave out which test images were right: long, and in the kept trainings."""

    def bare(side: Side) -> Side:
        return Side(tuple(replace(run, right_images=()) for run in side.runs))

    cells = tuple(
        replace(
            cell,
            clean=bare(cell.clean),
            protected=bare(cell.protected),
            clean_part=None if cell.clean_part is None else bare(cell.clean_part),
        )
        for cell in result.cells
    )
    return replace(result, cells=cells)


def write(path: Path, result: Result, pairs: Sequence[tuple[np.ndarray, np.ndarray]], request: Request) -> None:
    """Write it, whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    root = Path(str(request.release))
    stated = (layout.read_facts(root) if root.is_dir() else None) or {}
    facts: dict[str, object] = {
        "photos": str(request.photos),
        "release": str(request.release),
        "protocol": result.protocol or "as on the command line",
        "uexcli": __version__,
        **{key: stated[key] for key in ("method", "granularity", "eps_text", "images", "lossless") if key in stated},
    }
    document = {
        **asdict(without_images(result)),
        "passed": result.passed,
        "undecided": result.undecided,
        "worst_learnability_peak": result.worst,
        "most_learnability_peak": result.most,
    }
    page = evaluation.page(
        document, heading=visible(f"What can be learnt from {root.name or request.release}"),
        facts={name: visible(str(value)) for name, value in facts.items()}, sheet=_picture(pairs),
    )  # fmt: skip
    atomic.write(path, page.encode("utf-8", "backslashreplace"), private=True)


def _picture(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> bytes:
    factor = min(contact_sheet.amplification(clean, protected) for clean, protected in pairs)
    side = 96 if pairs[0][0].shape[0] <= 96 else 160
    buffer = io.BytesIO()
    Image.fromarray(contact_sheet.contact_sheet(pairs, factor, side=side)).save(buffer, "PNG")
    return buffer.getvalue()
