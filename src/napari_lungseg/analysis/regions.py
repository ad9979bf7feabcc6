"""The regions that a table has rows for: each label, their union, and each frame of a stack of radiographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..volume import Geometry
from .quantity import Quantity
from .table import Table

REGION_COLUMNS = ("frame", "label", "name")
_MM3_PER_ML = 1000.0


def labels_of(names: Mapping[int, str], *maps: np.ndarray) -> list[int]:
    """Labels to report, in order: those with a name and those that occur."""
    found = {int(label) for array in maps for part in array for label in np.unique(part)}
    return sorted((found | set(names)) - {0})


def region_of(array: np.ndarray, label: int | None) -> np.ndarray:
    """(z, y, x) bool: one label, or every label where ``label`` is None."""
    return np.asarray(array > 0 if label is None else array == label)


def name_of(label: int | None, names: Mapping[int, str], count: int) -> str:
    """What a row is called."""
    if label is None:
        return "both" if count == 2 else "all"
    return names.get(label, f"label {label}")


def frames_of(geometry: Geometry) -> list[tuple[slice, Geometry]]:
    """The images on a grid: each frame of a stack of radiographs by itself, otherwise the whole grid."""
    if not geometry.frames or geometry.shape[0] == 1:
        return [(slice(None), geometry)]
    single = dataclasses.replace(geometry, shape=(1, *geometry.shape[1:]), slice_positions=None)
    return [(slice(number, number + 1), single) for number in range(geometry.shape[0])]


def size_of(mask: np.ndarray, geometry: Geometry, *, flat: bool, first_slice: int = 0) -> float:
    """Area in mm² of a flat mask, or volume in ml; a count where the image has no spacing.

    Parameters
    ----------
    mask : (z, y, x) bool
    geometry : of the whole grid; ``mask`` may be a crop of it
    flat : whether an area is wanted
    first_slice : index in the grid of the mask's first slice (slices may stand for different thicknesses)
    """
    if not geometry.is_mm:
        return float(mask.sum())
    columns = geometry.affine[:3, :3]
    if flat:
        return float(mask.sum() * np.linalg.norm(np.cross(columns[:, 1], columns[:, 2])))
    thickness = geometry.slice_thicknesses_mm[first_slice : first_slice + mask.shape[0]] / geometry.spacing[0]
    return float(mask.sum(axis=(1, 2)) @ thickness * geometry.voxel_volume_mm3 / _MM3_PER_ML)


def tabulate(
    geometry: Geometry,
    names: Mapping[int, str],
    maps: Sequence[np.ndarray],
    quantities: Mapping[str, Quantity],
    subject: Callable[[slice, Geometry, int | None], Any],
    intensity: str = "",
) -> Table:
    """A table with one row per region and one column per quantity; the union's label is None (0 is background).

    Parameters
    ----------
    geometry : of the grid
    names : label → name
    maps : (z, y, x) label maps whose labels are reported
    quantities : column → what to compute
    subject : makes what a quantity is computed of, from a frame, its grid and a label (None: all of them)
    intensity : unit of the voxels
    """
    labels = labels_of(names, *maps)
    parts = frames_of(geometry)
    rows: list[tuple[Any, ...]] = []
    for number, (cut, grid) in enumerate(parts):
        for label in [*labels, None] if len(labels) > 1 else labels:
            of = subject(cut, grid, label)
            values = tuple(entry(of) for entry in quantities.values())
            rows.append((number, label, name_of(label, names, len(labels)), *values))
    units = {name: entry.unit(geometry, intensity) for name, entry in quantities.items()}
    first = 0 if len(parts) > 1 else 1  # one image needs no number
    columns = (*REGION_COLUMNS, *quantities)[first:]
    return Table(columns, tuple(row[first:] for row in rows), {name: unit for name, unit in units.items() if unit})


def describe(geometry: Geometry) -> str:
    """A grid in words, for messages."""
    spacing, origin = (" × ".join(f"{value:.4g}" for value in values) for values in (geometry.spacing, geometry.origin))
    axes = "".join(geometry.axis_letters())
    return f"{' × '.join(map(str, geometry.shape))} voxels of {spacing} {geometry.units}, origin {origin}, axes {axes}"
