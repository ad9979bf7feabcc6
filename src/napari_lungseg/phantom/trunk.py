"""The phantom's wall: skin, fat, muscle, rib cage, spine, shoulders; and the table under it."""

from __future__ import annotations

import numpy as np

from .anatomy import Anatomy
from .shapes import Grid, blend, ellipsoid, path

# Outline of the trunk beside the chest at its widest, by height (mm over the middle of the field of view).
_HEIGHTS = (-150, -60, 20, 65, 95, 118, 135, 160)
_WIDTHS = (0.97, 0.98, 1.0, 1.08, 1.18, 1.14, 0.74, 0.42)
_DEPTHS = (0.97, 1.0, 1.0, 0.97, 0.88, 0.74, 0.64, 0.58)
_ROUNDNESS = 2.4  # exponent of the outline: 2 is an ellipse, more is boxier
_RIB_STEP_MM = 26.0
_VERTEBRA_MM = 27.0


class Cavity:
    """The inside of the rib cage on a grid.

    Parameters
    ----------
    patient, grid : whose and where

    Attributes
    ----------
    inside, above_diaphragm : (z, y, x) bool
    """

    def __init__(self, patient: Anatomy, grid: Grid) -> None:
        self._patient, self._grid = patient, grid
        apex, widest = patient.apex, -0.1 * patient.apex
        part = np.clip((apex - grid.head) / (apex - widest), 0, 1)
        self.width = patient.cavity_width * (1 - (1 - part) ** 2.5) ** 0.52
        self.depth = patient.cavity_depth * (1 - (1 - part) ** 2.0) ** 0.5
        self.middle = 24 * (1 - part) ** 2  # the tips of the lungs lie behind
        self.inside = self.grown(0.0) & (grid.head < apex)[:, None, None]
        self.above_diaphragm = grid.head[:, None, None] > self._diaphragm()[None]

    def grown(self, by_mm: float) -> np.ndarray:
        """(z, y, x) bool: the cavity, larger by some mm on every side."""
        left = self._grid.left[None, :]
        share = np.where(left > 0, self._patient.left_share, 1.0)
        width = np.maximum(self.width[:, None] * share + by_mm, 1e-3)
        depth = np.maximum(self.depth[:, None] + by_mm, 1e-3)
        across = np.abs(left / width) ** _ROUNDNESS
        deep = np.abs((self._grid.back[None, :] - self.middle[:, None]) / depth) ** _ROUNDNESS
        return np.asarray(deep[:, :, None] + across[:, None, :] < 1)

    def _diaphragm(self) -> np.ndarray:
        """(y, x) height of the diaphragm, mm: two domes, deepest behind and at the sides."""
        patient, back, left = self._patient, self._grid.back[:, None], self._grid.left[None, :]
        heights = []
        for dome, side in ((patient.dome_right, -1), (patient.dome_left, 1)):
            across = (left * side - 0.53 * patient.cavity_width) / (0.47 * patient.cavity_width)
            deep = (back + 8) / patient.cavity_depth
            fall = np.where(across > 0, 58, 12) * np.abs(across) ** 2.2 + np.where(deep > 0, 66, 26) * np.abs(deep) ** 2
            heights.append(dome - fall)
        return np.asarray(np.maximum(np.maximum(heights[0], heights[1]), patient.base))


def paint_trunk(patient: Anatomy, grid: Grid, cavity: Cavity) -> np.ndarray:
    """Skin, fat, muscle and the cavity's filling of soft tissue, in air, on the table; HU (float32)."""
    hu = np.full(grid.shape, -1000.0, np.float32)
    if patient.table:
        hu += _table(patient, grid)
    fat = patient.fat_mm
    for inset, value in ((0.0, 20.0), (2.0, -105.0), (2.0 + fat, 52.0)):
        hu[_outline(patient, grid, inset)] = value
    hu[cavity.grown(10.0) & ~cavity.inside] = 45.0
    hu[cavity.inside] = -15.0
    return hu


def _outline(patient: Anatomy, grid: Grid, inset: float) -> np.ndarray:
    width = patient.half_width * np.interp(grid.head, _HEIGHTS, _WIDTHS)[:, None] - inset
    depth = patient.half_depth * np.interp(grid.head, _HEIGHTS, _DEPTHS)[:, None] - inset
    # The back stays flat on the table where the chest grows shallow.
    middle = 0.7 * (patient.half_depth - inset - depth)
    across = np.abs(grid.left[None] / width) ** _ROUNDNESS
    deep = np.abs((grid.back[None] - middle) / depth) ** _ROUNDNESS
    return np.asarray(deep[:, :, None] + across[:, None, :] < 1)


