"""Labels without their outermost rim, whose voxels are partly chest wall or mediastinum."""

from __future__ import annotations

import itertools

import numpy as np

from ..errors import InvalidVolumeError
from ..volume import Geometry


def eroded(labels: np.ndarray, geometry: Geometry, distance_mm: float) -> np.ndarray:
    """Labels without the voxels that have background no farther than the distance, centre to centre in the patient.

    Labels that touch do not wear each other away, and neither does the image's edge (what lies beyond is unknown).
    Each slice of a stack of radiographs, and a single slice, is worn away within its plane.

    Parameters
    ----------
    labels : (z, y, x) label map
    geometry : of it
    distance_mm : 0 leaves the labels as they are

    Raises
    ------
    InvalidVolumeError
        When there is a distance, but the image has no spacing or its slices are unevenly spaced.
    """
    if distance_mm == 0:
        return labels
    if not geometry.is_mm or geometry.slice_positions is not None:
        reason = "has no spacing" if not geometry.is_mm else "has unevenly spaced slices"
        raise InvalidVolumeError(
            f"A rim of {distance_mm:g} mm cannot be left out: the image {reason}. Measure without it (erode_mm 0)."
        )
    outside = labels == 0
    worn = labels.copy()
    ball = _ball(geometry, distance_mm)
    for z, part in enumerate(worn):
        rim = np.zeros(part.shape, bool)
        for step, *offset in ball:
            if 0 <= z + step < len(labels):
                here = tuple(slice(max(-move, 0), min(-move, 0) or None) for move in offset)
                there = tuple(slice(max(move, 0), min(move, 0) or None) for move in offset)
                rim[here] |= outside[z + step][there]
        part[rim] = 0
    return worn


def _ball(geometry: Geometry, radius: float) -> list[tuple[int, ...]]:
    """Index offsets of the voxels no farther than a radius, without the middle."""
    columns = geometry.affine[:3, :3]
    flat = geometry.frames or geometry.shape[0] == 1
    # Along a sheared axis more steps fit into a ball than the spacing says.
    reach = np.floor(radius * np.linalg.norm(np.linalg.inv(columns), axis=1) + 1e-9).astype(int)
    reach = np.minimum(reach, np.asarray(geometry.shape) - 1)
    if flat:
        reach[0] = 0
    steps = itertools.product(*(range(-int(r), int(r) + 1) for r in reach))
    return [offset for offset in steps if any(offset) and np.linalg.norm(columns @ offset) <= radius + 1e-9]
