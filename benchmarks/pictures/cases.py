"""The pictures: every format, depth and layout, and what each file shows by its format's specification."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from benchmarks.pictures import plain, tiff
from benchmarks.pictures.tiff import Layout, Samples

HEIGHT, WIDTH = 29, 37  # no multiples of a byte, a strip or a tile
LOSSY = 40.0  # 8-bit levels a lossy file may be off at an edge; a misread one is off by a hundred
CLEAR = "alpha 0"


@dataclass(frozen=True)
class Case:
    """One file.

    `truth` is what it shows, uint8 or uint16 `(H, W, 1 to 4)`, alpha last where there are 2 or 4, upright; None for a
    file that must be refused, as it shows nothing on a grid of 8 or 16 bits or is not told what it shows.
    """

    name: str
    kind: str
    data: bytes
    truth: np.ndarray | None
    slack: float = 0.0  # 8-bit levels by which a reading may differ, for colours that are converted or lossy
    mean: float | None = None  # and their mean
    premultiplied: bool = False  # so that colours are told the worse, the clearer they are


def scene(channels: int, bits: int, seed: int = 1) -> np.ndarray:
    """A smooth picture with some grain, whole numbers of `bits`, int64 `(H, W, C)`."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((4, 5, channels))
    down, across = np.linspace(0, 3, HEIGHT), np.linspace(0, 4, WIDTH)
    planes = []
    for plane in coarse.transpose(2, 0, 1):
        rows = np.stack([np.interp(across, range(5), line) for line in plane])
        planes.append(np.stack([np.interp(down, range(4), line) for line in rows.T]).T)
    smooth = np.stack(planes, -1)
    grainy = np.clip(smooth + 0.02 * generator.standard_normal(smooth.shape), 0, 1)
    made: np.ndarray = np.rint(grainy * (2**bits - 1)).astype(np.int64)
    return made


