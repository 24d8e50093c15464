"""What long work changes in a process, put back for a program that calls uex as a library."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

BORROWED = False  # the process is a program's, which goes on when the work is done
_LOCK = threading.Lock()
_calls = 0  # of the program, under way in whichever threads
_outer = contextlib.ExitStack()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Put back what work changes once the last of the calls under way, in whichever threads, is done; see `_kept`."""
    global _calls  # noqa: PLW0603 - of the process
    with _LOCK:
        if _calls == 0:
            _outer.enter_context(_kept())
        _calls += 1
    try:
        yield
    finally:
        with _LOCK:
            _calls -= 1
            if _calls == 0:
                _outer.close()


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Put back what work changes: Pillow's limit, warning filters, threads, determinism, random numbers, environment.

    What cannot be put back, such as malloc's thresholds, is left alone meanwhile (see `machine.settle`).
    """
    global BORROWED  # noqa: PLW0603 - of the process, as what it stands for
    borrowed, BORROWED = BORROWED, True
    pixels, filters, environment = Image.MAX_IMAGE_PIXELS, list(warnings.filters), dict(os.environ)
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    strict, only_warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    used = torch.cuda.is_initialized()
    device = torch.cuda.current_device() if used else 0
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if used else []
    try:
        yield
    finally:
        BORROWED = borrowed
        Image.MAX_IMAGE_PIXELS = pixels
        if list(warnings.filters) != filters:
            warnings.resetwarnings()  # drops what is cached of them, too
            cast(list[Any], warnings.filters).extend(filters)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(strict, warn_only=only_warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        if used:
            torch.cuda.set_rng_state_all(on_devices)
            torch.cuda.set_device(device)
        elif torch.cuda.is_initialized():
            torch.cuda.set_device(0)  # as it is before anyone asks for another
