"""Demo: real handwritten digits through the very same commands, and a picture of what happened."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uexcli import plugin
from uexcli.commands import apply, evaluate, fit, verify
from uexcli.errors import UsageError
from uexcli.io.claims import claim
from uexcli.io.images import photo_files
from uexcli.io.release import layout
from uexcli.io.reports import contact_sheet
from uexcli.io.sources import source_of
from uexcli.messages import Listener
from uexcli.registry import load
from uexcli.wording import pasted

SIDE = 32  # the digits are 8 x 8; at 32 px the net has room to see them, and noise has room to work
# Strokes span the whole range from black to white, so noise must be stronger than on photos to be learnt first.
EPS = "16/255"
EPOCHS = 8
MARK = ".uex-demo"


@dataclass(frozen=True)
class Result:
    """What the four commands gave, and where the picture is."""

    folder: Path
    fit: fit.Result
    apply: apply.Result
    evaluate: evaluate.Result
    verify: verify.Result
    sheet: Path
    seconds: float


OnResult = Callable[[fit.Result | apply.Result | evaluate.Result | verify.Result], None]


def run(
    folder: Path,
    *,
    eps: str = EPS,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    listener: Listener | None = None,
    on_result: OnResult = lambda _: None,
) -> Result:
    """Write digits, fit, apply, evaluate, verify, and draw a contact sheet, all below `folder`.

    `on_result` hears what each command gave, before the next one begins.
    """
    with claim(folder):
        return _run(folder, eps, seed, device, force=force, listener=listener or Listener(), on_result=on_result)


def _run(
    folder: Path,
    eps: str,
    seed: int,
    device: str,
    *,
    force: bool,
    listener: Listener,
    on_result: OnResult,
) -> Result:
    began = time.perf_counter()
    _prepare(folder, force=force)
    photos, noise, out = folder / "digits", folder / "digits.noise.safetensors", folder / "release"
    listener.say(f"writing scikit-learn's handwritten digits to {photos}")
    write_digits(photos)
    _announce(
        listener, "fit", photos, "--method", "em", "--eps", eps, "--mode", "classwise", "--seed", str(seed), "-o", noise
    )
    fitted = fit.run(
        fit.Request(str(photos), output=noise, method="em", eps=eps, mode="classwise", seed=seed, device=device),
        listener,
    )
    on_result(fitted)
    _announce(listener, "apply", noise, photos, "-o", out)
    applied = apply.run(apply.Request(noise, str(photos), out), listener)
    on_result(applied)
    report = folder / "report.html"
    _announce(listener, "eval", photos, out, "--epochs", str(EPOCHS), "--report", report)
    asked = evaluate.Request(
        str(photos), str(out), epochs=EPOCHS, device=device, cells=folder / "trainings", report=report
    )
    judged = evaluate.run(asked, listener)
    assert isinstance(judged, evaluate.Result)
    on_result(judged)
    _announce(listener, "verify", out, "--source", photos)
    verified = verify.run(verify.Request(out, source=str(photos)), listener)
    on_result(verified)
    picture = folder / "contact-sheet.png"
    draw_sheet(photos, out, picture)
    return Result(folder, fitted, applied, judged, verified, picture, time.perf_counter() - began)


def _announce(listener: Listener, *words: str | Path) -> None:
    listener.say("")
    listener.say(f"$ {pasted('uex', *words)}")


def _prepare(folder: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", hint="Give `output` a folder.")
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise UsageError(f"{folder} exists, and is no demo of uex.", hint="Use `output` for another folder.")
        if not force:
            raise UsageError(
                f"{folder} holds an earlier demo.",
                hint="Use `force=True` to replace it, or `output` for another folder.",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def write_digits(folder: Path) -> None:
    """Write the 1,797 digits as a class folder of grey PNGs of `SIDE` px."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    members = []
    for number, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        small = Image.fromarray((image * (255 / 16)).round().astype(np.uint8))
        large = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        members.append(plugin.Sample(f"{label}/{number:04d}.png", str(label), array=large))
    source_of(load(), str(folder)).dataset.write(str(folder), members)


def draw_sheet(photos: Path, out: Path, picture: Path) -> None:
    """Draw one image of each class, clean, noise amplified and protected."""
    found = source_of(load(), str(photos)).samples()
    names = layout.names(found.keys)
    firsts = {sample.label: sample for sample in reversed(found.samples)}
    pairs = []
    for label in found.classes:
        sample = firsts[label]
        released = plugin.Sample(sample.key, None, path=out / names[sample.key])
        pairs.append((photo_files.open_photo(sample).pixels, photo_files.open_photo(released).pixels))
    factor = min(contact_sheet.amplification(*pair) for pair in pairs)
    photo_files.write_png(picture, contact_sheet.contact_sheet(pairs, factor, paper=True))
