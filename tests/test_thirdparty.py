"""A stranger's package, installed for real, adds a granularity and a norm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "thirdparty"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package and install it into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "--target", str(target), str(PACKAGE)], check=True, capture_output=True)
    return target


def run(site: Path, *words: object, plugins: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    if plugins is not None:
        environment["UEX_PLUGINS"] = plugins
    command = [sys.executable, "-m", "uexcli", *(str(word) for word in words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def names(site: Path, plugins: str | None = None) -> set[str]:
    listed = json.loads(run(site, "plugins", "--json", plugins=plugins).stdout)["plugins"]
    return {f"{item['kind']} {item['name']} from {item['plugin']} {item['version']}" for item in listed}


def test_it_is_listed_with_its_provenance_and_can_be_hidden(installed: Path) -> None:
    mine = {"granularity brightness from uex-example 1.2", "norm rms from uex-example 1.2"}
    assert mine <= names(installed)
    assert not mine & names(installed, plugins="uex_clusters")


def test_it_keeps_the_shipped_contracts(installed: Path) -> None:
    code = "from uexcli.testing import check; import uex_example as e; check(e.Rms); check(e.Brightness(bands=4))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)


def test_it_works_from_fit_to_verify_and_the_noise_file_needs_it(installed: Path, photos: Path) -> None:
    fitted = run(
        installed,
        "fit",
        photos,
        "--mode",
        "brightness",
        "--norm",
        "rms",
        "--method",
        "random",
        "-O",
        "bands=2",
        "-o",
        "n",
    )
    assert fitted.returncode == 0, fitted.stderr
    assert "brightness (2 noises), rms <= 6/255" in fitted.stderr
    applied = run(installed, "apply", "n", photos, "-o", "release")
    assert applied.returncode == 0, applied.stderr
    verified = run(installed, "verify", "release", "--source", photos, "--json")
    assert verified.returncode == 0, verified.stdout
    assert json.loads(verified.stdout)["largest_share"] > 0.9
    without = run(installed, "apply", "n", photos, "-o", "other", plugins="")
    assert without.returncode == 3
    assert "needs the norm 'rms'" in without.stderr
    assert "uex-example 1.2" in without.stderr
