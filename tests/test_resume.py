"""Interrupted fits: nothing is lost, and the same bytes come out in the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import Ran, picture
from PIL import Image

from uexcli.errors import Terminated, UexError
from uexcli.io.atomic import WriteError
from uexcli.io.noise import noise_file, state_file, tensors
from uexcli.runtime.interrupts import Interrupts

Uex = Callable[..., Ran]
STATE = Path("noise.state")


@pytest.fixture
def more_photos(tmp_path: Path) -> Path:
    """Two classes of 24 photos of 32 px."""
    root = tmp_path / "photos"
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for index in range(24):
            Image.fromarray(picture(100 * number + index, 32)).save(root / label / f"{index}.png")
    return root


KILLER = """
import os, random, signal, sys, time
import torch
from uexcli.cli.app import run
from uexcli.registry import load

torch.set_num_threads(1)
load()
words, chance, kills = sys.argv[1:], random.Random(1), 0

def fork(*more):
    process = os.fork()
    if process == 0:
        sys.argv = ["uex", *words, *more]
        os._exit(run())
    return process

began = time.monotonic()
assert os.waitpid(fork("-o", "whole"), 0)[1] == 0
took = time.monotonic() - began
while True:
    process = fork("-o", "noise", "--resume")
    until = time.monotonic() + took * chance.uniform(0.05, 0.4 + 0.05 * kills)
    while time.monotonic() < until and not (ended := os.waitpid(process, os.WNOHANG))[0]:
        time.sleep(0.002)
    if ended[0]:
        assert ended[1] == 0
        break
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    kills += 1
print(kills)
"""
LONG = {
    "samplewise": ("-O", "rounds=6", "-O", "theta_steps=6", "-O", "stop=0", "-O", "steps=2"),
    "classwise": ("--mode", "classwise", "-O", "rounds=8", "-O", "theta_steps=5", "-O", "stop=0", "-O", "batch=16"),
    "crops": ("-O", "rounds=6", "-O", "theta_steps=6", "-O", "stop=0", "-O", "augment=true", "-O", "steps=2"),
    "in-files": ("-O", "rounds=6", "-O", "theta_steps=6", "-O", "stop=0", "-O", "steps=2", "--memory", "0"),
    "pil": ("--method", "pil", "-O", "epochs=200"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", list(LONG))
def test_a_fit_killed_at_random_moments_ends_with_the_same_bytes(kind: str, more_photos: Path) -> None:
    words = ("fit", str(more_photos), "--seed", "1", "-q", *LONG[kind])
    ran = subprocess.run([sys.executable, "-c", KILLER, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.split()[-1]) >= 3
    assert Path("noise").read_bytes() == Path("whole").read_bytes()
    left = {path.name for path in Path.cwd().iterdir()}
    assert left == {"photos", "whole", "noise"}


def interrupted(photos: Path, number: signal.Signals, *words: str) -> subprocess.CompletedProcess[str]:
    """Start a long fit, wait for its first state, and send it a signal."""
    line = [sys.executable, "-m", "uexcli", "fit", str(photos), "-o", "noise", "--seed", "1", *LONG["samplewise"]]
    process = subprocess.Popen(
        [*line, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  background jobs ignore it
    )
    while process.poll() is None and not has_content():
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate()
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def has_content() -> bool:
    with contextlib.suppress(OSError, UexError, safetensors.SafetensorError):
        return "delta" in safetensors.torch.load_file(STATE)
    return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fit_says_how_to_go_on(number: signal.Signals, code: int, more_photos: Path, uex: Uex) -> None:
    ran = interrupted(more_photos, number, "-O", "rounds=3000")
    assert ran.returncode == code, ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("Interrupted. " if code == 130 else "Terminated. ")
    again = line.partition("go on with: ")[2]
    assert again.startswith("uex fit ") and again.endswith(" --resume")
    assert "Traceback" not in ran.stderr
    assert {path.name for path in Path.cwd().iterdir()} == {"photos", STATE.name}
    before = STATE.read_bytes()
    ran_again = uex("fit", more_photos, "-o", "noise", "--seed", 1, *LONG["samplewise"])
    assert ran_again.code == 2
    assert "--resume" in ran_again.err and "--force" in ran_again.err
    assert STATE.read_bytes() == before


def test_resume_refuses_another_recipe_seed_bound_or_photos(more_photos: Path, uex: Uex) -> None:
    ran = interrupted(more_photos, signal.SIGTERM)
    assert ran.returncode == 143, ran.stderr
    before = STATE.read_bytes()
    same = ("fit", more_photos, "-o", "noise", "--resume")
    for words, said in (
        (("--seed", 1), "recipe"),
        (("--seed", 2, *LONG["samplewise"]), "seed"),
        ((*LONG["samplewise"], "--eps", "9/255"), "eps"),
    ):
        refused = uex(*same, *words)
        assert refused.code == 2, refused.err
        assert said in refused.err
    Image.fromarray(picture(999, 32)).save(more_photos / "cat" / "0.png")
    refused = uex(*same, *LONG["samplewise"])
    assert refused.code == 2
    assert "photos" in refused.err
    assert STATE.read_bytes() == before


def test_a_drawn_seed_is_kept_for_the_rest_of_the_fit(photos: Path, uex: Uex) -> None:
    quick = ("-O", "rounds=2", "-O", "theta_steps=2", "-O", "stop=0")
    job: dict[str, Any] = {}
    real = state_file.StateFile.save

    def stop(self: state_file.StateFile, *_: Any, **__: Any) -> None:
        real(self, lambda: {}, milestone=True)
        job.update(self._job)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_file.StateFile, "save", stop)
        assert uex("fit", photos, "-o", "noise", *quick).code == 130
    assert uex("fit", photos, "-o", "noise", "--resume", *quick).code == 0
    assert noise_file.read(Path("noise")).header["seed"] == job["seed"]
    assert not STATE.exists()


@pytest.mark.parametrize("spoil", [b"", b"garbage", b"\x80\x05pickle"])
def test_a_damaged_state_is_told(spoil: bytes, photos: Path, uex: Uex) -> None:
    STATE.write_bytes(spoil)
    ran = uex("fit", photos, "-o", "noise", "--method", "random", "--resume")
    assert ran.code == 3
    assert "--force" in ran.err
    assert uex("fit", photos, "-o", "noise", "--method", "random", "--force").code == 0
    assert not STATE.exists()


def test_resume_without_a_state_starts_afresh(photos: Path, uex: Uex) -> None:
    assert uex("fit", photos, "-o", "noise", "--method", "random", "--resume").code == 0


def test_a_fit_goes_on_where_its_state_cannot_be_written(
    photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tensors.write

    def full(path: Path, what: Any, *rest: Any) -> None:
        if path == STATE and what:
            raise WriteError(f"cannot write {path}: no space left on the device.")
        real(path, what, *rest)

    monkeypatch.setattr(tensors, "write", full)
    ran = uex("fit", photos, "-o", "noise", "-O", "rounds=1", "-O", "theta_steps=2")
    assert ran.code == 0
    assert "no space left on the device" in ran.err
    assert noise_file.read(Path("noise")).bank().abs().max() > 0


def test_a_state_on_another_device_is_written_while_that_goes_on(tmp_path: Path) -> None:
    """A tensor that claims to lie elsewhere is copied at once, and written by another thread."""

    class Elsewhere(torch.Tensor):
        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device("cuda")

        def cpu(self, *_: Any, **__: Any) -> torch.Tensor:
            return self.as_subclass(torch.Tensor).clone()

    journal = state_file.StateFile(tmp_path / "state", {"seed": 1})
    values = torch.arange(4.0).as_subclass(Elsewhere)
    journal.save(lambda: {"delta": values, "round": 2}, milestone=True)
    values.add_(10)
    journal.save(lambda: {"delta": values, "round": 3}, milestone=True)
    values.zero_()
    journal._finish()
    again = state_file.StateFile(tmp_path / "state", {"seed": 1})
    assert again.begin(resume=True)
    state = again.load()
    assert state is not None
    assert state["round"] == 3
    assert state["delta"].tolist() == [10, 11, 12, 13]
    journal.remove()
    assert not (tmp_path / "state").exists()


@pytest.fixture
def listening() -> Iterator[None]:
    """Hear Ctrl-C also where the tests run as a background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: int) -> None:
    """Let this process hear a signal, and give the handler its turn."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_for_a_safe_point_and_a_second_does_not(
    number: int, error: type[BaseException], listening: None
) -> None:
    with Interrupts() as interrupts:
        interrupts.stop()
        with pytest.raises(error):
            send(number)  # nothing said yet that there will be safe points
    with Interrupts() as interrupts:
        assert not interrupts.safe_point()
        send(number)
        assert interrupts.safe_point()
        with pytest.raises(error):
            send(number)
        with pytest.raises(error):
            interrupts.stop()


def test_a_held_signal_stops_the_work_when_no_safe_point_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uexcli.runtime.interrupts.PATIENCE", 0.05)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with Interrupts() as interrupts:
        interrupts.safe_point()
        send(signal.SIGTERM)
        with pytest.raises(Terminated):
            time.sleep(5)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before


def interrupt_at_the_first_save(uex: Uex, *words: object) -> Ran:
    """Run a fit that is interrupted once its first state is written."""
    real = state_file.StateFile.save

    def stop(self: state_file.StateFile, state: Any, **_: Any) -> None:
        real(self, state, milestone=True)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_file.StateFile, "save", stop)
        return uex(*words)


def test_an_output_that_is_there_costs_no_other_fits_state(photos: Path, uex: Uex) -> None:
    same = ("fit", photos, "-o", "noise", "-O", "rounds=2", "-O", "theta_steps=2")
    assert uex(*same, "--seed", 1).code == 0
    assert interrupt_at_the_first_save(uex, *same, "--seed", 2, "--force").code == 130
    before = STATE.read_bytes()
    ran = uex(*same)
    assert ran.code == 0
    assert "nothing to do" in ran.out and "left from another fit" in ran.err
    assert STATE.read_bytes() == before
    assert uex(*same, "--dry-run").code == 0
    assert STATE.read_bytes() == before
    assert uex(*same, "--resume").code == 0
    assert noise_file.read(Path("noise")).header["seed"] == 2
    assert not STATE.exists()


def test_a_state_that_a_kill_left_beside_its_noise_goes(
    photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = ("fit", photos, "-o", "noise", "--method", "random", "--seed", 1)
    with monkeypatch.context() as patch:
        patch.setattr(state_file.StateFile, "remove", lambda _self: None)
        assert uex(*same).code == 0
    assert STATE.exists()
    assert uex(*same, "--dry-run").code == 0
    assert STATE.exists()
    assert "nothing to do" in uex(*same).out
    assert not STATE.exists()


def test_a_fit_that_fails_by_itself_leaves_no_state(photos: Path, uex: Uex) -> None:
    ran = uex("fit", photos, "-o", "noise", "-O", "lr=1e30", "-O", "rounds=3")
    assert ran.code == 3
    assert "diverged" in ran.err
    assert {path.name for path in Path.cwd().iterdir()} == {"photos"}


def test_a_state_whose_parts_do_not_fit_is_told(photos: Path, uex: Uex) -> None:
    same = ("fit", photos, "-o", "noise", "--seed", 1, "-O", "rounds=2", "-O", "theta_steps=2")
    assert interrupt_at_the_first_save(uex, *same).code == 130
    found, metadata = tensors.read(STATE)
    tensors.write(STATE, {name: tensor.clone() for name, tensor in found.items() if name != "delta"}, metadata)
    ran = uex(*same, "--resume")
    assert ran.code == 3
    assert "does not fit" in ran.err and "--force" in ran.err
