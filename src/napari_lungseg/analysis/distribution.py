"""How often each value occurs: everything that a density figure needs, whatever the number of voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Whole numbers that span no more than this are counted, which is quicker than sorting; 16 bit always fits.
_COUNTED_SPAN = 2**17


@dataclass(frozen=True, eq=False)
class Distribution:
    """Distinct values and how many voxels have each.

    Parameters
    ----------
    values : (k,) ascending, float64
    counts : (k,) voxels with that value, each at least 1
    """

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, chunks: Sequence[np.ndarray]) -> Distribution:
        """The distribution of arrays of one dtype; exact for floating point too."""
        chunks = [chunk for chunk in chunks if chunk.size]
        if not chunks:
            return cls(np.empty(0), np.empty(0, np.int64))
        if chunks[0].dtype.kind in "iu":
            low, high = (int(end(part(c) for c in chunks)) for end, part in ((min, np.min), (max, np.max)))
            if high - low < _COUNTED_SPAN:
                return _counted(chunks, low, high - low + 1)
        values, counts = np.unique(np.concatenate(chunks), return_counts=True)
        return cls(values.astype(np.float64), counts)

    @classmethod
    def joined(cls, parts: Sequence[Distribution]) -> Distribution:
        """The distribution of all voxels of several."""
        if len(parts) == 1:
            return parts[0]
        values = np.concatenate([part.values for part in parts])
        distinct, place = np.unique(values, return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([part.counts for part in parts]), minlength=len(distinct))
        return cls(distinct, counts.astype(np.int64))

    @cached_property
    def size(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    @cached_property
    def mean(self) -> float | None:
        """Arithmetic mean; None of nothing."""
        return float(self.values @ self.counts) / self.size if self.size else None

    def moment(self, order: int) -> float | None:
        """Central moment, divided by n; None of nothing."""
        if self.mean is None:
            return None
        return float((self.values - self.mean) ** order @ self.counts) / self.size

    def percentile(self, percent: float) -> float | None:
        """Linear between neighbours in rank, as `numpy.percentile`; None of nothing."""
        if not self.size:
            return None
        rank = (self.size - 1) * percent / 100
        below = math.floor(rank)
        ranks = (below, min(below + 1, self.size - 1))
        low, high = self.values[np.searchsorted(self._cumulated, ranks, side="right")]
        return float(low + (high - low) * (rank - below))

    def below(self, limit: float) -> int:
        """Voxels with a value less than the limit."""
        return self._up_to(int(np.searchsorted(self.values, limit, side="left")))

    def within(self, low: float, high: float) -> int:
        """Voxels from low to high, both included."""
        return self._up_to(int(np.searchsorted(self.values, high, side="right"))) - self.below(low)

    @cached_property
    def _cumulated(self) -> np.ndarray:
        return np.cumsum(self.counts)

    def _up_to(self, position: int) -> int:
        return int(self._cumulated[position - 1]) if position else 0


def _counted(chunks: Sequence[np.ndarray], low: int, span: int) -> Distribution:
    counts = np.zeros(span, np.int64)
    for chunk in chunks:
        counts += np.bincount(chunk.astype(np.int64) - low, minlength=span)
    used = np.flatnonzero(counts)
    return Distribution((used + low).astype(np.float64), counts[used])
