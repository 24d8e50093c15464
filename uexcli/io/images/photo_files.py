"""Reading and writing images; Pillow is the reference decoder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import io
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from uexcli.errors import UexError, UsageError
from uexcli.io import atomic
from uexcli.io.images import bit_depth, jxl, png, sixteen_bit
from uexcli.io.images.metadata import bare, colour, icc, jxl_profile, policy
from uexcli.io.images.pillow import pixels_of
from uexcli.io.images.second import exact, scaled
from uexcli.plugin import Sample

MAX_PIXELS = 89_478_485  # Pillow's own limit, where it would only warn
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP", "JXL", "HEIF")
SUFFIXES = {"png": ".png", "tiff": ".tiff", "webp": ".webp", "jxl": ".jxl", "jpeg": ".jpg"}
LOSSY = frozenset({"jpeg"})
EXTRAS = {  # suffixes that Pillow reads with another package alone
    ".heic": ("pillow_heif", "heif"), ".heif": ("pillow_heif", "heif"), ".jxl": ("pillow_jxl", "jxl"),
}  # fmt: skip
KINDS = {b"II": "TIFF", b"MM": "TIFF", b"\xff\xd8": "JPEG", b"BM": "BMP"}  # by their first bytes
DEEP = frozenset({".png", ".tiff"})  # hold 16 bits a value
GREY = frozenset({"1", "L", "LA", "La"})  # modes
COLOUR_ONLY = frozenset({".webp"})
FLATTENED = "alpha dropped"  # by a lossy format without alpha
SHALLOW = "16 bits to 8"
COLOURED = "L to RGB"  # by a format without grey


@dataclass(frozen=True)
class Photo:
    """One decoded image, upright.

    `pixels` is uint8 (H, W, C) with C 1 or 3; `alpha` uint8 (H, W) or None. `mode` is the source's; `changes` says what
    of it could not be kept. `digest` is the SHA-256 of the file's bytes (of the pixels, for images in memory). `deep`
    are all values of a 16-bit file, uint16 (H, W, C), where they were asked for: `pixels` are their upper bytes, and
    `deep_alpha` those of `alpha`. `shown` are a PNG's chunks that say how its numbers are to be shown.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    mode: str
    icc: bytes | None
    digest: str
    changes: tuple[str, ...] = ()
    deep: np.ndarray | None = None
    deep_alpha: np.ndarray | None = None
    shown: tuple[png.Chunk, ...] = ()
    grey: bool = False  # its three colours are one grey, and are to stay so
    texts: tuple[tuple[str, str], ...] = ()  # what may be kept of its metadata: keyword and text

    @property
    def values(self) -> np.ndarray:
        """The colours on the file's own grid: uint8, or uint16 where it has 16 bits."""
        return self.pixels if self.deep is None else self.deep

    @property
    def own_alpha(self) -> np.ndarray | None:
        """The alpha on the same grid, (H, W)."""
        return self.alpha if self.deep is None else self.deep_alpha

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def digest_of(sample: Sample) -> str:
    """The SHA-256 of a sample's bytes, without decoding it."""
    if sample.array is not None:
        return hashlib.sha256(np.ascontiguousarray(sample.array).tobytes()).hexdigest()
    return hashlib.sha256(sample.encoded()).hexdigest()


def open_photo(sample: Sample, *, whole: bool = False, texts: bool = False) -> Photo:
    """Decode a sample at full size; of a 16-bit one all bits, if `whole` asks for them, with its `texts` if asked.

    Raises:
        UexError: it cannot be decoded, is animated, too large, or without 8-bit pixels; named, with the reason.
    """
    if sample.array is not None:
        array = np.ascontiguousarray(sample.array)
        mode = "L" if array.ndim == 2 else "RGB"
        return Photo(array.reshape(*array.shape[:2], -1), None, mode, None, digest_of(sample))
    data = sample.encoded()
    try:
        return decode(data, whole=whole, texts=texts)
    except UexError as error:
        raise UexError(f"{sample.key}: {error.message}", hint=error.hint) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders fail in many ways, and each means the same here
        reason = str(error).replace(f" {hex(id(data))}", "") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            extra = EXTRAS.get(PurePosixPath(sample.key).suffix.lower())
            missing = extra is not None and importlib.util.find_spec(extra[0]) is None
            known = KINDS.get(data[:2])
            reason = f"a kind of {known} that is not read" if known else "no image format that Pillow knows"
            reason = f"run: pip install 'uexcli[{extra[1]}]'" if extra and missing else reason
        raise UexError(f"{sample.key}: cannot be decoded ({reason}).") from None


