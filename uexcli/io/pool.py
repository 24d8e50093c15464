"""Work on many images by all cores: by processes where the system can fork them safely, else by threads."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from uexcli.errors import UexError

T = TypeVar("T")
R = TypeVar("R")
WAITING = 4  # results a worker may be ahead, which bounds the memory
WORTH_IT = 32  # items below which threads are as fast as processes that must be forked first
PR_SET_PDEATHSIG = 1
FORKS = sys.platform == "linux"


def parallel(
    work: Callable[[T], R],
    items: Sequence[T],
    jobs: int | None = None,
    *,
    processes: bool = False,
    apart: bool = False,
) -> Iterator[R]:
    """Map over items, in order, with a bounded number of results waiting.

    With `processes` by forked ones, where there are enough items: `work` may then be anything that is bound to this
    process's memory, but what it changes there is lost, and its results are pickled. Without, by threads: decoding,
    encoding and hashing release the interpreter lock, so they use some cores, too. `apart` asks for processes for few
    items and for one job as well: where the system kills what takes most of its memory, that is not this one.

    Raises:
        UexError: a worker process was killed, as the system does when memory runs out.
    """
    jobs = min(jobs or os.cpu_count() or 1, len(items)) or 1
    with _one_thread() if processes else contextlib.nullcontext():
        if jobs == 1 and processes and not (apart and FORKS):  # this process is the worker
            yield from map(work, items)
            return
        forked = processes and FORKS and (apart or len(items) >= WORTH_IT)
        pool = _processes(work, items, jobs) if forked else ThreadPoolExecutor(jobs)
        call: Callable[[int], Any] = _call if forked else lambda position: work(items[position])
        try:
            ahead = WAITING * jobs
            waiting = _started(pool, call, min(ahead, len(items)))
            for position in range(len(items)):
                result = waiting[position % ahead].result()
                if position + ahead < len(items):
                    waiting[position % ahead] = pool.submit(call, position + ahead)
                yield result
        except BrokenProcessPool:
            raise UexError(
                "a worker process was killed; was the memory used up?", hint="Use fewer `jobs`, or a smaller `memory`."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _started(pool: Executor, call: Callable[[int], R], count: int) -> list[Future[R]]:
    """Hand out the first items, which forks the workers; none is left where that fails half-way.

    Raises:
        UexError: the system allows no more processes.
    """
    try:
        with _quietly():
            return [pool.submit(call, position) for position in range(count)]
    except BaseException as error:  # the pool itself would wait for them for ever
        for worker in getattr(pool, "_processes", {}).values():
            worker.kill()
        if isinstance(error, OSError):
            raise UexError(f"cannot start workers ({error.strerror}).", hint="Use fewer `jobs`.") from None
        raise


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: the same numbers come out for any number of workers, and none waits for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Say nothing of forking beside threads: a worker replaces or leaves alone what those may hold."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .*is multi-threaded", DeprecationWarning)
        yield


_shared: tuple[Callable[[Any], Any], Sequence[Any]]  # in a worker: what it does, and to what


def _processes(work: Callable[[T], R], items: Sequence[T], jobs: int) -> Executor:
    # a forked worker is given its arguments as they are: nothing is pickled
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(jobs, mp_context=fork, initializer=_begin, initargs=(work, items, os.getpid()))


def _begin(work: Callable[[Any], Any], items: Sequence[Any], parent: int) -> None:
    """Become a worker: one thread, no terminal, no signals of one's own, and gone when the parent is."""
    global _shared  # noqa: PLW0603 - what a process was forked for is all it is for
    _shared = (work, items)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - a thread may have held the lock of these
    torch.set_num_threads(1)


def _call(position: int) -> Any:
    work, items = _shared
    return work(items[position])
