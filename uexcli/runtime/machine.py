"""Devices, precision, and what a machine is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from uexcli.errors import UexError, UsageError
from uexcli.runtime import process, room

# glibc's mallopt: how much freed memory at the top to keep, how much to grow by, from which size on to map blocks on
# their own, and how many.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
PHOTO_BLOCK = 8 * 2**20  # bytes; of photos of some megapixels, none of which a smaller photo takes
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Give the device asked for; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: no such kind of device.
        UexError: there is none here; uex never falls back in silence.
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise UsageError(f"`device={name}`: no such kind.", hint=f"Known: {', '.join(DEVICES)}.")
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if has[kind]))
    if not has[kind]:
        raise UexError(
            f"`device={name}`: no such device is visible.",
            hint="Use `device=cpu`, or check the driver with: uex doctor",
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"`device={name}`: no such device.", hint="Write cpu, cuda or cuda:1.") from None
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UexError(f"`device={name}`: only {torch.cuda.device_count()} CUDA device(s) here.")
    return device


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Let convolutions and products of float32 be what they say, as on a CPU: no TF32."""
    products = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = products


def settle(device: torch.device, *, photos: bool = False) -> None:
    """Prepare this process for long work: the same seed gives the same bytes on one kind of device, and no waste.

    `photos` says that it is on whole photos, which may be large: theirs is given back when it is freed.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling new memory is for those who read what they did not write.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if not process.BORROWED:
        _keep_memory(photos=photos)


def _keep_memory(*, photos: bool) -> None:
    """Let glibc keep freed memory for the next tensor instead of giving it back to the system at once.

    Training on a CPU frees and takes megabytes at every layer; mapping them anew each time cost a quarter of a fit's
    CPU time (measured with 2 threads, 47 million page faults). Elsewhere than on glibc this does nothing. Blocks of
    large photos are few, and would leave holes that no later one fits in: these are mapped on their own.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    if photos:
        mallopt(M_MMAP_THRESHOLD, PHOTO_BLOCK)
    else:
        mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 8 * PHOTO_BLOCK if photos else 2**31 - 1)
    mallopt(M_TOP_PAD, 2 * PHOTO_BLOCK if photos else 64 * 2**20)


def pick_precision(name: str, device: torch.device) -> torch.dtype | None:
    """Give the dtype nets run in, None for float32; `auto` is bfloat16 on devices that are made for it."""
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else None
    if name not in PRECISIONS:
        raise UsageError(f"`precision={name}`: unknown.", hint=f"Known: auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is in the hardware: on CPUs with AVX512-BF16 or AMX it runs nets twice as fast as float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities() if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def free_memory(device: torch.device) -> int | None:
    """Give the bytes that can still be taken on a device; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return room.left()


def resident() -> int:
    """Give the bytes of memory this process has now; a guess where the system does not say."""
    pages = room.number(Path("/proc/self/statm"), "", 1, field=1)
    return 2**29 if pages is None else pages * os.sysconf("SC_PAGE_SIZE")


def name_of(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return (
        f"{device} ({os.cpu_count()} cores, {torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)
    )


def describe() -> dict[str, Any]:
    """Versions and hardware, for reports and `uex doctor`."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }
