"""uex sends nothing anywhere: no socket, no look-up, no file of another library's in the cache."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from conftest import Ran
from safetensors.torch import load_file, safe_open, save_file

import uexcli
from uexcli.runtime import network

ROOT = Path(__file__).parent.parent
EVERYTHING = Path(__file__).parent / "everything.py"
REPORTING = {"onnxruntime", "huggingface_hub", "timm", "open_clip"}
# Tells a log of every address that Python code looks up or connects to, also in forked processes.
WATCH = """
import os, sys
def told(event, arguments):
    name = event.partition(".")[0]
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
        if isinstance(address, (str, bytes)):
            return  # of this machine
    elif name not in ("http", "urllib", "ftplib", "smtplib") and not event.startswith("socket.get"):
        return
    with open(os.environ["WATCHED"], "a") as file:
        file.write(f"{event} {arguments!r}\\n")
sys.addaudithook(told)
"""


def child(**more: str) -> dict[str, str]:
    """The environment of a process that uses this checkout, whatever was silenced here."""
    kept = {name: value for name, value in os.environ.items() if name not in uexcli.SILENCED}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.parametrize("name", sorted(uexcli.SILENCED))
def test_reports_are_off_whatever_the_environment_says(name: str) -> None:
    code = f"import os, uexcli; print(os.environ[{name!r}])"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=child(**{name: "0"}), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ran.stdout == "1\n"


SOURCES = sorted(
    path for place in ("plugins", "benchmarks", "examples", "tests") for path in (ROOT / place).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_who_imports_what_reports_imports_uexcli_first(path: Path) -> None:
    """Within uexcli it is first by nature; what is imported by a string or by name counts, too."""
    text = path.read_text()
    tree = ast.parse(text)
    lines = [number for number, name in _imports(tree) if name.partition(".")[0] in REPORTING]
    first = [number for number, name in _imports(tree, top=True) if name.partition(".")[0] == "uexcli"]
    assert not lines or (first and min(first) < min(lines)), f"{path}: uexcli comes later than line {min(lines)}"
    if path != Path(__file__):
        assert not re.search(r"import_module\(.(onnxruntime|huggingface_hub)", text)


def _imports(tree: ast.Module, *, top: bool = False) -> list[tuple[int, str]]:
    found = []
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append((node.lineno, node.module))
    return found


def _wrapped(log: Path) -> list[str]:
    """What a command is run by: cut off from the network where that may be done, its calls written down."""
    words: list[str] = []
    for wrapper in (["unshare", "-rn"], ["strace", "-f", "--seccomp-bpf", "-e", "trace=network", "-o", str(log)]):
        if shutil.which(wrapper[0]) and subprocess.run([*words, *wrapper, "true"], check=False).returncode == 0:
            words += wrapper
    return words


def watched(command: Sequence[object], folder: Path, **more: str) -> tuple[list[str], list[str], str]:
    """Run Python in a folder; give what it asked of the network, the files it left at home, and what it printed."""
    home, site, log, calls = (folder.with_name(f"{folder.name}-{name}") for name in ("home", "site", "log", "calls"))
    for place in (folder, home, site):
        place.mkdir()
    (site / "sitecustomize.py").write_text(WATCH)
    paths = os.pathsep.join([str(site), str(ROOT), str(ROOT / "plugins"), str(ROOT / "tests")])
    environment = child(
        HOME=str(home), XDG_CACHE_HOME=str(home / "cache"), PYTHONPATH=paths, WATCHED=str(log), **more
    )  # fmt: skip
    words = [*_wrapped(calls), sys.executable, *map(str, command)]
    ran = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    native = calls.read_text().splitlines() if calls.exists() else []
    asked = [line for line in native if re.search(r"AF_INET|AF_NETLINK|AF_PACKET", line)]
    asked += log.read_text().splitlines() if log.exists() else []
    return asked, [str(path) for path in home.rglob("*") if path.is_file()], ran.stdout


def test_no_command_asks_anything_of_the_network(tmp_path: Path) -> None:
    asked, left, told = watched([EVERYTHING], tmp_path / "work")
    assert asked == []
    assert left == []
    commands = {line.split()[1] for line in told.splitlines()}
    registered = set(re.findall(r'app\.command\("(\w+)"\)', (ROOT / "uexcli/cli/app.py").read_text()))
    assert commands == registered


def test_a_look_up_would_be_seen(tmp_path: Path) -> None:
    """The test above can fail: Python's look-ups are seen, and where strace is, those of native code."""
    code = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    asked, _, _ = watched(["-c", code], tmp_path / "python")
    assert any("example.invalid" in line for line in asked)
    if "strace" in _wrapped(tmp_path / "log"):
        code = "import ctypes; ctypes.CDLL(None).socket(2, 2, 0)"
        assert watched(["-c", code], tmp_path / "native")[0]


# ---------------------------------------------------------------------------------- downloads that nobody asked for


def test_while_the_network_is_cut_nothing_is_looked_up() -> None:
    before = (socket.getaddrinfo, socket.create_connection, os.environ.get(network.OFFLINE))
    with network.cut():
        with pytest.raises(OSError, match="no download was asked for"):
            socket.getaddrinfo("localhost", 80)
        with pytest.raises(OSError, match="no download was asked for"):
            socket.create_connection(("127.0.0.1", 9))
        assert os.environ[network.OFFLINE] == "1"
    assert (socket.getaddrinfo, socket.create_connection, os.environ.get(network.OFFLINE)) == before


@pytest.mark.parametrize("command", ["apply", "verify"])
def test_a_noise_file_alone_downloads_no_weights(
    command: str, photos: Path, uex: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stranger's noise file may name any net; only `--weights auto` lets it be fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    fitted = uex("fit", photos, "--method", "random", "--mode", "clusterwise", "-O", "clusters=2",
                 "-O", "encoder=pixels", "-o", "n")  # fmt: skip
    assert fitted.code == 0, fitted.err
    _ask_for(Path("n"), {"name": "resnet50", "options": {"weights": "auto"}, "from": "uexcli 0"})
    asked: list[object] = []

    def look_up(*given: object, **_: object) -> None:
        asked.append(given[0])
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    new = tmp_path / "new"
    new.mkdir()
    (photos / "cat/0.png").rename(new / "other.png")
    if command == "verify":
        (tmp_path / "there").mkdir()
        (tmp_path / "there/other.png").write_bytes((new / "other.png").read_bytes())
        words: list[object] = ["verify", tmp_path / "there", "--source", new, "--noise", "n", "--eps", "8/255"]
    else:
        words = ["apply", "n", new, "-o", "r"]
    ran = uex(*words)
    assert ran.code == 3 and "'resnet50'" in ran.err and "--weights auto" in ran.err, ran.err
    assert asked == []
    assert uex(*words, "--weights", "auto").code == 3
    assert asked == ["download.pytorch.org"]


def _ask_for(path: Path, encoder: dict[str, object]) -> None:
    import json

    with safe_open(path, "pt") as opened:
        header = json.loads(opened.metadata()["uex"])
    header["recipe"]["encoder"] = encoder
    header["recipe"]["granularity"]["options"]["encoder"] = "resnet50"
    tensors = {**load_file(path), "memory.centres": torch.zeros(2, 2048)}
    save_file(tensors, path, {"uex": json.dumps(header)})
