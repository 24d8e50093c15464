"""The state of a fit under way, beside its noise file: written whole or not at all, so that no kill loses much."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from uexcli import plugin
from uexcli.errors import UexError, UsageError
from uexcli.io import documents, schema
from uexcli.io.atomic import WriteError
from uexcli.io.noise import tensors

FORMAT = 1
SUFFIX = ".state"
ENTRY, CHECK = "uex.state", "uex.check"  # of the metadata: a JSON document, and its SHA-256
SMALL = 2**18  # values that are copied rather than waited for
EVERY = 240.0  # seconds between states within a round


def of(noise: Path) -> Path:
    """Where the state of a fit lies whose noise file this will be."""
    return noise.with_name(noise.name + SUFFIX)


class StateFile(plugin.Journal):
    """Keeps the state of a fit in a file.

    `job` says what is fitted, and how: a state of another job is refused. `stopping` says whether the user wants to
    stop; `stop` then does, once the state is written. `warn` hears where a state cannot be written: the fit goes on.
    `release` is called after every piece that was read, as banks may lie in files.
    """

    def __init__(
        self,
        path: Path,
        job: Mapping[str, Any],
        *,
        stopping: Callable[[], bool] = lambda: False,
        stop: Callable[[], None] = lambda: None,
        warn: Callable[[str], None] = lambda _: None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._job = json.loads(json.dumps(dict(job)))
        self._stopping = stopping
        self._stop = stop
        self._warn = warn
        self._release = release
        self._state: plugin.State | None = None
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._has_written = False
        self._empty = False  # nothing but the first state was written
        self._last = time.monotonic()

    def begin(self, *, resume: bool) -> bool:
        """Take up the state that is there, or, without `resume`, write a first one; says whether it was taken up.

        Raises:
            UsageError: the state is of another job.
            UexError: it is damaged, or a first one cannot be written.
        """
        if resume and self.path.exists():
            job, state = _read(self.path)
            different = sorted(key for key in {*job, *self._job} if job.get(key) != self._job.get(key))
            if different:
                raise UsageError(
                    f"{self.path} is the state of another fit ({', '.join(different)} differ).",
                    hint="Repeat that fit's options, or use `force=True`, without `resume=True`, to start afresh.",
                )
            self._state = state or None
            return True
        self._write({})
        self._empty = True
        return False

    @property
    def has_written(self) -> bool:
        """Whether the state that lies there is this run's own."""
        return self._has_written

    @property
    def is_empty(self) -> bool:
        """Whether this fit wrote a state, but nothing was fitted yet."""
        return self._empty

    def load(self) -> plugin.State | None:
        """Give the state to go on from."""
        return self._state

    def save(self, state: Callable[[], plugin.State], *, milestone: bool = False) -> None:
        """Write the state at a milestone, when some minutes have passed, and before stopping."""
        stopping = self._stopping()
        if milestone or stopping or time.monotonic() - self._last > EVERY:
            self._finish()
            self._try(lambda: self._write(state()))
        if stopping:
            self._finish()
            self._stop()

    def _write(self, state: plugin.State) -> None:
        """Write a state; one that lies on another device is copied here, and written while that goes on."""
        self._state = None  # what was taken up is mapped from the file that is replaced now
        self._last = time.monotonic()
        whole = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        rest = {name: value for name, value in state.items() if name not in whole}
        text = json.dumps({"format": FORMAT, "job": self._job, "values": rest})
        metadata = {ENTRY: text, CHECK: _digest(text)}
        elsewhere = {name: tensor.cpu() for name, tensor in whole.items() if tensor.device.type != "cpu"}
        here = {name: tensor for name, tensor in whole.items() if name not in elsewhere}
        if not elsewhere or any(tensor.numel() > SMALL for tensor in here.values()):
            tensors.write(self.path, {**here, **elsewhere}, metadata, self._release)
        else:
            kept = {**elsewhere, **{name: tensor.clone() for name, tensor in here.items()}}
            self._writing = self._writer.submit(tensors.write, self.path, kept, metadata)
        self._empty, self._has_written = False, True

    def _finish(self) -> None:
        """Wait for a write under way."""
        writing, self._writing = self._writing, None
        if writing is not None:
            self._try(writing.result)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except WriteError as error:
            self._warn(f"{error.message} An interrupted fit could not go on from here.")

    def end(self) -> None:
        """Say that the noise is found: from here on nothing is held back. Stops where the user wanted to."""
        self._finish()
        self._stop()

    def remove(self) -> None:
        """Take the state away: the noise file is written."""
        self._finish()
        self.path.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def job_of(path: Path) -> dict[str, Any]:
    """Say what a state is of; nothing where there is none.

    Raises:
        UexError: it is damaged.
    """
    return _read(path)[0] if path.exists() else {}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    hint = "Use `force=True`, without `resume=True`, to start afresh."
    try:
        found, metadata = tensors.read(path)
        document = schema.read_json(metadata[ENTRY], documents.VERSIONED)
        if document["format"] == FORMAT:
            documents.STATE(document, "")
            if metadata.get(CHECK) != _digest(metadata[ENTRY]):  # what a method finds in it must be what it wrote
                raise ValueError("its values are not those that were written")
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UexError(f"{path}: no state of a fit, or damaged ({error}).", hint=hint) from None
    if document["format"] != FORMAT:
        raise UexError(f"{path}: the state of a fit by another version, format {document['format']}.", hint=hint)
    return document["job"], {**found, **document["values"]}
