"""Labels on another grid, by the nearest voxel in the patient."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidVolumeError

if TYPE_CHECKING:
    from ..volume import Geometry, LabelMap


def resample_labels(labels: LabelMap, geometry: Geometry) -> LabelMap:
    """The label nearest to each voxel centre of another grid, 0 where that lies outside the labels' own.

    Parameters
    ----------
    labels : on any evenly spaced grid in mm, tilted and sheared ones too
    geometry : the grid wanted; its slices may be uneven

    Raises
    ------
    InvalidVolumeError
        When either grid is in pixels or is a stack of radiographs, or the labels' own slices are uneven.
    """
    _check(labels.geometry, may_be_uneven=False)
    _check(geometry, may_be_uneven=True)
    grids = [geometry] if geometry.slice_positions is None else _slices(geometry)
    array = np.concatenate([_nearest(labels, grid) for grid in grids])
    return dataclasses.replace(labels, array=array, geometry=geometry)


def _slices(geometry: Geometry) -> list[Geometry]:
    """Each slice as a grid of its own."""
    z, y, x = geometry.shape
    places = [geometry.position((index, 0, 0)) for index in range(z)]
    alone = dataclasses.replace(geometry, shape=(1, y, x), slice_positions=None)
    return [dataclasses.replace(alone, origin=tuple(place.tolist())) for place in places]


def _nearest(labels: LabelMap, geometry: Geometry) -> np.ndarray:
    """(z, y, x) labels on an even grid."""
    import SimpleITK

    itk: Any = SimpleITK
    source = itk.GetImageFromArray(np.ascontiguousarray(labels.array))
    _place(source, labels.geometry)
    sampler = itk.ResampleImageFilter()
    sampler.SetInterpolator(itk.sitkNearestNeighbor)
    sampler.SetSize(geometry.shape[::-1])
    sampler.SetOutputSpacing(geometry.spacing[::-1])
    sampler.SetOutputOrigin(geometry.origin[::-1])
    sampler.SetOutputDirection(_xyz_direction(geometry))
    return np.asarray(itk.GetArrayFromImage(sampler.Execute(source)))


def _check(geometry: Geometry, *, may_be_uneven: bool) -> None:
    reason = ""
    if not geometry.is_mm:
        reason = "is in pixels, so nothing says how large or where it is"
    elif geometry.frames:
        reason = "is a stack of radiographs, which do not share one space"
    elif geometry.slice_positions is not None and not may_be_uneven:
        reason = "has unevenly spaced slices"
    if reason:
        raise InvalidVolumeError(
            f"Labels cannot be resampled: one of the grids {reason}. Segment the very image that the reference was "
            "drawn on."
        )


def _place(image: Any, geometry: Geometry) -> None:
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(_xyz_direction(geometry))


def _xyz_direction(geometry: Geometry) -> list[float]:
    direction: list[float] = np.asarray(geometry.direction)[::-1, ::-1].ravel().tolist()
    return direction
