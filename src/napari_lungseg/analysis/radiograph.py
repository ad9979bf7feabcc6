"""Measures of lungs on frontal chest X-rays, in the standard view: head up, the patient's right at the viewer's left."""

from __future__ import annotations

import numpy as np

from .quantity import Quantity, quantity
from .survey import Frame, Region

# Grey values of the chest that opacity 0 and 1 stand for: all but the darkest and brightest hundredth.
_DARK_PERCENT, _BRIGHT_PERCENT = 1, 99


@quantity("length", needs="xray")
def width(region: Region) -> float:
    """Largest extent across the patient, from edge to edge of the outermost pixels; 0 of nothing."""
    return _extent(region.shadow, 1) * region.frame.pixel[1]


@quantity("length", needs="xray")
def height(region: Region) -> float:
    """Largest extent from head to feet, from edge to edge of the outermost pixels; 0 of nothing."""
    return _extent(region.shadow, 0) * region.frame.pixel[0]


@quantity("share", needs="xray")
def symmetry(region: Region) -> float | None:
    """Dice of the right lung and the left one mirrored, in the row of both: 1 where they mirror each other.

    The mirror stands upright, half-way between the outer edges of both lungs. The heart alone makes it less than 1.
    Symmetry of lung shadows as a sign of disease: Santosh and Antani, IEEE TMI 2018;37:1168.
    """
    if region.sides is None:
        return None
    right, left = (side.shadow for side in region.sides)
    if not right.any() or not left.any():
        return None
    chest = slice(*_ends(right | left, 1))
    mirrored = left[:, chest][:, ::-1]
    return float(2 * (right[:, chest] & mirrored).sum() / (right.sum() + left.sum()))


@quantity("share", needs="xray")
def cardiothoracic_ratio(region: Region) -> float | None:
    """Largest width of the heart over that of the chest inside the ribs, in the row of both; more than 0.5 is large.

    The chest reaches from the right lung's outermost pixel to the left one's, the heart is the label named "heart".
    Danzer, Am J Med Sci 1919;157:513; from masks as in Chamveha et al. 2020, https://arxiv.org/abs/2002.07468.
    """
    heart = region.frame.label_named("heart")
    if region.sides is None or heart is None or not all(side.voxels for side in region.sides):
        return None
    return _extent(region.frame.shadow(heart), 1) / _extent(region.shadow, 1) or None


def _opacity(number: int, name: str) -> Quantity:
    def compute(region: Region) -> float | None:
        if region.frame.image is None or not region.voxels:
            return None
        low, high = _ends(region.shadow, 0)
        cuts = np.rint(np.linspace(low, high, 4)).astype(int)[number : number + 2]
        zone = slice(*cuts)
        inside = region.frame.picture[zone][region.shadow[zone]]
        dark, bright = _grey_range(region.frame)
        return (
            float((inside.mean(dtype=np.float64) - dark) / (bright - dark)) if inside.size and bright > dark else None
        )

    compute.__doc__ = f"""Opacity of the {name} zone: mean grey from 0 (darkest of the chest) to 1 (brightest).

    Zones are thirds of the region's height, after Borghesi and Maroldi (Brixia score), Radiol Med 2020;125:509. Grey values
    of X-rays have no unit, so 0 and 1 are the 1st and 99th percentile inside the box around all labels, whose lungs,
    mediastinum and ribs are there on every frontal X-ray. Compare zones and sides of an image, or images of one machine.
    """
    return Quantity(compute, "share", "xray")


opacity_upper = _opacity(0, "upper")
opacity_middle = _opacity(1, "middle")
opacity_lower = _opacity(2, "lower")


def _grey_range(frame: Frame) -> tuple[float, float]:
    """Grey values that stand for opacity 0 and 1."""
    chest = frame.shadow()
    box = tuple(slice(*_ends(chest, axis)) for axis in (0, 1))
    low, high = np.percentile(frame.picture[box], (_DARK_PERCENT, _BRIGHT_PERCENT))
    return float(low), float(high)


def _ends(mask: np.ndarray, axis: int) -> tuple[int, int]:
    """First index and the one after the last along an axis in which a mask has pixels; (0, 0) of nothing."""
    used = np.flatnonzero(mask.any(axis=1 - axis))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)


def _extent(mask: np.ndarray, axis: int) -> int:
    low, high = _ends(mask, axis)
    return high - low
