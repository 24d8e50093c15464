"""uex as a library: arrays in, objects out, and the caller's process as it was."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran, picture
from PIL import Image

import uexcli
from uexcli.io.images import png
from uexcli.testing import pictures

SMALL = {"method": "em", "options": {"steps": 6, "step": 0.3, "rounds": 1, "theta_steps": 2, "width": 4}, "size": 16}


def images(count: int = 24) -> np.ndarray:
    """Dark and bright ones in turn, so that a net can learn which is which."""
    bright = (torch.arange(count) % 2 * 150).to(torch.uint8)[:, None, None, None]
    return (pictures(count, side=16) // 3 + bright).permute(0, 2, 3, 1).contiguous().numpy()


LABELS = [("cat", "dog")[number % 2] for number in range(24)]


@pytest.fixture(scope="module")
def noise() -> uexcli.Noise:
    return uexcli.fit(images(), LABELS, mode="samplewise", eps=8 / 255, seed=1, **SMALL)


def test_arrays_are_fitted_and_protected_within_the_bound(noise: uexcli.Noise) -> None:
    assert noise.delta is not None and noise.delta.shape == (24, 3, 16, 16) and noise.eps == pytest.approx(8 / 255)
    assert noise.rows.tolist() == list(range(24)) and noise.classes == ("cat", "dog")
    assert noise.recipe["method"]["options"]["steps"] == 6
    made = np.stack(noise.apply(images()))
    change = made.astype(int) - images().astype(int)
    assert made.dtype == np.uint8 and 0 < abs(change).max() <= 8
    assert "em, samplewise" in repr(noise) and "8/255" in str(noise._held.header["eps_text"])


@pytest.mark.filterwarnings("ignore:(only|under) ")
def test_it_is_what_the_commands_make(noise: uexcli.Noise, tmp_path: Path, uex: Any) -> None:
    folder = tmp_path / "photos"
    for key, label, pixels in zip(noise.keys, LABELS, images(), strict=True):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / key).write_bytes(png.encode(pixels))
    words = ("--method", "em", "--mode", "samplewise", "--eps", "8/255", "--seed", 1, "--size", 16)
    for name, value in SMALL["options"].items():  # type: ignore[attr-defined]
        words += ("-O", f"{name}={value}")
    ran: Ran = uex("fit", folder, *words, "-o", "files.noise.safetensors")
    assert ran.code == 0, ran.err
    from_files = uexcli.load_noise("files.noise.safetensors")
    result = uexcli.apply(from_files, folder, tmp_path / "release")
    assert result.written == 24 and result.receipt is not None and result.receipt.is_file()
    assert uexcli.apply(from_files, folder, tmp_path / "release").already
    assert uexcli.apply(uexcli.fit(folder, method="random"), folder, tmp_path / "other").receipt is None
    checked = uexcli.verify(tmp_path / "release", folder, noise=from_files)
    assert not checked.findings and checked.bounded
    uex_found = uexcli.evaluate(folder, tmp_path / "release", targets=["small:width=4,batch=8"], epochs=8, folds=1)
    assert uex_found.rows()[0]["target"].startswith("small")
    assert "<table>" in uex_found._repr_html_()


@pytest.mark.filterwarnings("ignore:(only|under) ")
def test_a_release_in_memory_is_evaluated(noise: uexcli.Noise) -> None:
    found = uexcli.evaluate(
        images(), noise.apply(images()), LABELS, targets=["small:width=4,batch=8"], epochs=8, folds=1,
        test=images(36)[24:], test_labels=LABELS[:12],
    )  # fmt: skip
    assert found.train_images == 24 and found.test_images == 12
    pandas = pytest.importorskip("pandas")
    assert isinstance(found.to_pandas(), pandas.DataFrame)


def test_grey_images_stay_grey() -> None:
    grey = list(images()[..., 0])
    fitted = uexcli.fit(grey, LABELS, mode="samplewise", eps="8/255", seed=1, **SMALL)
    for before, after in zip(grey, fitted.apply(grey), strict=True):
        assert after.shape == before.shape == (16, 16) and 0 < abs(after.astype(int) - before).max() <= 8


def test_images_may_be_of_any_sizes() -> None:
    several = [picture(number, 16 + 8 * (number % 3)) for number in range(12)]
    fitted = uexcli.fit(several, LABELS[:12], mode="samplewise", eps="8/255", seed=1, **SMALL)
    assert [after.shape for after in fitted.apply(several)] == [before.shape for before in several]


class Listed:
    """A map-style dataset, as torchvision's are."""

    transform: Any = None

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        if not 0 <= number < 24:
            raise IndexError(number)
        return Image.fromarray(images()[number]), number % 2


