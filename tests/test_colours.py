"""Colours stay what they are, whatever tells them; and what tells them tells nothing else."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Ran, picture
from PIL import Image, ImageCms

from uexcli import plugin
from uexcli.errors import UexError
from uexcli.io.images import photo_files, png
from uexcli.io.images.metadata import boxes, icc, icc_tags, jxl_profile

Uex = Callable[..., Ran]
SECRET = b"UEX-SERIAL-0815 of Ann Example"
LCMS_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PRIMARIES = ((0.6, 0.33), (0.3, 0.55), (0.16, 0.1))
FORMATS = ("png", "tiff", "webp", "jxl", "jpeg")


def assembled(tags: Mapping[bytes, bytes], space: bytes = b"RGB ", pcs: bytes = b"XYZ ", *, version: int = 2) -> bytes:
    """A profile as others write it: dates, makers, gaps with something in them, and something behind."""
    start, listed, body = 128 + 4 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        listed += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + bytes(-len(data) % 4) + b"GAP " + SECRET[:12]
    head = b"ADBE" + bytes((version, 0x20, 0, 0)) + b"mntr" + space + pcs + struct.pack(">6H", 2024, 5, 6, 7, 8, 9)
    head += b"acspAPPL" + bytes(4) + SECRET[:16] + struct.pack(">I", 1) + struct.pack(">3I", 63190, 65536, 54061)
    head += SECRET[:4] + SECRET[:16] + SECRET[:28]
    whole = head + struct.pack(">I", len(tags)) + listed + body
    return struct.pack(">I", len(whole) + 4) + whole


def private_tags(*, version: int = 2) -> dict[bytes, bytes]:
    new = version >= 4
    return {
        b"desc": icc_tags.text(SECRET.decode(), new=new, kind=b"desc"),
        b"cprt": icc_tags.text(SECRET.decode(), new=new, kind=b"cprt"),
        b"mmod": b"mmod" + bytes(4) + SECRET,
        b"meta": b"dict" + bytes(4) + SECRET,
        b"dmnd": icc_tags.text(SECRET.decode(), new=new, kind=b"desc"),
    }


def parts_of(profile: bytes) -> dict[bytes, bytes]:
    parsed = icc._parsed(profile)
    return {tag: data for tag, data in parsed.tags.items() if tag not in icc.TEXTS}


def stuffed(profile: bytes, *, version: int = 2) -> bytes:
    """A clean profile with all that must not get out, also behind the numbers of its tags."""
    tags = {tag: data + SECRET for tag, data in parts_of(profile).items()}
    return assembled({**private_tags(version=version), **tags}, profile[16:20], version=version)


def curve(*numbers: int) -> bytes:
    return b"curv" + bytes(4) + struct.pack(f">I{len(numbers)}H", len(numbers), *numbers)


def lab_table(inputs: int, *, grid: int = 3, wide: bool = True) -> bytes:
    """A table from `inputs` colours to Lab: the more of the last, the darker, and the more of the first, the redder."""
    high = 65535 if wide else 255
    entries = []
    for point in itertools.product(range(grid), repeat=inputs):
        share = [number / (grid - 1) for number in point]
        light = max(0.0, 1 - sum(share) / inputs) if inputs == 4 else sum(share) / inputs
        entries += [
            light * 0.99 * high,
            (0.5 + 0.2 * (share[0] - share[1])) * high,
            (0.5 + 0.2 * share[2] - 0.1) * high,
        ]
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    letter = "H" if wide else "B"
    ramp = [0, high] if wide else list(range(256))
    head = (b"mft2" if wide else b"mft1") + bytes(4) + bytes((inputs, 3, grid, 0)) + unit
    head += struct.pack(">HH", 2, 2) if wide else b""
    numbers = ramp * inputs + [int(entry) for entry in entries] + ramp * 3
    return head + struct.pack(f">{len(numbers)}{letter}", *numbers)


def stages() -> bytes:
    """The same in the words of version 4: curves, a grid, curves, a matrix, curves, each with a gap before it."""
    grid = bytes((2, 2, 2)) + bytes(13) + b"\x02\0\0\0"
    for point in itertools.product(range(2), repeat=3):
        grid += struct.pack(">3H", *(int(60000 * share) + 2000 for share in point))
    matrix = struct.pack(">12i", 60000, 2000, 1000, 0, 58000, 3000, 2000, 0, 61000, 10, 20, 30)
    padded = b"".join(one + bytes(-len(one) % 4) for one in [curve(0, 30000, 65535)] * 3)
    made, places = b"", []
    for part in (padded, matrix, padded, grid, padded):
        made += b"GAP!"
        places.append(32 + len(made))
        made += part + bytes(-len(part) % 4)
    return b"mAB " + bytes(4) + bytes((3, 3, 0, 0)) + struct.pack(">5I", *places) + made


OWN = icc.build(PRIMARIES, (0.33, 0.34), icc_tags.gamma(1.7), "mine")
TABLED = {**parts_of(OWN), **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(*range(0, 65536, 500)))}
OTHERS: dict[str, bytes] = {
    "curves": stuffed(OWN),
    "tables-of-curves": assembled({**private_tags(), **{tag: data + SECRET for tag, data in TABLED.items()}}),
    "mft2": assembled({**private_tags(), b"A2B0": lab_table(3) + SECRET, b"wtpt": icc_tags.xyz(icc.D50)}, pcs=b"Lab "),
    "mft1": assembled({**private_tags(), b"A2B0": lab_table(3, wide=False) + SECRET}, pcs=b"Lab "),
    "mAB": assembled({**private_tags(version=4), b"A2B0": stages() + SECRET}, pcs=b"XYZ ", version=4),
}


def shown_by(raw: bytes, mode: str = "RGB") -> np.ndarray:
    """What littlecms makes of a grid of colours by a profile: (N, 3)."""
    steps = np.stack(np.meshgrid(*[np.arange(0, 256, 17)] * 3), -1).reshape(1, -1, 3).astype(np.uint8)
    image = Image.fromarray(steps if mode == "RGB" else steps[:, :, 0])
    profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
    plain = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, profile, plain, outputMode="RGB")).astype(int)


def saved(path: Path, pixels: np.ndarray, kind: str | None = None, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, kind, **options)


@pytest.fixture
def noise(tmp_path: Path, uex: Uex) -> Path:
    """Noise for whatever photo."""
    for index in range(2):
        saved(tmp_path / f"fitted/f{index}.png", picture(index, 24))
    path = tmp_path / "any.noise.safetensors"
    words = ("fit", tmp_path / "fitted", "--method", "random", "--mode", "universal", "--seed", 1 << 100, "-o", path)
    assert uex(*words).code == 0
    return path


def out_of(noise: Path, folder: Path, uex: Uex, format_: str = "png") -> list[bytes]:
    """The files of a folder's release, which `verify` must pass."""
    if format_ == "jxl":
        pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    out = folder.parent / f"out-{format_}"
    lossy = ("--allow-lossy",) if format_ == "jpeg" else ()
    ran = uex("apply", noise, folder, "-o", out, "--format", format_, *lossy)
    assert ran.code == 0, ran.err
    ran = uex("verify", out, "--source", folder, "--json", *(("--eps", "254/255") if lossy else ()))
    assert ran.json["findings"] == []
    return [path.read_bytes() for path in sorted(out.rglob(f"*{photo_files.SUFFIXES[format_]}"))]


