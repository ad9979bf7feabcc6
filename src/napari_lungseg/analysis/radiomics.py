"""Radiomic features through pyradiomics, an optional library."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidVolumeError, LungSegError
from .measure import MeasureSettings
from .regions import REGION_COLUMNS, frames_of, name_of
from .survey import Region, Survey
from .table import Table

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume

CURE = (
    "run `pip install numpy setuptools wheel versioneer`, then `pip install --no-build-isolation pyradiomics==3.0.1` "
    "(it is compiled on the way; newer releases on PyPI lack a file)"
)
# Width of a step of grey values in the texture features: pyradiomics' own for CT, else so many over the label's range.
_WIDTH_HU, _STEPS = 25.0, 32
_PREFIX = "original_"


def radiomics(volume: Volume, labels: LabelMap, *, settings: MeasureSettings | None = None) -> Table:
    """Radiomic features of an image under its labels: first order, shape and texture.

    Definitions: https://pyradiomics.readthedocs.io; van Griethuysen et al., Cancer Res 2017;77:e104. Neither the image
    nor the labels are resampled or filtered; grey values are put into steps of 25 HU, or 32 steps of other units. Flat
    images have shape features in 2-D. A whole lung of 3 million voxels takes about half a minute.

    Parameters
    ----------
    volume : an image of one channel
    labels : on its grid
    settings : None for the defaults

    Returns
    -------
    Table
        Rows as in `measure`, columns called as pyradiomics calls them (``firstorder_Entropy``). What it cannot compute
        of so few voxels, and everything of an empty label, is None.

    Raises
    ------
    LungSegError
        When pyradiomics is not installed; says how to.
    InvalidVolumeError
        When the labels do not lie on the image's grid, voxels under them are NaN or infinite, the image is in colours, or
        its slices are unevenly spaced.
    """
    if volume.unit == "rgb" or volume.geometry.slice_positions is not None:
        reason = "is in colours" if volume.unit == "rgb" else "has unevenly spaced slices"
        raise InvalidVolumeError(f"Radiomic features are not defined here: the image {reason}.")
    survey = Survey(volume, labels, (settings or MeasureSettings()).erode_mm)
    parts = frames_of(volume.geometry)
    found: list[tuple[tuple[Any, ...], dict[str, float]]] = []
    for number, (cut, grid) in enumerate(parts):
        for label in [*survey.listed, None] if len(survey.listed) > 1 else survey.listed:
            heading = (number, label, name_of(label, survey.names, len(survey.union)))
            found.append((heading, _features(survey.region(cut, grid, label))))
    names = tuple(dict.fromkeys(name for _, features in found for name in features))
    first = 0 if len(parts) > 1 else 1
    rows = tuple((*heading[first:], *map(features.get, names)) for heading, features in found)
    return Table((*REGION_COLUMNS[first:], *names), rows)


def _features(region: Region) -> dict[str, float]:
    extractor = _extractor(region)
    image, mask = _cropped(region)
    if image is None or mask is None:
        return {}
    try:
        result = extractor.execute(image, mask)
    except (ValueError, RuntimeError):  # one voxel, a line: too few for texture or shape
        return {}
    values = {name: float(value) for name, value in result.items() if name.startswith(_PREFIX)}
    return {name.removeprefix(_PREFIX): value for name, value in values.items() if np.isfinite(value)}


def _extractor(region: Region) -> Any:
    try:
        from radiomics import featureextractor
    except ImportError:
        raise LungSegError(f"Radiomic features need pyradiomics, which is not installed: {CURE}.") from None
    logging.getLogger("radiomics").setLevel(logging.ERROR)  # it explains itself on the error stream otherwise
    span = float(np.ptp(region.values.values)) if region.values.size else 0.0
    steps = {"binWidth": _WIDTH_HU} if region.frame.hounsfield or span == 0 else {"binCount": _STEPS}
    flat = region.geometry.shape[0] == 1
    extractor = featureextractor.RadiomicsFeatureExtractor(**steps, force2D=flat, minimumROISize=1)
    extractor.disableAllFeatures()
    for family in ("shape2D" if flat else "shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"):
        extractor.enableFeatureClassByName(family)
    return extractor


def _cropped(region: Region) -> tuple[Any, Any]:
    """The image and the mask around a region, as SimpleITK images; None for an empty one."""
    import SimpleITK

    itk: Any = SimpleITK
    mask = np.isin(region.frame.labels, region.labels)
    if not mask.any() or region.frame.image is None:
        return None, None
    used = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(line[0]), int(line[-1]) + 1) for line in used)
    pair = []
    for array in (region.frame.image[box].astype(np.float32), mask[box].astype(np.uint8)):
        pair.append(itk.GetImageFromArray(np.pad(array, ((0, 0) if len(mask) == 1 else (1, 1), (1, 1), (1, 1)))))
        pair[-1].SetSpacing(region.geometry.spacing[::-1] if region.geometry.is_mm else (1.0, 1.0, 1.0))
    return pair[0], pair[1]
