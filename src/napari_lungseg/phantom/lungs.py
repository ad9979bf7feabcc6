"""The phantom's lungs: where they are, and what fills them."""

from __future__ import annotations

import numpy as np

from ..volume import LEFT_LUNG, RIGHT_LUNG
from .anatomy import Anatomy, heart_of, hilum_of
from .shapes import Grid, blend, ellipsoid, tube
from .trunk import Cavity, spine_back

_PLEURA_MM = 1.5
_GENERATIONS = 8


def lung_regions(patient: Anatomy, grid: Grid, cavity: Cavity) -> tuple[np.ndarray, np.ndarray]:
    """(z, y, x) bool of the right and the left lung: the cavity above the diaphragm, less what lies between them."""
    space = cavity.grown(-_PLEURA_MM) & cavity.inside & cavity.above_diaphragm
    space &= np.abs(grid.left)[None, None] > _mediastinum(patient, grid)[:, :, None]
    middle = spine_back(patient)
    spine = ((grid.back[:, None] - middle) / 20) ** 2 + (grid.left[None] / 25) ** 2 < 1
    spine |= (grid.back[:, None] > middle) & (np.abs(grid.left)[None] < 26)
    space &= ~spine[None]
    centre, radii, axes = heart_of(patient)
    aorta = tube(grid, (66, 40, 20), (-150, 46, 14), 15.0)
    for block, share in (ellipsoid(grid, centre, radii + 4, axes), aorta):
        space[block] &= share < 0.5
    on_left = grid.left[None, None] > 0
    return space & ~on_left, space & on_left


def _mediastinum(patient: Anatomy, grid: Grid) -> np.ndarray:
    """(z, y) half-width of what lies between the lungs, mm: narrow in front, wide at the hila and at the tips."""
    tip = np.clip((grid.head - 45) / (patient.apex - 45), 0, 1)[:, None]
    front = 3.0 + 20.0 * tip
    centre = patient.mediastinum * (1 - 0.1 * tip) * np.where(grid.head < -20, 0.75, 1.0)[:, None]
    bulge = np.exp(-(((grid.back[None] - 14) / 36) ** 2))
    return np.asarray(front + (centre - front) * bulge)


def fill_lungs(
    hu: np.ndarray, labels: np.ndarray, patient: Anatomy, grid: Grid, generator: np.random.Generator
) -> None:
    """Parenchyma, fissures, vessels, bronchi and illness, in place; an effusion leaves ``labels``."""
    sign = -1 if patient.prone else 1
    density = patient.lung_hu + patient.gravity_hu_per_mm * sign * grid.back[None, :, None]
    tissue = np.broadcast_to(density, hu.shape) + _texture(grid, generator)
    fissure = np.abs(grid.head[:, None] + 0.9 * grid.back[None] - 8) < 0.8
    tissue += np.where(fissure, 70.0, 0.0)[:, :, None]
    for side in (-1, 1):
        _paint_tree(tissue, labels, patient, grid, side, generator)
    _paint_illness(tissue, labels, patient, grid, generator)
    lungs = labels > 0
    hu[lungs] = tissue[lungs]
    _paint_effusion(hu, labels, patient, grid, generator)


def _texture(grid: Grid, generator: np.random.Generator) -> np.ndarray:
    """Slow waves of density, ± 30 HU: air is not spread evenly."""
    waves = np.zeros(grid.shape, np.float32)
    for _ in range(3):
        length, phases = generator.uniform(25, 90, 3), generator.uniform(0, 6.3, 3)
        axes = (grid.head, grid.back, grid.left)
        parts = [np.sin(axis * (6.3 / n) + p) for axis, n, p in zip(axes, length, phases, strict=True)]
        waves += 22 * parts[0][:, None, None] * parts[1][None, :, None] * parts[2][None, None]
    return waves.astype(np.float32)


