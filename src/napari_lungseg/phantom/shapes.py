"""Ellipsoids and tubes on a grid, each computed only in the block of voxels that it can touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

Block: TypeAlias = tuple[slice, slice, slice]
Point: TypeAlias = Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxel centres in the patient's own coordinates.

    Parameters
    ----------
    head, back, left : (z,), (y,) and (x,) mm of the voxel centres
    """

    head: np.ndarray
    back: np.ndarray
    left: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) number of voxels."""
        return len(self.head), len(self.back), len(self.left)

    @property
    def pixel_mm(self) -> float:
        """Width over which an edge is softened: the mean in-plane spacing."""
        steps = [axis[1] - axis[0] for axis in (self.back, self.left) if len(axis) > 1]
        return float(np.mean(steps)) if steps else 1.0

    def block(self, low: Point, high: Point) -> Block:
        """The voxels between two corners, mm; may be empty."""
        cuts = []
        for axis, first, last in zip((self.head, self.back, self.left), low, high, strict=True):
            start, stop = np.searchsorted(axis, (first, last))
            cuts.append(slice(int(start), int(stop)))
        return cuts[0], cuts[1], cuts[2]

    def coordinates(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates of a block's voxels, mm, each broadcastable over it."""
        return self.head[block[0], None, None], self.back[None, block[1], None], self.left[None, None, block[2]]


def ellipsoid(
    grid: Grid, centre: Point, radii: Point, axes: np.ndarray | None = None, ripple: float = 0.0
) -> tuple[Block, np.ndarray]:
    """An ellipsoid.

    Parameters
    ----------
    centre, radii : (head, back, left), mm
    axes : 3 × 3 whose rows are the directions of the radii; None: along the grid
    ripple : depth of bumps on the surface, share of the radius

    Returns
    -------
    The block that it can touch, and the share of each voxel there that it fills.
    """
    centre, radii = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    reach = radii if axes is None else np.full(3, radii.max())
    reach = reach * (1 + ripple) + 2 * grid.pixel_mm
    block = grid.block(centre - reach, centre + reach)
    offsets = [axis - middle for axis, middle in zip(grid.coordinates(block), centre, strict=True)]
    if axes is not None:
        offsets = [sum(float(w) * offset for w, offset in zip(row, offsets, strict=True)) for row in axes]
    scaled = [(offset / radius) ** 2 for offset, radius in zip(offsets, radii, strict=True)]
    distance = np.sqrt(scaled[0] + scaled[1] + scaled[2])
    if ripple:
        waves = [np.sin(9 * offset / radius + k) for k, (offset, radius) in enumerate(zip(offsets, radii, strict=True))]
        distance = distance - ripple * waves[0] * waves[1] * waves[2]
    return block, np.clip(0.5 - (distance - 1) * (float(radii.min()) / grid.pixel_mm), 0, 1)


def tube(grid: Grid, start: Point, end: Point, radius: float) -> tuple[Block, np.ndarray]:
    """A straight tube with round ends.

    Parameters
    ----------
    start, end : (head, back, left), mm
    radius : mm

    Returns
    -------
    The block that it can touch, and the share of each voxel there that it fills.
    """
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    reach = radius + grid.pixel_mm
    block = grid.block(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    along = end - start
    offsets = [axis - first for axis, first in zip(grid.coordinates(block), start, strict=True)]
    dot = offsets[0] * along[0] + offsets[1] * along[1] + offsets[2] * along[2]
    part = np.clip(dot / max(float(along @ along), 1e-6), 0, 1)
    distance = np.sqrt(sum((offset - part * step) ** 2 for offset, step in zip(offsets, along, strict=True)))
    # A vessel thinner than a voxel fills only its share of it: the soft profile is lowered to the same cross-section.
    thin = min(radius / grid.pixel_mm, 0.5)
    peak = 4 * thin**2 / (thin + 0.5) ** 3
    return block, peak * np.clip(0.5 + (radius - distance) / grid.pixel_mm, 0, 1)


def blend(array: np.ndarray, shape: tuple[Block, np.ndarray], value: float) -> None:
    """Put a shape of one value into an array, in place, softly at its edge."""
    block, share = shape
    array[block] += share * (value - array[block])


def path(array: np.ndarray, grid: Grid, points: Sequence[Point], radius: float, value: float) -> None:
    """Put a bent tube of one value into an array, in place."""
    for start, end in pairwise(points):
        blend(array, tube(grid, start, end, radius), value)
