"""What the user sees while a command runs, and how it ends."""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from uexcli.cli import stray
from uexcli.commands.listener import Listener, duration, visible
from uexcli.errors import RESUMABLE, Exit, Terminated, UexError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.table import Table

    from uexcli.api import Progress

PLAIN_EVERY = 15.0  # seconds between progress lines off a terminal
P = ParamSpec("P")


class Screen(Listener):
    """Messages and progress on stderr, results on stdout. Use as a context manager."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self._bars: Bars | None = None
        self._stage: str | None = None
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @functools.cached_property
    def _err(self) -> Console:
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a message on stderr."""
        if not self.quiet:
            self._err.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also with --quiet."""
        self._err.print("Warning:", style="yellow", end=" ")
        self._err.print(visible(text), markup=False)

    def step(self, progress: Progress) -> None:
        """Show progress: a bar with an ETA on a terminal, a line now and then off it."""
        if self.quiet:
            return
        if progress.stage != self._stage:
            self._close()
            self._stage = progress.stage
            self._began = self._told = time.monotonic()
        if self._err.is_terminal and not self._err.is_dumb_terminal:
            self._bar(progress)
        elif time.monotonic() - self._told > PLAIN_EVERY:
            self._told = time.monotonic()
            share = progress.done / progress.total
            left = (self._told - self._began) * (1 - share) / max(share, 1e-9)
            words = ", ".join(word for word in (progress.stage, progress.note) if word)
            self._err.print(f"{share:4.0%}  about {duration(left)} left  {words}", markup=False)

    def _bar(self, progress: Progress) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[note]}", style="dim"),
                console=self._err,
                transient=True,
            )
            self._bars.add_task("", total=progress.total, note="")
            self._bars.start()
        self._bars.update(
            self._bars.task_ids[0],
            completed=progress.done,
            total=progress.total,
            description=progress.stage or "fit",
            note=progress.note,
        )

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def result(self, schema: str, document: Any, *shown: Table | str) -> None:
        """Print the result on stdout: one JSON document, or what is meant for people."""
        self._close()
        if self.as_json:
            _to_stdout(json.dumps({"schema": schema, **plain(document)}, indent=2) + "\n")
            return
        from rich.console import Console

        out = Console(highlight=False, soft_wrap=True)
        with out.capture() as text:  # rich itself would end the process with 1 when the reader of a pipe is gone
            for item in shown:
                if isinstance(item, str):
                    out.print(item, markup=False)
                else:
                    out.print(item, soft_wrap=False)
        _to_stdout(text.get())

    def lines(self, schema: str, documents: Sequence[Any]) -> None:
        """Print JSON documents on stdout, one a line, each with the schema."""
        self._close()
        _to_stdout("".join(json.dumps({"schema": schema, **plain(document)}) + "\n" for document in documents))


def _to_stdout(text: str) -> None:
    """Write a result; a reader that is gone is no error, and the command still ends with its own exit code."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def plain(value: Any) -> Any:
    """Turn dataclasses, paths and odd floats into what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124
        return None
    return value


def command(body: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command: known errors, Ctrl-C and SIGTERM end in one line and their exit code."""

    @functools.wraps(body)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        previous = signal.signal(signal.SIGTERM, _terminate)
        try:
            with stray.no_exit():
                body(*args, **kwargs)
        except UexError as error:
            _complain(f"Error: {visible(str(error))}")
            raise typer.Exit(stray.code_of(error.code)) from None
        except KeyboardInterrupt as stop:
            _complain(f"Interrupted. {_next_step(stop)}")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except Terminated as stop:
            _complain(f"Terminated. {_next_step(stop)}")
            raise typer.Exit(Exit.TERMINATED) from None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, typer.Exit) and not stray.is_own(error):
                _complain(f"Error: {stray.told(error)}")
                raise typer.Exit(Exit.CANNOT) from None
            if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
                raise
            _complain("Error: out of memory. Use a smaller --size, -O batch or --limit.")
            raise typer.Exit(Exit.CANNOT) from None
        except Exception:
            raise
        except BaseException as end:  # sys.exit and the like, which nothing of uex calls here
            _complain(f"Error: {stray.told(end)}")
            raise typer.Exit(Exit.CANNOT) from None
        finally:
            signal.signal(signal.SIGTERM, previous)
            _tell_of_broken_plugins()

    return wrapped


def _tell_of_broken_plugins() -> None:
    """Warn of plugins that could not be loaded, where a command loaded any."""
    registry = sys.modules.get("uexcli.registry")
    if registry is not None and registry.load.cache_info().currsize:
        for broken in registry.load().broken:
            _complain(f"Warning: plugin '{broken.plugin}' is broken: {visible(broken.reason)}")


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _next_step(stop: BaseException) -> str:
    words = sys.argv[1:]
    again = shlex.join(["uex", *words, *([] if "--resume" in words else ["--resume"])])
    if words[:1] in (["apply"], ["merge"]):
        return f"Images that were written are kept; go on with: {again}"
    if words[:1] == ["fit"] and RESUMABLE in getattr(stop, "__notes__", ()):
        return f"What was fitted so far is kept; go on with: {again}"
    if words[:1] in (["eval"], ["bench"]):
        again = shlex.join(["uex", *(word for word in words if word != "--fresh")])
        return f"What was trained is kept; go on with: {again}"
    return "Nothing was written."


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
