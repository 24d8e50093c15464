"""What the user sees while a command runs, and how it ends."""

from __future__ import annotations

import functools
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from uexcli.cli import interrupt, stray
from uexcli.cli.grid import Grid
from uexcli.errors import RESUMABLE, Exit, Terminated, UexError
from uexcli.messages import Listener, Overall, duration
from uexcli.wording import as_flags, pasted, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from uexcli.plugin import Progress

WORDS = {"warnings", "checks", "reason"}  # of a JSON document: in these, messages are for the user
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
        self._first = 0.0  # share that was done when the stage began here

    def __enter__(self) -> Screen:
        interrupt.as_exception()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @functools.cached_property
    def _err(self) -> Console:
        return _console(stderr=True)

    def say(self, text: str) -> None:
        """Print a message, one line, on stderr."""
        if not self.quiet:
            self._err.print(visible(as_flags(text)))

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also with --quiet."""
        from rich.text import Text

        # at once: a bar that is drawn anew would wipe out the line that a first part left unfinished
        self._err.print(Text.assemble(("Warning:", "yellow"), " ", visible(as_flags(text))))

    def step(self, progress: Progress) -> None:
        """Show progress: a bar with the time left on a terminal, a line now and then off it."""
        if self.quiet:
            return
        share = min(1.0, progress.done / progress.total) if progress.total > 0 else 1.0
        now = time.monotonic()
        if progress.stage != self._stage:
            self._close()
            self._stage = progress.stage
            self._began = self._told = now
            self._first = 0.0 if progress.done <= 1 else share
        if isinstance(progress, Overall):
            left = progress.seconds_left
        else:
            left = (now - self._began) * (1 - share) / max(share - self._first, 1e-9)
        if self._err.is_terminal and not self._err.is_dumb_terminal:
            self._bar(progress, share, left)
        elif now - self._told > PLAIN_EVERY:
            self._told = now
            time_left = "" if left is None else f"  about {duration(left)} left"
            words = ", ".join(word for word in (progress.stage, progress.note) if word)
            self._err.print(visible(f"{share:4.0%}{time_left}  {words}"))

    def _bar(self, progress: Progress, share: float, left: float | None) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[share]:>4.0%}", markup=False, style="progress.percentage"),
                TextColumn("{task.fields[left]}", markup=False, style="progress.remaining"),
                TextColumn("{task.fields[note]}", markup=False, style="dim"),
                console=self._err,
                transient=True,
            )
            self._bars.add_task("", total=1, share=0, left="", note="")
            self._bars.start()
        self._bars.update(
            self._bars.task_ids[0],
            completed=share,
            description=visible(progress.stage or "fit"),
            share=share,
            left="" if left is None else f"{duration(left)} left",
            note=visible(progress.note),
        )

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def result(self, schema: str, document: Any, *shown: Grid | str) -> None:
        """Print the result on stdout: one JSON document, or tables and lines for people."""
        self._close()
        if self.as_json:
            _write(json.dumps({"schema": schema, **plain(document)}, indent=2) + "\n")
            return
        out = _console()
        with out.capture() as text:  # rich itself would end the process with 1 when the reader of a pipe is gone
            for item in shown:
                if isinstance(item, str):
                    out.print(visible(as_flags(item)))
                else:
                    out.print(item.rendered(), soft_wrap=False)
        _write(text.get())

    def lines(self, schema: str, documents: Sequence[Any]) -> None:
        """Print JSON documents on stdout, one a line, each with the schema."""
        self._close()
        _write("".join(json.dumps({"schema": schema, **plain(document)}) + "\n" for document in documents))


def _console(*, stderr: bool = False) -> Console:
    """A console that prints text as it stands: no markup, no emoji codes, nothing coloured for being a number."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _write(text: str) -> None:
    """Write a result, now: what goes wrong with it is the command's own error."""
    sys.stdout.write(text)
    sys.stdout.flush()


def plain(value: Any, *, words: bool = False) -> Any:
    """Turn dataclasses, paths and odd floats into what JSON has; in `words`, arguments become options."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value), words=words)
    if isinstance(value, dict):
        return {str(key): plain(item, words=words or key in WORDS) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, words=words) for item in value]
    if words and isinstance(value, str):
        return as_flags(value)
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
            _look_where_we_are()
            with stray.no_exit():
                body(*args, **kwargs)
        except UexError as error:
            complain(f"Error: {error}")
            raise typer.Exit(stray.code_of(error.code)) from None
        except KeyboardInterrupt as stop:
            complain(f"Interrupted. {_next_step(stop)}")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except Terminated as stop:
            complain(f"Terminated. {_next_step(stop)}")
            raise typer.Exit(Exit.TERMINATED) from None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, typer.Exit) and not stray.is_own(error):
                complain(f"Error: {stray.told(error)}")
                raise typer.Exit(Exit.CANNOT) from None
            if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
                raise
            complain("Error: out of memory. Use a smaller --size, -O batch or --limit.")
            raise typer.Exit(Exit.CANNOT) from None
        except Exception:
            raise
        except BaseException as end:  # sys.exit and the like, which nothing of uex calls here
            complain(f"Error: {stray.told(end)}")
            raise typer.Exit(Exit.CANNOT) from None
        finally:
            signal.signal(signal.SIGTERM, previous)
            _tell_of_broken_plugins()

    return wrapped


def _look_where_we_are() -> None:
    """Refuse to work in a folder that is gone."""
    try:
        Path.cwd()
    except OSError:
        raise UexError("the working folder is gone.", hint="Change to another one: cd FOLDER") from None


def _tell_of_broken_plugins() -> None:
    """Warn of plugins that could not be loaded, where a command loaded any."""
    registry = sys.modules.get("uexcli.registry")
    if registry is not None and registry.load.cache_info().currsize:
        for broken in registry.load().broken:
            complain(f"Warning: plugin '{broken.plugin}' is broken: {broken.reason}")


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _next_step(stop: BaseException) -> str:
    words = sys.argv[1:]
    if words[:1] in (["apply"], ["merge"]):
        return f"Images that were written are kept; go on with: {_again(words, '--resume')}"
    if words[:1] == ["fit"] and RESUMABLE in getattr(stop, "__notes__", ()):
        return f"What was fitted so far is kept; go on with: {_again(words, '--resume')}"
    if words[:1] in (["eval"], ["bench"]):
        again = _again([word for word in words if word != "--fresh"])
        return f"What was trained is kept; go on with: {again}"
    return "Nothing was written."


def _again(words: Sequence[str], *more: str) -> str:
    """The command line with more options, which stand before those words that are none."""
    options = list(words[: words.index("--")] if "--" in words else words)
    return pasted("uex", *options, *(word for word in more if word not in options), *words[len(options) :])


def complain(text: str) -> None:
    """Print how a command ended, one line, on stderr."""
    print(visible(as_flags(text)), file=sys.stderr)
