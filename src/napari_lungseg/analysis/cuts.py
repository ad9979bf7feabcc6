"""The slice in which a prediction and its reference differ most, small enough to keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volume import Geometry
from .pairs import Both

# Longest side of a picture in a report, pixels; outlines stay clear at this size.
_LONGEST = 512


@dataclass(frozen=True, eq=False)
class Cut:
    """One slice in the standard view.

    Parameters
    ----------
    image : (rows, columns) uint8, black where there is no image
    predicted, reference : (rows, columns) labels
    aspect : height of a pixel over its width
    title : over the picture
    dice : of the whole case, all labels together
    """

    image: np.ndarray
    predicted: np.ndarray
    reference: np.ndarray
    aspect: float
    title: str
    dice: float


def cut_of(both: Both, title: str, dice: float) -> Cut:
    """The slice (or frame) with most voxels on which the two label maps disagree."""
    grid = both.reference.geometry
    turn = grid.reorientation()
    predicted, reference = (turn.apply(np.asarray(item.array)) for item in (both.predicted, both.reference))
    level = int(np.argmax((predicted != reference).sum(axis=(1, 2))))
    view = grid.reoriented(turn)
    grey = np.zeros(view.shape[1:], np.uint8)
    if both.volume is not None and _fits(both.volume.geometry, grid):
        array = turn.apply(both.volume.array)
        grey = _grey(np.asarray(array[level]), both.volume.window)
    step = max(1, -(-max(view.shape[1:]) // _LONGEST))
    thin = (slice(None, None, step),) * 2
    aspect = view.spacing[1] / view.spacing[2]
    return Cut(grey[thin].copy(), predicted[level][thin].copy(), reference[level][thin].copy(), aspect, title, dice)


def _fits(one: Geometry, other: Geometry) -> bool:
    """Whether voxels lie on each other; of a picture that does not say where it lies, the number of pixels decides."""
    return one.same_grid(other) or (one.shape == other.shape and not (one.is_mm and other.is_mm))


def _grey(image: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    values = image.astype(np.float32)
    if values.ndim == 3:
        values = values.mean(axis=2)
    low, high = window or (float(np.percentile(values, 0.5)), float(np.percentile(values, 99.5)))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255, dtype=np.uint8)