def decode(data: bytes, *, whole: bool = False, texts: bool = False) -> Photo:
    """Decode a file's bytes; raises whatever the decoder does."""
    digest = hashlib.sha256(data).hexdigest()
    parts = bare.of(data)
    with opened(parts.data) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # an MPO's further frames are previews or the other eye
            raise UexError(f"has {frames} frames or pages; uex protects single images.")
        bits = _bits(image, parts.data)
        orientation = policy.orientation(image, parts)
        found = exact.read(image, parts.data, lambda: _planes(image), whole=whole)
        kept, changes = policy.texts(data, parts, image.info) if texts else ((), ())
        mode = image.mode
        if mode == "RGBA" and image.format == "PNG" and parts.data[25] == exact.GREY_ALPHA:
            mode = "LA"  # of 16 bits, Pillow makes three equal colours
        if found.values is not None:
            values = scaled.upright(found.values, orientation)
            look = colour.of(image, data, parts, 1 if values.shape[2] <= 2 else 3)
            said = (*look.changes, *found.changes, *changes)
            photo = replace(_photo(values, mode, look.icc, digest, look.shown), changes=said, texts=kept)
            return photo if whole or photo.deep is None else shallow(photo)
        image.load()
        _scale_key(image, parts.data)
        plain, look = _shown(image.convert(mode) if mode == "LA" else image, data, parts)
    changes = (*look.changes, *changes, *((f"{bits} bits to 8",) if bits > 8 else ()), *found.changes)
    array = np.ascontiguousarray(scaled.upright(pixels_of(plain), orientation))
    if array.ndim == 2:
        return Photo(array[:, :, None], None, mode, look.icc, digest, changes, shown=look.shown, texts=kept)
    alpha = array[:, :, -1] if plain.mode in {"LA", "RGBA"} else None
    colours = array if alpha is None else array[:, :, :-1]
    return Photo(colours, alpha, mode, look.icc, digest, changes, shown=look.shown, texts=kept)


def _shown(image: Image.Image, data: bytes, parts: bare.Bare) -> tuple[Image.Image, colour.Look]:
    """Bring an image to L, LA, RGB or RGBA, and say how that is to be shown, and what it changed."""
    mode = image.mode
    if mode in {"CMYK", "LAB", "HSV"}:
        raw = colour.raw_profile(image, data, parts)
        if raw is not None and mode == "CMYK" and icc.is_for(raw, mode):
            pixels = icc.converted(np.asarray(image), mode, raw)
            return Image.fromarray(pixels), colour.Look(changes=(f"{mode} to RGB", f"{mode} profile: shown in sRGB"))
        plain, changes = _plain(image)
        return plain, colour.Look(changes=(*changes, *((f"{mode} profile dropped",) if raw else ())))
    plain, changes = _plain(image)
    look = colour.of(image, data, parts, 1 if plain.mode in {"L", "LA"} else 3)
    return plain, replace(look, changes=(*changes, *look.changes))


QUIET: Any = re.compile(r"PIL\.")


def settle_pillow() -> None:
    """Let Pillow open what `check_size` allows, and keep to itself what it thinks of odd metadata.

    It says so without naming the file, and the pixels are what counts here.
    """
    Image.MAX_IMAGE_PIXELS = None
    if not any(action == "ignore" and module is QUIET for action, _, _, module, _ in warnings.filters):
        warnings.filters.insert(0, ("ignore", None, UserWarning, QUIET, 0))  # type: ignore[attr-defined]


def opened(data: bytes) -> Image.Image:
    """Open a file's bytes of which the header says no more than is allowed; raises whatever a decoder does."""
    if jxl.is_one(data):  # which opening decodes
        told = jxl.header(data)
        check_size(told.width, told.height)
        if told.animated:  # of which the plugin gives the first frame
            raise UexError("is animated; uex protects single images.")
    settle_pillow()
    image = Image.open(io.BytesIO(data), formats=_formats())
    check_size(*image.size)
    return image


def check_size(width: int, height: int) -> None:
    """Refuse an image of more pixels than are allowed.

    Raises:
        UexError: it has more.
    """
    if width * height > _limit:
        raise UexError(f"{width}x{height} pixels are more than {_limit:,}; see `max_pixels`.")


