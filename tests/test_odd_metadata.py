"""Sound pixels are never refused for what lies beside them: it is dropped anyway, but for how they are to be turned."""

from __future__ import annotations

import io
import itertools
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, picture
from PIL import Image

from uexcli.io.images import photo_files, png
from uexcli.io.images.metadata import bare, exif, policy

Uex = Callable[..., Ran]
Entry = tuple[int, int, int, bytes]
HEIGHT, WIDTH = 16, 24
TURNED: Entry = (0x112, 3, 1, struct.pack("<HH", 6, 0))
STORED = picture(11, WIDTH)[:HEIGHT]
UPRIGHT = np.rot90(STORED, -1)
SECRET = b"UEX-SECRET"


def block(entries: list[Entry], extra: bytes = b"", *, after: int = 0) -> bytes:
    """EXIF of one directory at 8, then whatever its entries point to."""
    made = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        made += struct.pack("<HHI", tag, kind, count) + value
    return made + struct.pack("<I", after) + extra


def at(place: int) -> bytes:
    return struct.pack("<I", place)


BIG_ENDIAN = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + struct.pack(">HHIHH", 0x112, 3, 1, 6, 0) + bytes(4)
ODD: dict[str, bytes] = {
    "negative rational": block([TURNED, (0x11A, 10, 1, at(38))], struct.pack("<ii", -1, 0)),
    "rational description": block([(0x10E, 5, 1, at(38)), TURNED], struct.pack("<II", 72, 1)),
    "negative width": block([TURNED, (0x100, 9, 1, struct.pack("<i", -5))]),
    "text for a directory": block([TURNED, (0xA005, 2, 4, b"abc\0")]),
    "text for EXIF": block([TURNED, (0x8769, 2, 4, b"abc\0")]),
    "directories in a loop": block([TURNED, (0x8769, 4, 1, at(8)), (0x8825, 4, 1, at(8))], after=8),
    "GPS outside": block([TURNED, (0x8825, 4, 1, at(4_000_000_000))]),
    "GPS of rubbish": block([TURNED, (0x8825, 4, 1, at(38))], b"\xff" * 40),
    "GPS of wrong types": block(
        [TURNED, (0x8825, 4, 1, at(38))],
        struct.pack("<H", 2) + struct.pack("<HHII", 2, 2, 3, 0) + struct.pack("<HHIi", 4, 9, 1, -1) + bytes(4),
    ),
    "a maker's note outside": block(
        [TURNED, (0x8769, 4, 1, at(38))],
        struct.pack("<H", 1) + struct.pack("<HHII", 0x927C, 7, 9_000_000, 50) + bytes(4),
    ),
    "a thumbnail outside": block(
        [TURNED], struct.pack("<H", 2) + struct.pack("<HHII", 0x201, 4, 1, 9999) + struct.pack("<HHII", 0x202, 4, 1, 9)
        + bytes(4), after=26,
    ),
    "more than four billion values": block([TURNED, (0x10E, 2, 0xFFFFFFFF, at(8))]),
    "no values": block([TURNED, (0x10F, 2, 0, at(0)), (0x110, 3, 0, at(0))]),
    "types that are none": block([(0x9999, 0, 1, at(1)), (0x9998, 99, 7, at(1)), TURNED]),
    "doubles": block([TURNED, (0x9997, 12, 1, at(38))], struct.pack("<d", float("nan"))),
    "cut short": block([TURNED, (0x10E, 2, 100, at(38)), (0x10F, 2, 100, at(138))])[:-20],
    "more entries than bytes": block([TURNED]).replace(b"\x08\0\0\0\x01\0", b"\x08\0\0\0\xff\xff", 1),
    "something behind": block([TURNED], SECRET * 400),
    "the orientation as a long": block([(0x112, 4, 1, at(6))]),
    "the orientation as a byte": block([(0x112, 1, 1, at(6))]),
    "big-endian": BIG_ENDIAN,
    "UTF-16 of half a letter": block([TURNED, (0x9C9B, 1, 3, b"ab\xd8\0")]),
}  # fmt: skip
UNTURNED: dict[str, bytes] = {
    "orientation 0": block([(0x112, 3, 1, at(0))]),
    "orientation 9": block([(0x112, 3, 1, at(9))]),
    "orientation 65535": block([(0x112, 3, 1, at(65535))]),
    "orientation of text": block([(0x112, 2, 2, b"6\0\0\0")]),
    "no orientation": block([(0x112, 3, 0, at(0))]),
    "a mark alone": b"Exif\0\0",
    "half a mark": b"Exif\0\0II",
    "a directory outside": b"Exif\0\0II*\0" + at(99_999_999),
    "a directory at nothing": b"Exif\0\0II*\0" + at(0),
    "no byte order": b"Exif\0\0XX*\0" + at(8) + bytes(40),
    "zeros": bytes(300),
}


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(STORED).save(buffer, kind, **options)
    return buffer.getvalue()


