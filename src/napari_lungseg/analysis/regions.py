"""The regions that a table has rows for: each label, their union, and each frame of a stack of radiographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidVolumeError
from ..volume import Geometry, LabelMap, Volume
from .quantity import Quantity
from .table import Table

REGION_COLUMNS = ("frame", "label", "name")
_MM3_PER_ML = 1000.0


def labels_of(names: Mapping[int, str], *maps: np.ndarray) -> list[int]:
    """Labels to report, in order: those with a name and those that occur."""
    found = {int(label) for array in maps for part in array if part.any() for label in _occurring(part)}
    return sorted((found | set(names)) - {0})


def _occurring(part: np.ndarray) -> np.ndarray:
    # Counting what is labelled is several times as quick as sorting, or as counting all.
    used = part[part != 0]
    return np.flatnonzero(np.bincount(used)) if part.dtype.itemsize <= 2 else np.unique(used)


def region_of(array: np.ndarray, label: int | None) -> np.ndarray:
    """(z, y, x) bool: one label, or every label where ``label`` is None."""
    return np.asarray(array > 0 if label is None else array == label)


def name_of(label: int | None, names: Mapping[int, str], joined: int) -> str:
    """What a row is called; without a label it is that of so many labels joined."""
    if label is None:
        return "both" if joined == 2 else "all"
    return names.get(label, f"label {label}")


def frames_of(geometry: Geometry) -> list[tuple[slice, Geometry]]:
    """The images on a grid: each frame of a stack of radiographs by itself, otherwise the whole grid."""
    if not geometry.frames or geometry.shape[0] == 1:
        return [(slice(None), geometry)]
    single = dataclasses.replace(geometry, shape=(1, *geometry.shape[1:]), slice_positions=None)
    return [(slice(number, number + 1), single) for number in range(geometry.shape[0])]


def size_of(mask: np.ndarray, geometry: Geometry, *, first_slice: int = 0) -> float:
    """Area in mm² on a flat grid, otherwise volume in ml; a count where the image has no spacing.

    Parameters
    ----------
    mask : (z, y, x) bool
    geometry : of the whole grid; ``mask`` may be a crop of it
    first_slice : index in the grid of the mask's first slice (slices may stand for different thicknesses)
    """
    counts = np.array([np.count_nonzero(part) for part in mask], float)
    if not geometry.is_mm:
        return float(counts.sum())
    if geometry.shape[0] == 1:
        return float(counts.sum() * pixel_area(geometry))
    thickness = geometry.slice_thicknesses_mm[first_slice : first_slice + mask.shape[0]] / geometry.spacing[0]
    return float(counts @ thickness * geometry.voxel_volume_mm3 / _MM3_PER_ML)


def pixel_area(geometry: Geometry) -> float:
    """Of a voxel within its slice, mm²; 1 where the image has no spacing."""
    columns = geometry.affine[:3, :3]
    return float(np.linalg.norm(np.cross(columns[:, 1], columns[:, 2]))) if geometry.is_mm else 1.0


def tabulate(
    geometry: Geometry,
    names: Mapping[int, str],
    labels: Sequence[int],
    quantities: Mapping[str, Quantity],
    subject: Callable[[slice, Geometry, int | None], Any],
    intensity: str = "",
    union: Sequence[int] | None = None,
) -> Table:
    """A table with one row per region and one column per quantity; the union's label is None (0 is background).

    Parameters
    ----------
    geometry : of the grid
    names : label → name
    labels : to report
    quantities : column → what to compute
    subject : makes what a quantity is computed of, from a frame, its grid and a label (None: all of them)
    intensity : unit of the voxels
    union : labels that the last row joins (None: all)
    """
    joined = len(labels) if union is None else len(union)
    parts = frames_of(geometry)
    rows: list[tuple[Any, ...]] = []
    for number, (cut, grid) in enumerate(parts):
        for label in [*labels, None] if len(labels) > 1 else labels:
            of = subject(cut, grid, label)
            values = tuple(entry(of) for entry in quantities.values())
            rows.append((number, label, name_of(label, names, joined), *values))
    units = {name: entry.unit(geometry, intensity) for name, entry in quantities.items()}
    first = 0 if len(parts) > 1 else 1  # one image needs no number
    columns = (*REGION_COLUMNS, *quantities)[first:]
    return Table(columns, tuple(row[first:] for row in rows), {name: unit for name, unit in units.items() if unit})


def describe(geometry: Geometry) -> str:
    """A grid in words, for messages."""
    spacing, origin = (" × ".join(f"{value:.4g}" for value in values) for values in (geometry.spacing, geometry.origin))
    axes = "".join(geometry.axis_letters())
    return f"{' × '.join(map(str, geometry.shape))} voxels of {spacing} {geometry.units}, origin {origin}, axes {axes}"


def check_grid(volume: Volume, labels: LabelMap) -> None:
    """Make sure that labels belong to an image.

    Raises
    ------
    InvalidVolumeError
        When they do not lie on its grid (the message describes both), or one is not what it is given for.
    """
    for item, kind, wanted in ((volume, Volume, "image"), (labels, LabelMap, "label map")):
        if not isinstance(item, kind):
            given = Path(getattr(item, "source", "")).name or f"A {type(item).__name__}"
            raise InvalidVolumeError(f"{given} is no {wanted}; give the image first, then the labels on it.")
    one, other = volume.geometry, labels.geometry
    if one.same_grid(other) or (one.shape == other.shape and not (one.is_mm and other.is_mm)):
        return
    # Radiographs and their labels may differ in the flag that only a stack needs.
    if one.shape == other.shape and one.frames != other.frames and np.allclose(one.affine, other.affine, atol=1e-3):
        return
    raise InvalidVolumeError(
        f"The labels ({describe(other)}) do not lie on the image's grid ({describe(one)}). "
        "Choose the labels that were made from this image."
    )
