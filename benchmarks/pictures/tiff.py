"""Writes TIFF files by the specification (TIFF 6.0 and its technical notes), in every layout that readers meet.

Nothing here is shared with a reader: what a file shows is known from what was written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import imagecodecs
import numpy as np

COMPRESSION = {"none": 1, "jpeg": 7, "deflate": 8, "lzw": 5, "packbits": 32773, "zstd": 50000, "lzma": 34925}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
KIND = {1: "B", 2: "s", 3: "H", 4: "L", 5: "R", 16: "Q"}
SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 16: 8}


@dataclass(frozen=True)
class Layout:
    """How the samples of a picture lie in a file."""

    order: str = "<"
    big: bool = False
    planar: bool = False
    tile: int | None = None  # its side, a multiple of 16
    rows: int | None = None  # of a strip
    compression: str = "none"
    predictor: int = 1
    fill: int = 1
    orientation: int | None = None

    @property
    def name(self) -> str:
        """All of it in one word."""
        cut = f"tile{self.tile}" if self.tile else f"strip{self.rows or ''}"
        words = ["be" if self.order == ">" else "le", "big" if self.big else "", "planar" if self.planar else "", cut,
                 self.compression, f"pred{self.predictor}" if self.predictor > 1 else "",
                 "fill2" if self.fill == 2 else "", f"turn{self.orientation}" if self.orientation else ""]  # fmt: skip
        return "-".join(word for word in words if word)


@dataclass(frozen=True)
class Samples:
    """The samples of a picture, `(H, W, S)`, and what they mean."""

    values: np.ndarray  # whole numbers below 2**bits, signed ones, or floats
    bits: int
    photometric: int
    extra: Sequence[int] = ()
    format: int = 1
    colours: np.ndarray | None = None  # of a palette, uint16 (3, 2**bits)
    subsampling: tuple[int, int] | None = None  # of YCbCr, as it is stored
    tags: Mapping[int, tuple[int, Sequence[int]]] | None = None


def write(samples: Samples, layout: Layout) -> bytes:
    """Write one file."""
    values = samples.values
    height, width, count = values.shape
    segments = [_encoded(part, samples, layout) for part in _parts(values, samples, layout)]
    side = layout.tile
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [samples.bits] * count),
        259: (3, [COMPRESSION[layout.compression]]), 262: (3, [samples.photometric]), 277: (3, [count]),
        284: (3, [2 if layout.planar else 1]),
    }  # fmt: skip
    if side:
        tags |= {322: (4, [side]), 323: (4, [side])}
    else:
        tags[278] = (4, [layout.rows or height])
    if layout.fill != 1:
        tags[266] = (3, [layout.fill])
    if layout.orientation:
        tags[274] = (3, [layout.orientation])
    if layout.predictor != 1:
        tags[317] = (3, [layout.predictor])
    if samples.extra:
        tags[338] = (3, samples.extra)
    if samples.format != 1:
        tags[339] = (3, [samples.format] * count)
    if samples.colours is not None:
        tags[320] = (3, samples.colours.ravel().tolist())
    if samples.photometric == 6:
        tags[530] = (3, samples.subsampling or (1, 1))
    return _assembled({**tags, **(samples.tags or {})}, segments, layout)


def _parts(values: np.ndarray, samples: Samples, layout: Layout) -> list[np.ndarray]:
    """Cut a picture into strips or tiles, of all samples or of each."""
    planes = [values[:, :, [index]] for index in range(values.shape[2])] if layout.planar else [values]
    cut = []
    for plane in planes:
        height, width, _ = plane.shape
        if layout.tile is None:
            rows = layout.rows or height
            cut += [plane[top : top + rows] for top in range(0, height, rows)]
            continue
        side = layout.tile
        wide = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
        cut += [
            wide[top : top + side, left : left + side]
            for top in range(0, wide.shape[0], side)
            for left in range(0, wide.shape[1], side)
        ]
    return cut


def _encoded(part: np.ndarray, samples: Samples, layout: Layout) -> bytes:
    if layout.compression == "jpeg":
        flat = part.astype(np.uint8)
        flat = flat[:, :, 0] if flat.shape[2] == 1 else flat
        space = {1: "GRAYSCALE", 3: "RGB", 4: "CMYK"}[part.shape[2]]
        out = "YCBCR" if samples.photometric == 6 else space
        given = "YCBCR" if samples.photometric == 6 else space
        return bytes(
            imagecodecs.jpeg8_encode(
                flat, 98, colorspace=given, outcolorspace=out, subsampling=samples.subsampling or (1, 1)
            )
        )
    if samples.subsampling is not None and samples.subsampling != (1, 1):
        data = _units(part, samples.subsampling)
    else:
        if layout.predictor == 2:
            part = _differences(part, samples.bits)
        elif layout.predictor == 3:
            return _compressed(_float_differences(part, samples.bits), layout)
        data = _packed(part, samples, layout.order)
    return _compressed(data, layout)


def _compressed(data: bytes, layout: Layout) -> bytes:
    match layout.compression:
        case "deflate":
            data = zlib.compress(data)
        case "none":
            pass
        case name:
            encode = {"lzw": imagecodecs.lzw_encode, "packbits": imagecodecs.packbits_encode,
                      "zstd": imagecodecs.zstd_encode, "lzma": imagecodecs.lzma_encode}[name]  # fmt: skip
            data = bytes(encode(data))
    return data.translate(REVERSED) if layout.fill == 2 else data


def _differences(part: np.ndarray, bits: int) -> np.ndarray:
    made = part.astype(np.int64)
    made[:, 1:] -= part[:, :-1].astype(np.int64)
    return (made & ((1 << bits) - 1)).astype(np.uint64)


def _float_differences(part: np.ndarray, bits: int) -> bytes:
    """Of each row all highest bytes first, then the differences of bytes (technical note 3)."""
    height, width, count = part.shape
    raw = part.astype(f">f{bits // 8}").view(np.uint8).reshape(height, width * count, bits // 8)
    rows = raw.transpose(0, 2, 1).reshape(height, -1).astype(np.int64)
    made = rows.copy()
    made[:, count:] -= rows[:, :-count]
    return bytes((made & 255).astype(np.uint8).tobytes())


def _packed(part: np.ndarray, samples: Samples, order: str) -> bytes:
    """Rows of samples, each row from a new byte on, the highest bits first; whole bytes in the file's order."""
    bits = samples.bits
    if samples.format == 3:
        return part.astype(f"{order}f{bits // 8}").tobytes()
    if bits in (8, 16, 32, 64):
        whole = part.astype(np.int64) & ((1 << bits) - 1) if bits < 64 else part
        return whole.astype(f"{order}u{bits // 8}").tobytes()
    rows = part.reshape(part.shape[0], -1).astype(np.uint32)
    each = (rows[:, :, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(each.reshape(rows.shape[0], -1).astype(np.uint8), axis=1).tobytes()


def _units(part: np.ndarray, subsampling: tuple[int, int]) -> bytes:
    """YCbCr of 8 bits in units of one Cb and one Cr, as TIFF stores it: `across` times `down` of Y before them."""
    across, down = subsampling
    height, width, _ = part.shape
    tall, wide = -(-height // down) * down, -(-width // across) * across
    full = np.pad(part, ((0, tall - height), (0, wide - width), (0, 0)), mode="edge").astype(np.int64)
    blocks = full.reshape(tall // down, down, wide // across, across, 3)
    luma = blocks[..., 0].transpose(0, 2, 1, 3).reshape(tall // down, wide // across, -1)
    chroma = np.rint(blocks[..., 1:].mean((1, 3))).astype(np.int64)
    return np.concatenate([luma, chroma], 2).astype(np.uint8).tobytes()


def _assembled(tags: dict[int, tuple[int, Sequence[int]]], segments: Sequence[bytes], layout: Layout) -> bytes:
    order, big = layout.order, layout.big
    place = "Q" if big else "L"
    body = b""
    start = 16 if big else 8
    offsets = []
    for segment in segments:
        offsets.append(start + len(body))
        body += segment + b"\0" * (len(segment) % 2)
    kind = 16 if big else 4
    lengths = [len(segment) for segment in segments]
    tags = {**tags, **({324: (kind, offsets), 325: (kind, lengths)} if layout.tile else
                       {273: (kind, offsets), 279: (kind, lengths)})}  # fmt: skip
    held = 8 if big else 4
    entries = b""
    for tag, (type_, values) in sorted(tags.items()):
        if type_ in (2, 7):
            data, many = bytes(values), len(values)
        elif type_ == 5:
            data, many = struct.pack(f"{order}{len(values)}L", *values), len(values) // 2
        else:
            data, many = struct.pack(f"{order}{len(values)}{KIND[type_]}", *values), len(values)
        if len(data) > held:
            at = start + len(body)
            body += data + b"\0" * (len(data) % 2)
            data = struct.pack(order + place, at)
        entries += struct.pack(f"{order}HH{place}", tag, type_, many) + data.ljust(held, b"\0")
    first = start + len(body)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, first) if big else struct.pack(f"{order}HL", 42, first)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return mark + head + body + count + entries + b"\0" * held


def layouts() -> list[Layout]:
    """The layouts that every kind of samples is written in."""
    packings = [("none", 1), ("packbits", 1), ("lzw", 1), ("lzw", 2), ("deflate", 1), ("deflate", 2), ("zstd", 2)]
    cuts: list[tuple[int | None, int | None]] = [(None, None), (None, 5), (16, None)]
    found = []
    for number, (order, planar, cut, packing) in enumerate(
        (order, planar, cut, packing)
        for order in "<>" for planar in (False, True) for cut in cuts for packing in packings
    ):  # fmt: skip
        made = Layout(order, number % 3 == 2, planar, cut[0], cut[1], packing[0], packing[1])
        found.append(made)
    return found


def few(layout: Layout) -> bool:
    """Whether a layout is among those that the rarer kinds of samples are written in."""
    return (layout.compression, layout.predictor) in {("none", 1), ("deflate", 2), ("lzw", 1)} and (
        layout.tile is None or layout.order == "<"
    )


def single(layout: Layout) -> Layout:
    """The same for one sample a pixel, of which planes make no difference."""
    return replace(layout, planar=False)
