"""A run killed before any of its steps on the disk: the next one goes on, and nothing is left of it in the end.

The steps are counted by an audit hook, so that each gap is hit, however short it is; see `test_resume` and
`test_pipeline` for kills at random moments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran, picture
from PIL import Image

Uex = Callable[..., Ran]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Run before each of the chosen steps, in a fresh copy of the working folder: kill, run again, look.
KILLER = """
import json, os, shutil, signal, sys
from pathlib import Path
import torch
from uexcli.cli.app import run
from uexcli.io import leftovers
from uexcli.registry import load

torch.set_num_threads(1)
load()
job = json.loads(sys.argv[1])
base = Path.cwd()
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "fcntl.flock", "os.truncate"}

def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

def forked(words, at=0):
    process = os.fork()
    if process == 0:
        here, count = os.getcwd(), 0
        def hook(event, args):
            nonlocal count
            if event == "open":
                path, _, flags = args
                if not isinstance(flags, int) or not flags & WRITES or not isinstance(path, (str, os.PathLike)):
                    return
                if not os.path.abspath(path).startswith(here):
                    return
            elif event not in STEPS:
                return
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
        if at:
            sys.addaudithook(hook)
        sys.stdout = sys.stderr = open(job["log"], "w")
        sys.argv = ["uex", *words]
        code = run()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def fresh(name):
    folder = base / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / "template", folder)
    os.chdir(folder)
    return folder

counted = {}
for name, (words, again, codes) in job["commands"].items():
    whole = fresh("whole")
    assert forked(words) == 0, Path(job["log"]).read_text()
    wanted, kills, at = tree(whole), 0, job["first"]
    while True:
        folder = fresh("work")
        code = forked(words, at)
        if code != -signal.SIGKILL:
            assert code == 0, (name, at, code)
            break
        kills += 1
        code = forked([*words, *again])
        assert code in codes, (name, at, code, tree(folder), Path(job["log"]).read_text())
        assert tree(folder) == wanted, (name, at, sorted(set(tree(folder)) ^ set(wanted)))
        at += job["every"]
    counted[name] = kills
print(json.dumps(counted))
"""
# words, what is added to go on, the codes that are right then: 2 where it was done, and says that its output exists
COMMANDS: dict[str, tuple[list[str], list[str], list[int]]] = {
    "fit": (["fit", "photos", "-o", "n", "--seed", "1", "-O", "rounds=2", "-O", "steps=1", "-O", "stop=0"],
            ["--resume"], [0]),
    "fit in files": (["fit", "photos", "-o", "n", "--seed", "1", "-O", "rounds=1", "-O", "steps=1", "--memory", "0"],
                     ["--resume"], [0]),
    "apply": (["apply", "noise", "photos", "-o", "out", "--croissant", "--jobs", "1"], ["--resume"], [0]),
    "apply over a release": (["apply", "noise", "photos", "-o", "release", "--format", "tiff", "--force"], [], [0]),
    "apply a shard": (["apply", "noise", "photos", "-o", "out", "--shard", "1/2"], ["--resume"], [0]),
    "merge": (["merge", "merged"], ["--resume"], [0, 2]),
    "convert": (["convert", "release", "webdataset:copy"], [], [0, 2]),
    "convert to parquet": (["convert", "photos", "huggingface:copy"], [], [0, 2]),
    "eval": (["eval", "photos", "release", "--epochs", "12", "--target", "small:width=4,batch=2", "--cells", "cells",
              "--report", "r.html"], [], [0, 2]),
    "preview": (["preview", "noise", "photos/cat/0.png", "-o", "p.png"], [], [0, 2]),
    "verify": (["verify", "release", "--source", "photos", "--junit", "v.xml"], [], [0, 2]),
}  # fmt: skip


@pytest.fixture
def template(tmp_path: Path, uex: Uex) -> Path:
    """A working folder with photos, a noise, a release, and the parts of another."""
    folder = tmp_path / "template"
    for number, label in enumerate(("cat", "dog")):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(3):
            pixels = picture(100 * number + index) // 4 + 120 * number  # the class is the brightness: to be learnt
            Image.fromarray(pixels).save(folder / "photos" / label / f"{index}.png")
    os.chdir(folder)
    for words in (
        ("fit", "photos", "--method", "random", "--seed", "1", "-o", "noise"),
        ("apply", "noise", "photos", "-o", "release"),
        ("apply", "noise", "photos", "-o", "merged", "--shard", "1/2"),
        ("apply", "noise", "photos", "-o", "merged", "--shard", "2/2"),
    ):
        assert uex(*words).code == 0
    os.chdir(tmp_path)
    return folder


def kills(commands: list[str], every: int, first: int = 1) -> dict[str, int]:
    """How many kills it took until each command came to its end."""
    chosen = {name: COMMANDS[name] for name in commands}
    job = {"commands": chosen, "every": every, "first": first, "log": str(Path("log").resolve())}
    line = [sys.executable, "-c", KILLER, json.dumps(job)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    counted: dict[str, int] = json.loads(ran.stdout.splitlines()[-1])
    return counted


def test_a_killed_run_leaves_nothing_that_the_next_one_does_not_sweep(template: Path) -> None:
    counted = kills(["fit in files", "apply", "merge", "convert"], every=9, first=3)
    assert min(counted.values()) >= 2, counted


@pytest.mark.slow
def test_a_run_killed_before_each_of_its_steps_leaves_nothing(template: Path) -> None:
    counted = kills(list(COMMANDS), every=1)
    print(counted)
    assert min(counted.values()) >= 4 and sum(counted.values()) >= 200, counted
