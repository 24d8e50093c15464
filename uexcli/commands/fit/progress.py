"""How far a whole fit is: one share that never falls, and the time that is left."""

from __future__ import annotations

import time

from uexcli import plugin
from uexcli.messages import Listener, Overall

READING, LOOKING = 0.02, 0.05  # of the whole, where these end; what takes hours is what follows
SURE = 0.2  # share of the method's work after which its own pace says all, and the estimate nothing


class Whole(Listener):
    """Passes on what a fit says; of progress, in reading, looking and the method's work, it makes one."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._share = 0.0
        self._estimate: float | None = None
        self._began: float | None = None  # when the method's first report came, and how far it was then
        self._first: float | None = None

    def say(self, text: str) -> None:
        """Pass it on."""
        self._listener.say(text)

    def warn(self, text: str) -> None:
        """Pass it on."""
        self._listener.warn(text)

    def begin(self, seconds: float | None) -> None:
        """Hear that the method begins, and how long it may take."""
        self._began, self._estimate = time.monotonic(), seconds

    def step(self, progress: plugin.Progress) -> None:
        """Hear of reading and looking."""
        done = _share(progress)
        share = READING * done if progress.stage == "read" else READING + (LOOKING - READING) * done
        words = f"{progress.stage} {progress.done:,.0f} of {progress.total:,.0f}"
        self._tell(0.0 if self._began is not None else share, words, None)

    def fit(self, progress: plugin.Progress) -> None:
        """Hear of the method's work."""
        assert self._began is not None
        done = _share(progress)
        if self._first is None:
            self._began, self._first = time.monotonic(), done
        words = ", ".join(word for word in (progress.stage, progress.note) if word)
        self._tell(LOOKING + (1 - LOOKING) * done, words, self._left(done))

    def _left(self, done: float) -> float | None:
        """The pace so far, and at first the estimate, too."""
        assert self._began is not None and self._first is not None
        made = done - self._first
        trust = 1.0 if self._estimate is None else min(1.0, made / SURE)
        if made <= 0:
            return None if self._estimate is None else (1 - done) * self._estimate
        measured = (time.monotonic() - self._began) / made
        return (1 - done) * (trust * measured + (1 - trust) * (self._estimate or 0))

    def _tell(self, share: float, note: str, left: float | None) -> None:
        self._share = max(self._share, share)
        self._listener.step(Overall(self._share, 1, note, "fit", left))


def _share(progress: plugin.Progress) -> float:
    return min(1.0, max(0.0, progress.done / progress.total)) if progress.total > 0 else 1.0
