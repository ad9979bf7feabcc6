"""Labels on the grid of the scan they belong to, where every one of their voxels is one of its voxels."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..volume import Geometry, LabelMap

# How far a voxel's centre may lie from that of the scan, in voxels: what rounded headers make, and far below a half.
_TOLERANCE = 0.05


def placed_on(labels: LabelMap, grid: Geometry, gap_mm: float | None = None) -> LabelMap | None:
    """The labels on a larger or differently ordered grid, or None where their voxels are not voxels of that grid.

    Parameters
    ----------
    labels : on the grid of some slices, or of a part of them, in any voxel order
    grid : of the whole scan
    gap_mm : distance of the labels' slices, between which empty ones were left out; 0 where it is not known, None where
        none were
    """
    if labels.geometry.same_grid(grid, tolerance_mm=_TOLERANCE * min(grid.spacing)):
        return dataclasses.replace(labels, geometry=grid)
    found = _voxels_on(labels.geometry, grid, gap_mm)
    if found is None:
        return None
    order, indices = found
    array = np.zeros(grid.shape, labels.array.dtype)
    array[np.ix_(*indices)] = np.asarray(labels.array).transpose(order)
    return dataclasses.replace(labels, array=array, geometry=grid)


def fits(inner: Geometry, grid: Geometry, gap_mm: float | None = None) -> bool:
    """Whether every voxel of one grid is a voxel of the other (see `placed_on`)."""
    return inner.same_grid(grid, _TOLERANCE * min(grid.spacing)) or _voxels_on(inner, grid, gap_mm) is not None


def indices_on(positions: np.ndarray, grid: Geometry) -> np.ndarray:
    """(n, 3) indices, with fractions, of positions (n, 3) mm on a grid, on uneven slices too; all ``(z, y, x)``."""
    along = np.linalg.solve(np.asarray(grid.direction), (positions - np.asarray(grid.origin)).T).T
    indices = along / np.asarray(grid.spacing)
    if grid.slice_positions is not None:
        known = np.asarray(grid.slice_positions)
        inside = np.interp(along[:, 0], known, np.arange(len(known)))
        beyond = (along[:, 0] - np.clip(along[:, 0], known[0], known[-1])) / grid.spacing[0]
        indices[:, 0] = inside + beyond
    return np.asarray(indices)


def _voxels_on(inner: Geometry, grid: Geometry, gap_mm: float | None) -> tuple[list[int], list[np.ndarray]] | None:
    """Which inner axis runs along each axis of the grid, and at which of its indices; None where they do not fit."""
    if inner.units != grid.units or inner.frames != grid.frames:
        return None
    first = np.rint(indices_on(inner.position((0, 0, 0))[None], grid)[0]).astype(int)
    order: dict[int, int] = {}
    indices: dict[int, np.ndarray] = {}
    for axis in range(3):
        places = _places_along(axis, inner, grid)
        moving = np.flatnonzero(np.ptp(places, axis=0) > 0.5).tolist()
        if np.abs(places - np.rint(places)).max() > _TOLERANCE or len(moving) != int(inner.shape[axis] > 1):
            return None
        for along in moving:
            steps = np.abs(np.diff(places[:, along]))
            if steps.max() > 1.5 and not (axis == 0 and _may_have_gaps(gap_mm, grid.spacing[along])):
                return None
            order[along], indices[along] = axis, np.rint(places[:, along]).astype(int)
    if len(order) < sum(size > 1 for size in inner.shape):
        return None
    still = iter(axis for axis in range(3) if axis not in order.values())
    for axis in range(3):
        if axis not in order:
            order[axis], indices[axis] = next(still), first[axis : axis + 1]
        if indices[axis].min() < 0 or indices[axis].max() >= grid.shape[axis]:
            return None
    return [order[axis] for axis in range(3)], [indices[axis] for axis in range(3)]


def _places_along(axis: int, inner: Geometry, grid: Geometry) -> np.ndarray:
    """(n, 3) indices on the grid of the voxels along one axis."""
    steps = np.zeros((inner.shape[axis], 3))
    steps[:, axis] = np.arange(inner.shape[axis])
    return indices_on(np.array([inner.position(step.tolist()) for step in steps]), grid)


def _may_have_gaps(gap_mm: float | None, spacing: float) -> bool:
    return gap_mm is not None and (gap_mm == 0 or abs(gap_mm - spacing) < _TOLERANCE * spacing)
