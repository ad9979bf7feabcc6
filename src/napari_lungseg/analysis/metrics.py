"""How far a predicted label map is from a reference.

Conventions: surfaces and the distances between them are those of `surfaces`, in patient coordinates (so tilted, sheared
and uneven grids need no resampling). Where neither map holds a label, shares are 1 and distances 0; where only one does,
shares are 0 and distances infinite. A single slice and each frame of a stack of radiographs is compared as a flat image.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidVolumeError
from ..registry import Table as NameTable
from .quantity import quantity
from .regions import describe, labels_of, region_of, size_of, tabulate
from .surfaces import Surfaces

if TYPE_CHECKING:
    from ..volume import Geometry, LabelMap
    from .table import Table

# Surfaces closer than this count as the same for NSD: about two pixels of a chest CT, half to one slice of it.
NSD_TOLERANCE = 2.0

METRICS = NameTable(
    "metric",
    {
        "dice": "napari_lungseg.analysis.metrics:dice",
        "iou": "napari_lungseg.analysis.metrics:iou",
        "hd95": "napari_lungseg.analysis.metrics:hd95",
        "assd": "napari_lungseg.analysis.metrics:assd",
        "nsd": "napari_lungseg.analysis.metrics:nsd",
        "sensitivity": "napari_lungseg.analysis.metrics:sensitivity",
        "precision": "napari_lungseg.analysis.metrics:precision",
        "accuracy": "napari_lungseg.analysis.metrics:accuracy",
        "background_iou": "napari_lungseg.analysis.metrics:background_iou",
        "predicted_volume": "napari_lungseg.analysis.metrics:predicted_volume",
        "reference_volume": "napari_lungseg.analysis.metrics:reference_volume",
        "predicted_area": "napari_lungseg.analysis.metrics:predicted_area",
        "reference_area": "napari_lungseg.analysis.metrics:reference_area",
        "volume_difference": "napari_lungseg.analysis.metrics:volume_difference",
        "area_difference": "napari_lungseg.analysis.metrics:area_difference",
        "relative_difference": "napari_lungseg.analysis.metrics:relative_difference",
    },
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two masks of one label on one grid, cropped to where either of them is.

    Parameters
    ----------
    predicted, reference : (z, y, x) bool
    geometry : of the whole grid
    offset : (z, y, x) index of the first voxel of the crop in the whole grid
    tolerance : of NSD, mm (pixels without a spacing)
    parts : the surfaces of the labels whose union this is
    """

    predicted: np.ndarray
    reference: np.ndarray
    geometry: Geometry
    offset: tuple[int, int, int]
    tolerance: float
    parts: tuple[Surfaces, ...] = ()

    @property
    def is_flat(self) -> bool:
        """Whether the grid is one slice, whose surface is its outline."""
        return self.geometry.shape[0] == 1

    @cached_property
    def voxels(self) -> tuple[int, int]:
        """Voxels of the prediction and of the reference."""
        return int(np.count_nonzero(self.predicted)), int(np.count_nonzero(self.reference))

    @cached_property
    def common(self) -> int:
        """Voxels that both masks hold."""
        return int(np.count_nonzero(self.predicted & self.reference))

    @property
    def union(self) -> int:
        """Voxels that either mask holds."""
        return sum(self.voxels) - self.common

    @property
    def outside(self) -> int:
        """Voxels of the whole grid, not of the crop, that neither mask holds."""
        return math.prod(self.geometry.shape) - self.union

    @cached_property
    def sizes(self) -> tuple[float, float]:
        """Size of the prediction and of the reference: mm² on a flat grid, else ml (pixels where the grid has no spacing)."""
        first = self.offset[0]
        one, other = (size_of(mask, self.geometry, first_slice=first) for mask in (self.predicted, self.reference))
        return one, other

    @cached_property
    def surfaces(self) -> Surfaces:
        """Of both masks."""
        return Surfaces.of(self.predicted, self.reference, self.geometry, self.offset, self.parts)

    @property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """From the predicted surface to the reference and back; infinite where the other is empty."""
        return self.surfaces.there, self.surfaces.back


@quantity("share")
def dice(pair: Comparison) -> float:
    """Dice: twice the common voxels over the sum of both."""
    total = sum(pair.voxels)
    return 2 * pair.common / total if total else 1.0


@quantity("share")
def iou(pair: Comparison) -> float:
    """Intersection over union (Jaccard)."""
    return pair.common / pair.union if pair.union else 1.0


@quantity("length")
def hd95(pair: Comparison) -> float:
    """The larger of the 95th percentiles of both directed surface distances."""
    there, back = pair.distances
    if len(there) == 0 or len(back) == 0:
        return 0.0 if len(there) == len(back) else float("inf")
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


@quantity("length")
def assd(pair: Comparison) -> float:
    """Average symmetric surface distance: the mean over the voxels of both surfaces."""
    both = np.concatenate(pair.distances)
    return float(both.mean()) if len(both) else 0.0


@quantity("share")
def nsd(pair: Comparison) -> float:
    """Normalised surface distance (surface Dice): share of both surfaces within the tolerance of the other one.

    Nikolov et al., https://arxiv.org/abs/1809.04430, with each surface voxel counted once.
    """
    both = np.concatenate(pair.distances)
    return float((both <= pair.tolerance).mean()) if len(both) else 1.0


@quantity("share")
def sensitivity(pair: Comparison) -> float:
    """Sensitivity (recall): share of the reference that is predicted; 0 where only the prediction holds the label."""
    predicted, reference = pair.voxels
    return pair.common / reference if reference else float(not predicted)


