"""Ctrl-C and SIGTERM, held back until a moment at which work can be stopped without losing any."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from uexcli.errors import Terminated

PATIENCE = 20.0  # seconds until a signal is no longer held back


class Interrupts:
    """Holds signals back once `safe_point` was called; a second one, or `PATIENCE` seconds, stops at once.

    Use as a context manager. Off the main thread, and for signals that are ignored, it leaves everything as it is.
    """

    def __init__(self) -> None:
        self._wanted: int | None = None
        self._holding = False
        self._before: dict[int, Any] = {}

    def safe_point(self) -> bool:
        """Say that this is a moment at which work can stop, and that others follow; says whether the user wants to.

        Where the user does, only a second signal cuts short what is done before `stop`.
        """
        self._holding = True
        if self._wanted is None:
            return False
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        return True

    def stop(self) -> None:
        """Stop here, if a signal was held back; none is from here on.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            Terminated: it was SIGTERM.
        """
        self._holding = False
        if self._wanted is not None:
            raise KeyboardInterrupt if self._wanted == signal.SIGINT else Terminated

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        again = self._wanted is not None
        if number in (signal.SIGINT, signal.SIGTERM):
            self._wanted = number
        if again or not self._holding:
            self.stop()
        elif hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGALRM"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _what: BaseException | None, _: TracebackType | None) -> None:
        if self._before and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
