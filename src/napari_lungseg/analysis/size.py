"""How large: voxels, volume of scans, area of radiographs, and how the lungs compare."""

from __future__ import annotations

from .quantity import quantity
from .survey import VOXELS, Region


@quantity("count")
def voxels(region: Region) -> int:
    """Number of voxels."""
    return region.voxels


@quantity("volume")
def volume(region: Region) -> float:
    """Volume: every voxel counts whole; uneven slices count with their own thickness."""
    size = float(region.slices[:, VOXELS].sum())
    return size * region.geometry.voxel_volume_mm3 / 1000 if region.geometry.is_mm else size


@quantity("area")
def area(region: Region) -> float:
    """Area of the shadow on a radiograph (in the plane of the detector, not of the patient), or of a single slice."""
    return region.voxels * region.frame.pixel_area


@quantity("share", needs="chest")
def right_left_ratio(region: Region) -> float | None:
    """Right lung's size over the left one's, in the row of both; None without a left lung.

    Size is the volume, or on radiographs the area. Of healthy adults on supine CT about 1.16: https://pmc.ncbi.nlm.nih.gov/articles/PMC7490509.
    """
    if region.sides is None:
        return None
    right, left = (float(side.slices[:, VOXELS].sum()) for side in region.sides)
    return right / left if left else None