@quantity("share")
def precision(pair: Comparison) -> float:
    """Precision: share of the prediction that is in the reference; 0 where only the reference holds the label."""
    predicted, reference = pair.voxels
    return pair.common / predicted if predicted else float(not reference)


@quantity("share")
def accuracy(pair: Comparison) -> float:
    """Pixel accuracy: share of the whole image, background included, in which both agree about this label."""
    return (pair.common + pair.outside) / math.prod(pair.geometry.shape)


@quantity("share")
def background_iou(pair: Comparison) -> float:
    """IoU of what is outside the label, over the whole image."""
    total = math.prod(pair.geometry.shape) - pair.common
    return pair.outside / total if total else 1.0


@quantity("volume")
def predicted_volume(pair: Comparison) -> float:
    """Volume of the prediction."""
    return pair.sizes[0]


@quantity("volume")
def reference_volume(pair: Comparison) -> float:
    """Volume of the reference."""
    return pair.sizes[1]


@quantity("area")
def predicted_area(pair: Comparison) -> float:
    """Area of the prediction."""
    return pair.sizes[0]


@quantity("area")
def reference_area(pair: Comparison) -> float:
    """Area of the reference."""
    return pair.sizes[1]


@quantity("volume")
def volume_difference(pair: Comparison) -> float:
    """Volume of the prediction less that of the reference: positive where too much was predicted."""
    predicted, reference = pair.sizes
    return predicted - reference


@quantity("area")
def area_difference(pair: Comparison) -> float:
    """Area of the prediction less that of the reference: positive where too much was predicted."""
    predicted, reference = pair.sizes
    return predicted - reference


@quantity("share")
def relative_difference(pair: Comparison) -> float:
    """Volume (or area) difference as a share of the reference: −0.1 is a tenth too little; infinite without one."""
    predicted, reference = pair.sizes
    if reference == 0:
        return 0.0 if predicted == 0 else float("inf")
    return (predicted - reference) / reference


def evaluate(predicted: LabelMap, reference: LabelMap, *, tolerance: float = NSD_TOLERANCE) -> Table:
    """Compare a predicted label map with a reference, label by label and all labels together.

    Parameters
    ----------
    predicted, reference : on one grid
    tolerance : of NSD, mm (pixels where the images have no spacing)

    Returns
    -------
    Table
        One row per label and one for their union ("both", or "all" of more than two; its label is None); for a stack
        of radiographs, that for each frame. Columns: frame, label, name and `METRICS`.

    Raises
    ------
    InvalidVolumeError
        When the grids differ; the message describes both.
    """
    geometry = common_grid(predicted, reference)
    names = {**predicted.names, **reference.names}
    flat = geometry.frames or geometry.shape[0] == 1
    chosen = {name: METRICS.resolve(name) for name in METRICS}
    chosen = {name: metric for name, metric in chosen.items() if metric.applies(flat=flat)}
    maps = [np.asarray(item.array) for item in (predicted, reference)]

    boxes: dict[int, tuple[slice, ...]] = {}
    parts: dict[tuple[int, int], Surfaces] = {}

    def subject(cut: slice, grid: Geometry, label: int | None) -> Comparison:
        frame = cut.start or 0
        if frame not in boxes:  # lungs fill a part of a scan; what is empty need not be looked at for every label
            boxes[frame] = _box(maps[0][cut], maps[1][cut])
        here = [array[cut][boxes[frame]] for array in maps]
        box = boxes[frame] if label is None else _inside(boxes[frame], _box(here[0], here[1], label))
        one, other = (region_of(array[cut][box], label) for array in maps)
        joined = () if label is not None else tuple(held for (of, _), held in parts.items() if of == frame)
        first = (box[0].start, box[1].start, box[2].start)
        pair = Comparison(one, other, grid, first, tolerance, joined)
        if label is not None:
            parts[frame, label] = pair.surfaces
        return pair

    return tabulate(geometry, names, labels_of(names, *maps), chosen, subject)


def _inside(outer: tuple[slice, ...], inner: tuple[slice, ...]) -> tuple[slice, ...]:
    """A box within another one, counted from where that is counted from."""
    return tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, inner, strict=True))


def _box(one: np.ndarray, other: np.ndarray, label: int | None = None) -> tuple[slice, ...]:
    """Where either of two label maps holds a label (None: any); looked at slice by slice, so that no third is made."""
    used = [np.zeros(size, bool) for size in one.shape]
    for z, pair in enumerate(zip(one, other, strict=True)):
        first, second = (region_of(part, label) for part in pair)
        rows = first.any(axis=1) | second.any(axis=1)
        used[0][z] = rows.any()
        if used[0][z]:
            used[1] |= rows
            used[2] |= first.any(axis=0) | second.any(axis=0)
    ends = [np.flatnonzero(axis) for axis in used]
    return tuple(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0) for found in ends)


def common_grid(predicted: LabelMap, reference: LabelMap) -> Geometry:
    """The grid on which both lie.

    Raises
    ------
    InvalidVolumeError
        When the grids differ; the message describes both.
    """
    one, other = predicted.geometry, reference.geometry
    if one.same_grid(other):
        return other
    # A picture that does not know its pixel size lies on the same grid when it has the same pixels.
    if one.shape == other.shape and not (one.is_mm and other.is_mm):
        return dataclasses.replace(other if not other.is_mm else one, frames=one.frames or other.frames)
    raise InvalidVolumeError(
        f"The prediction ({describe(one)}) and the reference ({describe(other)}) lie on different grids, so their "
        "voxels cannot be compared. Segment the very image that the reference was drawn on, or resample one of them."
    )