def shown(values: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of so many bits on the grid of 8 or of 16."""
    top, kind = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
    scaled: np.ndarray = ((2 * values.astype(np.int64) * top + (2**bits - 1)) // (2 * (2**bits - 1))).astype(kind)
    return scaled


def cases() -> Iterator[Case]:
    """Make all of them, always the same."""
    yield from tiffs()
    yield from pngs()
    yield from netpbms()
    yield from bmps()
    yield from jpegs()
    yield from others()


# ---------------------------------------------------------------------------------------------------- TIFF


@dataclass(frozen=True)
class _Kind:
    name: str
    samples: Samples
    truth: np.ndarray | None
    often: bool = True  # in all layouts
    slack: float = 0.0
    premultiplied: bool = False


def _colour_kinds() -> Iterator[_Kind]:
    for bits in (1, 2, 4, 8, 10, 12, 14, 16, 32):
        grey = scene(1, bits)
        truth = shown(grey, bits) if bits < 32 else None
        often = bits in (1, 8, 12, 16)
        yield _Kind(f"grey{bits}", Samples(grey, bits, 1), truth, often)
        inverted = None if truth is None else np.invert(truth)
        yield _Kind(f"white{bits}", Samples(grey, bits, 0), inverted, bits in (1, 8, 16))
    for bits in (4, 8, 10, 12, 16, 32):
        colour = scene(3, bits)
        truth = shown(colour, bits) if bits < 32 else None
        yield _Kind(f"rgb{bits}", Samples(colour, bits, 2), truth, bits in (8, 16))
    for bits in (1, 2, 4, 8):
        palette = np.random.default_rng(bits).integers(0, 256, (3, 2**bits)).astype(np.uint16)
        index = scene(1, bits)
        truth = palette.T[index[:, :, 0]].astype(np.uint8)
        yield _Kind(f"palette{bits}", Samples(index, bits, 3, colours=palette * 257), truth, bits == 8)


def _extra_kinds() -> Iterator[_Kind]:
    for bits, count in itertools.product((8, 16), (1, 3)):
        name, photometric = ("grey", 1) if count == 1 else ("rgb", 2)
        planes = scene(count + 1, bits)
        planes[:4, :, -1], planes[-4:, :, -1] = 0, 2**bits - 1
        whole = shown(planes, bits)
        yield _Kind(f"{name}{bits}-alpha", Samples(planes, bits, photometric, (2,)), whole)
        top = 2**bits - 1
        product = planes.copy()
        product[:, :, :-1] = (2 * planes[:, :, :-1] * planes[:, :, -1:] + top) // (2 * top)
        yield _Kind(
            f"{name}{bits}-premultiplied", Samples(product, bits, photometric, (1,)), whole, slack=1, premultiplied=True
        )
        yield _Kind(f"{name}{bits}-unspecified", Samples(planes, bits, photometric, (0,)), whole[:, :, :-1])
        more = np.concatenate([planes, scene(1, bits, 9)], 2)
        yield _Kind(f"{name}{bits}-alpha-and-more", Samples(more, bits, photometric, (2, 0)), whole, False)
        yield _Kind(f"{name}{bits}-two-unspecified", Samples(more, bits, photometric, (0, 0)), whole[:, :, :-1], False)


def _odd_kinds() -> Iterator[_Kind]:
    for bits in (8, 16):
        inks = scene(4, bits)
        light = (2**bits - 1 - inks).astype(np.float64)
        rgb = np.rint(light[:, :, :3] * light[:, :, 3:] / (2**bits - 1) ** 2 * 255).astype(np.uint8)
        yield _Kind(f"cmyk{bits}", Samples(inks, bits, 5), rgb, bits == 8, slack=2)
    rgb = scene(3, 8)
    ycc = _ycc(rgb)
    yield _Kind("ycbcr-444", Samples(ycc, 8, 6, subsampling=(1, 1)), rgb.astype(np.uint8), slack=3)
    smooth = np.repeat(np.repeat(scene(3, 8)[::4, ::4], 4, 0), 4, 1)[:HEIGHT, :WIDTH]
    for across, down in ((2, 1), (2, 2)):
        made = Samples(_ycc(smooth), 8, 6, subsampling=(across, down))
        yield _Kind(f"ycbcr-{across}{down}", made, smooth.astype(np.uint8), False, slack=4)
    for bits in (8, 16):
        lab, seen = _lab(bits)
        yield _Kind(f"cielab{bits}", Samples(lab, bits, 8), seen, False, slack=20)  # a step of b* moves blues far
    half, full = scene(1, 8).astype(np.float64), scene(3, 8).astype(np.float64)
    for bits in (16, 32, 64):
        yield _Kind(f"float{bits}", Samples(half, bits, 1, format=3), None, bits == 32)
        yield _Kind(f"rgb-float{bits}", Samples(full, bits, 2, format=3), None, False)
    for bits in (8, 16, 32):
        signed = scene(1, bits) - 2 ** (bits - 1)
        yield _Kind(f"signed{bits}", Samples(signed, bits, 1, format=2), None, bits < 32)
        yield _Kind(f"rgb-signed{bits}", Samples(scene(3, bits) - 2 ** (bits - 1), bits, 2, format=2), None, False)


def _ycc(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = (rgb[:, :, index].astype(np.float64) for index in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    made = np.stack([luma, (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128], 2)
    whole: np.ndarray = np.clip(np.rint(made), 0, 255).astype(np.int64)
    return whole


def _lab(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """CIE L*a*b* of D50 as TIFF 6 stores it, and as sRGB (by little CMS, whose numbers these are)."""
    from PIL import ImageCms

    rgb = Image.fromarray(scene(3, 8).astype(np.uint8))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    eight = np.asarray(ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")).astype(np.int64)  # as TIFF has it
    if bits == 16:
        return np.concatenate([eight[:, :, :1] * 257, eight[:, :, 1:] * 256], 2), np.asarray(rgb)
    return eight, np.asarray(rgb)


def tiffs() -> Iterator[Case]:
    """TIFF: kinds of samples times layouts."""
    for kind in (*_colour_kinds(), *_extra_kinds(), *_odd_kinds()):
        for layout in tiff.layouts():
            if _fits(kind, layout):
                yield _tiff(kind, layout)
    by_name = {kind.name: kind for kind in (*_colour_kinds(), *_extra_kinds(), *_odd_kinds())}
    for name, turn in itertools.product(
        ("grey8", "grey16", "rgb8", "rgb16", "rgb16-alpha", "palette8", "white16"), range(1, 9)
    ):
        for planar, packing in itertools.product((False, True), ("none", "deflate")):
            kind, layout = by_name[name], Layout(planar=planar, compression=packing, orientation=turn)
            if not planar or kind.samples.values.shape[2] > 1:
                made = _tiff(kind, layout)
                yield replace(made, truth=upright(made.truth, turn) if made.truth is not None else None)
    for name, packing in itertools.product(
        ("grey1", "white1", "grey2", "grey4", "grey8", "grey16", "rgb8", "palette4", "palette8"),
        ("none", "lzw", "deflate"),
    ):
        yield _tiff(by_name[name], Layout(fill=2, compression=packing))
    for name, layout in itertools.product(
        ("grey8", "rgb8", "ycbcr-444", "ycbcr-22"),
        (
            Layout(compression="jpeg"),
            Layout(order=">", compression="jpeg", rows=16),
            Layout(compression="jpeg", tile=16),
        ),
    ):
        made = _tiff(by_name[name], layout)
        yield replace(made, slack=80.0 if name == "ycbcr-22" else LOSSY, mean=8.0)
    for name in ("grey8", "grey16", "rgb8", "rgb16"):
        for compression in ("lzma", "zstd"):
            yield _tiff(by_name[name], Layout(compression=compression))
    kind = by_name["rgb8-alpha"]
    untold = _Kind("rgb8-fourth-untold", replace(kind.samples, extra=()), kind.truth)
    for packing in ("none", "deflate"):
        yield _tiff(untold, Layout(compression=packing))
    bilevel = Image.fromarray(scene(1, 8)[:, :, 0] > 127)
    for packing in ("group3", "group4", "tiff_ccitt"):
        yield Case(f"grey1-{packing}.tif", "tiff grey1", _saved(bilevel, "TIFF", compression=packing),
                   np.asarray(bilevel.convert("L"))[:, :, None])  # fmt: skip


def upright(values: np.ndarray, turn: int) -> np.ndarray:
    """Turn what is stored as an orientation tag says: where its row 0 and its column 0 are to be seen."""
    rows = {1: "", 2: "c", 3: "cl", 4: "l", 5: "t", 6: "tc", 7: "tcl", 8: "tl"}[turn]
    for step in rows:
        values = {"t": values.swapaxes(0, 1), "l": np.flipud(values), "c": np.fliplr(values)}[step]
    return values


def _fits(kind: _Kind, layout: Layout) -> bool:
    samples = kind.samples
    if layout.planar and samples.values.shape[2] == 1:
        return False
    if layout.predictor == 2 and (samples.bits not in (8, 16, 32) or samples.format == 3):
        return False
    if samples.subsampling not in (None, (1, 1)) and (layout.planar or layout.predictor != 1 or layout.rows == 5):
        return False
    if samples.photometric == 3 and layout.predictor != 1:
        return False
    return kind.often or tiff.few(layout)


def _tiff(kind: _Kind, layout: Layout) -> Case:
    name = f"{kind.name}-{layout.name}.tif"
    data = tiff.write(kind.samples, layout)
    return Case(name, f"tiff {kind.name}", data, kind.truth, kind.slack, None, kind.premultiplied)


def _saved(image: Image.Image, format_: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **how)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------- PNG, Netpbm and BMP


def pngs() -> Iterator[Case]:
    """PNG: all colour types and depths, plain and interlaced, with and without a transparent colour."""
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    counts = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    for colour, interlaced, seed in itertools.product(depths, (False, True), range(1, 9)):
        for depth in depths[colour]:
            values = scene(counts[colour], depth, seed)
            name = f"type{colour}-{depth}-{seed}" + ("-interlaced" if interlaced else "")
            kind = f"png type{colour}-{depth}"
            if colour != 3:
                truth = shown(values, depth)
                yield Case(f"{name}.png", kind, plain.png(values, depth, colour, interlaced=interlaced), truth)
                if colour in (0, 2):
                    yield _keyed(values, depth, colour, name, kind, interlaced, seed)
                continue
            palette = np.random.default_rng(seed).integers(0, 256, (2**depth, 3))
            seen = palette[values[:, :, 0]].astype(np.uint8)
            data = plain.png(values, depth, 3, palette=palette, interlaced=interlaced)
            yield Case(f"{name}.png", kind, data, seen)
            alpha = np.random.default_rng(seed).integers(0, 256, max(1, 2**depth // 2)).astype(np.uint8)
            full = np.concatenate([alpha, np.full(2**depth - len(alpha), 255, np.uint8)])
            data = plain.png(values, depth, 3, palette=palette, clear=alpha.tobytes(), interlaced=interlaced)
            yield Case(f"{name}-clear.png", f"{kind} tRNS", data, np.concatenate([seen, full[values]], 2))


def _keyed(values: np.ndarray, depth: int, colour: int, name: str, kind: str, interlaced: bool, seed: int) -> Case:
    key = values[seed, 2 * seed]
    clear = np.asarray(key, ">u2").tobytes()
    alpha = np.where((values == key).all(2, keepdims=True), 0, 255 if depth <= 8 else 65535)
    truth = np.concatenate([shown(values, depth), alpha.astype(np.uint8 if depth <= 8 else np.uint16)], 2)
    data = plain.png(values, depth, colour, clear=clear, interlaced=interlaced)
    return Case(f"{name}-clear.png", f"{kind} tRNS", data, truth)


def netpbms() -> Iterator[Case]:
    """Netpbm: text and bytes, with all sorts of largest values."""
    for text, remark in itertools.product((True, False), (True, False)):
        said = ("text" if text else "bytes") + ("-remark" if remark else "")
        bilevel = scene(1, 1)
        yield Case(f"pbm-{said}.pbm", "netpbm pbm", plain.netpbm(bilevel, 0, text=text, remark=remark),
                   ((1 - bilevel) * 255).astype(np.uint8))  # fmt: skip
        for most, count in itertools.product((1, 3, 15, 100, 127, 254, 255, 256, 1023, 4095, 10000, 65535), (1, 3)):
            values = np.rint(scene(count, 16) * (most / 65535)).astype(np.int64)
            top, type_ = (255, np.uint8) if most <= 255 else (65535, np.uint16)
            truth = ((2 * values * top + most) // (2 * most)).astype(type_)
            suffix = "pgm" if count == 1 else "ppm"
            kind = f"netpbm {suffix} {'above 255' if most > 255 else 'to 255'}"
            data = plain.netpbm(values, most, text=text, remark=remark)
            yield Case(f"{suffix}-{most}-{said}.{suffix}", kind, data, truth, 1.0 if most < 255 else 0.01)


def bmps() -> Iterator[Case]:
    """BMP: palettes, whole pixels, masks, run lengths, both ways up, three sizes of header."""
    for down, head in itertools.product((False, True), (40, 108, 124)):
        said = f"{head}-down" if down else f"{head}"
        for bits, grey in itertools.product((1, 4, 8), (False, True)):
            index = scene(1, bits)
            palette = np.random.default_rng(bits).integers(0, 256, (2**bits, 3))
            if grey:
                palette = np.repeat(np.rint(np.linspace(0, 255, 2**bits)).astype(np.int64)[:, None], 3, 1)
            seen = palette[index[:, :, 0]].astype(np.uint8)
            truth = seen[:, :, :1] if grey and bits != 4 else seen  # whose grey palette Pillow takes for colours
            name = f"bmp{bits}-{'grey' if grey else 'palette'}-{said}"
            data = plain.bmp(index, bits, palette=palette, top_down=down, head=head)
            yield Case(f"{name}.bmp", f"bmp {bits} bits", data, truth)
            if bits in (4, 8) and not down:
                data = plain.bmp(index, bits, palette=palette, run_length=True, head=head)
                yield Case(f"{name}-runs.bmp", f"bmp {bits} bits in runs", data, truth)
        colour = scene(3, 8)
        data = plain.bmp(colour, 24, top_down=down, head=head)
        yield Case(f"bmp24-{said}.bmp", "bmp 24 bits", data, colour.astype(np.uint8))
        yield from _masked(down, head, said)


def _masked(down: bool, head: int, said: str) -> Iterator[Case]:
    for name, bits, sizes, masks in (
        ("555", 16, (5, 5, 5), ()), ("555-masks", 16, (5, 5, 5), (0x7C00, 0x3E0, 0x1F)),
        ("565", 16, (5, 6, 5), (0xF800, 0x7E0, 0x1F)), ("444", 16, (4, 4, 4), (0xF00, 0xF0, 0xF)),
        ("888", 32, (8, 8, 8), ()), ("888-masks", 32, (8, 8, 8), (0xFF0000, 0xFF00, 0xFF)),
        ("888-turned", 32, (8, 8, 8), (0xFF, 0xFF00, 0xFF0000)),
        ("8888", 32, (8, 8, 8, 8), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        ("101010", 32, (10, 10, 10), (0x3FF00000, 0xFFC00, 0x3FF)),
    ):  # fmt: skip
        if len(masks) == 4 and head == 40:
            continue
        where = masks or {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}[bits]
        pixels = np.zeros((HEIGHT, WIDTH, 1), np.int64)
        planes = scene(len(sizes), 10)
        seen = []
        for index, size in enumerate(sizes):
            plane = planes[:, :, index] >> (10 - size)
            low = (where[index] & -where[index]).bit_length() - 1
            pixels[:, :, 0] |= plane << low
            seen.append(shown(plane, min(size, 8)) if size <= 8 else (plane >> 2).astype(np.uint8))
        data = plain.bmp(pixels, bits, masks=masks, top_down=down, head=head)
        yield Case(f"bmp{bits}-{name}-{said}.bmp", f"bmp {bits} bits {name}", data, np.stack(seen, 2), slack=1)


# ----------------------------------------------------------------------------------------------- compressed


def jpegs() -> Iterator[Case]:
    """JPEG: grey and colour, sub-sampled, progressive, of 4 inks with and without Adobe's marker, of 12 bits."""
    for seed in range(1, 6):
        rgb, grey = scene(3, 8, seed).astype(np.uint8), scene(1, 8, seed).astype(np.uint8)
        image = Image.fromarray(rgb)
        lossy: dict[str, Any] = {"slack": LOSSY, "mean": 6.0}
        for progressive, sampling in itertools.product((False, True), (0, 1, 2)):
            for quality in (80, 98):
                data = _saved(image, "JPEG", quality=quality, subsampling=sampling, progressive=progressive)
                name = f"rgb-{quality}-{sampling}-{seed}" + ("-progressive" if progressive else "")
                yield Case(f"{name}.jpg", "jpeg rgb", data, rgb, slack=80.0 if sampling else LOSSY, mean=8.0)
            data = _saved(Image.fromarray(grey[:, :, 0]), "JPEG", quality=95, progressive=progressive)
            yield Case(f"grey-{seed}-{progressive}-{sampling}.jpg", "jpeg grey", data, grey, **lossy)
        for name, spaces in {"as-rgb": ("RGB", "RGB"), "444": ("RGB", "YCBCR")}.items():
            how: dict[str, Any] = {"colorspace": spaces[0], "outcolorspace": spaces[1], "subsampling": "444"}
            data = bytes(imagecodecs.jpeg8_encode(rgb, 98, **how))
            yield Case(f"rgb-{name}-{seed}.jpg", f"jpeg {name}", data, rgb, **lossy)
        inks = scene(4, 8, seed).astype(np.uint8)
        light = 255.0 - inks
        seen = np.rint(light[:, :, :3] * light[:, :, 3:] / 255).astype(np.uint8)
        for space in ("CMYK", "YCCK"):
            stored = bytes(imagecodecs.jpeg8_encode(255 - inks, 98, colorspace="CMYK", outcolorspace=space))
            yield Case(f"{space.lower()}-{seed}.jpg", f"jpeg {space.lower()} of Adobe", stored, seen, **lossy)
        stored = bytes(imagecodecs.jpeg8_encode(255 - inks, 98, colorspace="CMYK", outcolorspace="CMYK"))
        yield Case(f"cmyk-bare-{seed}.jpg", "jpeg cmyk without Adobe's marker", without_adobe(stored), None)
        for count in (1, 3):
            deep = scene(count, 12, seed).astype(np.uint16)
            data = bytes(imagecodecs.jpeg8_encode(deep if count == 3 else deep[:, :, 0], 98, bitspersample=12))
            yield Case(f"deep{count}-{seed}.jpg", "jpeg 12 bits", data, shown(deep, 12), **lossy)
            for bits in (8, 12, 16):
                whole = scene(count, bits, seed).astype(np.uint8 if bits == 8 else np.uint16)
                flat = whole if count == 3 else whole[:, :, 0]
                data = bytes(imagecodecs.jpeg8_encode(flat, lossless=True, bitspersample=bits))
                yield Case(f"lossless{bits}-{count}-{seed}.jpg", "jpeg lossless", data, shown(whole, bits))


def without_adobe(data: bytes) -> bytes:
    """A JPEG file without its APP14 segment."""
    place = data.index(b"\xff\xee")
    return data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]


