"""stdin, stdout and stderr as they are found: full, closed, not of UTF-8; and how wide a line is."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import shutil
import sys
from typing import Any, NoReturn, TextIO

from uexcli.errors import UexError

NARROWEST, WIDEST = 40, 1000  # columns; tables lose what they say on less, and fill the memory with blanks on more
REASONS = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}
REASONS |= {errno.EFBIG: "the file size limit is reached", errno.EIO: "input/output error"}
PLAINER = {"±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "µ": "u"}  # noqa: RUF001
STRANGERS = "uexcli.strangers"  # an error handler: how characters are written that the encoding lacks

_ours: TextIO | None = None  # stdout as `prepare` made it, whatever a library puts in its place


class StdoutError(UexError):
    """Results cannot be written to stdout."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot write to stdout: {reason}.")


def prepare() -> None:
    """Make the streams of this process such that nothing printed ends in a traceback; done once, at its very start."""
    _fill_gaps()
    codecs.register_error(STRANGERS, _plainer)
    global _ours  # noqa: PLW0603
    sys.stdout = _ours = _opened(sys.stdout, _Out)
    sys.stderr = _opened(sys.stderr, _Err)
    _set_width()


def finish() -> None:
    """Write what is left in stdout; to be called last.

    Raises:
        StdoutError: that cannot be done.
    """
    (_ours or sys.stdout).flush()


def turn_off(number: int) -> None:
    """Let all that is still written to this descriptor go nowhere."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


class _Number(io.FileIO):
    """A stream that is written to by its number; the stream itself is kept, as it closes the number when it goes."""

    def __init__(self, stream: TextIO | None, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._stream = stream


class _Out(_Number):
    """stdout: what cannot be written is an error of its own kind, which no library takes for another.

    A reader that is gone is no error: the command goes on, and ends with its own exit code.
    """

    def write(self, data: Any, /) -> int:
        """Write some of it."""
        try:
            return super().write(data)
        except BrokenPipeError:
            turn_off(1)
            return len(data)
        except OSError as error:
            _fail(REASONS.get(error.errno or 0, error.strerror or str(error)))


class _Err(_Number):
    """stderr: where messages cannot be written, they are lost, and the work goes on."""

    def write(self, data: Any, /) -> int:
        """Write some of it, or lose it."""
        with contextlib.suppress(OSError):
            return super().write(data)
        return len(data)


class _Closed(io.RawIOBase):
    """stdout that was closed before the start."""

    _told = False

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any, /) -> int:
        """Fail, once: the rest of a buffer is lost with it."""
        if not self._told:
            self._told = True
            _fail("it is closed")
        return len(data)


def _fail(reason: str) -> NoReturn:
    """Say so once; what is still in the buffer goes nowhere."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    turn_off(1)
    raise StdoutError(reason)


def _fill_gaps() -> None:
    """Open what is closed of 0, 1 and 2 on nothing: else the next file takes the number, and messages land in it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)


def _opened(stream: TextIO | None, kind: type[_Out | _Err]) -> TextIO:
    """The same stream, by the same number, that fails as `kind` does."""
    if stream is None:
        raw: io.RawIOBase = _Closed() if kind is _Out else _Err(None, 2)
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=STRANGERS)
    try:
        raw = kind(stream, stream.fileno())
    except (OSError, ValueError):  # something else than a file stands there
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=STRANGERS,
        line_buffering=kind is _Err or stream.isatty(),
        write_through=kind is _Err,
    )


def _plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an encoding lacks in plainer letters, or as its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    plain = (PLAINER.get(char) or char.encode("ascii", "backslashreplace").decode() for char in wrong)
    return "".join(plain), error.end


def _set_width() -> None:
    """Correct a width that nothing can be printed in: COLUMNS=0 or abc, a terminal of 3 columns."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):  # the last one is typer's
        text = os.environ.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
            del os.environ[name]
    width = shutil.get_terminal_size().columns
    if not NARROWEST <= width <= WIDEST:
        os.environ["COLUMNS"] = str(min(WIDEST, max(NARROWEST, width)))
    os.environ.pop("TERMINAL_WIDTH", None)
