"""Ctrl-C before anything is begun, and after all is done: the process ends on the spot, without a traceback.

An exception would come up in the midst of an import there, and be taken for something else, or after the last handler.
"""

from __future__ import annotations

# What `signal` is made of, without the `enum` that takes half of the time this is to shield.
import _signal as signal  # type: ignore[import-not-found]
import atexit
import os

_exit = os._exit  # as it is before `stray` guards it
_words: bytes | None = None  # None: this process is not ours to end


def at_once() -> None:
    """From here on Ctrl-C ends the process. What is ignored, as in the background of a script, stays ignored."""
    global _words  # noqa: PLW0603
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _words = b"Interrupted. Nothing was written.\n"
        signal.signal(signal.SIGINT, _stop)
        # Registered first, so called last. Python then gives handlers back to the system, whose default is death by
        # signal while torch still takes itself down: the command is done, and its exit code must stand.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def as_exception() -> None:
    """From here on there is something to put in order: Ctrl-C raises KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def at_the_end() -> None:
    """From here on all is said: Ctrl-C ends the process, if it did so at first."""
    global _words  # noqa: PLW0603
    if _words is not None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _words = b""
        signal.signal(signal.SIGINT, _stop)


def _stop(_number: int, _frame: object) -> None:
    try:
        os.write(2, _words or b"")
    finally:
        _exit(130)
