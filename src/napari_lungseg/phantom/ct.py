"""The phantom as CT: from the skin inwards, each organ over the last."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..volume import LEFT_LUNG, LUNG_NAMES, RIGHT_LUNG, Geometry, LabelMap, Volume
from .anatomy import Anatomy, draw_anatomy, heart_of, hilum_of
from .lungs import fill_lungs, lung_regions
from .shapes import Grid, blend, ellipsoid, path, tube
from .trunk import Cavity, paint_bones, paint_trunk

# Field of view (z, y, x), mm: the whole chest, and the table behind it.
FIELD_OF_VIEW_MM = (288.0, 304.0, 340.0)
# How far the patient's middle lies in front of the field of view's, so that the table is in it.
_FORWARD_MM = 25.0
_WINDOW_HU = (-1024.0, 600.0)


def thorax_ct(
    shape: tuple[int, int, int] = (96, 160, 200),
    spacing: Sequence[float] | None = None,
    origin: Sequence[float] = (-312.5, -187.3, -203.9),
    *,
    seed: int = 0,
    noise_hu: float = 18.0,
    pathology: bool = False,
    **anatomy: Any,
) -> tuple[Volume, LabelMap]:
    """Build the CT of a phantom patient, and the lungs that are truly in it.

    Parameters
    ----------
    shape : (z, y, x) voxels
    spacing : (z, y, x) mm; None: so that the shape covers 288 × 304 × 340 mm, the whole chest
    origin : (z, y, x) mm of the first voxel's centre
    seed : of the patient and the noise
    noise_hu : standard deviation of the noise
    pathology : whether the patient may have tumours, a consolidation or an effusion
    anatomy : fields of `Anatomy` to set by hand, e.g. ``tumours=1, effusion=0.3``

    Returns
    -------
    The scan in HU (int16, head-first axial slices), and its labels (uint8): 1 right, 2 left lung. They hold the
    vessels, small bronchi, tumours and consolidations inside the lungs; not the trachea, the main bronchi or an effusion.
    """
    generator = np.random.default_rng(seed)
    patient = dataclasses.replace(draw_anatomy(generator, pathology=pathology), **anatomy)
    if spacing is None:
        spacing = tuple(extent / size for extent, size in zip(FIELD_OF_VIEW_MM, shape, strict=True))
    hu, labels = build(patient, shape, spacing, generator)
    _add_noise(hu, noise_hu, generator)
    geometry = Geometry(shape, spacing, origin)  # type: ignore[arg-type]  # made into tuples of three floats there
    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    volume = Volume(voxels, geometry, "ct", "HU", window=_WINDOW_HU, name="CT phantom")
    return volume, LabelMap(labels, geometry, LUNG_NAMES, name="CT phantom lungs")


def build(
    patient: Anatomy, shape: tuple[int, int, int], spacing: Sequence[float], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Build the voxels of a patient without noise: HU (float32) and labels (uint8), both (z, y, x)."""
    grid = _patient_grid(patient, shape, spacing)
    cavity = Cavity(patient, grid)
    hu = paint_trunk(patient, grid, cavity)
    _paint_abdomen(hu, patient, grid, cavity)
    right, left = lung_regions(patient, grid, cavity)
    _paint_mediastinum(hu, patient, grid)
    paint_bones(hu, patient, grid, cavity)
    labels = np.zeros(grid.shape, np.uint8)
    labels[right], labels[left] = RIGHT_LUNG, LEFT_LUNG
    fill_lungs(hu, labels, patient, grid, generator)
    _paint_airways(hu, labels, patient, grid)
    _soften(hu)
    return hu, labels


def _patient_grid(patient: Anatomy, shape: Sequence[int], spacing: Sequence[float]) -> Grid:
    offsets = (-patient.shift[0], -patient.shift[1] + _FORWARD_MM, -patient.shift[2])
    axes = [
        ((np.arange(size) - (size - 1) / 2) * step + offset).astype(np.float32)
        for size, step, offset in zip(shape, spacing, offsets, strict=True)
    ]
    return Grid(*axes)


