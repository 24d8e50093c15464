"""What a file shows is what was written into it: two decoders, every format, depth and layout, and the promise."""

from __future__ import annotations

import collections
import functools
import importlib.util
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from conftest import Ran, picture
from PIL import Image

from benchmarks import sweep
from benchmarks.pictures import plain, tiff
from benchmarks.pictures.cases import Case, cases, scene, shown
from benchmarks.pictures.tiff import Layout, Samples
from uexcli import plugin
from uexcli.commands.protect import memory
from uexcli.commands.verify import strict
from uexcli.errors import UexError
from uexcli.io.images import photo_files, png
from uexcli.io.images.second import decoder, exact, png_passes, scaled

Uex = Callable[..., Ran]
# Kinds of which no file, or not each, is read: refused by name, as Pillow does not open them or decoders do not agree.
REFUSED = {
    "bmp 16 bits 444", "bmp 32 bits 888-turned", "bmp 32 bits 101010", "jpeg 12 bits", "jpeg lossless",
    "tiff grey10", "tiff white10", "tiff white12", "tiff grey14", "tiff white14", "tiff rgb4", "tiff rgb10",
    "tiff rgb12", "tiff grey8-alpha-and-more", "tiff grey16-alpha", "tiff grey16-premultiplied",
    "tiff grey16-alpha-and-more", "tiff rgb16-alpha-and-more", "tiff cielab16", "tiff ycbcr-21",
}  # fmt: skip


@functools.cache
def every() -> dict[str, Case]:
    jxl = importlib.util.find_spec("pillow_jxl") is not None
    return {case.name: case for case in cases() if jxl or not case.kind.startswith("jxl")}


def by_name(name: str) -> Case:
    return every()[name]


@pytest.fixture(scope="module")
def made() -> list[Case]:
    """Every fifth picture, and the first of each kind."""
    found, seen = [], set[str]()
    for number, case in enumerate(every().values()):
        if number % 5 == 0 or case.kind not in seen:
            found.append(case)
        seen.add(case.kind)
    return found


