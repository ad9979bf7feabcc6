"""Random numbers from a generator, made on the generator's own device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def uniform(*shape: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Numbers between ``low`` and ``high``."""
    return torch.rand(*shape, generator=generator, device=generator.device) * (high - low) + low


def normal(*shape: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers of mean 0 and standard deviation 1."""
    return torch.randn(*shape, generator=generator, device=generator.device)


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """An integer from ``low`` up to, but not including, ``high``."""
    return int(torch.randint(low, high, (1,), generator=generator, device=generator.device))


def smooth(field: torch.Tensor, size: Sequence[int], *, align_corners: bool) -> torch.Tensor:
    """A coarse field (n, channels, y, x) interpolated bicubically to another size.

    The same as `torch.nn.functional.interpolate`, as two products of matrices: on a CPU that is ten times as fast.
    """
    rows, columns = (
        _bicubic(cells, pixels, align_corners).to(field) for cells, pixels in zip(field.shape[-2:], size, strict=True)
    )
    return rows @ field @ columns.T


def _bicubic(cells: int, pixels: int, align_corners: bool) -> torch.Tensor:
    """(pixels, cells) weights of the cells in each pixel."""
    single = torch.eye(cells)[None, None]
    return functional.interpolate(single, size=(pixels, cells), mode="bicubic", align_corners=align_corners)[0, 0]


def chance(n: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    """(n,) bool: true with a probability."""
    return uniform(n, generator=generator) < probability


def seeded(*seeds: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose numbers depend on all the seeds and on nothing else."""
    mixed = 0
    for seed in seeds:  # a linear congruence (Knuth, MMIX), so that neighbouring seeds lie far apart
        mixed = (mixed * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator(device).manual_seed(mixed)
