"""Feeds spoilt files to all that reads manifests and noise files: each must be read, or refused in one line.

    python scripts/fuzz.py --seconds 60
    python scripts/fuzz.py --seconds 60 --only noise

A reader may raise `UexError` and nothing else, and must not take more than ten seconds. With `atheris` installed,
`python scripts/fuzz.py --atheris sums` lets it look for new paths through one reader instead.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import torch
from PIL import Image

from uexcli.commands.evaluate import protocol as eval_protocol
from uexcli.commands.protect.protector import Written
from uexcli.errors import UexError
from uexcli.io import labels as labels_file
from uexcli.io import samples, schema
from uexcli.io.images import jxl
from uexcli.io.images.metadata import trailing
from uexcli.io.noise import noise_file
from uexcli.io.release import layout, part, receipt, write_log

SLOW = 10.0  # seconds
TOKENS = [
    b"../", b"/etc/passwd", b"\\", b"\n", b"\r", b"\0", b"\xff", b"{", b"[" * 2000, b"null", b"NaN", b"1e999", b"-1",
    b'"', b"}", b",", b"9" * 40, b"  ", b" *", b"uex", b"format", b"\xef\xbb\xbf", b"true", b"\x80\x05",
]  # fmt: skip


def sums(path: Path) -> None:
    """A list of checksums: no name may leave the folder."""
    for name in layout.read_sums(path):
        assert layout.inside(name) and (path.parent / name).resolve().is_relative_to(path.parent.resolve())


def facts(path: Path) -> None:
    """The public facts."""
    target = path.parent / layout.FACTS
    path.replace(target)
    found = layout.read_facts(path.parent)
    assert found is not None


def parts(path: Path) -> None:
    """A part of a release."""
    path.replace(path.parent / "uex-part.json")
    part.read(path.parent)


def receipts(path: Path) -> None:
    """A receipt, which never fails: what is damaged matches nothing."""
    receipt.matches(path, path.parent, {"noise": "x"}, [], whole=False)


def journals(path: Path) -> None:
    """A journal, of which every line that is none is passed over."""
    for line in write_log.Journal(path).lines():
        with contextlib.suppress(TypeError):
            Written.of(line)


def noise(path: Path) -> None:
    """A noise file."""
    found = noise_file.read(path)
    if found.delta is not None:
        assert bool(found.bank(0, 1).isfinite().all())


def labels(path: Path) -> None:
    """A CSV of labels."""
    labels_file.given(path, ["a.png", "b,c.png"], path.parent)


def protocol(path: Path) -> None:
    """A protocol."""
    target = path.with_suffix(".toml")
    path.replace(target)
    eval_protocol.read(str(target))


def picture(path: Path) -> None:
    """An image file: its decoder is fed by others; where it ends and how large it is, is read here."""
    data = path.read_bytes()
    for format_ in trailing.ENDS:
        assert 0 <= trailing.behind(data, format_) <= len(data)
    with contextlib.suppress(ValueError):
        jxl.header(data)


READERS: dict[str, Callable[[Path], None]] = {
    "sums": sums, "facts": facts, "part": parts, "receipt": receipts, "journal": journals, "noise": noise,
    "labels": labels, "protocol": protocol, "picture": picture,
}  # fmt: skip


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Good files, from which spoilt ones are made."""
    digest = "ab" * 32
    stated = {"schema": layout.SCHEMA, "eps": 8 / 255, "eps_text": "8/255", "size": 32, "suffix": ".png",
              "norm": {"name": "linf", "options": {}}, "skipped": [{"path": "a", "reason": "b"}], "mode_changes": [],
              "rms_levels": 4.5}  # fmt: skip
    written = {"key": "a.png", "name": "a.png", "source": digest, "protected": digest, "size": 0.03, "allowed": 0.03,
               "rms": 4.0, "changes": [], "kept": False, "place": {"row": 1, "near": 0.5}}  # fmt: skip
    whole = {"job": {}, "facts": {"suffix": ".png", "lossless": True}, "on_error": "fail", "receipt": "r", "images": 1}
    piece = {"schema": part.SCHEMA, "header": whole, "items": [{"position": 0, "written": written}]}
    known = {"schema": "uex.receipt/1", "releases": {str(folder): {"job": {"noise": "x"}, "files": {}, "skipped": {}}}}
    made = noise_file.Noise(
        delta=torch.zeros(2, 3, 8, 8), rows=torch.tensor([0, 1]), keys=("a.png", "b/c.png"), digests=(digest, digest),
        classes=("x", "y"), memory={"centres": torch.zeros(2, 4)},
        header={"eps": 8 / 255, "eps_text": "8/255", "seed": 1, "dataset": {}, "measured": {}, "uexcli": "0",
                "recipe": {"method": {"name": "em"}, "norm": {"name": "linf"}, "granularity": {"name": "samplewise"},
                           "size": 8, "channels": 3}},
    )  # fmt: skip
    noise_file.write(folder / "seed", made)
    secret = (folder / "seed").read_bytes()
    (folder / "seed").unlink()
    return {
        "sums": [f"{digest}  a/b.png\n\\{digest} *a\\nb\\\\c.png\n".encode()],
        "facts": [json.dumps(stated).encode()],
        "part": [json.dumps(piece).encode()],
        "receipt": [json.dumps(known).encode()],
        "journal": [(json.dumps(written) + "\n").encode() * 3],
        "noise": [secret],
        "labels": [b'path,label\na.png,cat\n"b,c.png",dog\n'],
        "picture": [*_pictures()],
        "protocol": [b'targets = ["small"]\nagainst = ["jpeg:10"]\nseeds = 2\nepochs = 3\n'],
    }


