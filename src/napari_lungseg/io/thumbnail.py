"""A small picture of a series, of its middle slice alone."""

from __future__ import annotations

import numpy as np

from ..errors import ReadError
from ..volume import Volume
from .dicom import read_dicom
from .series_entry import SeriesEntry

# What a chest CT without a window of its own is shown with; percentiles for anything else.
_WINDOW_HU = (-1350.0, 150.0)
_PERCENTILES = (1.0, 99.5)


def thumbnail(entry: SeriesEntry, size: int = 96) -> np.ndarray:
    """The middle slice of a series in the standard view.

    Parameters
    ----------
    entry : of a list of series
    size : pixels of the longer side

    Returns
    -------
    (y, x) or (y, x, 3) array of uint8, its sides as long as they are in the patient

    Raises
    ------
    ReadError
        Where that slice cannot be read.
    """
    middle = entry.files[len(entry.files) // 2]
    with entry.on_disk([middle]) as (files, _):
        volume = next((each for each in read_dicom(files) if isinstance(each, Volume)), None)
        if volume is None:
            raise ReadError("The series holds labels, no image.")
        standard, _ = volume.reoriented()
        picture = np.asarray(standard.array[len(standard.array) // 2])
    _, height, width = (
        extent * count for extent, count in zip(standard.geometry.spacing, standard.array.shape[:3], strict=True)
    )
    scale = size / max(height, width)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, picture.shape[:2], strict=True)
    )
    picture = picture[np.ix_(rows, columns)]
    return picture if volume.unit == "rgb" else _grey(picture, volume)


def _grey(picture: np.ndarray, volume: Volume) -> np.ndarray:
    ct = _WINDOW_HU if volume.unit == "HU" else None
    low, high = volume.window or ct or np.percentile(picture, _PERCENTILES)
    return np.asarray((np.clip((picture - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8))
