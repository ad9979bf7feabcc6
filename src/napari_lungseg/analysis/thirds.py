"""Thirds of a lung by volume, along the patient: upper, middle and lower; ventral, central and dorsal.

Each region is cut across a patient axis (DICOM LPS: towards the head, towards the back) into three parts of equal volume,
whatever the scan's plane and however the patient lay: dorsal is the back, in prone patients as well. The row of both lungs
is cut as one. A slice (row, layer) through which a cut runs counts on both sides, with its share of volume on each.
Upper, middle and lower thirds of equal volume are those of the Chest Imaging Platform (`CIPLabelLungRegionsImageFilter`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from .quantity import Quantity
from .survey import EMPHYSEMA, HIGH_ATTENUATION, VALUES, VOXELS, Bands, Region

Axis: TypeAlias = Literal["head", "back"]


def third(bands: Bands, number: int) -> Bands:
    """(5,) sums over the third of given number, counted from band 0, by volume."""
    ends = np.cumsum(bands[:, VOXELS])
    starts = np.append(0.0, ends[:-1])
    low, high = ends[-1] * number / 3, ends[-1] * (number + 1) / 3
    inside = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0, None)
    return np.asarray((inside / np.maximum(bands[:, VOXELS], 1e-300)) @ bands)


def _mean(axis: Axis, number: int, name: str) -> Quantity:
    def compute(region: Region) -> float | None:
        sums = third(getattr(region, axis), number)
        return float(sums[VALUES] / sums[VOXELS]) if sums[VOXELS] else None

    compute.__doc__ = f"Mean of the {name} third."
    return Quantity(compute, "intensity", "ct")


def _percent(axis: Axis, number: int, column: int, what: str, name: str) -> Quantity:
    def compute(region: Region) -> float | None:
        sums = third(getattr(region, axis), number)
        return float(100 * sums[column] / sums[VOXELS]) if sums[VOXELS] else None

    compute.__doc__ = f"{what} of the {name} third."
    return Quantity(compute, "percent", "HU")


# Bands run from the feet to the head and from the front to the back.
mean_upper = _mean("head", 2, "upper")
mean_middle = _mean("head", 1, "middle")
mean_lower = _mean("head", 0, "lower")
mean_ventral = _mean("back", 0, "ventral")
mean_central = _mean("back", 1, "central")
mean_dorsal = _mean("back", 2, "dorsal")
laa950_upper = _percent("head", 2, EMPHYSEMA, "LAA-950", "upper")
laa950_middle = _percent("head", 1, EMPHYSEMA, "LAA-950", "middle")
laa950_lower = _percent("head", 0, EMPHYSEMA, "LAA-950", "lower")
laa950_ventral = _percent("back", 0, EMPHYSEMA, "LAA-950", "ventral")
laa950_central = _percent("back", 1, EMPHYSEMA, "LAA-950", "central")
laa950_dorsal = _percent("back", 2, EMPHYSEMA, "LAA-950", "dorsal")
haa_upper = _percent("head", 2, HIGH_ATTENUATION, "High-attenuation areas", "upper")
haa_middle = _percent("head", 1, HIGH_ATTENUATION, "High-attenuation areas", "middle")
haa_lower = _percent("head", 0, HIGH_ATTENUATION, "High-attenuation areas", "lower")
haa_ventral = _percent("back", 0, HIGH_ATTENUATION, "High-attenuation areas", "ventral")
haa_central = _percent("back", 1, HIGH_ATTENUATION, "High-attenuation areas", "central")
haa_dorsal = _percent("back", 2, HIGH_ATTENUATION, "High-attenuation areas", "dorsal")
