"""The radiograph that the phantom casts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..volume import FRONTAL, LEFT_LUNG, LUNG_NAMES, RIGHT_LUNG, Geometry, LabelMap, Volume
from .anatomy import draw_anatomy
from .ct import FIELD_OF_VIEW_MM, build

# Linear attenuation of water near 60 keV, the mean energy of a chest exposure, per mm (NIST, XCOM: 0.206 / cm).
_WATER_PER_MM = 0.0206
# Above this HU a voxel holds calcium, which absorbs more at 60 keV than its HU (of a harder beam) say.
_BONE_HU, _BONE_GAIN = 120.0, 1.8
_DEPTH_VOXELS = 96
_LEAST_LUNG_MM = 12.0
_PHOTONS = 2.0e5  # per pixel in open air
_GREYS = 4095  # 12 bits
# Attenuation (line integral) shown as black and as white.
_BLACK, _WHITE = 0.35, 5.2
_DETAIL_GAIN = 1.2


def thorax_xray(
    shape: tuple[int, int] = (256, 256),
    spacing: Sequence[float] | None = None,
    origin: Sequence[float] = (154.5, 31.0, -181.5),
    *,
    seed: int = 0,
    pathology: bool = False,
    **anatomy: Any,
) -> tuple[Volume, LabelMap]:
    """Build the frontal radiograph of a phantom patient, and the lungs that are truly in it.

    Attenuation is summed along parallel rays from front to back (Beer–Lambert), photons are counted with their noise,
    and the logarithm is shown as usual: bones bright, lungs dark, the patient's right at the viewer's left.

    Parameters
    ----------
    shape : (rows, columns)
    spacing : (rows, columns) mm; None: so that the picture covers 288 × 340 mm
    origin : (z, y, x) mm of the first pixel's centre
    seed : of the patient and the noise
    pathology : whether the patient may have tumours, a consolidation or an effusion
    anatomy : fields of `Anatomy` to set by hand

    Returns
    -------
    The radiograph (12 bits in uint16, shape (1, rows, columns)), and its labels (uint8): 1 right, 2 left lung. They are
    the shadow of the whole lung, **with** the parts behind the heart and below the diaphragm's domes; where the shadows of
    both lungs overlap, the thicker one counts, and less than 12 mm of lung do not.
    """
    generator = np.random.default_rng(seed)
    changes = {"table": False, **anatomy}
    patient = dataclasses.replace(draw_anatomy(generator, pathology=pathology), **changes)
    high, deep, wide = FIELD_OF_VIEW_MM
    rows, columns = spacing if spacing is not None else (high / shape[0], wide / shape[1])
    depth = deep / _DEPTH_VOXELS
    hu, labels = build(patient, (shape[0], _DEPTH_VOXELS, shape[1]), (rows, depth, columns), generator)
    picture = _expose(_line_integral(hu, depth), generator)[None, ::-1]
    shadow = _shadow(labels, depth)[None, ::-1]
    geometry = Geometry((1, *shape), (1.0, rows, columns), tuple(origin), FRONTAL)  # type: ignore[arg-type]
    volume = Volume(np.ascontiguousarray(picture), geometry, "xray", "a.u.", window=(0, _GREYS), name="X-ray phantom")
    return volume, LabelMap(np.ascontiguousarray(shadow), geometry, LUNG_NAMES, name="X-ray phantom lungs")


def _line_integral(hu: np.ndarray, depth_mm: float) -> np.ndarray:
    """(z, x) attenuation summed from front to back; no unit."""
    dense = hu + (_BONE_GAIN - 1) * np.maximum(hu - _BONE_HU, 0)
    return np.asarray(_WATER_PER_MM * depth_mm * np.maximum(1 + dense / 1000, 0).sum(axis=1))


def _expose(attenuation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What a detector shows: photons that come through and scatter, their noise, and the logarithm; uint16."""
    from scipy.ndimage import gaussian_filter

    through = np.exp(-attenuation)
    # Scatter that passes the grid: a tenth of the beam, spread wide.
    arriving = through + 0.1 * gaussian_filter(through, 0.08 * min(through.shape))
    photons = np.maximum(generator.poisson(_PHOTONS * arriving), 1)
    shown = (-np.log(photons / _PHOTONS) - _BLACK) / (_WHITE - _BLACK)
    # Every digital radiograph is delivered with its details raised over its coarse shades.
    shown += _DETAIL_GAIN * (shown - gaussian_filter(shown, 0.04 * min(shown.shape)))
    return np.asarray(np.rint(np.clip(shown, 0, 1) * _GREYS), np.uint16)


def _shadow(labels: np.ndarray, depth_mm: float) -> np.ndarray:
    """(z, x) label of the lung that is thicker along each ray."""
    right, left = ((labels == label).sum(axis=1) * depth_mm for label in (RIGHT_LUNG, LEFT_LUNG))
    shadow = np.where(right >= left, RIGHT_LUNG, LEFT_LUNG)
    return np.where(np.maximum(right, left) >= _LEAST_LUNG_MM, shadow, 0).astype(np.uint8)
