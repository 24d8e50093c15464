"""Writing a parquet file as the Hugging Face hub has it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uexcli.plugin import Sample, UexError, is_safe

NAME = "train-00000-of-00001.parquet"  # by which `datasets` finds a split
GROUP = 100  # images in a row group, as the hub has it
MOST_BYTES = 2**26  # in a row group, unless one image has more


def write(root: Path, samples: Sequence[Sample]) -> None:
    """Write one parquet file below `root`, in the order of the keys.

    Raises:
        UexError: a key is no plain relative path, a key or class is no text, or an image cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    for sample in samples:
        if not is_safe(sample.key):
            raise UexError(f"{sample.key}: is no plain relative path.")
        if not (_is_text(sample.key) and _is_text(sample.label or "")):
            raise UexError(f"{sample.key}: its name is no UTF-8 text, which parquet needs.", hint="Rename it.")
    classes = sorted({sample.label for sample in samples if sample.label}, key=_natural)
    schema = _schema(pyarrow, classes)
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".{NAME}.{os.getpid()}.tmp"
    try:
        with temporary.open("xb") as file:
            # images do not shrink, and their least and largest bytes say nothing
            options = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
            with parquet.ParquetWriter(file, schema, write_page_checksum=True, **options) as writer:
                for rows in _groups(samples, classes):
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(root / NAME)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _schema(pyarrow: Any, classes: list[str]) -> Any:
    """The columns, and what `datasets` wants to know about them: without classes there is no label."""
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields: list[tuple[str, Any]] = [("image", image)]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if classes:
        fields.append(("label", pyarrow.int64()))
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    return pyarrow.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _groups(samples: Sequence[Sample], classes: list[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of one row group after the other."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows: list[dict[str, Any]] = []
    size = 0
    for sample in sorted(samples, key=lambda sample: sample.key):
        data = sample.encoded()
        if rows and (len(rows) >= GROUP or size + len(data) > MOST_BYTES):
            yield rows
            rows, size = [], 0
        row: dict[str, Any] = {"image": {"bytes": data, "path": sample.key}}
        if classes:
            row["label"] = numbers.get(sample.label or "")
        rows.append(row)
        size += len(data)
    if rows:
        yield rows


def _is_text(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, as uex numbers classes."""
    return (0, int(name), name) if name.isascii() and name.isdigit() else (1, 0, name)