def _photo(values: np.ndarray, mode: str, icc: bytes | None, digest: str, shown: tuple[png.Chunk, ...]) -> Photo:
    """Make a photo of uint8 or uint16 values, (H, W, 1 to 4)."""
    values = np.ascontiguousarray(values)
    has_alpha = values.shape[2] in (2, 4)
    colours, alpha = (values[:, :, :-1], values[:, :, -1]) if has_alpha else (values, None)
    if values.dtype == np.uint8:
        return Photo(colours, alpha, mode, icc, digest, shown=shown)
    upper = (colours >> 8).astype(np.uint8)
    upper_alpha = None if alpha is None else (alpha >> 8).astype(np.uint8)
    return Photo(upper, upper_alpha, mode, icc, digest, (), deep=colours, deep_alpha=alpha, shown=shown)


def shallow(photo: Photo) -> Photo:
    """Keep the upper 8 bits of a photo's values."""
    return replace(photo, deep=None, deep_alpha=None, changes=(*photo.changes, SHALLOW))


_limit = MAX_PIXELS


def limit_pixels(most: int | None) -> None:
    """Set how many pixels an image may have before it is refused, for this process and those it forks; None: as usual.

    Raises:
        UsageError: it is below 1.
    """
    global _limit  # noqa: PLW0603 - as Pillow has it
    if most is not None and most < 1:
        raise UsageError(f"`max_pixels={most}`: at least 1.")
    _limit = most or MAX_PIXELS
    settle_pillow()  # here, not first in a thread of a pool


@functools.cache
def _formats() -> list[str]:
    Image.init()
    with contextlib.suppress(ImportError):  # where they are installed, Pillow reads JPEG XL and HEIF, too
        importlib.import_module("pillow_jxl")
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a channel in the file; Pillow itself reduces 16-bit colour to 8 without a word."""
    if image.format == "PNG":
        return data[24]
    return 16 if image.mode.startswith("I;16") else bit_depth.bits(data, image.format)


def _scale_key(image: Image.Image, data: bytes) -> None:
    """Bring the transparent grey of a PNG of 2 or 4 bits onto the grid that Pillow brings its pixels onto."""
    key = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and data[24] < 8 and isinstance(key, int):
        most = 2 ** data[24] - 1
        image.info["transparency"] = (key & most) * (255 // most)


def _planes(image: Image.Image) -> np.ndarray:
    """Pillow's reading of 8 bits, (H, W, 1 to 4)."""
    image.load()
    values = np.asarray(_plain(image)[0])
    return values.reshape(*values.shape[:2], -1)


