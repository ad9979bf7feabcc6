"""Random numbers from a generator, made on the generator's own device."""

from __future__ import annotations

import torch


def uniform(*shape: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Numbers between ``low`` and ``high``."""
    return torch.rand(*shape, generator=generator, device=generator.device) * (high - low) + low


def normal(*shape: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers of mean 0 and standard deviation 1."""
    return torch.randn(*shape, generator=generator, device=generator.device)


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """An integer from ``low`` up to, but not including, ``high``."""
    return int(torch.randint(low, high, (1,), generator=generator, device=generator.device))


def chance(n: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    """(n,) bool: true with a probability."""
    return uniform(n, generator=generator) < probability


def seeded(*seeds: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose numbers depend on all the seeds and on nothing else."""
    mixed = 0
    for seed in seeds:  # a linear congruence (Knuth, MMIX), so that neighbouring seeds lie far apart
        mixed = (mixed * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator(device).manual_seed(mixed)