# ----------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize("name", sorted(icc._known()))
@pytest.mark.parametrize("version", [2, 4])
def test_a_known_profile_is_told_by_what_it_does(name: str, version: int) -> None:
    space = icc._of_space(name)
    own = icc.named(name)
    assert icc.clean(own, space) == own and icc.private(own) == []
    assert icc.clean(stuffed(own, version=version), space) == own
    assert own[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0) and not own[80:128].strip(b"\0")
    ImageCms.ImageCmsProfile(io.BytesIO(own))


def test_known_profiles_are_what_their_makers_say() -> None:
    assert icc.clean(LCMS_SRGB, icc.COLOUR) == icc.named("sRGB")
    numbers = {  # as the makers' own profiles have them
        "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
        "Display P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
        "Adobe RGB": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    }
    for name, columns in numbers.items():
        tags = icc._parsed(icc.named(name)).tags
        for tag, wanted in zip(icc.MATRIX, columns, strict=True):
            assert np.allclose(icc_tags.triple(tags[tag]), wanted, atol=0.0006), (name, tag)
    ramp = np.array([0.0, 0.02, 0.2, 0.5, 1.0])
    light = np.where(ramp <= 0.04045, ramp / 12.92, ((ramp + 0.055) / 1.055) ** 2.4)
    assert np.allclose(icc_tags.curve_at(icc.SRGB_CURVE, ramp), light, atol=1e-4)
    assert shown_by(icc.named("sRGB")).tolist() == shown_by(LCMS_SRGB).tolist()


