"""stdout that is full, closed or not of UTF-8, odd widths, Ctrl-C at the start, and commands that can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, bright

from uexcli.cli import completion
from uexcli.cli.screen import _again
from uexcli.wording import here, pasted

Uex = Callable[..., Ran]
UEX = f"{sys.executable} -m uexcli"
BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash here")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
FULL = "Error: cannot write to stdout: no space left on the device.\n"
CLOSED = "Error: cannot write to stdout: it is closed.\n"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `$UEX` is the command."""
    assert BASH is not None
    settings = {**os.environ, "UEX": UEX, **environment}
    return subprocess.run([BASH, "-c", line], env=settings, capture_output=True, text=True, check=False)


@needs_bash
@needs_full
@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("$UEX plugins --json >/dev/full", 3, FULL),
        ("$UEX plugins >&-", 3, CLOSED),
        ("$UEX --help >/dev/full", 3, FULL),
        ("$UEX fit --help >&-", 3, CLOSED),
        ("$UEX --version >/dev/full", 3, FULL),
        ("$UEX --show-completion zsh >/dev/full", 3, FULL),
        ("$UEX eval --print-protocol quick >/dev/full", 3, FULL),
        ("$UEX plugins >&- 2>&-", 3, ""),
        ("$UEX plugins <&- >/dev/null", 0, ""),
        ("$UEX fit nosuch 2>/dev/full", 2, ""),
        ("$UEX fit nosuch 2>&-", 2, ""),
        ("$UEX plugins 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("$UEX --help | true; exit ${PIPESTATUS[0]}", 0, ""),
    ],
)
def test_a_result_that_cannot_be_written_ends_in_one_line_and_exit_3(line: str, code: int, told: str) -> None:
    ran = shell(line)
    assert (ran.returncode, ran.stderr) == (code, told)


@needs_bash
@needs_full
def test_work_whose_result_cannot_be_told_is_done_and_exits_3(photos: Path, noise: Path) -> None:
    ran = shell(f"$UEX apply {noise} {photos} -o r -q --json >/dev/full")
    assert (ran.returncode, ran.stderr) == (3, FULL)
    assert Path("r/SHA256SUMS").is_file()


@needs_bash
def test_what_is_written_never_lands_in_a_file_that_took_the_number_of_a_closed_stream(photos: Path) -> None:
    line = f"$UEX fit {photos} --method random --seed 3 -q"
    assert shell(f"{line} -o a >&- 2>&- <&-").returncode == 3
    assert shell(f"{line} -o b").returncode == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


@needs_bash
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "cp1252"])
def test_no_encoding_of_the_screen_ends_in_a_traceback(encoding: str) -> None:
    ran = shell("$UEX --help && $UEX plugins --kind method", PYTHONIOENCODING=encoding)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Make images unlearnable" in ran.stdout and "deepconfuse" in ran.stdout


