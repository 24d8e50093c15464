"""Pictures for people: clean, noise amplified, protected. As secret as the noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from uexcli.core.stripes import bands, changed_by

GAP = 8
TITLE = 22
TITLES = ("clean", "noise x{:.0f}", "protected")
PAPER, INK = (250, 250, 250), (30, 30, 30)
CLEAR, GREY = (128, 128, 128, 0), (122, 122, 122, 255)  # the same on a page that may be light or dark


def amplification(clean: np.ndarray, protected: np.ndarray) -> float:
    """How much the noise must be multiplied for its largest value to span half the range."""
    most = changed_by(clean, protected)[1]
    return 127 / most if most else 1.0


def noise_picture(clean: np.ndarray, protected: np.ndarray, factor: float) -> np.ndarray:
    """The noise around middle grey, uint8 (H, W, C)."""
    shown = np.empty_like(clean)
    for band in bands(clean.shape):
        change = protected[band].astype(np.float32) - clean[band].astype(np.float32)
        shown[band] = np.clip(np.round(128 + factor * change), 0, 255)
    return shown


def side_by_side(clean: np.ndarray, protected: np.ndarray, factor: float) -> np.ndarray:
    """Clean, amplified noise, protected, with titles: uint8 (H, W, 3)."""
    return contact_sheet([(clean, protected)], factor, side=max(160, min(640, max(clean.shape[:2]))), paper=True)


def contact_sheet(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], factor: float, *, side: int = 96, paper: bool = False
) -> np.ndarray:
    """One column per (clean, protected) pair and three rows, or for a single pair one row.

    uint8 (H, W, 4), and nothing between the images, for a page of any colour; on white `paper` (H, W, 3).
    """
    panels = [(clean, noise_picture(clean, protected, factor), protected) for clean, protected in pairs]
    titles = [title.format(factor) for title in TITLES]
    if len(pairs) == 1:
        tiles = [_tile(panel, side) for panel in panels[0]]
        width = sum(tile.width for tile in tiles) + GAP * 4
        page = _blank((width, tiles[0].height + TITLE + GAP * 2), paper=paper)
        left = GAP
        for tile, title in zip(tiles, titles, strict=True):
            _write(page, (left, GAP // 2), title)
            page.paste(tile, (left, TITLE + GAP))
            left += tile.width + GAP
        return np.asarray(page)
    page = _blank((len(pairs) * (side + GAP) + GAP, 3 * (side + TITLE + GAP) + GAP), paper=paper)
    for row, title in enumerate(titles):
        top = GAP + row * (side + TITLE + GAP)
        _write(page, (GAP, top), title)
        for column, panel in enumerate(panels):
            page.paste(_tile(panel[row], side), (GAP + column * (side + GAP), top + TITLE))
    return np.asarray(page)


def _blank(size: tuple[int, int], *, paper: bool) -> Image.Image:
    return Image.new("RGB", size, PAPER) if paper else Image.new("RGBA", size, CLEAR)


def _tile(pixels: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _write(page: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(page).text(place, text, fill=INK if page.mode == "RGB" else GREY, font=ImageFont.load_default(14))
