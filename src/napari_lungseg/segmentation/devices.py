"""Where a network runs and in which precision."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..errors import DeviceError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# glibc's malloc.h: what `mallopt` is told, and how much. Larger blocks than 32 MiB cannot be kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 128 * 2**20, 32 * 2**20
KEPT_FOR_TRAINING = 2**30
"""What `keep_freed_memory` may keep while a network is trained, in bytes: its batches need more than predicting does."""


def resolve_device(name: str = "auto") -> torch.device:
    """Pick a device by name: ``"auto"``, ``"cpu"``, ``"mps"``, ``"cuda"`` or ``"cuda:1"``.

    Raises
    ------
    DeviceError
        When the machine has no such device.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"There is no kind of device called {name!r}; use one of {', '.join(DEVICES)}.") from error
    if not there.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        found = ", ".join(kind for kind, available in there.items() if available)
        raise DeviceError(f"This machine has no device {name!r} that PyTorch can use (found: {found}). Choose 'auto'.")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Pick the number format of the network's arithmetic.

    ``"auto"`` is bfloat16 where the hardware multiplies it, float16 on other GPUs, float32 on other CPUs.

    Raises
    ------
    DeviceError
        When the device cannot compute in the precision asked for.
    """
    import torch

    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        if device.type == "mps":
            return torch.float16
        return torch.bfloat16 if has_bfloat16_units() else torch.float32
    if name == "float16" and device.type == "cpu":
        raise DeviceError("CPUs do not compute networks in float16; choose 'auto', 'bfloat16' or 'float32'.")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX or Arm's BF16); emulation would be slower."""
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(unit)) for unit in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


def keep_freed_memory(most: int = _KEPT_BYTES) -> None:
    """Let the C library keep what a network gave back for its next batch; only glibc can be told.

    Fresh pages from the system for every batch cost a fifth of the time on a CPU, and twice the time in a worker of Dask,
    which sets the opposite.

    Parameters
    ----------
    most : bytes to keep at most
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, most)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's (or the CPU's) memory ran out."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


def memory_mb() -> float:
    """Memory that this process has held at most, in MB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