@pytest.mark.parametrize("kind", OTHERS)
def test_another_profile_keeps_its_colours_and_nothing_else(kind: str) -> None:
    raw = OTHERS[kind]
    made = icc.clean(raw, icc.COLOUR)
    assert made is not None and made not in [icc.named(name) for name in icc._known()]
    assert np.abs(shown_by(raw) - shown_by(made)).max() <= 1
    assert len(np.unique(shown_by(raw).reshape(-1, 3), axis=0)) > 100
    for secret in (SECRET[:8], b"GAP", b"ADBE", b"APPL", struct.pack(">6H", 2024, 5, 6, 7, 8, 9)):
        assert secret not in made
    assert icc.clean(made, icc.COLOUR) == made and icc.private(made) == []
    told = icc.private(raw)
    assert {"mmod", "meta", "desc", "cprt", "dmnd"} <= set(told) and "bytes outside of its tags" in told


@pytest.mark.parametrize("format_", FORMATS)
def test_no_serial_number_of_a_profile_gets_out(format_: str, noise: Path, tmp_path: Path, uex: Uex) -> None:
    folder = tmp_path / "in"
    for name, raw in {**OTHERS, "srgb": stuffed(icc.named("sRGB")), "p3": stuffed(icc.named("Display P3"))}.items():
        saved(folder / f"{name}.png", picture(7, 24), icc_profile=raw)
    saved(folder / "grey.png", picture(8, 24, grey=True), icc_profile=stuffed(icc.build_grey(icc_tags.gamma(1.3), "x")))
    released = out_of(noise, folder, uex, format_)
    assert len(released) == len(OTHERS) + 3
    for data, path in zip(released, sorted(folder.iterdir()), strict=True):
        found, source = photo_files.decode(data), photo_files.decode(path.read_bytes())
        with photo_files.opened(data) as image:
            raw = image.info.get("icc_profile")
        for place in (data, raw or b""):
            assert b"UEX" not in place and b"Example" not in place and b"Ann" not in place
        assert icc.private(raw or icc.named("sRGB")) == []
        if found.pixels.shape[2] == 3 and source.pixels.shape[2] == 3:
            wanted = path.stem in OTHERS
            given = OTHERS[path.stem] if wanted else icc.named("sRGB" if path.stem == "srgb" else "Display P3")
            assert raw is not None and np.abs(shown_by(raw) - shown_by(given)).max() <= 1
        elif found.pixels.shape[2] == 3:  # grey in a format of colours only
            grey = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
            raws = [(grey, source.icc), (grey.convert("RGB"), raw)]
            plain = ImageCms.createProfile("sRGB")
            looks = [ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(one)), plain,
                                               outputMode="RGB") for image, one in raws]  # fmt: skip
            assert np.abs(np.asarray(looks[0]).astype(int) - np.asarray(looks[1])).max() <= 1


@pytest.mark.parametrize("length", [0, 3, 900, 200_000])
@pytest.mark.parametrize("mark", [b"", b"acsp"])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_bytes_that_are_no_profile_are_refused_by_name(length: int, mark: bytes, kind: str, tmp_path: Path) -> None:
    raw = bytearray(np.random.default_rng(3).bytes(length))
    raw[36:40] = mark or raw[36:40]
    if not raw:
        raw = bytearray(b"\0")
    saved(tmp_path / f"a.{kind}", picture(1, 24), icc_profile=bytes(raw))
    with pytest.raises(UexError, match=r"a\.\w+: its ICC profile of [\d,]+ bytes cannot be used"):
        photo_files.open_photo(plugin.Sample(f"a.{kind}", None, path=tmp_path / f"a.{kind}"))


