"""What an apply wrote so far, a line a file: an interrupted one goes on without doing it again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from uexcli.io import atomic, documents, schema

FLUSHED = 1.0  # seconds


class Journal:
    """A file of JSON lines that grows. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._flushed = 0.0

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """Give what was noted before, of the kind `documents.WRITTEN`; a line that was cut off is passed over."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                with contextlib.suppress(schema.Mismatch):
                    yield schema.read_json(line, documents.WRITTEN)

    def add(self, line: Mapping[str, Any]) -> None:
        """Note one more; it reaches the file within a second, or when this ends."""
        with atomic.told(self.path):
            self._file.write(json.dumps(line) + "\n")
            if time.monotonic() - self._flushed > FLUSHED:
                self._file.flush()
                self._flushed = time.monotonic()

    def __enter__(self) -> Journal:
        with atomic.told(self.path):
            handle = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
            )  # it knows the originals' digests
            self._file = os.fdopen(handle, "a", encoding="utf-8")
            if self._file.tell():
                self._file.write("\n")  # after a line that was cut off
        self._flushed = time.monotonic()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _what: BaseException | None, _: TracebackType | None) -> None:
        with atomic.told(self.path):
            self._file.close()