@needs_bash
def test_an_evaluation_is_shown_in_plain_letters_where_there_are_no_others() -> None:
    photos = bright(Path("phötos"), ("cät", "dog"), 30)
    fitted = shell(f"$UEX fit {photos} --method random -q -o n", PYTHONIOENCODING="ascii")
    assert fitted.returncode == 0 and fitted.stdout.isascii()
    line = f"$UEX apply n {photos} -o r -q && $UEX eval {photos} r --epochs 8 --target small:width=4,batch=8 -q"
    plain = {"PYTHONIOENCODING": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    ran = shell(line + " --report r.html", **plain)
    assert ran.returncode == 0, ran.stderr
    assert " +-" in ran.stdout and "Traceback" not in ran.stderr and ran.stdout.isascii()
    assert "±" in Path("r.html").read_text("utf-8")


@needs_bash
@pytest.mark.parametrize("columns", ["0", "1", "-5", "abc", "²", "99999999999", ""])
def test_a_width_that_cannot_be_meant_hides_nothing(columns: str, noise: Path) -> None:
    ran = shell(f"$UEX info {noise} && TERMINAL_WIDTH=abc $UEX --version && $UEX info --help", COLUMNS=columns)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "samplewise" in ran.stdout and "linf" in ran.stdout and "Show what a noise" in ran.stdout
    assert len(ran.stdout) < 20_000


@needs_bash
def test_a_working_folder_that_is_gone_is_told_in_one_line(photos: Path) -> None:
    told = "Error: the working folder is gone. Change to another one: cd FOLDER\n"
    ran = shell(f"mkdir gone && cd gone && rmdir ../gone && $UEX --version && $UEX fit {photos} --dry-run")
    assert (ran.returncode, ran.stderr) == (3, told)
    assert ran.stdout.startswith("uex ")


STARTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
wanted, sys.argv = sys.argv[1], ["uex", *sys.argv[2:]]
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from uexcli.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "uexcli.cli.fit", "rich", "uexcli.commands.fit.command", "torch", "numpy"])
def test_ctrl_c_during_any_import_leaves_no_traceback(module: str, photos: Path) -> None:
    words = [sys.executable, "-c", STARTED, module, "fit", str(photos), "--method", "random"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "Interrupted. Nothing was written.\n")


MOMENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from uexcli.cli import interrupt
interrupt.at_once()
print("ready", file=sys.stderr, flush=True)
from uexcli.__main__ import main
main()
"""


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.8, 2.0])
def test_ctrl_c_at_any_moment_leaves_no_traceback(seconds: float, photos: Path) -> None:
    words = [sys.executable, "-c", MOMENT, "fit", str(photos), "-O", "rounds=1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and process.stderr.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    assert "Traceback" not in err
    assert process.returncode in {0, 130}


GOING = """
import os, signal, sys
class Last:
    def __del__(self, kill=os.kill, us=os.getpid(), number=signal.SIGINT):
        kill(us, number)
