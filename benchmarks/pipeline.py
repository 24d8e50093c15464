"""How fast a release is made: `uex apply` against a plain Pillow loop, on photos cut out of real ones; and kills.

    python -m benchmarks.pipeline photos --from FOLDER --count 20000 --work FOLDER
    python -m benchmarks.pipeline speed --work FOLDER --out benchmarks/results
    python -m benchmarks.pipeline kills --work FOLDER --out benchmarks/results --count 2000

`photos` lays six photos of FOLDER out as 3 x 2 tiles of 224 px, some mirrored, and cuts 500 x 375 px from the middle:
a JPEG file of quality 90 each, in ten classes. `speed` runs, one after another and each in a process of its own, a loop
that decodes the same files with Pillow and writes the same pixels as PNG of the same level, and `uex apply` with one
and with more jobs. `kills` kills an apply ten times at random moments.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from uexcli.runtime import machine

TILE, WIDTH, HEIGHT = 224, 500, 375


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("photos", "speed", "kills", "loop"))
    parser.add_argument("--from", dest="source", type=Path, default=None)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", default="1,2", help="of uex apply, with commas")
    parser.add_argument("--png-level", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    {"photos": photos, "speed": speed, "kills": kills, "loop": loop}[given.part](given)


def photos(given: argparse.Namespace) -> None:
    """Make the photos; the same ones for the same count."""
    sources = sorted(path for path in given.source.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    tiles = [ImageOps.fit(Image.open(path).convert("RGB"), (TILE, TILE)) for path in sources]
    for number in range(given.count):
        target = given.work / "photos" / f"class{number % 10}" / f"{number:06}.jpg"
        if target.exists():
            continue
        draw = random.Random(number)
        sheet = Image.new("RGB", (3 * TILE, 2 * TILE))
        for place in range(6):
            tile = draw.choice(tiles)
            shown = ImageOps.mirror(tile) if draw.random() < 0.5 else tile
            sheet.paste(shown, (TILE * (place % 3), TILE * (place // 3)))
        left, top = draw.randrange(3 * TILE - WIDTH), draw.randrange(2 * TILE - HEIGHT)
        target.parent.mkdir(parents=True, exist_ok=True)
        sheet.crop((left, top, left + WIDTH, top + HEIGHT)).save(target, quality=90)


def loop(given: argparse.Namespace) -> None:
    """The plain loop: decode the source, and write the pixels of the release, which were decoded before the clock."""
    listed = sorted((given.work / "photos").rglob("*.jpg"))[: given.count]
    spent = 0.0
    target = given.work / "loop"
    for path in listed:
        name = path.relative_to(given.work / "photos").with_suffix(".png")
        protected = Image.open(given.work / "release" / name)
        protected.load()
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        Image.open(path).convert("RGB").load()
        protected.save(target / name, compress_level=given.png_level)
        spent += time.perf_counter() - began
    written = sum(path.stat().st_size for path in target.rglob("*.png"))
    shutil.rmtree(target)
    print(json.dumps({"seconds": spent, "images": len(listed), "bytes": written}))


def speed(given: argparse.Namespace) -> None:
    """Fit shared noise, then apply and the loop."""
    noise, source = _noise(given), given.work / "photos"
    count = sum(1 for _ in source.rglob("*.jpg"))
    found: dict[str, Any] = {"photos": count, "png_level": given.png_level, "machine": machine.describe()}
    for jobs in map(int, given.jobs.split(",")):
        shutil.rmtree(given.work / "release", ignore_errors=True)
        words = ["apply", str(noise), str(source), "-o", str(given.work / "release"), "-q", "--json"]
        words += ["--png-level", str(given.png_level), "--jobs", str(jobs)]
        began = time.perf_counter()
        peak = _watched([sys.executable, "-m", "uexcli", *words])
        seconds = time.perf_counter() - began
        written = sum(path.stat().st_size for path in (given.work / "release").rglob("*.png"))
        found[f"apply, {jobs} jobs"] = {"seconds": seconds, "images_per_s": count / seconds, "bytes": written, **peak}
        print(json.dumps(found[f"apply, {jobs} jobs"]), flush=True)
    began = time.perf_counter()
    _watched([sys.executable, "-m", "uexcli", *words])
    found["apply again"] = {"seconds": time.perf_counter() - began}
    few = min(count, 2000)
    words = [sys.executable, "-m", "benchmarks.pipeline", "loop", "--work", str(given.work), "--count", str(few)]
    ran = subprocess.run([*words, "--png-level", str(given.png_level)], capture_output=True, check=True, text=True)
    plain = json.loads(ran.stdout)
    found["plain loop"] = {**plain, "images_per_s": plain["images"] / plain["seconds"]}
    words = ["verify", str(given.work / "release"), "--source", str(source), "-q", "--json"]
    began = time.perf_counter()
    peak = _watched([sys.executable, "-m", "uexcli", *words])
    found["verify"] = {"seconds": time.perf_counter() - began, **peak}
    (given.out / f"pipeline-{count}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def kills(given: argparse.Namespace) -> None:
    """Kill an apply at random moments, resume it, compare with one that was left alone."""
    noise, source = _noise(given), given.work / "photos"
    words = [sys.executable, "-m", "uexcli", "apply", str(noise), str(source), "--limit", str(given.count), "-q"]
    whole, killed = given.work / "whole", given.work / "killed"
    for folder in (whole, killed, killed.with_name("killed.partial")):
        shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    subprocess.run([*words, "-o", str(whole)], check=True, capture_output=True)
    alone = time.perf_counter() - began
    draw = random.Random(1)
    moments: list[float] = []
    while len(moments) < given.kills:
        process = subprocess.Popen([*words, "-o", str(killed), "--resume"], stdout=subprocess.DEVNULL)
        wait = draw.uniform(2, 3 + alone / given.kills)
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(round(wait, 2))
    subprocess.run([*words, "-o", str(killed), "--resume"], check=True, capture_output=True)
    checked = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=killed, check=False).returncode
    same = _digests(whole) == _digests(killed)
    found = {"images": given.count, "killed_after_s": moments, "identical": same, "sha256sum": checked}
    (given.out / "pipeline-kills.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))


def _noise(given: argparse.Namespace) -> Path:
    noise: Path = given.work / "photos.noise.safetensors"
    if not noise.exists():
        words = ["fit", str(given.work / "photos"), "--method", "random", "--mode", "classwise", "--seed", "1"]
        subprocess.run([sys.executable, "-m", "uexcli", *words, "--size", "64", "-o", str(noise)], check=True)
    return noise


def _watched(words: list[str]) -> dict[str, float]:
    """Run a command; its peak memory in MiB: of the process that has most, and of all together at most."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    most = 0.0
    while process.poll() is None:
        most = max(most, _proportional(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return {"peak_mib": most, "one_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}


def _proportional(session: int) -> float:
    """MiB that a session's processes take, with what they share counted once."""
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                lines = (entry / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def _digests(root: Path) -> dict[str, str]:
    listed = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in listed}


if __name__ == "__main__":
    main()
