"""Fits that are bigger than memory: in files, bounded, and with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran, picture
from PIL import Image

from uexcli.commands.fit import memory
from uexcli.core.nets import SmallNet
from uexcli.errors import UsageError
from uexcli.io.noise import noise_file
from uexcli.io.noise.mapped import Mapped
from uexcli.runtime import machine

Uex = Callable[..., Ran]
EM = ("-O", "rounds=2", "-O", "theta_steps=3", "-O", "stop=0", "--seed", 1)


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 2**32), ("500M", 500 * 2**20), ("1.5 gb", 3 * 2**29), ("0", 0), ("77", 77)]
)
def test_sizes(text: str, size: int) -> None:
    assert memory.parse(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1", "1e9", "4 Gi B x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="`memory="):
        memory.parse(text)


@pytest.mark.parametrize(
    "words",
    [
        EM,
        (*EM, "--mode", "classwise"),
        ("--method", "random", "--seed", 1),
        ("--method", "lsp", "--seed", 1),
        ("--method", "pil", "-O", "epochs=3", "--seed", 1),
        (*EM, "--norm", "l2"),
    ],
)
def test_in_files_the_same_noise_comes_out(words: tuple[Any, ...], photos: Path, uex: Uex) -> None:
    for name, limit in (("here", "64GiB"), ("files", "0")):
        ran = uex("fit", photos, *words, "-o", name, "--memory", limit, "--json")
        assert ran.code == 0, ran.err
        assert (ran.json["plan"]["in_files"] > 0) == (name == "files")
        assert ("lie in files beside the output" in ran.err) == (name == "files")
    assert Path("here").read_bytes() == Path("files").read_bytes()
    assert {path.name for path in Path.cwd().iterdir()} == {"photos", "here", "files"}


def test_skipped_images_leave_no_gap(photos: Path, uex: Uex) -> None:
    (photos / "cat" / "0.png").write_bytes(b"no image")
    for name, limit in (("here", "64GiB"), ("files", "0")):
        words = ("fit", photos, *EM, "-o", name, "--memory", limit, "--on-error", "skip")
        assert uex(*words).code == 0
    assert Path("here").read_bytes() == Path("files").read_bytes()
    assert len(noise_file.read(Path("files")).delta) == 15


def test_too_little_memory_says_how_much_is_needed(photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "--memory", "1MiB")
    assert ran.code == 3
    assert "at least" in ran.err and "--memory 0" in ran.err
    assert uex("fit", photos, "--memory", "much").code == 2


def test_a_file_gives_its_memory_back_and_keeps_what_was_written(tmp_path: Path) -> None:
    store = Mapped(tmp_path)
    before = machine.resident()
    bank = store.bank((16, 1024, 1024), torch.device("cpu"))  # 64 MiB
    bank.fill_(1.5)
    assert machine.resident() - before > 48 * 2**20
    store.release()
    assert machine.resident() - before < 16 * 2**20
    assert bool((bank == 1.5).all())
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_activations_are_what_a_step_keeps() -> None:
    model = SmallNet(num_classes=10, channels=3, size=32)
    few, many = (memory.activations(model.train(), model, torch.rand(count, 3, 32, 32), None) for count in (2, 8))
    assert abs(few - many) < 0.1 * few  # per image
    outputs = 4 * (32 * 32 * 32 + 64 * 16 * 16 + 128 * 8 * 8 + 128 * 4 * 4)  # of the convolutions, float32
    assert 2 * outputs < few < 6 * outputs


def test_nets_and_banks_that_a_method_keeps_are_counted(
    photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "resident", lambda: 0)

    def told(*words: Any) -> int:
        ran = uex("fit", photos, "--dry-run", "--json", *words)
        assert ran.code == 0, ran.err
        return int(ran.json["plan"]["memory"])

    net = SmallNet(num_classes=2, channels=3, size=16, width=16)  # the default surrogate
    weights = 4 * sum(parameter.numel() for parameter in net.parameters())
    few, many = (told("--method", "sep", "-O", f"checkpoints={count}") for count in (2, 22))
    assert many - few == pytest.approx(memory.HOLES * 20 * 2 * weights, abs=1)
    one, two = (told("--method", "tap", "-O", f"restarts={count}") for count in (1, 2))
    assert two - one == 16 * 3 * 16 * 16 * 4  # a bank


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux gives it")
def test_the_stated_peak_holds(tmp_path: Path) -> None:
    """Measured from outside, in a process of its own: 4,000 photos of 64 px."""
    root = tmp_path / "photos"
    for number in range(4000):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(picture(number % 50, 64), number // 50, axis=0)).save(folder / f"{number}.bmp")
    code = "import resource, sys; from uexcli.cli.app import run; run(); " + (
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    peaks = {}
    for limit in ("0", "64GiB"):
        words = ["fit", "photos", "-o", limit, "--json", "-q", "--memory", limit, *map(str, EM)]
        ran = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, env=dict(os.environ)
        )
        document, _, peak = ran.stdout.rstrip().rpartition("\n")
        peaks[limit] = int(peak)
        assert int(peak) <= json.loads(document)["plan"]["memory"]
    assert peaks["0"] < peaks["64GiB"] - 100 * 2**20
    assert Path("0").read_bytes() == Path("64GiB").read_bytes()