def test_a_file_is_read_as_it_was_written_or_refused(
    made: list[Case], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong, read = [], collections.defaultdict(set)
    for case in made:
        path = tmp_path / case.name
        path.write_bytes(case.data)
        outcome, values, why = sweep.read(case, path)
        read[case.kind].add(outcome)
        if outcome in ("differ", "silent") or sweep.alike(case, values) == "apart":
            wrong.append(f"{case.name}: {outcome} {why}")
        if outcome.startswith("refused"):
            assert case.name in why and "\n" not in why
    assert not wrong
    none = {kind for kind, outcomes in read.items() if not outcomes & {"agree", "shallow", "refused, rightly"}}
    assert none <= REFUSED
    assert {kind for kind, outcomes in read.items() if "shallow" in outcomes} == {"avif 10 bits", "avif 12 bits"}
    assert capfd.readouterr().err == ""  # libpng complains of interlaced files, where it is let


def test_the_second_decoder_gives_what_was_written(made: list[Case]) -> None:
    outcomes = {case.name: sweep.second(case) for case in made}
    assert not {name: why for name, (outcome, why) in outcomes.items() if outcome == "differ"}
    assert sum(outcome == "agree" for outcome, _ in outcomes.values()) > 0.85 * len(made)


# --------------------------------------------------------------------------------------------- end to end

PLANAR = Samples(scene(3, 16), 16, 2)


def with_noise(folder: Path, uex: Uex, *given: Case) -> Path:
    """A folder with the cases' files, and noise for any photo."""
    (folder / "p").mkdir()
    for case in given:
        (folder / "p" / case.name).write_bytes(case.data)
    (folder / "f").mkdir()
    for seed in (1, 2):
        Image.fromarray(picture(seed)).save(folder / "f" / f"{seed}.png")
    ran = uex("fit", folder / "f", "--method", "random", "--mode", "universal", "-o", folder / "u.noise.safetensors")
    assert ran.code == 0, ran.err
    return folder / "p"


WHOLE = [
    "rgb16-le-planar-strip-none.tif", "rgb16-alpha-be-planar-strip5-none.tif", "white16-le-strip-none.tif",
    "grey12-le-strip-none.tif", "grey8-alpha-le-planar-strip-deflate.tif", "rgb8-premultiplied-le-strip-none.tif",
    "rgb16-premultiplied-le-strip-none.tif", "grey16-unspecified-le-planar-strip-none.tif",
    "type0-2-1-clear.png", "type0-4-1-interlaced-clear.png", "type2-16-1-interlaced.png",
    "pgm-65535-bytes.pgm", "ppm-1023-text.ppm", "ppm-65535-bytes.ppm", "pgm-100-bytes.pgm",
    "jp2-12-4-1.jp2", "jp2-16-3-2.jp2", "rgb16-le-strip-none-turn6.tif", "bmp8-palette-40-runs.bmp",
]  # fmt: skip


@pytest.mark.parametrize("format_", ["png", "tiff"])
def test_what_is_released_is_within_the_bound_of_what_was_written(format_: str, tmp_path: Path, uex: Uex) -> None:
    given = [by_name(name) for name in WHOLE]
    photos = with_noise(tmp_path, uex, *given)
    ran = uex("apply", "u.noise.safetensors", photos, "-o", "r", "--format", format_)
    assert ran.code == 0, ran.err
    for case in given:
        values = decoder.decode((tmp_path / "r" / case.name).with_suffix(f".{format_}").read_bytes()).values
        within(values, case)
    ran = uex("verify", "r", "--source", photos, "--strict", "--json")
    assert ran.code == 0, ran.out
    assert ran.json["checks"]["decoders"].startswith(f"{2 * len(given)} of {2 * len(given)} files are read alike")
    assert ran.json["alone"] == []


def within(values: np.ndarray, case: Case) -> None:
    """Released values are the true ones, changed, by 8 levels of 8 bits at most."""
    truth = case.truth
    assert truth is not None and values.dtype == truth.dtype and values.shape == truth.shape, case.name
    change = sweep.difference(values, replace(case, premultiplied=False))
    slack = np.full((*truth.shape[:2], 1), case.slack + 0.01)
    if values.shape[2] in (2, 4):
        assert np.array_equal(values[:, :, -1], truth[:, :, -1]), case.name
        change = change[:, :, :-1]
        if case.premultiplied:  # a small alpha tells its colour the worse
            alpha = truth[:, :, -1:] / np.iinfo(truth.dtype).max
            slack = np.where(alpha > 0, 0.5 / np.maximum(alpha, 1e-9), 255) + 1
    assert change.max() > 4 and (change <= 8 + slack).all(), (case.name, (change - slack).max())


@pytest.mark.parametrize("format_", ["webp", "jxl"])
def test_16_bit_grey_with_alpha_passes_in_formats_of_8_bits(format_: str, tmp_path: Path, uex: Uex) -> None:
    if format_ == "jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    case = by_name("type4-16-1.png")
    photos = with_noise(tmp_path, uex, case)
    assert uex("apply", "u.noise.safetensors", photos, "-o", "r", "--format", format_).code == 0
    ran = uex("verify", "r", "--source", photos, "--strict")
    assert ran.code == 0, ran.out
    whole, half = (photo_files.decode(case.data, whole=whole) for whole in (True, False))
    assert half.pixels.shape[2] == whole.pixels.shape[2] == 1
    assert np.array_equal(half.pixels, whole.pixels) and half.changes == (photo_files.SHALLOW,)


def test_jpeg_xl_of_16_bit_grey_with_alpha_is_read_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    case = by_name("jxl-16-2-1-True.jxl")
    whole, half = (photo_files.decode(case.data, whole=whole) for whole in (True, False))
    assert case.truth is not None and whole.deep is not None and whole.deep_alpha is not None
    assert np.array_equal(np.dstack([whole.deep, whole.deep_alpha]), case.truth)
    assert np.array_equal(half.pixels, case.truth[:, :, :1] >> 8) and half.changes == (photo_files.SHALLOW,)


@pytest.mark.parametrize("format_", ["webp", "jxl"])
def test_deep_jpeg_xl_passes_in_formats_of_8_bits(format_: str, tmp_path: Path, uex: Uex) -> None:
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    made = []
    for bits, channels in itertools.product((10, 12, 16), (1, 2, 3, 4)):
        values = scene(channels, bits).astype(np.uint16)
        data = imagecodecs.jpegxl_encode(values, lossless=True, bitspersample=bits)
        made.append(Case(f"{bits}-{channels}.jxl", "jxl", data, None))
        whole, half = (photo_files.decode(data, whole=whole) for whole in (True, False))
        assert np.array_equal(half.pixels, whole.pixels) and half.changes == (photo_files.SHALLOW,)
    photos = with_noise(tmp_path, uex, *made)
    assert uex("apply", "u.noise.safetensors", photos, "-o", "r", "--format", format_).code == 0
    ran = uex("verify", "r", "--source", photos, "--strict")
    assert ran.code == 0, ran.out


REFUSALS = {
    "signed": (Samples(scene(1, 8) - 128, 8, 1, format=2), Layout(), "no 8-bit grid"),
    "planar-ink": (Samples(scene(4, 16), 16, 5), Layout(planar=True), "do not agree"),
    "planar-lab": (Samples(scene(3, 8), 8, 8), Layout(planar=True), "do not agree"),
    "subsampled": (Samples(scene(3, 8), 8, 6, subsampling=(2, 2)), Layout(tile=16), "only one decoder"),
    "short-palette": (
        Samples(scene(1, 8), 8, 3, colours=np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)),
        Layout(), "palette",
    ),
    "12-bit-colour": (Samples(scene(3, 12), 12, 2), Layout(), "a kind of TIFF that is not read"),
}  # fmt: skip


