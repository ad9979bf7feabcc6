"""Class chances averaged over the slices of a stack, as they come from the network one after another.

A network that sees slices one at a time errs on each in its own way; structures go on from slice to slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..volume import Geometry

# Slices further away than so many standard deviations count for less than a seventh of the slice itself.
REACH = 2.0


def slice_positions(geometry: Geometry) -> np.ndarray:
    """(z,) mm along the first axis, from the first slice."""
    count = geometry.shape[0]
    return np.array(geometry.slice_positions or np.arange(count) * geometry.spacing[0], float)


def weights_of(z: int, positions: Sequence[float] | np.ndarray, smooth_mm: float) -> dict[int, float]:
    """How much each slice counts for slice ``z``: a Gaussian of the distance, with sum 1.

    Parameters
    ----------
    z : the slice
    positions : of all slices, mm
    smooth_mm : standard deviation; 0: the slice alone
    """
    if not smooth_mm:
        return {z: 1.0}
    away = np.abs(np.asarray(positions) - positions[z]) / smooth_mm
    near = np.flatnonzero(away <= REACH)
    weights = np.exp(-0.5 * away[near] ** 2)
    return dict(zip(near.tolist(), (weights / weights.sum()).tolist(), strict=True))


class AcrossSlices:
    """Averages as soon as all slices that count for one have come; holds no more of them than that takes.

    Parameters
    ----------
    positions : of the slices, mm
    smooth_mm : standard deviation of the Gaussian
    """

    def __init__(self, positions: Sequence[float] | np.ndarray, smooth_mm: float) -> None:
        self.weights = [weights_of(z, positions, smooth_mm) for z in range(len(positions))]
        self._held: dict[int, torch.Tensor] = {}
        self._next = 0

    def add(self, z: int, chances: torch.Tensor) -> None:
        """Take (classes, y, x) chances of a slice; slices come in their order, one may come again."""
        self._held[z] = chances.half()

    def finished(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Slices whose average is known now, each once: (z, (classes, y, x) float32)."""
        while self._next < len(self.weights) and max(self.weights[self._next]) in self._held:
            shares = self.weights[self._next]
            mean = sum(share * self._held[z].float() for z, share in shares.items())
            yield self._next, mean  # type: ignore[misc]  # never empty: a slice counts for itself
            self._next += 1
            first = min(self.weights[self._next]) if self._next < len(self.weights) else len(self.weights)
            self._held = {z: chances for z, chances in self._held.items() if z >= first}
