"""The command line: what is printed where, progress, signals, and the whole way on real digits."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, opened, picture
from PIL import Image

import uexcli
from uexcli.cli.screen import Screen
from uexcli.io.noise import noise_file
from uexcli.messages import duration, visible
from uexcli.plugin import Progress


def test_version_help_and_module(uex: Callable[..., Ran]) -> None:
    assert uex("--version").out == f"uex {uexcli.__version__}\n"
    ran = subprocess.run([sys.executable, "-m", "uexcli", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"uex {uexcli.__version__}\n"
    assert uex("fitt").code == 2


def test_fit_says_what_it_will_do_on_stderr_and_what_it_did_on_stdout(photos: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("fit", photos, "--eps", "8/255", "--mode", "samplewise", "-O", "rounds=1", "-O", "theta_steps=1")
    assert ran.code == 0, ran.err
    assert "16 images at 16 x 16 x 3; labels: 2 classes" in ran.err
    assert "em against small, samplewise (16 noises), linf <= 8/255, on cpu" in ran.err
    assert "estimated time: " in ran.err
    assert ran.out.startswith("photos.noise.safetensors: 16 noises for 16 images in ")
    assert Path("photos.noise.safetensors").exists()


def test_quiet_says_nothing_but_the_result_and_dry_run_writes_nothing(photos: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("fit", photos, "--method", "random", "--dry-run", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "dry run: photos.noise.safetensors not written.\n"
    assert not Path("photos.noise.safetensors").exists()
    uex("fit", photos, "--method", "random")
    ran = uex("apply", "photos.noise.safetensors", photos, "-o", "release", "--dry-run")
    assert "cat/0.png -> release/cat/0.png" in ran.err
    assert not Path("release").exists()


def test_the_same_seed_gives_the_same_file_and_no_seed_another(photos: Path, uex: Callable[..., Ran]) -> None:
    quick = ("fit", photos, "-O", "rounds=2", "-O", "theta_steps=2", "-O", "batch=5")
    for name, seed in (("a", ("--seed", 5)), ("b", ("--seed", 5)), ("c", ()), ("d", ())):
        assert uex(*quick, *seed, "-o", name).code == 0
    a, b, c, d = (Path(name).read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_info_names_the_parts_and_their_options(photos: Path, uex: Callable[..., Ran]) -> None:
    uex("fit", photos, "-O", "rounds=1", "-O", "width=8", "--seed", 5, "-o", "n")
    assert "em (uexcli" in uex("info", "n").out
    header = uex("info", "n", "--json").json["header"]
    assert header["recipe"]["surrogate"]["options"] == {"width": 8}
    assert header["recipe"]["method"]["options"]["rounds"] == 1
    assert header["seed"] == 5


@pytest.mark.parametrize("norm", ["linf", "l2", "ssim"])
def test_every_norm_goes_all_the_way_at_other_sizes_than_fitted(
    norm: str, photos: Path, uex: Callable[..., Ran]
) -> None:
    Image.fromarray(picture(5, 40)[:30]).save(photos / "cat" / "wide.png")
    Image.fromarray(picture(6, 11, grey=True)).save(photos / "dog" / "grey.png")
    quick = ("-O", "rounds=1", "-O", "theta_steps=1", "-O", "steps=12")
    ran = uex("fit", photos, "--norm", norm, "--size", 16, *quick, "-o", "n", "--json", "-q")
    assert ran.code == 0, ran.err
    assert ran.json["at_bound"] > 0
    assert uex("apply", "n", photos, "-o", "release").code == 0
    ran = uex("verify", "release", "--source", photos, "--json")
    assert ran.code == 0, ran.out
    assert 0.5 < ran.json["largest_share"] <= 1 + 1e-6
    assert opened(Path("release/cat/wide.png")).size == (40, 30)
    assert opened(Path("release/dog/grey.png")).mode == "L"


def test_the_noise_file_holds_whole_levels(photos: Path, uex: Callable[..., Ran]) -> None:
    uex("fit", photos, "--method", "random", "-o", "n")
    noise = noise_file.read(Path("n"))
    levels = noise.bank() * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert int(levels.abs().max().round()) == 8


def test_preview_draws_three_panels(photos: Path, noise: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("preview", noise, photos / "cat" / "3.png", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["fitted"]
    assert ran.json["key"] == "cat/3.png"
    assert ran.json["levels"] == 8
    assert 30 < ran.json["psnr"] < 40
    width, height = opened(Path("preview.png")).size
    assert width > 2.5 * height
    assert uex("preview", noise, photos / "cat" / "3.png").code == 2
    assert uex("preview", noise, photos / "cat" / "nothing.png").code == 2


def test_doctor_looks_at_everything(uex: Callable[..., Ran]) -> None:
    ran = uex("doctor", "--json")
    assert ran.code == 0
    assert {"torch", "GPU", "onnxruntime", "plugins", "disk"} <= {check["name"] for check in ran.json["checks"]}
    assert "granularities" in uex("doctor").out


def test_progress_off_a_terminal_is_plain_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("uexcli.cli.screen.time.monotonic", lambda: clock[0])
    with Screen() as screen:
        for done, now in ((1, 0.0), (2, 29.0), (3, 30.0)):
            clock[0] = now
            screen.step(Progress(done, 4, "going well"))
    assert capsys.readouterr().err == " 50%  about 29 s left  going well\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "under a second"), (45, "45 s"), (200, "3 min"), (7800, "2 h 10 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_odd_names_stay_on_one_line() -> None:
    assert visible("a\nb\x1b[31m\udcff.png") == "a\\nb\\x1b[31m\\udcff.png"


def test_a_reader_that_goes_away_is_no_error() -> None:
    shell = f"{sys.executable} -m uexcli plugins | head -n 1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, env={**os.environ})
    assert ran.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in ran.stderr


def test_the_checksums_are_what_coreutils_check(release: Path) -> None:
    ran = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=release, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_nothing_public_tells_the_seed_or_the_noise(photos: Path, release: Path, noise: Path) -> None:
    facts = json.loads((release / "uex-release.json").read_text())
    assert not {"seed", "digests", "source", "fingerprint"} & set(facts)
    digest = noise_file.read(noise).digests[0]
    for path in release.rglob("*"):
        if path.is_file():
            assert digest not in path.read_bytes().decode("latin-1")


def test_the_demo_protects_real_digits(uex: Callable[..., Ran]) -> None:
    ran = uex("demo", "--json", "--quiet")
    assert ran.code == 0, ran.err
    cell = ran.json["evaluate"]["cells"][0]
    assert cell["clean"]["runs"][0]["curve"][-1] > 0.85
    assert cell["learnability_last"] < 0.6
    assert ran.json["verify"]["most_levels"] == 16
    sheet = np.asarray(opened(Path("uex-demo/contact-sheet.png")))
    assert sheet.shape[1] > 10 * 96
    assert uex("demo").code == 2


def test_a_failed_check_fails_also_when_nobody_reads(photos: Path, release: Path) -> None:
    (release / "cat" / "0.png").unlink()
    shell = f"{sys.executable} -m uexcli verify {release} --source {photos} | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "1"


def test_a_diverged_fit_is_no_success(photos: Path, uex: Callable[..., Ran]) -> None:
    ran = uex("fit", photos, "-O", "lr=1e30", "-q")
    assert ran.code == 3
    assert "diverged" in ran.err
    assert not Path("photos.noise.safetensors").exists()


def test_preview_never_overwrites_the_photo(photos: Path, noise: Path, uex: Callable[..., Ran]) -> None:
    photo = photos / "cat" / "3.png"
    before = photo.read_bytes()
    assert uex("preview", noise, photo, "-o", photo, "--force").code == 2
    assert photo.read_bytes() == before


def test_size_is_a_number_or_auto(photos: Path, uex: Callable[..., Ran]) -> None:
    assert uex("fit", photos, "--method", "random", "--size", "auto").code == 0
    assert uex("fit", photos, "--method", "random", "--size", "big").code == 2


def test_a_warning_is_whole_above_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setenv("TERM", "xterm")
    shown = io.StringIO()
    with Screen() as screen:
        terminal = Console(file=shown, force_terminal=True, width=100, markup=False, emoji=False, soft_wrap=True)
        monkeypatch.setattr(screen, "_err", terminal)
        screen.step(Progress(1, 4, stage="work"))
        screen.warn("mind this")
    written = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).split("\n")
    lines = [line.rpartition("\x1b[2K")[2] for line in written]  # what the bar wiped out is gone
    assert "work" in shown.getvalue() and "Warning: mind this" in lines