@pytest.mark.parametrize("command", ["fit", "apply", "verify", "eval"])
def test_each_command_refuses_a_broken_profile_in_one_line(command: str, noise: Path, tmp_path: Path, uex: Uex) -> None:
    folder = tmp_path / "in"
    for label, index in itertools.product("xy", range(3)):
        saved(folder / f"{label}/{label}{index}.png", picture(40 * (label == "x") + index, 24))
    assert uex("apply", noise, folder, "-o", "out").code == 0
    saved(folder / "x/x0.png", picture(40, 24), icc_profile=b"n" * 900)
    words = {
        "fit": ("fit", folder, "--method", "random", "-o", "n"), "apply": ("apply", noise, folder, "-o", "new"),
        "verify": ("verify", "out", "--source", folder), "eval": ("eval", folder, "out"),
    }  # fmt: skip
    ran = uex(*words[command])
    assert ran.code == 3
    assert (
        ran.err.startswith("Error: x/x0.png: its ICC profile of 900 bytes cannot be used") and ran.err.count("\n") == 1
    )
    if command == "apply":
        ran = uex(*words[command], "--on-error", "skip", "--json")
        assert ran.code == 0 and [item["key"] for item in ran.json["skipped"]] == ["x/x0.png"]


def test_a_profile_in_pieces_of_which_one_is_lost_is_refused(tmp_path: Path) -> None:
    raw = assembled({**parts_of(OWN), b"mmod": bytes(150_000)})
    saved(tmp_path / "a.jpg", picture(1, 24), icc_profile=raw)
    data = (tmp_path / "a.jpg").read_bytes()
    assert photo_files.decode(data).icc == icc.clean(raw, icc.COLOUR)
    second = data.index(b"ICC_PROFILE", data.index(b"ICC_PROFILE") + 1)
    with pytest.raises(UexError, match="cannot be used"):
        photo_files.decode(
            data[: second - 4] + data[second - 4 + 2 + int.from_bytes(data[second - 2 : second], "big") :]
        )


def test_a_profile_of_another_space_is_dropped_and_that_is_said(tmp_path: Path) -> None:
    curve_ = icc.build_grey(icc_tags.gamma(1.3), "x")
    saved(tmp_path / "a.jpg", picture(1, 24), icc_profile=curve_)
    found = photo_files.decode((tmp_path / "a.jpg").read_bytes())
    assert found.icc is None and found.changes == ("GRAY profile dropped",)
    saved(tmp_path / "b.jpg", picture(1, 24, grey=True), icc_profile=stuffed(OWN))
    found = photo_files.decode((tmp_path / "b.jpg").read_bytes())  # its curve is what a grey reader needs
    assert found.icc is not None and found.icc[16:20] == b"GRAY" and found.changes == ()


def test_verify_names_private_tags(noise: Path, tmp_path: Path, uex: Uex) -> None:
    folder = tmp_path / "in"
    saved(folder / "a.png", picture(7, 24), icc_profile=stuffed(icc.named("Adobe RGB")))
    out_of(noise, folder, uex)
    path = tmp_path / "out-png/a.png"
    with Image.open(path) as image:
        image.load()
        image.save(path, icc_profile=stuffed(icc.named("Adobe RGB")))
    for more in ((), ("--source", folder)):
        ran = uex("verify", "out-png", *more, "--json")
        told = {item["code"]: item["found"] for item in ran.json["findings"]}
        assert ran.code == 1 and set(told) == {"checksum", "metadata"}
        assert all(name in told["metadata"] for name in ("in its ICC profile", "mmod", "meta", "desc", "dmnd"))
    for raw in (LCMS_SRGB, icc.named("Adobe RGB")):  # everybody's
        saved(tmp_path / "out-png/a.png", picture(7, 24), icc_profile=raw)
        ran = uex("verify", "out-png", "--json")
        assert {item["code"] for item in ran.json["findings"]} == {"checksum"}


@pytest.mark.parametrize(
    ("tag", "words", "known"),
    [
        (b"desc", "sRGB IEC61966-2.1", True),
        (b"cprt", "Copyright Apple Inc., 2022", True),
        (b"cprt", "Copyright (c) 1998 Hewlett-Packard Company", True),
        (b"dmnd", "IEC http://www.iec.ch", True),
        (b"cprt", "Copyright Apple Inc., 2022, for Ann Example", False),
        (b"desc", "Ann's monitor", False),
        (b"dmdd", "Display 0815", False),
    ],
)
@pytest.mark.parametrize("version", [2, 4])
def test_texts_that_everybody_has_are_no_finding(tag: bytes, words: str, known: bool, version: int) -> None:
    text = icc_tags.text(words, new=version == 4, kind=tag)
    raw = icc._written(icc.COLOUR, parts_of(icc.named("sRGB")), "sRGB")
    tags = {**icc._parsed(raw).tags, tag: text}
    start, listed, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        listed += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    whole = raw[:128] + struct.pack(">I", len(tags)) + listed + body
    assert icc.private(whole) == ([] if known else [tag.decode()])