def _paint_abdomen(hu: np.ndarray, patient: Anatomy, grid: Grid, cavity: Cavity) -> None:
    below = cavity.inside & ~cavity.above_diaphragm
    hu[below] = -95.0  # fat between the organs
    liver_edge = 35.0 + 0.25 * (grid.head[:, None, None] - patient.dome_right)
    hu[below & (grid.left[None, None] < liver_edge)] = 60.0
    blend(hu, ellipsoid(grid, (patient.dome_left - 45, 42, 88), (42, 30, 30)), 50.0)  # spleen
    stomach = (patient.dome_left - 44, -18, 62)
    radius = patient.stomach_gas
    blend(hu, ellipsoid(grid, stomach, (radius + 11, radius + 16, radius + 9)), 25.0)
    block, share = ellipsoid(grid, stomach, (radius + 7, radius + 12, radius + 5))
    # Gas floats up: to the front of a patient who lies on the back.
    up = (
        grid.back[None, block[1], None] < stomach[1] + 4
        if not patient.prone
        else grid.back[None, block[1], None] > stomach[1]
    )
    blend(hu, (block, share * up), -960.0)
    for k, side in enumerate((-1, 1, 1)):  # gas in the colon
        blend(hu, ellipsoid(grid, (patient.base - 14 - 4 * k, -45 + 20 * k, side * (70 - 28 * k)), (9, 11, 16)), -900.0)


def _paint_mediastinum(hu: np.ndarray, patient: Anatomy, grid: Grid) -> None:
    centre, radii, axes = heart_of(patient)
    blood = patient.blood_hu
    blend(hu, ellipsoid(grid, centre, radii, axes), 50.0)
    blend(hu, ellipsoid(grid, centre + axes[0] * 6, radii * 0.72, axes), blood)
    top = centre[0] + 0.75 * radii[0]
    arch = 62.0
    aorta = [
        (top - 15, -18, -8),
        (arch - 12, -12, -6),
        (arch, 2, 3),
        (arch, 24, 16),
        (arch - 14, 42, 21),
        (-150, 46, 14),
    ]
    path(hu, grid, aorta, 12.5, blood)
    path(hu, grid, [(arch + 60, -6, -24), (arch, -10, -24), (top - 20, -8, -26)], 8.5, blood)  # superior vena cava
    path(hu, grid, [(top - 10, -28, 14), (24, -8, 18), (20, 12, 42)], 11.0, blood)  # pulmonary trunk and left artery
    path(hu, grid, [(22, 2, 8), (14, 6, -38)], 9.5, blood)
    for left in (-14, -7, 18, 24):  # the vessels of head and arm
        path(hu, grid, [(arch + 6, 4, left * 0.7), (160, -8, left * 1.5)], 5.0, blood)
    path(hu, grid, [(160, 36, 4), (arch, 38, 0), (-60, 36, 4), (-100, 20, 16)], 6.5, 35.0)  # oesophagus


def _paint_airways(hu: np.ndarray, labels: np.ndarray, patient: Anatomy, grid: Grid) -> None:
    carina = np.array((38.0, 24.0, 2.0))
    top = np.array((160.0, 6.0, 0.0))
    branches = [(top, carina, 8.5), (carina, hilum_of(-1), 7.0), (carina, hilum_of(1), 6.0)]
    for start, end, radius in branches:
        block, share = tube(grid, start, end, radius + 2.0)
        blend(hu, (block, share), 20.0)
        labels[block][share > 0.5] = 0
    for start, end, radius in branches:
        blend(hu, tube(grid, start, end, radius), -985.0)


def _soften(hu: np.ndarray) -> None:
    """Blur in the plane as a scanner's point spread does: (1, 4, 1) / 6 along rows and columns, in place."""
    for axis in (1, 2):
        view = np.moveaxis(hu, axis, -1)
        if view.shape[-1] < 3:
            continue
        middle = view[..., 1:-1]
        middle += (view[..., :-2] + view[..., 2:] - 2 * middle) / 6


def _add_noise(hu: np.ndarray, noise_hu: float, generator: np.random.Generator) -> None:
    noise = generator.standard_normal(hu.shape, dtype=np.float32)
    # Neighbours share noise in a reconstructed scan: the sum of two shifted copies, scaled back to one deviation.
    noise[:, :, 1:] += 0.6 * noise[:, :, :-1]
    noise[:, 1:] += 0.6 * noise[:, :-1]
    hu += (noise_hu / 1.36) * noise