last = Last()
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["uex", "--version"]
from uexcli.__main__ import main
main()
"""


def test_ctrl_c_while_python_takes_itself_down_leaves_the_exit_code() -> None:
    ran = subprocess.run([sys.executable, "-c", GOING], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


# ------------------------------------------------------------------------------------------------ to be pasted

WORDS = [
    "my photos",
    "it's",
    "$HOME `x`",
    "-p",
    "a\nb",
    "c\x1b[1m",
    "\udcff.png",
    "ünï",
    "*?",
    "~x",
    "",
    "a\\'\n",
    "\u202e",
]


@needs_bash
@pytest.mark.parametrize("word", WORDS)
def test_a_shell_reads_back_what_is_to_be_pasted(word: str) -> None:
    line = pasted(word)
    assert line.isprintable()
    ran = subprocess.run([BASH or "", "-c", f"printf '%s|' {line}"], capture_output=True, check=True)
    assert ran.stdout == word.encode("utf-8", "surrogateescape") + b"|"


def test_a_path_is_never_pasted_as_an_option() -> None:
    assert pasted("uex", Path("-p"), "-o", Path("a b")) == "uex ./-p -o 'a b'"
    assert here("-p") == "./-p" and here("folder:-p") == "folder:-p"


@needs_bash
@pytest.mark.parametrize("name", ["my photos", "-p", "it's; `x`", "two\nlines"])
def test_the_next_command_can_be_pasted(name: str, uex: Uex, photos: Path) -> None:
    photos.rename(name)
    words = ("fit", "--method", "random", "--", name)
    ran = uex(*words)
    assert ran.code == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if line.startswith("Next: ")]
    applied = shell(line.removeprefix("Next: uex ").join(["$UEX ", ""]).replace("RELEASE", "'./-r r'"))
    assert applied.returncode == 0, applied.stderr
    (line,) = [line for line in applied.stdout.splitlines() if line.startswith("Next: ")]
    assert line.startswith("Next: uex verify './-r r' --source ")
    checked = shell(line.removeprefix("Next: uex ").join(["$UEX ", ""]))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("fit p", "uex fit p --resume"),
        ("fit --resume p", "uex fit --resume p"),
        ("fit -q -- -p", "uex fit -q --resume -- -p"),
        ("apply n 'my p' -o r", "uex apply n 'my p' -o r --resume"),
    ],
)
def test_the_command_that_goes_on_can_be_pasted(typed: str, again: str) -> None:
    assert _again(shlex.split(typed), "--resume") == again


def test_hints_quote_what_they_repeat(uex: Uex) -> None:
    Path("a b.part-1-of-2").mkdir()
    ran = uex("merge", "a b")
    assert ran.code == 2
    assert f"uex apply NOISE PHOTOS -o '{Path('a b').resolve()}' --shard " in ran.err


# ------------------------------------------------------------------------------------------------ completion


@pytest.mark.parametrize("login", ["/bin/bash", "/bin/zsh", "/usr/bin/fish", ""])
@pytest.mark.parametrize(("named", "file"), [("zsh", ".zfunc/_uex"), ("fish", ".config/fish/completions/uex.fish")])
def test_completion_is_installed_for_the_shell_that_is_named(
    login: str, named: str, file: str, uex: Uex, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", login)
    ran = uex("--install-completion", named)
    assert ran.code == 0, ran.err
    assert named in ran.out and (tmp_path / file).is_file()
    assert not (tmp_path / ".bashrc").exists() and not (tmp_path / ".bash_completions").exists()
    assert uex("--show-completion", named).out.strip() == (tmp_path / file).read_text().strip()


def test_completion_for_a_shell_that_is_not_known_or_a_home_that_is_not_there(
    uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completion.with_shells(["--install-completion"]) == ["--install-completion", "current"]
    assert completion.with_shells(["--show-completion", "zsh"]) == ["--show-completion", "zsh"]
    assert uex("--install-completion", "tcsh").code == 2
    monkeypatch.setenv("HOME", "/dev/null/nowhere")
    ran = uex("--install-completion", "zsh")
    assert ran.code == 3 and "uex --show-completion zsh" in ran.err


# ------------------------------------------------------------------------------------------------ small ones


@pytest.mark.parametrize(
    ("eps", "hint"),
    [
        ("8", "Did you mean 8/255?"),
        ("254", "Did you mean 254/255?"),
        ("256/255", "Write it as"),
        ("300", "Write it as"),
    ],
)
def test_a_bound_that_is_too_large_is_not_answered_with_nonsense(eps: str, hint: str, photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--method", "random", "--norm", "linf", "--eps", eps)
    assert ran.code == 2 and hint in ran.err and "/255/255" not in ran.err


def test_a_cache_that_cannot_be_written_names_the_way_out(
    photos: Path, release: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    ran = uex("eval", photos, release, "--epochs", 1)
    assert ran.code == 3 and ran.err.splitlines()[-1].endswith("with --cells DIR.")


@needs_bash
@pytest.mark.parametrize("line", ["apply {noise} {photos} -o r", "fit {photos} --method random --mode universal -o n2"])
def test_a_file_size_limit_is_named(line: str, photos: Path, noise: Path) -> None:
    ran = shell(f"ulimit -f 1; $UEX {line.format(noise=noise, photos=photos)} -q")
    assert ran.returncode == 3
    (told,) = ran.stderr.splitlines()
    assert "the file size limit is reached" in told and "the image" not in told


@pytest.mark.parametrize("scheme", ["", "folder:", "links:"])
def test_the_noise_file_is_called_like_the_folder(scheme: str, photos: Path, uex: Uex) -> None:
    ran = uex("fit", f"{scheme}{photos}", "--method", "random", "--dry-run", "-q")
    assert ran.out == "dry run: photos.noise.safetensors not written.\n"