def test_a_number_in_place_of_a_checksum_is_named() -> None:
    raw = icc.named("Display P3")
    assert icc.private(raw[:84] + b"serial 000012345" + raw[100:]) == ["a number of its own"]
    summed = hashlib.md5(raw, usedforsecurity=False).digest()
    for intent in (0, 1):  # which the checksum leaves out
        assert icc.private(raw[:67] + bytes((intent,)) + raw[68:84] + summed + raw[100:]) == []


def test_a_grey_profile_of_lightness_is_no_known_one(tmp_path: Path) -> None:
    raw = assembled({b"kTRC": curve(), b"wtpt": icc_tags.xyz(icc.D50)}, b"GRAY", b"Lab ")
    made = icc.clean(raw, icc.GREY)
    assert made is not None and made not in [icc.named(name) for name in icc._known()]
    assert np.abs(shown_by(raw, "L") - shown_by(made, "L")).max() <= 1
    assert icc.in_colour(made) is None


def test_cmyk_is_shown_by_its_profile(noise: Path, tmp_path: Path, uex: Uex) -> None:
    raw = assembled({**private_tags(), b"A2B0": lab_table(4)}, b"CMYK", b"Lab ")
    cmyk = Image.fromarray(picture(5, 24)).convert("CMYK")
    (tmp_path / "in").mkdir()
    cmyk.save(tmp_path / "in/a.tif", icc_profile=raw)
    cmyk.save(tmp_path / "in/b.tif")
    first, second = (photo_files.decode((tmp_path / f"in/{name}.tif").read_bytes()) for name in "ab")
    assert first.icc is None and first.changes == ("CMYK to RGB", "CMYK profile: shown in sRGB")
    assert second.changes == ("CMYK to RGB",)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
    flags, intent = ImageCms.Flags.BLACKPOINTCOMPENSATION, ImageCms.Intent.RELATIVE_COLORIMETRIC
    wanted = ImageCms.profileToProfile(
        cmyk, profile, ImageCms.createProfile("sRGB"), intent, outputMode="RGB", flags=flags
    )
    assert np.abs(first.pixels.astype(int) - np.asarray(wanted)).max() <= 1
    assert np.abs(first.pixels.astype(int) - second.pixels).max() > 20
    for data in out_of(noise, tmp_path / "in", uex):
        assert b"UEX" not in data and b"iCCP" not in data


@pytest.mark.parametrize("kind", ["jpg", "tif", "16.tif"])
def test_both_decoders_show_cmyk_by_its_profile(kind: str, noise: Path, tmp_path: Path, uex: Uex) -> None:
    raw = assembled({**private_tags(), b"A2B0": lab_table(4)}, b"CMYK", b"Lab ")
    cmyk = Image.fromarray(picture(5, 24)).convert("CMYK")
    (tmp_path / "in").mkdir()
    if kind == "16.tif":
        inks = np.asarray(cmyk).astype(np.uint16) * 257
        tifffile.imwrite(tmp_path / f"in/a.{kind}", inks, photometric="separated", iccprofile=raw)
    else:
        cmyk.save(tmp_path / f"in/a.{kind}", icc_profile=raw)
    assert uex("apply", noise, tmp_path / "in", "-o", "r").code == 0
    ran = uex("verify", "r", "--source", tmp_path / "in", "--strict")
    assert ran.code == 0 and "2 of 2 files" in ran.out, ran.out


# ------------------------------------------------------------------------------ what is no profile


def avif(primaries: int, transfer: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 24)).save(buffer, "AVIF", quality=95)
    data = buffer.getvalue()
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def jp2(colour: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 24)).save(buffer, "JPEG2000")
    data = buffer.getvalue()
    head, place = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    after = place + int.from_bytes(data[place : place + 4], "big")
    box = struct.pack(">I", 8 + len(colour)) + b"colr" + colour
    longer = int.from_bytes(data[head : head + 4], "big") + len(box) - (after - place)
    return data[:head] + struct.pack(">I", longer) + data[head + 4 : place] + box + data[after:]