def test_a_dataset_is_wrapped(noise: uexcli.Noise) -> None:
    fitted = uexcli.fit(Listed(), eps="8/255", seed=1, mode="samplewise", **SMALL)
    assert fitted.classes == ("0", "1")
    wrapped = uexcli.Protected(Listed(), fitted)
    wanted = fitted.apply(images())
    shown, label = wrapped[3]
    assert np.array_equal(np.asarray(shown), wanted[3]) and label == 1 and len(wrapped) == 24
    tensors = uexcli.Protected(Listed(), fitted, transform=lambda image: torch.from_numpy(np.array(image)))
    assert torch.equal(tensors[-1][0], torch.from_numpy(wanted[23]))
    transforming = Listed()
    transforming.transform = lambda image: image
    with pytest.raises(uexcli.UexError, match="transforms its images before"):
        uexcli.Protected(transforming, fitted)


def test_new_images_need_noise_that_is_shared() -> None:
    shared = uexcli.fit(images(), LABELS, mode="classwise", eps="8/255", seed=1, **SMALL)
    made = shared.apply(images(30)[24:], ["cat"] * 6)
    assert len(made) == 6 and not np.array_equal(made[0], images(30)[24])
    own = uexcli.fit(images(), LABELS, mode="samplewise", eps="8/255", seed=1, **SMALL)
    with pytest.raises(uexcli.UexError, match="not among the 24 images"):
        own.apply(images(30)[24:])
    with pytest.raises(uexcli.UexError, match="not the image of this name"):
        own.apply(images()[::-1])


def test_noise_is_saved_and_read(noise: uexcli.Noise, tmp_path: Path) -> None:
    again = uexcli.load_noise(noise.save(tmp_path / "n.noise.safetensors"))
    assert noise.delta is not None and again.delta is not None and np.array_equal(again.delta, noise.delta)
    assert np.array_equal(again.apply(images())[5], noise.apply(images())[5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 2.0}, "`eps=2.0`"),
        ({"mode": "nosuch"}, "nosuch"),
        ({"options": {"nosuch": 1}}, "nosuch"),
        ({"patch": "99"}, "`patch=99`"),
        ({"device": "abacus"}, "`device=abacus`"),
    ],
)
def test_errors_name_the_argument(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(uexcli.UexError) as caught:
        uexcli.fit(images(), LABELS, **{**SMALL, **arguments})
    assert message in str(caught.value) and "--" not in str(caught.value)


@pytest.mark.parametrize("bad", [3, np.zeros((4, 8, 8, 7), np.uint8), np.full((4, 8, 8, 3), 0.501), [object()] * 3])
def test_what_is_no_images_is_refused(bad: Any) -> None:
    with pytest.raises(uexcli.UexError):
        uexcli.fit(bad, [0, 1, 0, 1])
    with pytest.raises(uexcli.UexError, match="3 for 24"):
        uexcli.fit(images(), [0, 1, 0])


def state() -> dict[str, Any]:
    return {
        "pixels": Image.MAX_IMAGE_PIXELS, "filters": list(warnings.filters), "environment": dict(os.environ),
        "threads": torch.get_num_threads(), "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark, "random": torch.get_rng_state().tolist(),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:(only|under) ")
def test_two_calls_leave_the_process_as_it_was(noise: uexcli.Noise, tmp_path: Path) -> None:
    before = state()
    noise.save(tmp_path / "n")
    uexcli.fit(images(), LABELS, mode="samplewise", eps=8 / 255, seed=1, **SMALL)
    uexcli.evaluate(images(), noise.apply(images()), LABELS, targets=["small:width=4,batch=8"], epochs=8, folds=1)
    assert state() == before


def test_importing_is_light_and_changes_nothing() -> None:
    code = (
        "import sys, time, warnings, os; before = list(warnings.filters); began = time.perf_counter(); import uexcli; "
        "print(time.perf_counter() - began, 'torch' in sys.modules, before == list(warnings.filters)); "
        "import uexcli.io.images.photo_files; from PIL import Image; print(Image.MAX_IMAGE_PIXELS)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy, same, pixels = ran.stdout.split()
    assert heavy == "False" and same == "True" and pixels != "None"
    assert float(seconds) < 0.5  # 50 ms on a machine that is not busy


def test_its_names_are_known() -> None:
    assert set(uexcli.__all__) <= set(dir(uexcli))
    with pytest.raises(AttributeError, match="nosuch"):
        _ = uexcli.nosuch
    assert picture(0, 8).shape == (8, 8, 3)


@pytest.mark.filterwarnings("ignore:(only|under|the noise) ")
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(uexcli.__file__).parent.parent / "docs" / "python.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "small, against none" in said and "`eps=2.0`" in said
    assert names["found"].rows()[0]["protected"] < names["found"].rows()[0]["clean"] - 0.1


def test_what_does_nothing_is_refused() -> None:
    with pytest.raises(uexcli.UexError, match="`resume`"):
        uexcli.fit(images(), LABELS, resume=True)
    with pytest.raises(uexcli.UexError, match="exclude each other"):
        uexcli.fit(images(), LABELS, no_labels=True)
    with pytest.raises(uexcli.UexError, match="one image"):
        uexcli.fit(images()[0])


def test_noise_goes_to_another_process(noise: uexcli.Noise) -> None:
    wanted = noise.apply(images())[0]
    assert np.array_equal(pickle.loads(pickle.dumps(noise)).apply(images())[0], wanted)