def _paint_tree(
    tissue: np.ndarray, labels: np.ndarray, patient: Anatomy, grid: Grid, side: int, generator: np.random.Generator
) -> None:
    """Vessels that branch from the hilum to the pleura; the first ones run beside a bronchus."""
    count = patient.vessels
    starts = np.repeat(hilum_of(side)[None], count, axis=0)
    # Spread over the half-sphere that looks into the lung.
    ways = generator.normal(size=(count, 3)) + np.array((0, -0.6, 1.0 * side))
    ways[:, 0] += np.linspace(-1.6, 1.6, count)
    radius, length = 4.4, 25.0
    for level in range(_GENERATIONS):
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        ends = starts + ways * (length * generator.uniform(0.75, 1.25, (len(ways), 1)))
        for start, end in zip(starts, ends, strict=True):
            blend(tissue, tube(grid, start, end, radius), patient.blood_hu)
            if level < 3:
                _paint_bronchus(tissue, grid, start, end, radius)
        going_on = _in_lung(labels, grid, ends)
        starts = np.repeat(ends[going_on], 2, axis=0)
        ways = np.repeat(ways[going_on], 2, axis=0)
        bend = generator.normal(size=(len(ways) // 2, 3))
        ways = ways + 0.62 * np.stack([bend, -bend], axis=1).reshape(-1, 3)
        radius, length = radius * 0.78, length * 0.86


def _paint_bronchus(tissue: np.ndarray, grid: Grid, start: np.ndarray, end: np.ndarray, radius: float) -> None:
    beside = np.array((0.0, 1.0, 0.6)) * radius * 1.7
    blend(tissue, tube(grid, start + beside, end + beside, radius), -150.0)
    blend(tissue, tube(grid, start + beside, end + beside, 0.7 * radius), -960.0)


def _in_lung(labels: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    axes = (grid.head, grid.back, grid.left)
    index = [np.clip(np.searchsorted(axis, points[:, k]), 0, len(axis) - 1) for k, axis in enumerate(axes)]
    return np.asarray(labels[tuple(index)] > 0)


def _draw_places(
    labels: np.ndarray, grid: Grid, label: int, count: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Points (head, back, left) in one lung, mm."""
    inside = np.flatnonzero(labels == label)
    if len(inside) == 0:
        return []
    picks = np.unravel_index(generator.choice(inside, count), labels.shape)
    return list(np.stack([grid.head[picks[0]], grid.back[picks[1]], grid.left[picks[2]]], axis=1))


def _paint_illness(
    tissue: np.ndarray, labels: np.ndarray, patient: Anatomy, grid: Grid, generator: np.random.Generator
) -> None:
    for _ in range(patient.tumours):
        label = int(generator.integers(RIGHT_LUNG, LEFT_LUNG + 1))
        for place in _draw_places(labels, grid, label, 1, generator):
            blend(tissue, ellipsoid(grid, place, generator.uniform(7, 24, 3), ripple=0.25), 40.0)
    if patient.consolidation > 0:
        label = int(generator.integers(RIGHT_LUNG, LEFT_LUNG + 1))
        # Twelve patches that overlap; their size follows the share (a lung is about as large as a ball of 80 mm radius).
        size = 80 * (patient.consolidation / 6) ** (1 / 3)
        middle = _draw_places(labels, grid, label, 1, generator)
        for place in middle:
            for spot in place + generator.normal(scale=size, size=(12, 3)):
                radii = size * generator.uniform(0.6, 1.2, 3)
                blend(tissue, ellipsoid(grid, spot, radii, ripple=0.2), float(generator.uniform(-350, 50)))


def _paint_effusion(
    hu: np.ndarray, labels: np.ndarray, patient: Anatomy, grid: Grid, generator: np.random.Generator
) -> None:
    if patient.effusion <= 0:
        return
    label = int(generator.integers(RIGHT_LUNG, LEFT_LUNG + 1))
    sign = -1 if patient.prone else 1
    reach = patient.cavity_depth * (1 - 2 * patient.effusion)
    # Fluid lies lowest, and its upper face is a hollow that rises at the wall and falls towards the head.
    level = reach + 0.25 * (grid.head[:, None, None] - patient.base) - 0.1 * np.abs(grid.left)[None, None]
    fluid = (labels == label) & (sign * grid.back[None, :, None] > level)
    hu[fluid] = 12.0
    labels[fluid] = 0