def others() -> Iterator[Case]:
    """JPEG 2000, AVIF, JPEG XL, WebP and GIF."""
    for seed, count in itertools.product(range(1, 4), (1, 2, 3, 4)):
        for bits in (8, 10, 12, 16):
            values = scene(count, bits, seed).astype(np.uint8 if bits == 8 else np.uint16)
            flat, truth = values[:, :, 0] if count == 1 else values, shown(values, bits)
            for reversible in (True, False):
                kept: dict[str, Any] = {"reversible": reversible, "bitspersample": bits, "codecformat": "JP2"}
                data = bytes(imagecodecs.jpeg2k_encode(flat, None if reversible else 60, **kept))
                name = f"jp2-{bits}-{count}-{seed}" + ("" if reversible else "-lossy")
                yield Case(f"{name}.jp2", f"jp2 {bits} bits", data, truth, 0.0 if reversible else 4.0)
        for bits in (8, 16):
            values = scene(count, bits, seed).astype(np.uint8 if bits == 8 else np.uint16)
            flat, truth = values[:, :, 0] if count == 1 else values, shown(values, bits)
            for boxed in (True, False):
                data = bytes(imagecodecs.jpegxl_encode(flat, lossless=True, usecontainer=boxed))
                yield Case(f"jxl-{bits}-{count}-{seed}-{boxed}.jxl", f"jxl {bits} bits", data, truth)
        for bits, form in itertools.product((8, 10, 12), ("444", "420")):
            if count == 2:
                continue
            values = scene(count, bits, seed).astype(np.uint8 if bits == 8 else np.uint16)
            flat, truth = values[:, :, 0] if count == 1 else values, shown(values, bits)
            halved: dict[str, Any] = {"pixelformat": form} if count > 1 else {}
            data = bytes(imagecodecs.avif_encode(flat, 95, bitspersample=bits, speed=10, numthreads=1, **halved))
            yield Case(f"avif-{bits}-{count}-{form}-{seed}.avif", f"avif {bits} bits", data, truth, 80.0, 8.0)
    for seed in range(1, 9):
        for count, lossless in itertools.product((3, 4), (True, False)):
            values = scene(count, 8, seed).astype(np.uint8)
            data = _saved(Image.fromarray(values), "WEBP", lossless=lossless, exact=True, quality=95)
            loss: dict[str, Any] = {} if lossless else {"slack": 80.0, "mean": 8.0}
            kind = f"webp {'lossless' if lossless else 'lossy'}"
            yield Case(f"webp-{count}-{lossless}-{seed}.webp", kind, data, values, **loss)
        for bits in (2, 4, 8):
            index = scene(1, bits, seed).astype(np.uint8)
            palette = np.random.default_rng(seed).integers(0, 256, (2**bits, 3)).astype(np.uint8)
            image = Image.fromarray(index[:, :, 0]).convert("P")
            image.putdata(index.ravel().tolist())
            image.putpalette(palette.ravel().tolist())
            seen = palette[index[:, :, 0]]
            for interlaced in (False, True):
                name = f"gif-{bits}-{seed}" + ("-interlaced" if interlaced else "")
                data = _saved(image, "GIF", interlace=int(interlaced), optimize=False)
                yield Case(f"{name}.gif", "gif", data, seen)
                key = int(index[seed, seed, 0])
                data = _saved(image, "GIF", interlace=int(interlaced), optimize=False, transparency=key)
                alpha = np.where(index == key, 0, 255).astype(np.uint8)
                yield Case(f"{name}-clear.gif", "gif clear", data, np.concatenate([seen, alpha], 2))
