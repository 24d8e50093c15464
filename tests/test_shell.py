"""Around the command line: manual pages, the release script, the GitHub Action and the pre-commit hook."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, bright

from scripts import manual

Uex = Callable[..., Ran]
ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "release.sh"
PAGES = sorted(manual.pages())
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")  # as a runner calls it
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
needs_groff = pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff here")
needs_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck here")
needs_tar = pytest.mark.skipif(
    shutil.which("tar") is None or "GNU tar" not in subprocess.check_output(["tar", "--version"], text=True),
    reason="there is no GNU tar here",
)


def flags(command: str) -> set[str]:
    """Every option a command takes."""
    return {name for param in manual.commands()[command].params for name in param.opts}


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with these variables and few threads."""
    return subprocess.run(
        [str(word) for word in words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def with_uex(tmp_path: Path) -> str:
    """A PATH on which `uex` is the one under test."""
    program(tmp_path / "bin" / "uex", f'#!/bin/sh\nexec {sys.executable} -m uexcli "$@"\n')
    return f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"


# ------------------------------------------------------------------------------------------ manual pages


def test_every_command_has_a_page() -> None:
    assert sorted(["uex.1", *(f"uex-{name}.1" for name in manual.commands())]) == PAGES
    headings = re.findall(r"^\.SH (.*)$", manual.pages()["uex-apply.1"], re.MULTILINE)
    assert headings == [
        "NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "FILES", "EXAMPLES", "EXIT STATUS", "SEE ALSO",
    ]  # fmt: skip
    for code in (0, 1, 2, 3, 130, 143):
        assert all(f"\\fB{code}\\fR" in page for page in manual.pages().values())


def test_text_is_never_a_request_or_an_escape() -> None:
    assert manual._text(".so `a-b` \\x [words](file.md) 'q'") == r"\&.so \fBa\-b\fR \ex words 'q'"
    assert manual._text("'br") == r"\&'br"


@needs_groff
@pytest.mark.parametrize("page", PAGES)
def test_groff_finds_nothing_wrong_with_a_page_and_shows_all_of_help(page: str, uex: Uex) -> None:
    path = ROOT / "man" / page
    assert run("groff", "-man", "-ww", "-z", path).stderr == ""
    shown = run("groff", "-man", "-Tascii", "-P-cbou", "-rLL=400n", path)
    assert shown.stderr == ""
    command = page.removesuffix(".1").split("-")[1:]
    words = " ".join(uex(*command, "--help").out.replace("│", " ").split())
    told = " ".join(shown.stdout.split())
    options = r"(?<![\w-])--?[a-zA-Z][\w-]*"
    assert set(re.findall(options, words)) <= set(re.findall(options, told))
    for default in re.findall(r"\[default: [^\]]*\]", words):
        assert default in told


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man here")
def test_man_shows_a_page() -> None:
    ran = run("man", "--warnings", "-l", ROOT / "man" / "uex.1", MANPAGER="cat", MANWIDTH="100")
    if "has been minimized" in ran.stdout:
        pytest.skip("this system's man shows no pages")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "uex-verify(1)" in re.sub(".\b", "", ran.stdout)


def test_the_wheel_installs_every_page(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    ran = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sorted(name.rpartition("/")[2] for name in names if "/data/share/man/man1/" in name) == PAGES


# -------------------------------------------------------------------------------------- the release script

CHEAP = {"METHOD": "lsp", "TARGET": "linear", "EPOCHS": "40", "JOBS": "1", "MAX_LEARNABILITY": "1"}
# In place of uex: notes how it was called, writes something, and ends as it is told to.
STUB = """#!/bin/sh
echo "$@" >>calls
[ "$1" = "$FAIL" ] && exit "$CODE"
case $1 in
  fit) touch out.private/photos.noise.safetensors ;;
  apply)
    mkdir -p out.private/release/cat
    for name in ${ORDER:-1 2}; do
      echo "$name" >"out.private/release/$name.png"
    done
    touch -d "@${ORDER%% *}" out.private/release/?.png # another time each time
    touch out.private/photos.noise.receipt.json
    ;;
esac
exit 0
"""
# uex, but `apply` sends a signal to the script that called it when it has written three images.
INTERRUPTING = """#!{python}
import os, signal, sys, time
from uexcli.io.release.write_log import Journal

noted, add = [], Journal.add

def adds(journal, line):
    add(journal, line)
    noted.append(line)
    if len(noted) == 3:
        os.kill(os.getppid(), signal.{signal})
        time.sleep(60)

if sys.argv[1] == "apply":
    Journal.add = adds
from uexcli.__main__ import main
main()
"""


@pytest.fixture
def light(tmp_path: Path) -> Path:
    """Two classes of twelve photos that a linear net tells apart, and test images."""
    bright(tmp_path / "test", ("cat", "dog"), 6, first=500)
    return bright(tmp_path / "photos", ("cat", "dog"), 12)


def files(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """What lies in a folder: of each file where it lies on the disk, when it was written, and its bytes."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@needs_bash
@needs_tar
def test_a_release_goes_out_when_the_gates_hold_and_only_once(light: Path, with_uex: str) -> None:
    failed = run("bash", SCRIPT, light, "out", "test", **CHEAP | {"PATH": with_uex, "MAX_LEARNABILITY": "0.1"})
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("release.sh: GATE FAILED: more than 0.1 is left to learn.")
    assert not Path("out").exists()

    ran = run("bash", SCRIPT, light, "out", "test", **CHEAP, PATH=with_uex)
    assert ran.returncode == 0, ran.stderr
    before = files(Path("out"))
    assert set(before) == {"release.tar", "release.tar.sha256"}
    digest = hashlib.sha256(before["release.tar"][2]).hexdigest()
    assert before["release.tar.sha256"][2].decode() == f"{digest}  release.tar\n"
    with tarfile.open("out/release.tar") as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert {"release/SHA256SUMS", "release/uex-release.json", "release/cat/0.png"} <= set(names)
    assert not [name for name in names if "noise" in name or "receipt" in name]
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}
    assert {stat.S_IMODE(member.mode) for member in members} == {0o644, 0o755}
    private = Path("out.private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for name in ("photos.noise.safetensors", "photos.noise.receipt.json", "verify.xml"):
        assert stat.S_IMODE((private / name).stat().st_mode) == 0o600

    again = run("bash", SCRIPT, light, "out", "test", **CHEAP, PATH=with_uex)
    assert again.returncode == 0, again.stderr
    assert again.stderr.splitlines()[-1].endswith("nothing to do.")
    assert files(Path("out")) == before


@needs_bash
@needs_tar
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_release_is_resumed(number: signal.Signals, code: int, light: Path, with_uex: str) -> None:
    text = INTERRUPTING.format(python=sys.executable, signal=number.name)
    stopped = program(Path("interrupting"), text).resolve()
    ran = run("bash", SCRIPT, light, "out", "test", **CHEAP, UEX=str(stopped))
    assert ran.returncode == code, ran.stderr
    assert ran.stderr.splitlines()[-1].endswith("Nothing was published; the same command goes on from here.")
    assert not Path("out").exists()
    assert Path("out.private/release.partial").is_dir()
    if number == signal.SIGINT:
        return  # what is left is the same
    ran = run("bash", SCRIPT, light, "out", "test", **CHEAP, PATH=with_uex)
    assert ran.returncode == 0, ran.stderr
    assert "(3 more were there from the interrupted run)" in ran.stdout
    assert "is already fitted" in ran.stdout
    assert set(files(Path("out"))) == {"release.tar", "release.tar.sha256"}


@needs_bash
@needs_tar
@pytest.mark.parametrize("name", ["fit", "apply", "eval", "verify"])
@pytest.mark.parametrize("code", [1, 2, 3, 130, 143, 9])
def test_what_fails_stops_the_script_with_its_code_and_publishes_nothing(name: str, code: int) -> None:
    stub = program(Path("stub"), STUB).resolve()
    ran = run("bash", SCRIPT, "photos", "out", UEX=str(stub), FAIL=name, CODE=str(code))
    assert ran.returncode == code
    assert "ublished" in ran.stderr.splitlines()[-1]
    assert not Path("out").exists()
    assert Path("calls").read_text().splitlines()[-1].split()[0] == name
    gate = code == 1 and name in {"eval", "verify"}
    assert ("GATE FAILED" in ran.stderr) is gate


@needs_bash
@needs_tar
def test_the_archive_has_the_same_bytes_each_time_and_settings_reach_the_commands() -> None:
    stub = program(Path("stub"), STUB).resolve()
    settings = {
        "UEX": str(stub),
        "FAIL": "",
        "EPS": "8/255",
        "ON_ERROR": "skip",
        "FIT_OPTIONS": "--preset quick -O a=1",
    }
    digests = set()
    for umask, order in (("022", "1 2 3 4"), ("077", "4 2 3 1")):
        shutil.rmtree("out", ignore_errors=True)
        shutil.rmtree("out.private", ignore_errors=True)
        ran = run("bash", "-c", f'umask {umask}; exec bash "$@"', "-", SCRIPT, "photos", "out", **settings, ORDER=order)
        assert ran.returncode == 0, ran.stderr
        digests.add(Path("out/release.tar.sha256").read_text())
        assert stat.S_IMODE(Path("out").stat().st_mode) == 0o755
        assert stat.S_IMODE(Path("out/release.tar").stat().st_mode) == 0o644
    assert len(digests) == 1
    fit, apply, judge, check = Path("calls").read_text().splitlines()[-4:]
    assert fit == (
        "fit photos --output out.private/photos.noise.safetensors --resume --eps 8/255 --on-error skip "
        "--preset quick -O a=1"
    )
    assert "--resume" in apply.split() and "--max-learnability 0.5" in judge
    assert "--eps 8/255 --allow-missing" in check
    assert run("bash", SCRIPT, "photos", "out", **settings, FORCE="1").returncode == 0
    assert "--resume" not in Path("calls").read_text().splitlines()[-4]


@needs_bash
@needs_tar
def test_the_script_refuses_what_cannot_be_meant() -> None:
    stub = program(Path("stub"), STUB).resolve()
    assert run("bash", SCRIPT).returncode == 2
    helped = run("bash", SCRIPT, "--help")
    assert helped.returncode == 0 and "release.sh PHOTOS OUT [TEST]" in helped.stdout
    assert "set -euo" not in helped.stdout
    lost = run("bash", SCRIPT, "photos", "out", UEX="./no-such-uex")
    assert lost.returncode == 2 and "not found" in lost.stderr
    inside = run("bash", SCRIPT, "photos", "out", UEX=str(stub), PRIVATE="out/private")
    assert inside.returncode == 2 and "which is published" in inside.stderr
    assert not Path("out/private").exists()


def test_the_script_calls_only_options_that_there_are() -> None:
    text = SCRIPT.read_text().replace("\\\n", " ")
    lists = {"fit": "fit", "apply": "apply", "judge": "eval", "check": "verify"}
    found = {(lists[name], flag) for name, flag in re.findall(r"^give (\w+) (--[\w-]+)", text, re.MULTILINE)}
    loops = re.findall(r"^for each in ([\w ]+); do(.*?)done$", text, re.MULTILINE | re.DOTALL)
    for names, body in loops:
        found |= {(lists[name], flag) for name in names.split() for flag in re.findall(r' (--[\w-]+) "', body)}
    for name, words in re.findall(r"^step (\w+) (.*)$", text, re.MULTILINE):
        found |= {(name, flag) for flag in re.findall(r"(?<!\S)--[\w-]+", words)}
    found |= {(name, flag) for name in ("fit", "apply") for flag in ("--resume", "--force")}
    assert len(found) > 30
    assert {(name, flag) for name, flag in found if flag not in flags(name)} == set()


@needs_shellcheck
def test_shellcheck_finds_nothing_in_the_script() -> None:
    ran = run("shellcheck", SCRIPT)
    assert (ran.returncode, ran.stdout) == (0, "")


# ------------------------------------------------------------------------- the GitHub Action, and pre-commit


def loaded(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads these files")
    return yaml.safe_load(path.read_text())


@pytest.fixture
def action() -> Any:
    return loaded(ROOT / "action.yml")


def verify_step(action: Any) -> Any:
    return next(step for step in action["runs"]["steps"] if step.get("id") == "verify")


def test_the_action_uses_inputs_and_options_that_there_are(action: Any) -> None:
    assert action["runs"]["using"] == "composite"
    assert {"release", "source", "eps", "noise", "version", "args"} <= set(action["inputs"])
    used = set()
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "what a workflow gives must not become a part of a script"
        for value in step["env"].values():
            used |= set(re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value).groups())
        for name in re.findall(r"\$\{?(UEX_\w+)", step["run"]):
            assert name in step["env"]
    assert used == set(action["inputs"])
    assert [name for name, given in action["inputs"].items() if given.get("required")] == ["release"]
    script = verify_step(action)["run"]
    assert set(re.findall(r"(?<!\S)\(?(--[\w-]+)", script)) <= flags("verify")
    for name, given in action["outputs"].items():
        assert given["value"] == f"${{{{ steps.verify.outputs.{name} }}}}"
        assert f'"{name}=$' in script


def act(action: Any, path: str, **given: str) -> tuple[subprocess.CompletedProcess[str], str, str]:
    """Run the script of the step `verify` as a runner does; gives also what it wrote to summary and outputs."""
    step = verify_step(action)
    environment = {**dict.fromkeys(step["env"], ""), **given}
    for name in ("runner", "summary", "output"):
        shutil.rmtree(name, ignore_errors=True)
    Path("runner").mkdir()
    script = program(Path("runner/step.sh"), step["run"])
    places = {"RUNNER_TEMP": "runner", "GITHUB_STEP_SUMMARY": "runner/summary", "GITHUB_OUTPUT": "runner/output"}
    ran = run(*BASH, script, **environment, **places, PATH=path)
    return ran, Path("runner/summary").read_text(), Path("runner/output").read_text()


@needs_bash
def test_the_action_verifies_and_writes_a_summary(
    action: Any, photos: Path, noise: Path, release: Path, with_uex: str
) -> None:
    moved = release.rename(release.with_name("a release"))
    given = {"UEX_RELEASE": moved.name, "UEX_SOURCE": str(photos), "UEX_EPS": "8/255", "UEX_NOISE": str(noise)}
    ran, summary, output = act(action, with_uex, **given, UEX_ARGS="--jobs 1\n  --allow-missing")
    assert ran.returncode == 0, ran.stdout
    assert summary.startswith("### uex verify: passed\n\n    ")
    assert "OK: nothing found" in summary and "OK: nothing found" in ran.stdout
    assert output == "junit=runner/uex-verify.xml\ncode=0\n"
    assert "<testsuite " in Path("runner/uex-verify.xml").read_text()

    (moved / "cat" / "0.png").unlink()
    ran, summary, output = act(action, with_uex, UEX_RELEASE=moved.name, UEX_JUNIT="own.xml")
    assert ran.returncode == 1
    assert summary.startswith("### uex verify: FAILED") and "cat/0.png" in summary
    assert output == "junit=own.xml\ncode=1\n"
    assert "<failure" in Path("own.xml").read_text()


@needs_bash
def test_what_a_workflow_gives_the_action_is_never_run(action: Any, with_uex: str) -> None:
    wicked = '--help"; $(touch here) `touch here` ; touch here'
    ran, summary, _ = act(action, with_uex, UEX_RELEASE=wicked, UEX_EPS=wicked, UEX_JUNIT="a b.xml")
    assert ran.returncode == 2
    assert summary.startswith("### uex verify: not checked")
    assert not Path("here").exists()


@needs_bash
@pytest.mark.parametrize(("version", "wanted"), [("0.1.0", "uexcli==0.1.0"), ("", "/the action")])
def test_the_action_installs_what_was_asked_for(version: str, wanted: str, action: Any, tmp_path: Path) -> None:
    note = 'printf "%s\\n" "$*" >>calls\n[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }\n'
    python = program(tmp_path / "python", f"#!/bin/sh\n{note}")
    step = next(step for step in action["runs"]["steps"] if step.get("id") == "install")
    given = {"UEX_VERSION": version, "UEX_PYTHON": str(python), "RUNNER_TEMP": str(tmp_path / "runner")}
    ran = run(*BASH, "-c", step["run"], **given, GITHUB_PATH="path", GITHUB_ACTION_PATH="/the action")
    assert ran.returncode == 0, ran.stderr
    assert Path("calls").read_text().splitlines()[-1] == f"-m pip install --quiet {wanted}"
    assert Path("path").read_text() == f"{tmp_path}/runner/uex/bin\n"


@needs_bash
@needs_shellcheck
def test_shellcheck_finds_nothing_in_the_action(action: Any, tmp_path: Path) -> None:
    for step in action["runs"]["steps"]:
        ran = run("shellcheck", program(tmp_path / "step.sh", "#!/usr/bin/env bash\n" + step["run"]))
        assert (ran.returncode, ran.stdout) == (0, "")


def test_the_hook_runs_as_its_example_says(photos: Path, release: Path, uex: Uex) -> None:
    (hook,) = loaded(ROOT / ".pre-commit-hooks.yaml")
    assert (hook["id"], hook["language"], hook["pass_filenames"]) == ("uex-verify", "python", False)
    page = (ROOT / "docs" / "pipelines.md").read_text()
    words = re.search(r"- id: uex-verify\n +args: \[(.*)\]", page)[1].split(", ")
    assert f"args: [{', '.join(words)}]" in (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert (words[0], words[-1]) == ("release", "../photos")
    program_, *command = hook["entry"].split()
    assert program_ == "uex"
    assert uex(*command, release, *words[1:-1], photos).code == 0
    (release / "dog" / "1.png").unlink()
    assert uex(*command, release, *words[1:-1], photos).code == 1


def test_the_pipelines_page_calls_only_options_that_there_are() -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text()
    calls = re.findall(r"^uex (\w+)(.*)$", page, re.MULTILINE) + re.findall(r"`uex (\w+)([^`]*)`", page)
    assert {"apply", "merge", "verify", "eval"} <= {name for name, _ in calls}
    for name, words in calls:
        assert set(re.findall(r"(?<!\S)--[\w-]+", words.partition(" | ")[0])) <= flags(name), (name, words)
    example = re.search(r"uses: OWNER/uex.*?\n    with:\n(.*?)\n  - ", page, re.DOTALL)[1]
    assert set(re.findall(r"^ +(\w+):", example, re.MULTILINE)) <= set(loaded(ROOT / "action.yml")["inputs"])