def with_chunks(*chunks: png.Chunk, behind: tuple[png.Chunk, ...] = ()) -> bytes:
    data = png.encode(np.ascontiguousarray(STORED), chunks=chunks)
    end = data[-12:]
    return data[:-12] + b"".join(part for chunk in behind for part in png._chunk(*chunk)) + end


def as_jpeg(odd: bytes) -> bytes:
    return encoded("JPEG", quality=100, subsampling=0, exif=odd)


def as_png(odd: bytes) -> bytes:
    return with_chunks((b"eXIf", odd.removeprefix(b"Exif\0\0")))


def as_raw_text(odd: bytes) -> bytes:
    text = f"\nexif\n{len(odd):8}\n{odd.hex()}\n".encode()
    return with_chunks((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))


def as_webp(odd: bytes) -> bytes:
    return encoded("WEBP", lossless=True, exif=odd)


def as_jxl(odd: bytes) -> bytes:
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    return encoded("JXL", lossless=True, effort=1, exif=odd)


def as_tiff(odd: bytes) -> bytes:
    """The odd entries among a TIFF's own; what they point to is then anything."""
    data = encoded("TIFF")
    order = "<" if data[:2] == b"II" else ">"
    assert order == "<" and odd[6:8] == b"II", "both of one byte order"
    place = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[place : place + 2])[0]
    entries = [data[start : start + 12] for start in range(place + 2, place + 2 + 12 * count, 12)]
    theirs = odd[6:]
    many = min(struct.unpack("<H", theirs[8:10])[0] if len(theirs) >= 10 else 0, (len(theirs) - 10) // 12)
    entries += [
        entry for start in range(10, 10 + 12 * many, 12) if (entry := theirs[start : start + 12])[:2] != b"\0\1"
    ]
    made = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda one: struct.unpack("<H", one[:2])))
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + made + bytes(4)


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "jpg": as_jpeg, "png": as_png, "raw": as_raw_text, "webp": as_webp, "tif": as_tiff, "jxl": as_jxl,
}  # fmt: skip


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool(np.abs(found.astype(int) - wanted).max() <= 6)


def in_each_way(odd: dict[str, bytes]) -> list[tuple[str, str]]:
    """Each odd EXIF in each file that can hold it: a TIFF is of one byte order, Pillow's."""
    return [(name, way) for name, data in odd.items() for way in WAYS if way != "tif" or data[6:8] == b"II"]


@pytest.mark.parametrize(("odd", "way"), in_each_way(ODD))
def test_odd_exif_turns_the_picture_and_is_dropped(odd: str, way: str) -> None:
    photo = photo_files.decode(WAYS[way](ODD[odd]), whole=True, texts=True)
    assert close(photo.pixels, UPRIGHT)
    assert photo.changes == ()