def _table(patient: Anatomy, grid: Grid) -> np.ndarray:
    """(1, y, x) HU above air: a pad, and a hollow crescent that holds air."""
    below = grid.back[:, None] * (-1 if patient.prone else 1) - patient.half_depth
    left = grid.left[None, :] + patient.shift[2]  # the table stays where it is
    sag = 1 - (left / 165.0) ** 2
    outer = (below > 8 + 8 * sag) & (below < 9 + 36 * sag)
    inner = (below > 11 + 8 * sag) & (below < 6 + 36 * sag)
    pad = (below > 1) & (below < 8) & (np.abs(left) < 125)
    return np.asarray(np.where(pad, 120.0, 0.0) + np.where(outer & ~inner, 950.0, 0.0), dtype=np.float32)[None]


def paint_bones(hu: np.ndarray, patient: Anatomy, grid: Grid, cavity: Cavity) -> None:
    """Ribs, sternum, spine, shoulder blades, collar bones and arms, in place."""
    _paint_ribs(hu, patient, grid, cavity)
    _paint_spine(hu, patient, grid)
    wide, deep = patient.half_width, patient.half_depth
    for side in (-1, 1):
        blade = np.array(((0.97, -0.2, 0.1), (0.1, 0.75, 0.65), (0.2, 0.62, -0.76)))
        blade[:, 2] *= side
        blade /= np.linalg.norm(blade, axis=1, keepdims=True)
        blend(hu, ellipsoid(grid, (62, 0.62 * deep, side * 0.66 * wide), (52, 4.5, 40), blade), 330.0)
        collar = [(86, -0.5 * deep, side * 20), (98, -0.46 * deep, side * 62), (106, 0, side * 0.86 * wide)]
        path(hu, grid, collar, 6.0, 480.0)
        blend(hu, ellipsoid(grid, (104, 8, side * 0.97 * wide), (24, 21, 21)), 420.0)
        blend(hu, ellipsoid(grid, (104, 8, side * 0.97 * wide), (21, 18, 18)), 210.0)


def _paint_ribs(hu: np.ndarray, patient: Anatomy, grid: Grid, cavity: Cavity) -> None:
    inner = cavity.grown(1.0)
    shell = cavity.grown(9.0) & ~inner
    marrow = cavity.grown(7.0) & ~cavity.grown(3.0)
    # Ribs run down from the spine to the front.
    height = grid.head[:, None] + 0.55 * (grid.back[None] - 20)
    phase = np.abs((height + 500 * _RIB_STEP_MM - 4) % _RIB_STEP_MM - _RIB_STEP_MM / 2)[:, :, None]
    left, back = np.abs(grid.left)[None, None], grid.back[None, :, None]
    # In front the ribs end in cartilage; the lowest ones do not reach the sternum.
    cartilage = (back < -0.55 * patient.cavity_depth) & (left < 70)
    above = grid.head[:, None, None] > patient.base + 12
    hu[shell & (phase < 6.5) & cartilage & above] = 110.0
    hu[shell & (phase < 6.5) & ~cartilage] = 850.0
    hu[marrow & (phase < 4) & ~cartilage] = 330.0
    sternum = (left < 17) & (back < 0) & (np.abs(grid.head - 28) < 62)[:, None, None]
    hu[cavity.grown(13.0) & ~inner & sternum] = 340.0
    hu[cavity.grown(10.0) & ~cavity.grown(4.0) & sternum & (left < 13)] = 150.0


def spine_back(patient: Anatomy) -> float:
    """Where the middle of the vertebral bodies lies, mm to the back."""
    return patient.cavity_depth - 14.0


def _paint_spine(hu: np.ndarray, patient: Anatomy, grid: Grid) -> None:
    middle = spine_back(patient)
    block = grid.block((-200, middle - 22, -45), (200, middle + 50, 45))
    head, back, left = grid.coordinates(block)
    part = hu[block]
    radial = np.sqrt(((back - middle) / 16) ** 2 + (left / 20) ** 2)
    in_disc = np.abs((head + 500 * _VERTEBRA_MM) % _VERTEBRA_MM - _VERTEBRA_MM / 2) > _VERTEBRA_MM / 2 - 3
    arch = (np.abs(left) < 5) & (back > middle + 28) & (back < middle + 46) & ~in_disc
    sideways = (np.abs(back - middle - 20) < 5) & (np.abs(left) < 36) & ~in_disc
    ring = np.abs(np.hypot(back - middle - 23, left) - 11) < 3.5
    part[np.broadcast_to(arch | sideways | ring, part.shape)] = 430.0
    part[np.broadcast_to(np.hypot(back - middle - 23, left) < 8, part.shape)] = 25.0  # the canal
    part[np.broadcast_to(radial < 1, part.shape)] = 380.0
    part[np.broadcast_to(radial < 0.85, part.shape)] = 190.0
    part[np.broadcast_to((radial < 1) & in_disc, part.shape)] = 85.0