def bmp(raw: bytes) -> bytes:
    pixels = np.ascontiguousarray(picture(3, 24)[::-1, :, ::-1])
    head = struct.pack("<IiiHHIIiiII", 124, 24, 24, 1, 24, 0, pixels.nbytes, 0, 0, 0, 0) + bytes(16) + b"DEBM"
    head += bytes(36 + 12) + struct.pack("<IIII", 4, 124 + pixels.nbytes, len(raw), 0)
    whole = head + pixels.tobytes() + raw
    return b"BM" + struct.pack("<IHHI", 14 + len(whole), 0, 0, 14 + 124) + whole


def adobe_by_exif(way: str) -> bytes:
    exif = Image.Exif()
    if way == "space":
        exif.get_ifd(0x8769)[0xA001] = 2
        return exif.tobytes()
    inner = struct.pack("<H", 1) + struct.pack("<HHII", 0xA005, 4, 1, 44) + bytes(4)
    interop = struct.pack("<H", 1) + struct.pack("<HHI4s", 1, 2, 4, b"R03\0") + bytes(4)
    main = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 26) + bytes(4)
    return b"Exif\0\0" + main + inner + interop


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(3, 24)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


POINTS = b"".join(number.to_bytes(4, "big") for number in (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
TOLD: dict[str, tuple[Callable[[], bytes], str, str | None]] = {
    "nclx-srgb": (lambda: avif(1, 13), "avif", None),
    "nclx-unsaid": (lambda: avif(2, 2), "avif", None),
    "nclx-video": (lambda: avif(1, 1), "avif", None),
    "nclx-p3": (lambda: avif(12, 13), "avif", "Display P3"),
    "nclx-2020": (lambda: avif(9, 14), "avif", "BT.2020"),
    "nclx-linear": (lambda: avif(1, 8), "avif", "Linear sRGB"),
    "jp2-srgb": (lambda: jp2(b"\x01\0\0" + struct.pack(">I", 16)), "jp2", None),
    "jp2-icc": (lambda: jp2(b"\x02\0\0" + stuffed(icc.named("Adobe RGB"))), "jp2", "Adobe RGB"),
    "bmp-icc": (lambda: bmp(stuffed(icc.named("Display P3"))), "bmp", "Display P3"),
    "exif-adobe": (lambda: jpeg(exif=adobe_by_exif("interop")), "jpg", "Adobe RGB"),
    "exif-space": (lambda: jpeg(exif=adobe_by_exif("space")), "jpg", "Adobe RGB"),
}
SHOWN: dict[str, tuple[list[png.Chunk], str | None]] = {
    "srgb": ([(b"sRGB", b"\0")], None),
    "gamma-as-srgb": ([(b"gAMA", (45455).to_bytes(4, "big"))], None),
    "gamma-linear": ([(b"gAMA", (100000).to_bytes(4, "big"))], "Linear sRGB"),
    "p3-points": ([(b"gAMA", (45455).to_bytes(4, "big")), (b"cHRM", POINTS)], "Display P3"),
    "p3-number": ([(b"cICP", bytes((12, 13, 0, 1)))], "Display P3"),
    "no-points": ([(b"cHRM", bytes(31) + b"\1")], None),
    "no-gamma": ([(b"gAMA", bytes(4))], None),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_tells_colours_becomes_a_profile(kind: str) -> None:
    make, _, name = TOLD[kind]
    found = photo_files.decode(make())
    assert found.icc == (icc.named(name) if name else None) and found.shown == ()
    assert found.changes == (("Adobe RGB, as its EXIF says",) if kind.startswith("exif") else ())


@pytest.mark.parametrize("format_", FORMATS)
def test_colours_told_otherwise_stay_in_every_format(format_: str, noise: Path, tmp_path: Path, uex: Uex) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for kind, (make, suffix, _) in TOLD.items():
        (folder / f"{kind}.{suffix}").write_bytes(make())
    for kind, (chunks, _) in SHOWN.items():
        (folder / f"{kind}.png").write_bytes(png.encode(picture(4, 24), chunks=chunks))
        (folder / f"{kind}-deep.png").write_bytes(png.encode(picture(4, 24).astype(np.uint16) * 257, chunks=chunks))
    wanted = {kind: name for kind, (_, _, name) in TOLD.items()}
    wanted |= {f"{kind}{more}": name for kind, (_, name) in SHOWN.items() for more in ("", "-deep")}
    released = out_of(noise, folder, uex, format_)
    for data, path in zip(released, sorted(folder.iterdir(), key=lambda path: path.stem + ".png"), strict=True):
        found, name = photo_files.decode(data), wanted[path.stem]
        if format_ == "png" and path.suffix == ".png":
            chunks, _ = SHOWN[path.stem.removesuffix("-deep")]
            assert set(found.shown) == set(chunks) and found.icc is None
        elif format_ == "jxl":
            assert found.icc == icc.named(name or "sRGB")
        else:
            assert found.icc == (icc.named(name) if name else None)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_stays_in_png_and_is_refused_elsewhere(
    transfer: int, noise: Path, tmp_path: Path, uex: Uex
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.avif").write_bytes(avif(9, transfer))
    (folder / "b.png").write_bytes(png.encode(picture(4, 24), chunks=[(b"cICP", bytes((9, transfer, 0, 1)))]))
    for data in out_of(noise, folder, uex):
        assert (b"cICP", bytes((9, transfer, 0, 1))) in list(png.chunks(data))
    for format_ in ("tiff", "webp"):
        ran = uex("apply", noise, folder, "-o", "other", "--format", format_)
        assert ran.code == 3 and ran.err.startswith("Error: a.avif: its colours are of ") and "PNG" in ran.err
    plain = tmp_path / "out-png/b.png"
    plain.write_bytes(png.encode(photo_files.decode(plain.read_bytes()).pixels))
    ran = uex("verify", "out-png", "--source", folder, "--json")
    assert ("changed-profile", "b.png") in {(item["code"], item["path"]) for item in ran.json["findings"]}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: avif(77, 13), "primaries 77"),
        (lambda: avif(1, 9), "transfer 9"),
        (lambda: jp2(b"\x01\0\0" + struct.pack(">I", 21)), "kind 21"),
    ],
)
def test_colours_that_nobody_knows_here_are_refused(make: Callable[[], bytes], said: str) -> None:
    with pytest.raises(UexError, match=said):
        photo_files.decode(make())


def test_colours_of_a_picture_that_is_not_the_main_one_are_not_taken() -> None:
    data = avif(12, 13)
    place = data.index(b"pitm") + 8
    other = data[:place] + struct.pack(">H", 77) + data[place + 2 :]
    assert len(boxes.colours(data)) == 1 and boxes.colours(other) == []


# ------------------------------------------------------------------------------------------ JPEG XL


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("kind", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_jpeg_xl_file_is_given_any_profile(kind: str, boxed: bool) -> None:
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    values = np.random.default_rng(1).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    image = Image.fromarray(values).convert(kind if kind != "I;16" else "L")
    if kind == "I;16":
        image = Image.fromarray(values[:, :, 0].astype(np.uint16) * 201)
    buffer = io.BytesIO()
    image.save(buffer, "JXL", lossless=True, effort=1, use_container=boxed)
    grey = kind not in ("RGB", "RGBA")
    long = icc.build_grey(curve(*range(60000)), "x") if grey else icc.clean(OTHERS["mAB"], icc.COLOUR)
    for profile in [*(icc.named(name) for name in icc._known() if name.startswith("Grey") == grey), long]:
        assert profile is not None
        data = jxl_profile.embed(buffer.getvalue(), profile)
        with Image.open(io.BytesIO(data)) as found:
            assert found.info["icc_profile"] == profile
            assert np.array_equal(np.asarray(found), np.asarray(image))
    with pytest.raises(ValueError, match="already"):
        jxl_profile.embed(data, profile)


def test_facts_say_what_became_of_colours(noise: Path, tmp_path: Path, uex: Uex) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(exif=adobe_by_exif("interop")))
    out_of(noise, folder, uex)
    facts = json.loads((tmp_path / "out-png/uex-release.json").read_text())
    assert facts["mode_changes"] == [{"path": "a.png", "change": "Adobe RGB, as its EXIF says"}]
