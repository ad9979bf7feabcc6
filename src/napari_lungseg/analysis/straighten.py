"""Slices of a tilted gantry made straight, and uneven slices even, where somebody asks for it.

A tilted stack is straightened by shear: every slice is only shifted within its own plane, to where it lies in the
patient, so nothing is interpolated between slices and the planes stay the ones that were scanned.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..findings import Finding
from ..volume import Geometry, Matrix, Triple, Volume

# Below this the slant between slices is what rounded header values make of a straight stack.
_STRAIGHT_DEGREES = 0.1
_AIR_HU = -1000
# What readers noticed, and what holds no more afterwards (slices that were missing still are).
_NO_LONGER = ("gantry-tilt", "sheared", "uneven-spacing")
# A shift this near to whole pixels is one, and changes no value.
_WHOLE_PIXEL = 1e-4


def is_straight(geometry: Geometry) -> bool:
    """Whether the slices are evenly spaced and stacked at right angles to their planes, or share no space in mm."""
    if geometry.frames or not geometry.is_mm:
        return True
    return geometry.slice_positions is None and _tilt_degrees(geometry) <= _STRAIGHT_DEGREES


def straightened(volume: Volume) -> Volume:
    """The scan on an even grid with right angles, in the same place of the patient.

    Tilted slices are shifted within their planes (linear interpolation there, none between slices); the grid grows so
    that nothing is cut off. Uneven slices are interpolated linearly to equal distances between the first and the last.

    Parameters
    ----------
    volume : a stack of slices; one that is straight already, or frames of a radiograph, comes back as it is

    Returns
    -------
    Volume
        With a finding that says what was done; new corners hold air (-1000 HU) or the lowest value.
    """
    if is_straight(volume.geometry):
        return volume
    array = np.asarray(volume.array)
    geometry, told = volume.geometry, []
    if _tilt_degrees(geometry) > _STRAIGHT_DEGREES:
        told.append(f"tilted by {_tilt_degrees(geometry):.1f}°, shifted back slice by slice")
        outside = float(_AIR_HU) if volume.unit == "HU" else float(array.min())
        array, geometry = _sheared(array, geometry, outside)
    if geometry.slice_positions is not None:
        count = geometry.shape[0]
        array, geometry = _even(array, geometry)
        told.append(f"{count} uneven slices, interpolated to {geometry.shape[0]} of {geometry.spacing[0]:.3f} mm")
    finding = Finding("straightened", f"The slices were resampled to a straight and even grid: {'; '.join(told)}.")
    kept = (known for known in volume.findings if known.code not in _NO_LONGER)
    return dataclasses.replace(volume, array=array, geometry=geometry, findings=(*kept, finding))


def _normal(direction: np.ndarray) -> np.ndarray:
    """Unit normal of the slices, on the side to which they are stacked."""
    normal = np.cross(direction[:, 1], direction[:, 2])
    return np.asarray(normal / np.linalg.norm(normal) * (np.sign(normal @ direction[:, 0]) or 1.0))


def _tilt_degrees(geometry: Geometry) -> float:
    """Angle between the axis along which slices are stacked and the normal of the slices."""
    direction = np.asarray(geometry.direction)
    return float(np.degrees(np.arccos(np.clip(_normal(direction) @ direction[:, 0], -1.0, 1.0))))


def _positions(geometry: Geometry) -> np.ndarray:
    """(z,) mm of the slices along the first axis."""
    even = np.arange(geometry.shape[0]) * geometry.spacing[0]
    return even if geometry.slice_positions is None else np.asarray(geometry.slice_positions)


def _sheared(array: np.ndarray, geometry: Geometry, outside: float) -> tuple[np.ndarray, Geometry]:
    """Slices shifted within their planes, on a grid whose first axis is their normal."""
    direction, spacing = np.asarray(geometry.direction), np.asarray(geometry.spacing)
    normal, along = _normal(direction), _positions(geometry)
    # In pixels (row, column): how far a slice lies beside the place that the normal gives it.
    in_plane = np.linalg.lstsq(direction[:, 1:], direction[:, 0] - normal * (normal @ direction[:, 0]), rcond=None)[0]
    shifts = np.outer(along, in_plane) / spacing[1:]
    first = np.floor(np.min(shifts, axis=0) + _WHOLE_PIXEL).astype(int)
    last = np.ceil(np.max(shifts, axis=0) - _WHOLE_PIXEL).astype(int)
    grown = np.full((len(array), *(np.array(array.shape[1:]) + last - first)), outside, array.dtype)
    for target, source, shift in zip(grown, array, shifts - first, strict=True):
        _shift_into(target, source, shift, outside)
    cosine = float(normal @ direction[:, 0])
    origin = np.asarray(geometry.origin) + direction[:, 1:] @ (first * spacing[1:])
    z, y, x = np.column_stack([normal, direction[:, 1:]]).tolist()
    matrix: Matrix = (_triple(z), _triple(y), _triple(x))
    positions = None if geometry.slice_positions is None else tuple((along * cosine).tolist())
    changes = {"shape": grown.shape, "origin": _triple(origin), "direction": matrix, "slice_positions": positions}
    return grown, dataclasses.replace(geometry, spacing=(spacing[0] * cosine, spacing[1], spacing[2]), **changes)


def _triple(values: np.ndarray) -> Triple:
    z, y, x = (float(value) + 0.0 for value in values)
    return z, y, x


def _shift_into(target: np.ndarray, source: np.ndarray, shift: np.ndarray, outside: float) -> None:
    """Put a slice into a larger one, (row, column) pixels from its corner, weighting the two nearest pixels."""
    values: np.ndarray = source.astype(np.float32)
    for axis, pixels in enumerate(shift):
        whole = int(np.floor(pixels + _WHOLE_PIXEL))
        part = np.float32(pixels - whole if pixels - whole > _WHOLE_PIXEL else 0.0)
        before = [(0, 0), (0, 0)]
        before[axis] = (whole, target.shape[axis] - whole - values.shape[axis])
        placed = np.pad(values, before, constant_values=outside)
        values = placed if part == 0 else (1 - part) * placed + part * _one_later(placed, axis, outside)
    target[:] = np.rint(values) if target.dtype.kind in "iu" else values


def _one_later(values: np.ndarray, axis: int, outside: float) -> np.ndarray:
    later = np.roll(values, 1, axis)
    later[(slice(None),) * axis + (0,)] = outside
    return later


def _even(array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, Geometry]:
    """Slices at equal distances, nearly the usual one, from the first slice to the last."""
    places = _positions(geometry)
    count = max(2, round(places[-1] / geometry.spacing[0]) + 1)
    spacing = float(places[-1]) / (count - 1)
    even = np.empty((count, *array.shape[1:]), array.dtype)
    for index, place in enumerate(np.linspace(0.0, places[-1], count)):
        even[index] = _between(array, places, float(place))
    shape = (count, *geometry.shape[1:])
    size = (spacing, *geometry.spacing[1:])
    return even, dataclasses.replace(geometry, shape=shape, spacing=size, slice_positions=None)


def _between(array: np.ndarray, places: np.ndarray, place: float) -> np.ndarray:
    """The slice at a place between two others, weighted by nearness."""
    after = int(np.clip(np.searchsorted(places, place), 1, len(places) - 1))
    share = np.float32((place - places[after - 1]) / (places[after] - places[after - 1]))
    values = (1 - share) * array[after - 1].astype(np.float32) + share * array[after].astype(np.float32)
    return np.asarray(np.rint(values) if array.dtype.kind in "iu" else values)