def _pictures() -> Iterator[bytes]:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 9, 3), np.uint8)
    Image.init()
    for format_ in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000"):
        if format_ in Image.SAVE:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, format_)
            yield buffer.getvalue()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, bigtiff=True, tile=(16, 16), photometric="rgb")
    yield buffer.getvalue()
    yield imagecodecs.jpegxl_encode(np.stack([pixels, pixels]))
    boxes = ((b"JXL ", b"\r\n\x87\n"), (b"ftyp", b"jxl \0\0\0\0jxl "), (b"jxlp", b"\0\0\0\0\xff\x0a\x20\x01\x78"))
    yield b"".join((8 + len(data)).to_bytes(4, "big") + kind + data for kind, data in boxes)


def spoilt(data: bytes, draw: random.Random) -> bytes:
    """Change a file somewhere: bits, bytes, parts cut, doubled, moved, replaced by tokens; a JSON value by another."""
    if draw.random() < 0.3:
        changed = _other_value(data, draw)
        if changed is not None:
            return changed
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        place, length = draw.randrange(len(made) + 1), draw.choice((1, 1, 2, 8, 64))
        kind = draw.randrange(6)
        if kind == 0 and made:
            made[place % len(made)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del made[place : place + length]
        elif kind == 2:
            made[place:place] = draw.choice(TOKENS)
        elif kind == 3:
            made[place : place + length] = draw.randbytes(length)
        elif kind == 4:
            made[place:place] = made[place : place + length]
        else:
            del made[place:]
    return bytes(made)


def _other_value(data: bytes, draw: random.Random) -> bytes | None:
    """Replace one value of a JSON document, also of the header of a safetensors file, whose length is kept true."""
    start, end = (8, 8 + int.from_bytes(data[:8], "little")) if data[8:9] == b"{" else (0, len(data))
    try:
        whole: Any = json.loads(data[start:end])
    except ValueError:
        return None
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            collect(value[key])

    inner = whole.get("__metadata__", {}) if isinstance(whole, dict) else {}
    ours = json.loads(inner["uex"]) if "uex" in inner and draw.random() < 0.7 else None
    collect(whole if ours is None else ours)
    if not places:
        return None
    holder, key = draw.choice(places)
    holder[key] = draw.choice(
        [None, True, -1, 0, 2**70, 1e308, float("nan"), "", "../../x", "x" * 300, [], {}, [[]], {"name": 1}, "\udcff"]
    )
    if ours is not None:
        inner["uex"] = json.dumps(ours)
    text = json.dumps(whole).encode()
    return text if start == 0 else len(text).to_bytes(8, "little") + text + data[end:]


def check(name: str, data: bytes, folder: Path) -> str:
    """Let a reader have one file; gives `read` or `refused`.

    Raises:
        AssertionError: it raises anything but `UexError`, lets through what it must not, or takes too long.
    """
    path = folder / "file"
    path.write_bytes(data)
    began = time.monotonic()
    try:
        READERS[name](path)
        return "read"
    except UexError as error:
        assert error.message
        return "refused"
    finally:
        assert time.monotonic() - began < SLOW, f"{name} took {time.monotonic() - began:.0f} s"
        for leftover in folder.iterdir():
            leftover.unlink()


def run(name: str, cases: int, seconds: float, seed: int) -> dict[str, int]:
    """Feed a reader so many files, or for so long; counts what became of them."""
    draw = random.Random(f"{name} {seed}")
    found = {"read": 0, "refused": 0}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        good = seeds(folder)[name]
        for data in good:
            assert check(name, data, folder) == "read", f"{name}: a good file is refused"
        while sum(found.values()) < cases and time.monotonic() - began < seconds:
            data = spoilt(draw.choice(good), draw)
            try:
                found[check(name, data, folder)] += 1
            except Exception as error:
                kept = Path(tempfile.gettempdir()) / f"uex-fuzz-{name}"
                kept.write_bytes(data)
                raise AssertionError(f"{name}: {type(error).__name__}: {error}; the file is {kept}") from error
    return found


def main() -> None:
    """Run all readers, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=READERS, default=None)
    parser.add_argument("--atheris", choices=READERS, default=None)
    given = parser.parse_args()
    if given.atheris:
        _atheris(given.atheris, given.seconds)
    for name in [given.only] if given.only else READERS:
        found = run(name, sys.maxsize, given.seconds, given.seed)
        print(
            f"{name}: {sum(found.values()):,} files, {found['read']:,} read, {found['refused']:,} refused", flush=True
        )


def _atheris(name: str, seconds: float) -> None:
    import atheris

    folder = Path(tempfile.mkdtemp())
    corpus = Path(tempfile.mkdtemp())
    for number, data in enumerate(seeds(folder)[name]):
        (corpus / str(number)).write_bytes(data)
    # what uex reads with; all of Python's functions would take minutes
    for module in (
        trailing,
        eval_protocol,
        write_log,
        jxl,
        labels_file,
        noise_file,
        part,
        receipt,
        layout,
        samples,
        schema,
    ):
        for _, function in inspect.getmembers(module, inspect.isfunction):
            atheris.instrument_func(function)
    options = [f"-max_total_time={seconds:.0f}", str(corpus)]
    atheris.Setup([sys.argv[0], *options], lambda data: check(name, data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
