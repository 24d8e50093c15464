"""Photos that were not fitted: which noise each gets, and how far it is from those that were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uexcli import plugin
from uexcli.commands.apply.request import Request
from uexcli.commands.protect.protector import Protector, Written
from uexcli.io.images import photo_files
from uexcli.messages import Listener

FAR = 1.01  # of the farthest fitted image's distance: beyond it, more than rounding


@dataclass(frozen=True)
class Assigned:
    """An image that was not fitted: its row, and how far it lies from what was fitted (see `protector.Place`)."""

    key: str
    row: int
    near: float | None


def near_of_new(protector: Protector, chosen: Sequence[plugin.Sample], request: Request) -> dict[str, Any]:
    """Look where new images lie, without writing any, if that is asked for."""
    if not request.near:
        return {}
    found = []
    for sample in chosen:
        if sample.key not in protector.fitted:
            _, place = protector.row(sample, photo_files.open_photo(sample))
            assert place is not None
            found.append(Assigned(sample.key, place.row, place.near))
    return {"new": len(found), "assigned": tuple(found)}


def warn_far_images(done: Sequence[Written], listener: Listener) -> tuple[Assigned, ...]:
    """List the images that were not fitted; warn of those that nothing fitted is like."""
    new = tuple(Assigned(item.key, item.place.row, item.place.near) for item in done if item.place is not None)
    far = [item for item in new if item.near is not None and item.near > FAR]
    if far:
        worst = max(far, key=lambda item: item.near or 0)
        others = f" and {len(far) - 1:,} more" if len(far) > 1 else ""
        listener.warn(
            f"unlike any photo that was fitted: {worst.key} ({worst.near:.2f} times as far as the farthest){others}; "
            "`near=True` lists them all"
        )
    return new
