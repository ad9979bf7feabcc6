"""How the values under each label are spread, and how each label runs through the slices: what the plots of a case show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..volume import Geometry, LabelMap, Volume, label_colour
from .plots import PLAIN, bare
from .regions import labels_of, region_of

# From beyond air to beyond soft tissue; denser voxels are counted in the last bin, rarer air in the first.
_HU_EDGES = np.arange(-1050.0, 151.0, 10.0)
_BINS = 120
_SMALL = 8


@dataclass(frozen=True, eq=False)
class CaseCurves:
    """Curves of an image under its labels, in the standard view.

    Parameters
    ----------
    names : label → name
    edges : (bins + 1,) of the values; the outer bins hold what lies beyond, too
    shares : label → (bins,) share of its voxels, which sum to 1; none for a label without a voxel that has a number
    sizes : label → (slices,) area in mm² (pixels without a spacing)
    unit, area_unit : of the values and the areas
    """

    names: Mapping[int, str]
    edges: np.ndarray
    shares: Mapping[int, np.ndarray]
    sizes: Mapping[int, np.ndarray]
    unit: str
    area_unit: str


def case_curves(volume: Volume, labels: LabelMap) -> CaseCurves:
    """Count values and areas slice by slice; voxels without a number count as area alone.

    Parameters
    ----------
    volume : the image; of a colour image the mean of the channels
    labels : on its grid
    """
    turn = volume.geometry.reorientation()
    grid = volume.geometry.reoriented(turn)
    image, marks = turn.apply(np.asarray(volume.array)), turn.apply(np.asarray(labels.array))
    found = labels_of(labels.names, marks)
    edges = _HU_EDGES if volume.unit == "HU" else _edges(image, marks)
    counts = {label: np.zeros(len(edges) - 1) for label in found}
    voxels = {label: np.zeros(len(marks)) for label in found}
    for z, (values, part) in enumerate(zip(image, marks, strict=True)):
        grey = values.mean(axis=-1) if values.ndim == 3 else values
        for label in found:
            mask = region_of(part, label)
            voxels[label][z] = mask.sum()
            if voxels[label][z]:
                inside = grey[mask].astype(np.float64)
                counts[label] += np.histogram(np.clip(inside[np.isfinite(inside)], edges[0], edges[-1]), edges)[0]
    return CaseCurves(
        {label: labels.names.get(label, f"label {label}") for label in found},
        edges,
        {label: each / each.sum() for label, each in counts.items() if each.sum()},
        {label: each * _pixel_area(grid) for label, each in voxels.items()},
        "HU" if volume.unit == "HU" else "value",
        "mm²" if grid.is_mm else "pixels",
    )


def draw_histogram(axes: Any, curves: CaseCurves, colours: Mapping[int, str], colour: str = PLAIN) -> None:
    """Share of each label's voxels over their values."""
    middles = (curves.edges[:-1] + curves.edges[1:]) / 2
    for label, shares in curves.shares.items():
        line = colours.get(label, label_colour(label))
        axes.plot(middles, 100 * shares, color=line, linewidth=1.2, label=curves.names[label])
        axes.fill_between(middles, 100 * shares, color=line, alpha=0.2, linewidth=0)
    axes.set_ylim(bottom=0)
    _finish(axes, "share of voxels (%)", curves.unit, colour)


def draw_profile(axes: Any, curves: CaseCurves, colours: Mapping[int, str], colour: str = PLAIN) -> None:
    """Area of each label over the slices, from the feet."""
    for label, sizes in curves.sizes.items():
        line = colours.get(label, label_colour(label))
        axes.plot(range(len(sizes)), sizes, color=line, linewidth=1.2, label=curves.names[label])
    axes.set_ylim(bottom=0)
    _finish(axes, f"area ({curves.area_unit})", "slice", colour)


def _finish(axes: Any, title: str, along: str, colour: str) -> None:
    axes.set_title(title, color=colour, fontsize=_SMALL, loc="left", pad=3)
    axes.set_xlabel(along, color=colour, fontsize=_SMALL, labelpad=1)
    bare(axes, colour)
    if axes.lines:
        axes.legend(fontsize=7, frameon=False, labelcolor=colour)


def _edges(image: np.ndarray, marks: np.ndarray) -> np.ndarray:
    values = image[marks > 0]
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _pixel_area(grid: Geometry) -> float:
    columns = grid.affine[:3, :3]
    return float(np.linalg.norm(np.cross(columns[:, 1], columns[:, 2]))) if grid.is_mm else 1.0