def _plain(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Bring an image to L, LA, RGB or RGBA, and say what that changed."""
    mode = image.mode
    see_through = "transparency" in image.info
    if mode.startswith("I;16") or mode == "1":
        values = np.asarray(image if mode != "1" else image.convert("L"))
        grey = Image.fromarray((values >> 8).astype(np.uint8) if mode != "1" else values)
        if see_through:  # Pillow's own conversions drop it here
            grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
        return grey, (f"{mode} to {grey.mode}",) if mode == "1" or see_through else ()
    if mode in {"I", "F"}:
        raise UexError(f"pixels are of mode {mode}, which have no 8-bit grid.")
    if mode in {"L", "LA", "RGB", "RGBA"} and not see_through:
        return image, ()
    if mode == "L":
        return image.convert("LA"), ("L to LA",)
    wanted = "RGBA" if see_through or mode in {"PA", "RGBa"} else "RGB"
    return image.convert(wanted), (f"{mode} to {wanted}",)


def encode(photo: Photo, pixels: np.ndarray, suffix: str, *, png_level: int = 1) -> bytes:
    """Encode new pixels (H, W, C) with the photo's alpha, ICC profile and texts and no other metadata.

    uint8, or uint16 with the alpha of that grid, where `suffix` is of `DEEP`.
    """
    alpha = photo.alpha if pixels.dtype == np.uint8 else photo.deep_alpha
    planes = pixels if alpha is None else np.concatenate([pixels, alpha[:, :, None]], 2)
    if suffix == ".png":
        chunks = [*photo.shown, *policy.as_chunks(photo.texts)]
        return png.encode(planes, level=png_level, icc=photo.icc, chunks=chunks)
    if suffix == ".tiff" and (pixels.dtype == np.uint16 or photo.texts):
        return sixteen_bit.encode_tiff(planes, photo.icc, policy.as_tiff(photo.texts))
    image = Image.fromarray(np.ascontiguousarray(planes[:, :, 0] if planes.shape[2] == 1 else planes))
    buffer = io.BytesIO()
    extra: dict[str, Any] = {"icc_profile": photo.icc} if photo.icc else {}
    if photo.texts:
        extra["exif"] = policy.as_exif(photo.texts).tobytes()
    match suffix:
        case ".tiff":
            image.save(buffer, "TIFF", compression="tiff_deflate", **extra)
        case ".webp":
            image.save(buffer, "WEBP", lossless=True, exact=True, quality=0, method=0, **extra)
        case ".jxl":
            image.save(buffer, "JXL", lossless=True, effort=1, num_threads=1, use_container=True, **extra)
            if photo.icc and photo.icc not in (icc.named("sRGB"), icc.named("Grey sRGB")):  # which it says itself
                return jxl_profile.embed(buffer.getvalue(), photo.icc)
        case ".jpg":
            flat = image.convert("L" if pixels.shape[2] == 1 else "RGB")
            flat.save(buffer, "JPEG", quality=95, subsampling=0, **extra)
    return buffer.getvalue()


def fitting(photo: Photo, suffix: str) -> Photo:
    """Make a photo what a format can hold; its `changes` say what that changed.

    Raises:
        UexError: the format cannot keep its colours.
    """
    changes = list(photo.changes)
    # Pillow reads no TIFF of grey and alpha in 16 bits
    odd = suffix == ".tiff" and photo.deep is not None and photo.deep_alpha is not None
    if (suffix in COLOUR_ONLY or odd) and photo.pixels.shape[2] == 1:
        photo = in_colour(photo)
        changes.append(COLOURED)
    if suffix != ".png" and photo.icc is None:
        grey = photo.pixels.shape[2] == 1
        photo = replace(photo, icc=colour.made(photo.shown, grey=grey), shown=())
    return replace(photo, changes=tuple(changes))


def in_colour(photo: Photo) -> Photo:
    """Make grey three equal colours that look the same.

    Raises:
        UexError: its profile is one that is told of grey alone.
    """
    values = None if photo.deep is None else photo.deep.repeat(3, 2)
    profile = photo.icc
    if profile is None:
        profile = colour.made(photo.shown, grey=True)
    if profile is not None:
        profile = icc.in_colour(profile)
        if profile is None:
            raise UexError("its grey profile has no curve, and grey is no colour of this format.")
    return replace(photo, pixels=photo.pixels.repeat(3, 2), deep=values, grey=True, icc=profile, shown=())


def same_look(first: Photo, second: Photo, suffix: str) -> bool:
    """Whether two photos of one mode are to be shown in the same way, the second from a file of this suffix."""
    grey = first.pixels.shape[2] == 1
    looks = []
    for photo in (first, second):
        try:
            looks.append(photo.icc or colour.made(photo.shown, grey=grey))
        except UexError:  # such as PNG alone has
            looks.append(dict(photo.shown)[colour.CICP])
    if suffix == ".jxl":  # which has a profile of sRGB where there was none, and perhaps others in its own words
        return icc.same_look(looks[0], looks[1], grey=grey)
    return looks[0] == looks[1]


def size_and_grey(sample: Sample) -> tuple[int, int, bool]:
    """Read height, width (as stored) and whether an image is grey, from the file's header."""
    if sample.array is not None:
        return int(sample.array.shape[0]), int(sample.array.shape[1]), sample.array.ndim == 2
    try:
        with io.BytesIO(sample.encoded()) if sample.path is None else sample.path.open("rb") as file:
            settle_pillow()
            is_jxl = jxl.is_one(file.read(jxl.MARK))
            file.seek(0)  # of others no more is read than the header
            with opened(file.read()) if is_jxl else Image.open(file, formats=_formats()) as image:
                return _told(image)
    except Exception:  # perhaps by its metadata, which is of no matter
        try:
            with opened(bare.of(sample.encoded()).data) as image:
                return _told(image)
        except Exception:  # said in full when it is decoded
            raise UexError(f"{sample.key}: cannot be read as an image.") from None


def _told(image: Image.Image) -> tuple[int, int, bool]:
    grey = image.mode in GREY or image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    return image.height, image.width, grey


def with_channels(photo: Photo, channels: int) -> np.ndarray:
    """Give a photo's pixels in colour or in grey: uint8 (H, W, C)."""
    pixels = photo.pixels
    if pixels.shape[2] == channels:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert(
        "L" if channels == 1 else "RGB"
    )
    return np.asarray(image).reshape(*pixels.shape[:2], channels)


def squash(photo: Photo, size: int, channels: int) -> np.ndarray:
    """Resize to size x size whatever the aspect ratio, bilinear: uint8 (C, S, S)."""
    pixels = with_channels(photo, channels)
    if photo.size != (size, size):
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a picture for its owner, uint8 (H, W, 3) or (H, W), atomically: it shows clean beside protected."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    atomic.write(path, buffer.getvalue(), private=True)
