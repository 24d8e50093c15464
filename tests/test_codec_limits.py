"""Pictures longer than a codec holds: refused by name before the work, or left out of a figure, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran, opened, picture
from PIL import Image

from uexcli.builtin.countermeasures.jpeg import Jpeg
from uexcli.builtin.countermeasures.webp import Webp
from uexcli.commands.verify.survival import HALF, STEPS, survival
from uexcli.core import limits
from uexcli.errors import UexError

Uex = Callable[..., Ran]
JPEG, WEBP, PNG = 65_500, 16_383, 1_000_000


def scroll(path: Path, length: int, *, wide: bool = False, depth: int = 8) -> Path:
    """A long and narrow picture."""
    pixels = np.tile(picture(length % 7, 16), (length // 16 + 1, 1, 1))[:length]
    pixels = pixels.swapaxes(0, 1) if wide else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    if depth == 16:
        import tifffile

        tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb", compression="zlib")
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def shared(photos: Path, uex: Uex) -> Path:
    """Noise that any photo can be given."""
    assert uex("fit", photos, "--method", "random", "--mode", "universal", "--seed", 1, "-o", "u.safetensors").code == 0
    return Path("u.safetensors")


@pytest.mark.parametrize("wide", [False, True])
def test_verify_leaves_a_longer_picture_out_of_jpeg_and_says_so(
    wide: bool, photos: Path, shared: Path, uex: Uex
) -> None:
    scroll(photos / "cat" / "scroll.png", JPEG + 1, wide=wide)
    assert uex("apply", shared, photos, "-o", "r").code == 0
    ran = uex("verify", "r", "--source", photos, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json["survival"]) == set(STEPS) and ran.json["survived"] == 17
    assert ran.json["checks"]["survival"] == "without JPEG for 1 of 17 images, which no JPEG file can hold"
    ran = uex("verify", "r", "--source", photos)
    assert ran.code == 0 and "no JPEG file can hold" in ran.out


def test_verify_of_longer_pictures_alone_knows_nothing_of_jpeg(photos: Path, shared: Path, uex: Uex) -> None:
    for number in range(2):
        scroll(Path(f"long/cat/long{number}.png"), JPEG + 1 + number)
    assert uex("apply", shared, "long", "-o", "r").code == 0
    ran = uex("verify", "r", "--source", "long", "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json["survival"]) == {HALF}


def test_survival_is_measured_up_to_the_limit() -> None:
    noise = np.random.default_rng(0).integers(-8, 9, (JPEG + 1, 2, 3))
    source = np.full(noise.shape, 128, np.uint8)
    published = (source + noise).astype(np.uint8)
    assert set(survival(source[:JPEG], published[:JPEG])) == set(STEPS)
    assert set(survival(source, published)) == {HALF}


@pytest.mark.parametrize(
    ("format_", "length", "options"), [("webp", WEBP, ()), ("jpeg", JPEG, ("--allow-lossy",))], ids=["webp", "jpeg"]
)
@pytest.mark.parametrize("wide", [False, True])
def test_apply_refuses_by_name_before_any_work(
    format_: str, length: int, options: tuple[str, ...], wide: bool, photos: Path, shared: Path, uex: Uex
) -> None:
    scroll(photos / "dog" / "scroll.png", length + 1, wide=wide)
    for more in ((), ("--dry-run",)):
        ran = uex("apply", shared, photos, "-o", "r", "--format", format_, *options, *more)
        assert ran.code == 3
        assert "dog/scroll.png: " in ran.err and f"{length:,} px a side" in ran.err
        assert "--format png" in ran.err
        assert not list(Path.cwd().glob("r*"))
    ran = uex("apply", shared, photos, "-o", "r", "--format", format_, *options, "--on-error", "skip", "--json")
    assert ran.code == 0, ran.err
    assert [item["key"] for item in ran.json["skipped"]] == ["dog/scroll.png"]


def test_apply_writes_webp_at_the_limit(photos: Path, shared: Path, uex: Uex) -> None:
    scroll(photos / "cat" / "scroll.png", WEBP)
    assert uex("apply", shared, photos, "-o", "r", "--format", "webp").code == 0
    assert uex("verify", "r", "--source", photos).code == 0


def test_a_png_of_16_bits_that_would_not_be_read_again_is_refused(photos: Path, shared: Path, uex: Uex) -> None:
    scroll(photos / "cat" / "scroll.tiff", PNG + 1, depth=16)
    ran = uex("apply", shared, photos, "-o", "r")
    assert ran.code == 3
    assert "cat/scroll.tiff" in ran.err and "--format tiff" in ran.err and "Please report" not in ran.err


@pytest.mark.parametrize(("codec", "most"), [(Jpeg(), JPEG), (Webp(), WEBP)])
def test_countermeasures_refuse_by_name(codec: Jpeg | Webp, most: int) -> None:
    generator = torch.Generator()
    images = torch.zeros(1, 3, 2, most + 1, dtype=torch.uint8)
    assert codec.apply(images[..., :most], generator).shape == (1, 3, 2, most)
    for long in (images, images.transpose(2, 3)):
        with pytest.raises(UexError, match=f"countermeasure '{codec.name}'.*{most:,} px a side"):
            codec.apply(long, generator)


def test_preview_of_a_long_picture(photos: Path, shared: Path, uex: Uex) -> None:
    path = scroll(photos / "cat" / "scroll.png", JPEG + 1)
    ran = uex("preview", shared, path, "-o", "sheet.png", "--json")
    assert ran.code == 0, ran.err
    assert opened(Path("sheet.png")).height > 640


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jxl"])
def test_other_formats_hold_what_can_be_decoded(suffix: str) -> None:
    assert limits.too_long(2_000_000, 3, suffix) is None