@pytest.mark.parametrize(("odd", "way"), in_each_way(UNTURNED))
def test_what_is_no_orientation_turns_nothing(odd: str, way: str) -> None:
    assert close(photo_files.decode(WAYS[way](UNTURNED[odd])).pixels, STORED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_by_its_own_words_and_odd_exif_is_no_matter(orientation: int) -> None:
    long = Image.Exif()
    long[0x112], long[0x10E] = orientation, "x" * 300
    data = encoded("AVIF", quality=100, subsampling="4:4:4", exif=long)
    place = data.index(b"x" * 300)
    start = data.rindex(b"II*\0" if b"II*\0" in data[:place] else b"MM\0*", 0, place)
    with Image.open(io.BytesIO(data)) as image:
        from PIL import ImageOps

        wanted = np.asarray(ImageOps.exif_transpose(image))
    for odd in [*ODD.values(), *UNTURNED.values()]:
        rest = odd.removeprefix(b"Exif\0\0")[: place + 300 - start]
        spoilt = data[:start] + rest + bytes(place + 300 - start - len(rest)) + data[place + 300 :]
        assert np.array_equal(photo_files.decode(spoilt, texts=True).pixels, wanted)


def xmp(number: object, way: str = '="{}"') -> bytes:
    told = "tiff:Orientation" + way.format(number)
    return f"<x:xmpmeta><rdf:Description {told}</tiff:Orientation></x:xmpmeta {SECRET.decode()}".encode()


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("way", ['="{}"', "='{}'", ">{}<", ' = "{}"', "> {} <"])
def test_xmp_turns_where_exif_says_nothing(kind: str, way: str) -> None:
    def made(note: bytes, block_: bytes | None) -> bytes:
        options = {} if block_ is None else {"exif": block_}
        if kind == "jpg":
            return encoded("JPEG", quality=100, subsampling=0, xmp=note, **options)
        if kind == "webp":
            return encoded("WEBP", lossless=True, xmp=note, **options)
        if kind == "tif":
            tags = {700: note} | ({0x112: 1} if block_ else {})
            return encoded("TIFF", tiffinfo=tags)
        chunks: list[png.Chunk] = [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + note)]
        return with_chunks(*chunks, *([(b"eXIf", block_.removeprefix(b"Exif\0\0"))] if block_ else []))

    assert close(photo_files.decode(made(xmp(6, way), None)).pixels, UPRIGHT)
    assert close(photo_files.decode(made(xmp(6, way), block([(0x112, 3, 1, at(1))]))).pixels, STORED)
    for bad in (0, 9, "x", "66"):
        assert close(photo_files.decode(made(xmp(bad, way), None)).pixels, STORED)
    assert close(photo_files.decode(made(b"\xff\xfe<not xml" + SECRET, None)).pixels, STORED)


def segment(kind: int, body: bytes) -> bytes:
    return b"\xff" + bytes((kind,)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments: bytes) -> bytes:
    data = encoded("JPEG", quality=100, subsampling=0)
    end = 2 + 2 + int.from_bytes(data[4:6], "big")  # of JFIF
    return data[:end] + b"".join(segments) + data[end:]


