"""Along the scan and along the grey scale: tables to plot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidVolumeError
from .measure import MeasureSettings
from .regions import frames_of, name_of
from .survey import EMPHYSEMA, HIGH_ATTENUATION, VALUES, VOXELS, Region, Survey
from .table import Table

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume

# Steps of a histogram: usual for lung CT, and so many over the range of other images.
_WIDTH_HU, _STEPS = 10.0, 100


def profile(volume: Volume, labels: LabelMap, *, settings: MeasureSettings | None = None) -> Table:
    """How much of each label is in each slice, and how dense it is there.

    Parameters
    ----------
    volume : the image
    labels : on its grid
    settings : None for the defaults

    Returns
    -------
    Table
        One row per label (and all together, as in `measure`) and slice. Columns: label, name, slice (index in the array),
        position (mm along the slices from the first), area, mean, and of CT in Hounsfield units laa950 and haa; empty where
        the slice holds nothing of the label.

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid, or voxels under them are NaN or infinite.
    """
    return profiled(Survey(volume, labels, (settings or MeasureSettings()).erode_mm))


def profiled(survey: Survey) -> Table:
    """What `profile` returns, of an image that was taken stock of already."""
    volume = survey.volume
    grid, grey, hu = volume.geometry, volume.unit != "rgb", volume.unit == "HU"
    columns = ["label", "name", "slice", "position", "area", *["mean"] * grey, *["laa950", "haa"] * hu]
    units = {"position": grid.units, "area": "mm2" if grid.is_mm else "pixel", "laa950": "percent", "haa": "percent"}
    units["mean"] = "HU" if hu else "au"
    rows: list[tuple[Any, ...]] = []
    for start, (label, name, region) in _parts(survey):
        pixel = region.frame.pixel_area
        for z, sums in enumerate(region.slices):
            voxels = sums[VOXELS]
            shares = [sums[VALUES] / voxels if voxels else None] * grey
            shares += [100 * sums[column] / voxels if voxels else None for column in (EMPHYSEMA, HIGH_ATTENUATION)] * hu
            area = voxels / region.frame.weights[z] * pixel
            place = start + z
            rows.append((label, name, place, _position(volume, place), float(area), *map(_number, shares)))
    return Table(tuple(columns), tuple(rows), {name: unit for name, unit in units.items() if name in columns})


def histogram(
    volume: Volume, labels: LabelMap, *, width: float | None = None, settings: MeasureSettings | None = None
) -> Table:
    """How many voxels of each label have which value.

    Parameters
    ----------
    volume : an image of one channel
    labels : on its grid
    width : of a step, in the image's unit; None: 10 HU, or a hundredth of the range of other images (rounded up to a whole
        number where the values are whole)
    settings : None for the defaults

    Returns
    -------
    Table
        One row per label (and all together, as in `measure`) and step, over the range that the labels hold; for a stack
        of radiographs all frames together. Columns: label, name, low and high (a step is low ≤ value < high, and
        begins at a multiple of the width), voxels, and share of the label's voxels in percent.

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid, voxels under them are NaN or infinite, the image is in colours, or
        the width is not positive.
    """
    if width is not None and not width > 0:
        raise InvalidVolumeError(f"The width of a histogram's step is {width}, but must be more than 0.")
    return counted(Survey(volume, labels, (settings or MeasureSettings()).erode_mm), width)


def counted(survey: Survey, width: float | None = None) -> Table:
    """What `histogram` returns, of an image that was taken stock of already."""
    volume = survey.volume
    if volume.unit == "rgb":
        raise InvalidVolumeError("A colour image has no histogram of one value; convert it to grey first.")
    found: dict[tuple[int | None, str], list[Region]] = {}
    for _, (label, name, region) in _parts(survey):
        found.setdefault((label, name), []).append(region)
    held = {key: Region.joined(regions).values for key, regions in found.items()}
    filled = [item.values for item in held.values() if item.size]
    low, high = (min(v[0] for v in filled), max(v[-1] for v in filled)) if filled else (0.0, 0.0)
    step = width or (_WIDTH_HU if volume.unit == "HU" else max((high - low) / _STEPS, 1e-12) if high > low else 1.0)
    if width is None and all(np.array_equal(values, np.rint(values)) for values in filled):
        step = math.ceil(step)  # else steps would hold one whole number and two by turns
    edges = np.arange(math.floor(low / step), math.floor(high / step) + 2) * step
    rows: list[tuple[Any, ...]] = []
    for (label, name), item in held.items():
        places = np.searchsorted(edges, item.values, side="right") - 1
        counts = np.bincount(places, weights=item.counts, minlength=len(edges) - 1)
        for k, count in enumerate(counts[: len(edges) - 1]):
            share = float(100 * count / item.size) if item.size else None
            rows.append((label, name, float(edges[k]), float(edges[k + 1]), int(count), share))
    unit = "HU" if volume.unit == "HU" else "au"
    columns = ("label", "name", "low", "high", "voxels", "share")
    return Table(columns, tuple(rows), {"low": unit, "high": unit, "share": "percent"})


def _parts(survey: Survey) -> Iterator[tuple[int, tuple[int | None, str, Region]]]:
    """First slice, and label, name and region, of everything that `measure` has a row for."""
    for cut, grid in frames_of(survey.volume.geometry):
        for label in [*survey.listed, None] if len(survey.listed) > 1 else survey.listed:
            name = name_of(label, survey.names, len(survey.union))
            yield cut.start or 0, (label, name, survey.region(cut, grid, label))


def _position(volume: Volume, place: int) -> float:
    positions = volume.geometry.slice_positions
    return positions[place] if positions is not None else place * volume.geometry.spacing[0]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
