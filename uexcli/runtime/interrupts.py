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

    @property
    def pending(self) -> bool:
        """Whether the user wants to stop."""
        return self._wanted is not None

    def safe_point(self) -> None:
        """Say that moments at which work can stop come again and again; held signals wait for `stop`."""
        self._holding = True

    def stop(self) -> None:
        """Stop here, as the signal that was held back asked.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            Terminated: it was SIGTERM.
        """
        if self._wanted is not None:
            raise KeyboardInterrupt if self._wanted == signal.SIGINT else Terminated

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        again = self.pending
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