FIRST = segment(0xE1, block([TURNED]))
OTHER = segment(0xE1, block([(0x112, 3, 1, at(3))]))
JPEGS: dict[str, tuple[bytes, bool]] = {
    "several APP1": (jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET), FIRST, OTHER), True),
    "EXIF in two segments": (jpeg_with(FIRST, segment(0xE1, b"Exif\0\0" + SECRET * 5000)), True),
    "a broken Photoshop block": (jpeg_with(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\xff\xff\xff\xffx" * 20)), False),
    "a broken MPF": (jpeg_with(segment(0xE2, b"MPF\0II*\0\xff\xff\xff\x7f" + SECRET), FIRST), True),
    "an MPF of one picture": (
        jpeg_with(segment(0xE2, b"MPF\0" + block([(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, at(1))])[6:])), False,
    ),
    "a profile's mark alone": (jpeg_with(segment(0xE2, b"ICC_PROFILE\0")), False),
    "a comment of all bytes": (jpeg_with(segment(0xFE, bytes(range(256)) * 200)), False),
    "empty segments": (jpeg_with(*(segment(kind, b"") for kind in (0xE1, 0xE2, 0xED, 0xFE)), FIRST), True),
    "filling": (jpeg_with(b"\xff\xff\xff", FIRST), True),
    "something between": (jpeg_with(b"\0\1\2", FIRST), True),
    "a thumbnail in JFXX": (jpeg_with(segment(0xE0, b"JFXX\0\x10" + SECRET), FIRST), True),
    "FlashPix": (jpeg_with(segment(0xE2, b"FPXR\0" + SECRET), FIRST), True),
}  # fmt: skip


@pytest.mark.parametrize("kind", JPEGS)
def test_odd_segments_of_a_jpeg(kind: str) -> None:
    data, turned = JPEGS[kind]
    assert close(photo_files.decode(data, texts=True).pixels, UPRIGHT if turned else STORED)


def spoilt_sum(data: bytes, kind: bytes) -> bytes:
    place = data.index(kind)
    length = int.from_bytes(data[place - 4 : place], "big")
    return data[: place + 4 + length] + b"\1\2\3\4" + data[place + 8 + length :]


BOMB = zlib.compress(bytes(30_000_000), 9)
TEXT = (b"tEXt", b"Comment\0" + SECRET)
PNGS: dict[str, tuple[bytes, bool]] = {
    "a long text": (with_chunks((b"tEXt", b"Comment\0" + b"x" * 3_000_000)), False),
    "a long text behind": (with_chunks(behind=((b"tEXt", b"Comment\0" + b"x" * 3_000_000),)), False),
    "many texts": (with_chunks(*[(b"tEXt", b"Comment\0" + b"x" * 10_000)] * 1000), False),
    "a zTXt bomb": (with_chunks((b"zTXt", b"Comment\0\0" + BOMB), (b"eXIf", block([TURNED])[6:])), True),
    "an iTXt bomb": (with_chunks((b"iTXt", b"Comment\0\1\0\0\0" + BOMB)), False),
    "a bomb as XMP": (with_chunks((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB)), False),
    "a text without an end": (with_chunks((b"tEXt", b"Comment"), (b"iTXt", b"Comment\0"), (b"zTXt", b"")), False),
    "a way of packing that is none": (with_chunks((b"zTXt", b"Comment\0\7" + BOMB[:99])), False),
    "a text of another code": (with_chunks((b"iTXt", b"Comment\0\0\0\xff\0\xff\0\xff\xfe")), False),
    "a wrong sum of a text": (spoilt_sum(with_chunks(TEXT), b"tEXt"), False),
    "a wrong sum of EXIF": (spoilt_sum(as_png(block([TURNED])), b"eXIf"), True),
    "EXIF twice": (with_chunks((b"eXIf", block([TURNED])[6:]), (b"eXIf", SECRET)), True),
    "EXIF behind": (with_chunks(behind=((b"eXIf", block([TURNED])[6:]),)), True),
    "raw EXIF of no number": (with_chunks((b"tEXt", b"Raw profile type exif\0\nexif\n 12\nno number\n")), False),
    "an odd time": (with_chunks((b"tIME", b"\xff" * 3), (b"pHYs", b"\1"), (b"sBIT", b""), (b"iCCP", b"")), False),
    "odd sizes of what tells colours": (with_chunks((b"gAMA", b"1"), (b"cHRM", b"2"), (b"sRGB", b"")), False),
    "chunks of no known kind": (with_chunks((b"abCd", SECRET), (b"caBX", SECRET)), False),
}  # fmt: skip


@pytest.mark.parametrize("kind", PNGS)
def test_odd_chunks_of_a_png(kind: str) -> None:
    data, turned = PNGS[kind]
    if kind == "an odd time":
        data = data.replace(b"iCCP", b"iCCQ")  # a profile that cannot be read is another matter
    photo = photo_files.decode(data, texts=True)
    assert close(photo.pixels, UPRIGHT if turned else STORED)
    assert all(len(text) <= policy.LONGEST for _, text in photo.texts)


def test_what_a_png_is_made_of_must_be_sound() -> None:
    data = with_chunks(TEXT)
    with pytest.raises((OSError, SyntaxError)):
        photo_files.decode(spoilt_sum(data, b"IHDR"))
    with pytest.raises((OSError, SyntaxError)):
        photo_files.decode(data[:-60])


def test_all_of_them_are_protected_and_pass_their_verify(tmp_path: Path, uex: Uex) -> None:
    """Fit, apply and verify a folder of oddities as one would any other; nothing of them gets out."""
    root, folder = tmp_path / "in", tmp_path / "in/odd"
    for path in (folder, root / "usual"):
        path.mkdir(parents=True)
    Image.fromarray(picture(5, 24)).save(root / "usual/a.png")
    turned: set[str] = set()
    for (number, odd), way in itertools.product(enumerate([*ODD, *UNTURNED]), ("jpg", "png", "webp", "tif")):
        if odd == "big-endian" or "byte order" in odd or "mark" in odd or "zeros" in odd:
            continue
        name = f"{way}{number}"
        (folder / f"{name}.{way}").write_bytes(WAYS[way](ODD.get(odd) or UNTURNED[odd]))
        turned |= {f"{name}.png"} if odd in ODD else set()
    for prefix, members in (("jpeg-odd", JPEGS), ("png-odd", PNGS)):
        for number, (kind, (data, is_turned)) in enumerate(members.items()):
            if kind == "an odd time":
                continue
            (folder / f"{prefix}{number}.{prefix[:4].strip('-')}").write_bytes(data)
            turned |= {f"{prefix}{number}.png"} if is_turned else set()
    assert uex("fit", root, "--method", "random", "--mode", "universal", "--seed", 1, "-o", "n").code == 0
    for more in ((), ("--keep-metadata",)):
        ran = uex("apply", "n", root, "-o", "out", "--force", *more)
        assert ran.code == 0, ran.err
        ran = uex("verify", "out", "--source", root, "--json")
        assert ran.json["findings"] == [] and ran.code == 0
        for path in Path("out/odd").glob("*.png"):
            data = path.read_bytes()
            with Image.open(path) as image:
                assert image.size == ((HEIGHT, WIDTH) if path.name in turned else (WIDTH, HEIGHT)), path.name
            assert more or SECRET not in data


def test_only_one_place_reads_photos_and_none_writes_exif_anew() -> None:
    root = Path(photo_files.__file__).parent.parent
    for path in root.rglob("*.py"):
        assert not re.search(r"exif_transpose|getexif", path.read_text()), path


def test_verify_finds_what_odd_exif_hides(tmp_path: Path, uex: Uex) -> None:
    """What a decoder cannot read is there all the same."""
    for index in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(picture(index, 24)).save(tmp_path / f"in/{index}.png")
    assert uex("fit", "in", "--method", "random", "--mode", "samplewise", "-o", "n").code == 0
    assert uex("apply", "n", "in", "-o", "out").code == 0
    inner = struct.pack("<H", 1) + struct.pack("<HHII", 0xA431, 2, 4, 0x00313233) + bytes(4)
    position = struct.pack("<H", 1) + struct.pack("<HHII", 2, 5, 3, 9999) + bytes(4)
    odd = block(
        [(0x100, 9, 1, struct.pack("<i", -5)), (0x8769, 4, 1, at(50)), (0x8825, 4, 1, at(68))], inner + position
    )
    pixels = photo_files.decode(Path("out/0.png").read_bytes()).pixels
    Path("out/0.png").write_bytes(png.encode(pixels, chunks=[(b"eXIf", odd[6:]), (b"zTXt", b"Comment\0\0" + BOMB)]))
    ran = uex("verify", "out", "--json")
    found = {item["code"]: item["found"] for item in ran.json["findings"]}
    assert "a GPS position" in found["metadata"] and "a serial number" in found["metadata"]


def test_reading_exif_never_fails() -> None:
    generator = np.random.default_rng(0)
    whole = [*ODD.values(), BIG_ENDIAN, encoded("TIFF"), encoded("TIFF", big_tiff=True)]
    for _ in range(3000):
        data = bytearray(whole[generator.integers(len(whole))])
        for _ in range(generator.integers(1, 6)):
            data[generator.integers(len(data))] = generator.integers(256)
        found = exif.read(bytes(data[: generator.integers(len(data) + 1)]))
        assert found.orientation in (None, *range(1, 9)) and found.adobe in (True, False)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "AVIF", "JPEG2000", "WEBP"])
def test_taking_a_file_apart_never_fails(kind: str) -> None:
    whole = {"JPEG": as_jpeg(ODD["something behind"]), "PNG": PNGS["EXIF twice"][0]}.get(kind) or encoded(kind)
    generator = np.random.default_rng(1)
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(generator.integers(1, 6)):
            data[generator.integers(min(len(data), 600))] = generator.integers(256)
        assert bare.of(bytes(data[: generator.integers(len(data) + 1)])).data is not None