@pytest.mark.parametrize(("samples", "layout", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_no_two_decoders_agree_on_is_refused_by_name(
    samples: Samples, layout: Layout, words: str, tmp_path: Path, uex: Uex
) -> None:
    case = Case("a.tif", "tiff", tiff.write(samples, layout), None)
    ran = uex("apply", "u.noise.safetensors", with_noise(tmp_path, uex, case), "-o", "r")
    assert ran.code == 3 and "a.tif: " in ran.err and words in ran.err
    assert not Path("r").exists()


def test_ink_of_which_nobody_tells_what_0_means_is_refused(tmp_path: Path, uex: Uex) -> None:
    case = by_name("cmyk-bare-1.jpg")
    ran = uex("apply", "u.noise.safetensors", with_noise(tmp_path, uex, case), "-o", "r")
    assert ran.code == 3 and "cmyk-bare-1.jpg: " in ran.err and "Adobe" in ran.err and "Save it anew" in ran.err


def test_white_of_16_bits_in_jpeg_2000_does_not_become_black() -> None:
    """Pillow rounds 65,535 up to 256, and keeps 0 of that."""
    import imagecodecs

    values = np.full((9, 7, 3), 65535, np.uint16)
    data = bytes(imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="JP2"))
    for whole in (True, False):
        assert photo_files.decode(data, whole=whole).pixels.min() == 255


def test_depth_that_is_lost_is_told() -> None:
    for name, said in (("avif-10-3-444-1.avif", "10 bits to 8"), ("avif-12-1-444-1.avif", "12 bits to 8")):
        case = by_name(name)
        assert said in photo_files.decode(case.data, whole=True).changes
    case = by_name("ppm-65535-bytes.ppm")
    assert photo_files.decode(case.data, whole=True).changes == ()
    assert photo_files.decode(case.data).changes == (photo_files.SHALLOW,)


def test_samples_that_are_dropped_are_told() -> None:
    for name in ("rgb8-unspecified-le-strip-none.tif", "rgb16-unspecified-le-strip-none.tif"):
        case = by_name(name)
        assert "1 more sample a pixel dropped" in photo_files.decode(case.data, whole=True).changes


def test_16_bit_grey_in_netpbm_is_fitted_as_grey(tmp_path: Path, uex: Uex) -> None:
    (tmp_path / "p").mkdir()
    for seed in (1, 2):
        data = plain.netpbm(scene(1, 16, seed), 65535, text=False)
        (tmp_path / "p" / f"{seed}.pgm").write_bytes(data)
    ran = uex("fit", "p", "--method", "random", "-o", "n.noise.safetensors", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["plan"]["channels"] == 1


# --------------------------------------------------------------------------------------------- the second


def test_a_photo_that_pillow_misreads_is_found_by_strict_alone(
    tmp_path: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before Pillow's reading of such files was held against another's: rubbish in, rubbish out, and all is well."""
    photos = with_noise(tmp_path, uex, Case("a.tif", "tiff", tiff.write(PLANAR, Layout(planar=True)), None))
    monkeypatch.setattr(exact, "read", lambda *_, **__: exact.Exact(None))
    assert uex("apply", "u.noise.safetensors", photos, "-o", "r").code == 0
    assert uex("verify", "r", "--source", photos).code == 0
    ran = uex("verify", "r", "--source", photos, "--strict", "--json", "--junit", "report.xml")
    assert ran.code == 1
    assert [(one["code"], one["path"]) for one in ran.json["findings"]] == [("decoders-differ", "a.tif")]
    assert 'name="decoders"' in Path("report.xml").read_text()
    ran = uex("verify", "r", "--source", photos, "--strict")
    assert ran.code == 1 and "decoders-differ" in ran.out and "1 of 2 files are read alike" in ran.out


def test_a_released_file_that_decoders_read_differently_is_found(
    release: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uex("verify", release, "--strict").code == 0
    monkeypatch.setitem(
        decoder.READERS, "PNG", lambda data: decoder.Second(png_passes.decode(data)[::-1], slack=1, turned=True)
    )
    assert uex("verify", release).code == 0
    ran = uex("verify", release, "--strict", "--json")  # a released file is not turned: upside down is another picture
    assert ran.code == 1
    assert {one["code"] for one in ran.json["findings"]} == {"decoders-differ"}
    assert len(ran.json["findings"]) == 16


def test_what_one_decoder_alone_reads_is_said(
    release: Path, photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(decoder.READERS, "PNG")
    ran = uex("verify", release, "--source", photos, "--strict", "--json")
    assert ran.code == 0
    assert len(ran.json["alone"]) == 32 and ran.json["alone"][0]["reason"] == "there is none for PNG"
    assert "0 of 32 files are read alike by two decoders; 32 by one only" in ran.json["checks"]["decoders"]
    ran = uex("verify", release, "--strict")
    assert ran.code == 0 and "read by one decoder only: cat/0.png, cat/1.png" in ran.out


def test_strict_is_asked_for(release: Path, uex: Uex) -> None:
    ran = uex("verify", release, "--json")
    assert ran.json["alone"] is None and "decoders" not in ran.json["checks"]
    ran = uex("verify", release, "--strict", "--fast")
    assert ran.code == 2 and "--strict" in ran.err


def test_real_and_odd_files_are_read_alike(real_data: Path) -> None:
    apart, alike = [], 0
    with zipfile.ZipFile(real_data / "photos_edge.zip") as archive:
        for member in archive.infolist():
            data = archive.read(member)
            try:
                photo = photo_files.decode(data, whole=True)
                read = photo.values if photo.own_alpha is None else np.dstack([photo.values, photo.own_alpha])
                if decoder.apart(read, data):
                    apart.append(member.filename)
                alike += 1
            except Exception:  # what is refused is the matter of other tests
                continue
    assert apart == [] and alike > 150


def test_a_picture_that_does_not_cover_its_screen_is_left_to_one_decoder() -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(3)).quantize(8).save(buffer, "GIF")
    whole = buffer.getvalue()
    assert decoder.decode(whole).values.shape[:2] == (16, 16)
    with pytest.raises(decoder.NoDecoder, match="screen"):
        decoder.decode(whole[:6] + b"\x14\0\x14\0" + whole[10:])


@pytest.mark.parametrize("turn", range(2, 9))
def test_an_orientation_is_no_disagreement_of_decoders(turn: int, tmp_path: Path, uex: Uex) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    buffer = io.BytesIO()
    Image.fromarray(picture(3)[:12]).save(buffer, "JPEG", quality=90, exif=exif)
    photos = with_noise(tmp_path, uex, Case("a.jpg", "jpeg", buffer.getvalue(), None))
    assert uex("apply", "u.noise.safetensors", photos, "-o", "r").code == 0
    ran = uex("verify", "r", "--source", photos, "--strict")
    assert ran.code == 0 and "2 of 2 files" in ran.out


YCBCR = {  # of a TIFF: a tag and its ratios, and whether it says what is usual
    "nothing": (None, (), True),
    "weights": (529, (299, 1000, 587, 1000, 114, 1000), True),
    "other-weights": (529, (2126, 10000, 7152, 10000, 722, 10000), False),
    "range": (532, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1), True),
    "other-range": (532, (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1), False),
    "no-numbers": (532, (0, 0) * 6, False),
}


@pytest.mark.parametrize(("tag", "ratios", "usual"), YCBCR.values(), ids=YCBCR.keys())
def test_ycbcr_that_says_what_is_usual_is_read(tag: int | None, ratios: tuple[int, ...], usual: bool) -> None:
    buffer, image = io.BytesIO(), Image.fromarray(picture(3)).convert("YCbCr")
    extra = [] if tag is None else [(tag, 5, len(ratios) // 2, ratios, True)]
    tifffile.imwrite(buffer, np.asarray(image), photometric="ycbcr", extratags=extra)
    if not usual:
        with pytest.raises(UexError, match="YCbCr"):
            photo_files.decode(buffer.getvalue())
        return
    shown = photo_files.decode(buffer.getvalue()).pixels
    assert np.abs(shown.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1


def test_an_orientation_of_a_tiff_in_xmp_alone_is_no_disagreement(tmp_path: Path, uex: Uex) -> None:
    notes = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    Image.fromarray(picture(3)[:12]).save(tmp_path / "a.tif", tiffinfo={700: notes})
    data = (tmp_path / "a.tif").read_bytes()
    assert photo_files.decode(data).size == (picture(3).shape[0], 12)
    photos = with_noise(tmp_path, uex, Case("a.tif", "tiff", data, None))
    assert uex("apply", "u.noise.safetensors", photos, "-o", "r").code == 0
    ran = uex("verify", "r", "--source", photos, "--strict")
    assert ran.code == 0 and "2 of 2 files" in ran.out


def test_strict_decodes_within_the_memory_that_was_planned(
    release: Path, photos: Path, uex: Uex, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(work: Callable[[object], object], items: list[object], jobs: int, **how: bool) -> Iterator[object]:
        asked.append((jobs, how["apart"]))
        return map(work, items)

    monkeypatch.setattr(memory, "HEAVY", 1)
    monkeypatch.setattr(strict, "parallel", noted)
    assert uex("verify", release, "--source", photos, "--strict", "--memory", "0").code == 0
    assert asked == [(1, True)]


def test_want_of_memory_is_no_disagreement_of_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: bytes) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(png_passes, "decode", full)
    data = png.encode(scene(3, 16).astype(np.uint16))
    with pytest.raises(MemoryError):
        photo_files.decode(data, whole=True)
    with pytest.raises(MemoryError):
        decoder.decode(data)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jxl", ".jpg"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("sixteen", [False, True])
def test_what_is_written_is_read_alike_by_the_second_decoder(suffix: str, channels: int, sixteen: bool) -> None:
    if suffix == ".jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    values = shown(scene(channels, 16 if sixteen else 8), 16 if sixteen else 8)
    photo = photo_files.decode(png.encode(values), whole=suffix in photo_files.DEEP)
    photo = photo_files.fitting(photo, suffix)
    data = photo_files.encode(photo, photo.values, suffix)
    found = photo_files.decode(data, whole=suffix in photo_files.DEEP)
    read = found.values if found.own_alpha is None else np.dstack([found.values, found.own_alpha])
    assert decoder.apart(read, data, released=True) == 0
    other = read.copy()
    other[3, 4, 0] ^= np.iinfo(read.dtype).max - 15
    assert decoder.apart(other, data, released=True) > 4


# ------------------------------------------------------------------------------------------ the small parts


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 5), (8, 8), (9, 17)])
@pytest.mark.parametrize(("colour", "depth"), [(0, 1), (0, 4), (0, 16), (2, 8), (2, 16), (4, 16), (6, 8)])
def test_interlaced_files_of_all_sizes(size: tuple[int, int], colour: int, depth: int) -> None:
    count = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    values = scene(count, depth)[: size[0], : size[1]]
    data = plain.png(values, depth, colour, interlaced=True)
    assert np.array_equal(png_passes.decode(data), shown(values, depth))


def test_values_of_any_depth_reach_both_ends_and_keep_their_order() -> None:
    for bits in range(1, 17):
        whole = np.arange(2**bits)
        made = scaled.scaled(whole, bits) if bits not in (8, 16) else whole
        assert made[0] == 0 and made[-1] == (255 if bits <= 8 else 65535)
        assert (np.diff(made.astype(np.int64)) > 0).all()
        assert np.abs(made - whole * ((255 if bits <= 8 else 65535) / (2**bits - 1))).max() <= 0.5


def test_a_multiplied_colour_is_divided_and_never_above_white() -> None:
    colours = np.array([[[0], [128], [200]], [[255], [7], [9]]], np.uint8)
    alpha = np.array([[255, 128, 100], [255, 0, 18]], np.uint8)
    assert scaled.divided(colours, alpha)[:, :, 0].tolist() == [[0, 255, 255], [255, 7, 128]]


def test_two_readings_are_compared_by_their_upper_bits() -> None:
    first = np.array([[[10, 20, 30]]], np.uint8)
    assert scaled.apart(first, first.astype(np.uint16) * 256 + 200) == 0
    assert scaled.apart(first, first + np.uint8(3)) == 3
    assert scaled.apart(first, first[:, :, :1]) == float("inf")
    one, other = np.array([[[9, 0]]], np.uint8), np.array([[[99, 0]]], np.uint8)
    assert scaled.apart(one, other) == 90 and scaled.apart(one, other, premultiplied=True) == 0


SPOILT = [
    "rgb16-le-strip5-lzw.tif", "type2-16-1-interlaced.png", "ppm-1023-text.ppm", "pgm-65535-bytes.pgm",
    "bmp8-palette-40-runs.bmp", "jp2-12-3-1.jp2", "avif-10-3-444-1.avif",
    "webp-3-True-1.webp", "gif-4-1.gif", "rgb-98-0-1.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_files_are_read_or_refused_by_both(name: str, tmp_path: Path) -> None:
    case = by_name(name)
    generator = np.random.default_rng(len(name))
    for number in range(25):
        data = bytearray(case.data)
        if number % 3 == 0:
            del data[int(generator.integers(4, len(data))) :]
        for place in generator.integers(12, max(13, min(len(data), 400)), 3):
            if place < len(data):
                data[place] = int(generator.integers(256))
        path = tmp_path / name
        path.write_bytes(bytes(data))
        try:
            photo_files.open_photo(plugin.Sample(name, None, path=path), whole=True)
        except UexError as error:
            assert name in error.message
        try:
            decoder.decode(bytes(data))
        except decoder.NoDecoder as error:
            assert str(error)
