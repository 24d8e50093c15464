"""Reading and writing images; Pillow is the reference decoder."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from uexcli.api import Sample
from uexcli.errors import UexError
from uexcli.io import atomic

MAX_PIXELS = 89_478_485  # Pillow's own limit, where it would only warn
Image.MAX_IMAGE_PIXELS = None  # checked below, before anything is decoded, and as an error
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP", "JXL", "HEIF")
SUFFIXES = {"png": ".png", "tiff": ".tiff", "jpeg": ".jpg"}
LOSSY = frozenset({"jpeg"})
FLATTENED = "alpha dropped"  # by a lossy format without alpha
# Pillow warns of odd metadata without saying in which file; the pixels are what counts here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Photo:
    """One decoded image, upright.

    `pixels` is uint8 (H, W, C) with C 1 or 3; `alpha` uint8 (H, W) or None. `mode` is the source's; `changes` says what
    of it could not be kept. `digest` is the SHA-256 of the file's bytes (of the pixels, for images in memory).
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    mode: str
    icc: bytes | None
    digest: str
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def digest_of(sample: Sample) -> str:
    """The SHA-256 of a sample's bytes, without decoding it."""
    if sample.array is not None:
        return hashlib.sha256(np.ascontiguousarray(sample.array).tobytes()).hexdigest()
    return hashlib.sha256(_read(sample)).hexdigest()


def _read(sample: Sample) -> bytes:
    assert sample.path is not None
    try:
        return sample.path.read_bytes()
    except OSError as error:
        raise UexError(f"{sample.key}: cannot be read ({error.strerror}).") from None


def open_photo(sample: Sample) -> Photo:
    """Decode a sample at full size.

    Raises:
        UexError: it cannot be decoded, is animated, too large, or without 8-bit pixels; named, with the reason.
    """
    if sample.array is not None:
        array = np.ascontiguousarray(sample.array)
        mode = "L" if array.ndim == 2 else "RGB"
        return Photo(array.reshape(*array.shape[:2], -1), None, mode, None, digest_of(sample))
    data = _read(sample)
    try:
        return decode(data)
    except UexError as error:
        raise UexError(f"{sample.key}: {error.message}") from None
    except Exception as error:  # decoders fail in many ways, and each means the same here
        reason = str(error).replace(f" {hex(id(data))}", "") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "no image format that Pillow knows"
        raise UexError(f"{sample.key}: cannot be decoded ({reason}).") from None


def decode(data: bytes) -> Photo:
    """Decode a file's bytes; raises whatever the decoder does."""
    digest = hashlib.sha256(data).hexdigest()
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UexError(f"{width}x{height} pixels are more than {MAX_PIXELS:,}.")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # an MPO's further frames are previews or the other eye
            raise UexError(f"has {frames} frames or pages; uex protects single images.")
        deep = _bits(image, data) > 8
        icc = image.info.get("icc_profile")
        image.load()
        mode = image.mode
        upright = ImageOps.exif_transpose(image)
        plain, changes = _plain(upright)
    if deep:
        changes = (*changes, "16 bits to 8")
    if plain.mode in {"RGB", "RGBA"} and mode in {"CMYK", "LAB", "YCbCr", "HSV"} and icc:
        icc, changes = None, (*changes, f"{mode} profile dropped")
    array = np.asarray(plain)
    if array.ndim == 2:
        return Photo(array[:, :, None], None, mode, icc, digest, changes)
    if plain.mode in {"LA", "RGBA"}:
        return Photo(array[:, :, :-1], array[:, :, -1], mode, icc, digest, changes)
    return Photo(array, None, mode, icc, digest, changes)


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a channel in the file; Pillow itself reduces 16-bit colour to 8 without a word."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, 8)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 16 if image.mode.startswith("I;16") else 8


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
    """Encode new pixels, uint8 (H, W, C), with the photo's alpha and ICC profile and no other metadata."""
    planes = pixels if photo.alpha is None else np.concatenate([pixels, photo.alpha[:, :, None]], 2)
    image = Image.fromarray(np.ascontiguousarray(planes[:, :, 0] if planes.shape[2] == 1 else planes))
    buffer = io.BytesIO()
    extra = {"icc_profile": photo.icc} if photo.icc else {}
    match suffix:
        case ".png":
            image.save(buffer, "PNG", compress_level=png_level, **extra)
        case ".tiff":
            image.save(buffer, "TIFF", compression="tiff_deflate", **extra)
        case ".jpg":
            flat = image.convert("L" if pixels.shape[2] == 1 else "RGB")
            flat.save(buffer, "JPEG", quality=95, subsampling=0, **extra)
    return buffer.getvalue()


def size_and_grey(sample: Sample) -> tuple[int, int, bool]:
    """Read height, width (as stored) and whether an image is grey, from the file's header."""
    if sample.array is not None:
        return int(sample.array.shape[0]), int(sample.array.shape[1]), sample.array.ndim == 2
    assert sample.path is not None
    try:
        with Image.open(sample.path, formats=_formats()) as image:
            return image.height, image.width, image.mode in {"1", "L", "LA"} or image.mode.startswith("I;16")
    except Exception:  # said in full when it is decoded
        raise UexError(f"{sample.key}: cannot be read as an image.") from None


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
    """Write a picture for people, uint8 (H, W, 3) or (H, W), atomically."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    atomic.write(path, buffer.getvalue())
