"""What lies under the labels: how large, how dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidVolumeError
from ..registry import Table as NameTable
from .quantity import quantity
from .regions import describe, region_of, size_of, tabulate

if TYPE_CHECKING:
    from ..volume import Geometry, LabelMap, Volume
    from .table import Table

MEASURES = NameTable(
    "measurement",
    {
        "voxels": "napari_lungseg.analysis.measure:voxels",
        "volume": "napari_lungseg.analysis.measure:volume",
        "area": "napari_lungseg.analysis.measure:area",
        "mean": "napari_lungseg.analysis.measure:mean",
        "median": "napari_lungseg.analysis.measure:median",
    },
)


@dataclass(frozen=True, eq=False)
class Region:
    """One label over its image.

    Parameters
    ----------
    mask : (z, y, x) bool
    values : (n,) voxels of the image under the mask
    geometry : of the grid
    """

    mask: np.ndarray
    values: np.ndarray
    geometry: Geometry


@quantity("count")
def voxels(region: Region) -> int:
    """Number of voxels."""
    return int(region.mask.sum())


@quantity("volume")
def volume(region: Region) -> float:
    """Volume; uneven slices count with their own thickness."""
    return size_of(region.mask, region.geometry, flat=False)


@quantity("area")
def area(region: Region) -> float:
    """Area of the shadow on a radiograph, or of a single slice."""
    return size_of(region.mask, region.geometry, flat=True)


@quantity("intensity")
def mean(region: Region) -> float | None:
    """Mean of the voxels; None where there are none."""
    return float(region.values.mean(dtype=np.float64)) if region.values.size else None


@quantity("intensity")
def median(region: Region) -> float | None:
    """Median of the voxels; None where there are none."""
    return float(np.median(region.values)) if region.values.size else None


def measure(volume: Volume, labels: LabelMap) -> Table:
    """Measure an image under its labels, label by label and all labels together.

    Parameters
    ----------
    volume : the image
    labels : on its grid

    Returns
    -------
    Table
        One row per label and one for their union ("both", or "all" of more than two; its label is None); for a stack
        of radiographs, that for each frame. Columns: frame, label, name and `MEASURES`; volumes of scans, areas of
        radiographs, and of a scan of one slice both.

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid.
    """
    _check_grid(volume, labels)
    image, label_array = np.asarray(volume.array), np.asarray(labels.array)
    chosen = {name: MEASURES.resolve(name) for name in MEASURES}
    # The volume of a single slice is that of what the slice stands for; its area says more.
    flat = volume.is_frames if volume.is_frames or volume.geometry.shape[0] > 1 else None
    chosen = {name: entry for name, entry in chosen.items() if entry.applies(flat=flat, intensity=volume.unit)}

    def subject(cut: slice, grid: Geometry, label: int | None) -> Region:
        mask = region_of(label_array[cut], label)
        return Region(mask, image[cut][mask], grid)

    return tabulate(volume.geometry, labels.names, [label_array], chosen, subject, volume.unit)


def _check_grid(volume: Volume, labels: LabelMap) -> None:
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
