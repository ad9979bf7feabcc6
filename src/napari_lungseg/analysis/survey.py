"""One pass over an image and its labels, slice by slice: everything that measurements are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from ..errors import InvalidVolumeError
from ..volume import LUNG_NAMES, Geometry, LabelMap, Volume
from .distribution import Distribution
from .erosion import eroded
from .regions import check_grid, labels_of, pixel_area

# Voxels below this are taken for emphysema, and those of the band for early fibrosis (see `density`); both are counted
# in every slice and every layer of the patient, and so are known in thirds of the lung and along it.
EMPHYSEMA_HU = -950
HIGH_ATTENUATION_HU = (-600, -250)
# What is summed up in a band: voxels, their values, voxels of emphysema and of high attenuation, and density in g/ml.
VOXELS, VALUES, EMPHYSEMA, HIGH_ATTENUATION, DENSITY = range(5)
# A grid turned by less than this against the patient counts as straight.
_STRAIGHT = 1e-4
_HEAD, _BACK = 0, 1

Bands: TypeAlias = np.ndarray


@dataclass(frozen=True)
class Ruler:
    """Bands across a grid: its own slices, rows or columns, or layers of the patient where the grid is turned.

    Parameters
    ----------
    bands : how many
    steps : bands from one voxel to the next along each array axis
    first : band of voxel 0
    """

    bands: int
    steps: tuple[float, float, float]
    first: float

    @classmethod
    def along(cls, world: int, geometry: Geometry) -> Ruler:
        """Bands whose numbers grow along a patient axis (0 to the head, 1 to the back).

        On a straight grid they are its slices, rows or columns, otherwise layers half as thick as the finest spacing.
        """
        mm = geometry.affine[world, :3]
        main = int(np.argmax(np.abs(mm)))
        straight = np.delete(np.abs(mm), main).max() < _STRAIGHT * abs(mm[main])
        steps = np.sign(mm) * (np.arange(3) == main) if straight else mm / (min(geometry.spacing) / 2)
        lasts = np.asarray(geometry.shape) - 1.0
        if geometry.slice_positions is not None and not straight:
            lasts[0] = geometry.slice_positions[-1] / geometry.spacing[0]
        ends = steps * lasts
        first = -float(ends[ends < 0].sum())
        return cls(int(np.abs(ends).sum() + 0.5) + 1, (float(steps[0]), float(steps[1]), float(steps[2])), first)

    @property
    def is_level(self) -> bool:
        """Whether every slice lies in one band."""
        return not any(self.steps[1:])

    def reader(self, geometry: Geometry) -> Callable[[int, np.ndarray], np.ndarray | int]:
        """Says in which bands the given pixels (flat indices) of slice z lie; one number where it is the same for all."""
        _, rows, columns = geometry.shape
        along_z = np.arange(geometry.shape[0], dtype=float)
        if geometry.slice_positions is not None and self.steps[0] not in (0.0, 1.0, -1.0):
            along_z = np.asarray(geometry.slice_positions) / geometry.spacing[0]
        starts = self.first + 0.5 + self.steps[0] * along_z
        if self.is_level:
            return lambda z, pixels: int(starts[z])
        plane = (
            (self.steps[1] * np.arange(rows)[:, None] + self.steps[2] * np.arange(columns)).astype(np.float32).ravel()
        )
        return lambda z, pixels: (plane[pixels] + starts[z]).astype(np.intp)


@dataclass(frozen=True, eq=False)
class Region:
    """One label, or several together, over their image.

    Parameters
    ----------
    labels : what it is made of
    values : distribution of the image's voxels under it; empty for colour images
    slices : (z, 5) sums over the voxels of each slice (`VOXELS` …); slices that stand for more than the spacing count more
    head, back : (bands, 5) the same for layers of the patient, from the feet to the head and from the front to the back
    frame : what it was taken from
    parts : the regions that it joins
    """

    labels: tuple[int, ...]
    values: Distribution
    slices: Bands
    head: Bands
    back: Bands
    frame: Frame
    parts: tuple[Region, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """Of the grid."""
        return self.frame.geometry

    @property
    def voxels(self) -> int:
        """How many there are."""
        return round(float(np.sum(self.slices[:, VOXELS] / self.frame.weights)))

    @cached_property
    def shadow(self) -> np.ndarray:
        """(rows, columns) bool, of a radiograph in the standard view."""
        return self.frame.shadow(*self.labels)

    @property
    def sides(self) -> tuple[Region, Region] | None:
        """The right and the left lung, where this is both of them."""
        named = {self.frame.names.get(part.labels[0], "").lower(): part for part in self.parts}
        pair = [named.get(name) for name in LUNG_NAMES.values()]
        return (pair[0], pair[1]) if pair[0] and pair[1] else None

    @classmethod
    def joined(cls, regions: Sequence[Region]) -> Region:
        """Several regions of one frame as one."""
        slices, head, back = (sum(getattr(region, name) for region in regions) for name in ("slices", "head", "back"))
        labels = tuple(label for region in regions for label in region.labels)
        values = Distribution.joined([region.values for region in regions])
        return cls(labels, values, slices, head, back, regions[0].frame, tuple(regions))


@dataclass(frozen=True, eq=False)
class Frame:
    """An image (one frame of a stack of radiographs, or a whole scan) and its labels, taken stock of.

    Parameters
    ----------
    image : (z, y, x) numbers, or None for colours
    labels : (z, y, x) label map
    geometry : of both
    names : label → name
    hounsfield : whether the values are Hounsfield units
    """

    image: np.ndarray | None
    labels: np.ndarray
    geometry: Geometry
    names: Mapping[int, str]
    hounsfield: bool

    @cached_property
    def weights(self) -> np.ndarray:
        """(z,) what a slice stands for, as a multiple of the spacing; 1 wherever slices are evenly spaced."""
        return self.geometry.slice_thicknesses_mm / self.geometry.spacing[0]

    @property
    def pixel_area(self) -> float:
        """Of a voxel within its slice, mm²; 1 where the image has no spacing."""
        return pixel_area(self.geometry)

    @cached_property
    def picture(self) -> np.ndarray:
        """(rows, columns) grey values of a radiograph in the standard view: head up, the patient's right on the left."""
        return np.asarray(self.geometry.reorientation().apply(self.image)[0])

    @property
    def pixel(self) -> tuple[float, float]:
        """Height and width of a pixel of `picture`, mm; 1 where the image has no spacing."""
        view = self.geometry.reoriented(self.geometry.reorientation())
        return view.spacing[1:] if view.is_mm else (1.0, 1.0)

    def shadow(self, *labels: int) -> np.ndarray:
        """(rows, columns) bool, like `picture`: where one of the labels is; without any, where there is a label at all."""
        found = np.isin(self.labels, labels) if labels else self.labels > 0
        return np.asarray(self.geometry.reorientation().apply(found)[0])

    def label_named(self, name: str) -> int | None:
        """The label of that name."""
        return next((label for label, found in self.names.items() if found.lower() == name), None)

    def regions(self, listed: Sequence[int]) -> dict[int, Region]:
        """The region of each label.

        Raises
        ------
        InvalidVolumeError
            When voxels under the labels are no finite numbers.
        """
        grid, count = self.geometry, len(listed)
        head, back = Ruler.along(_HEAD, grid), Ruler.along(_BACK, grid)
        # One of the two at least runs within the slices; its sums tell those of whole slices, too, and so it comes first.
        readers = {ruler: ruler.reader(grid) for ruler in sorted((head, back), key=lambda ruler: ruler.is_level)}
        sums = {ruler: np.zeros((5, count, ruler.bands)) for ruler in readers}
        slices = np.zeros((5, count, grid.shape[0]))
        chunks: list[list[np.ndarray]] = [[] for _ in listed]
        place = _places(listed)
        for z, labels in enumerate(self.labels):
            flat = labels.ravel()
            pixels = np.flatnonzero(flat != 0)
            if not pixels.size:
                continue
            which = place(flat[pixels])
            columns = self._columns(z, pixels, which, chunks)
            for ruler, read in readers.items():
                if ruler.is_level:
                    sums[ruler][:, :, read(z, pixels)] += slices[:, :, z]
                    continue
                keys = which * ruler.bands + read(z, pixels)
                found = _summed(keys, columns, count * ruler.bands).reshape(-1, count, ruler.bands) * self.weights[z]
                sums[ruler][: len(found)] += found
                slices[: len(found), :, z] = found.sum(axis=2)
        bands = [item.transpose(1, 2, 0) for item in (slices, sums[head], sums[back])]
        return {
            label: Region((label,), Distribution.of(chunks[k]), bands[0][k], bands[1][k], bands[2][k], self)
            for k, label in enumerate(listed)
        }

    def _columns(
        self, z: int, pixels: np.ndarray, which: np.ndarray, chunks: list[list[np.ndarray]]
    ) -> list[np.ndarray | None]:
        """What is summed up of each pixel (None: 1), having put the values of each label with the chunks."""
        if self.image is None:
            return [None]
        values = self.image[z].ravel()[pixels]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InvalidVolumeError(
                f"{np.count_nonzero(~np.isfinite(values))} voxels under the labels in slice {z} of {len(self.labels)} are "
                "no numbers (NaN or infinite). Take them out of the labels, or fill the image there."
            )
        for k in np.flatnonzero(np.bincount(which)):
            chunks[k].append(values[which == k])
        exact = values.astype(np.float64)
        if not self.hounsfield:
            return [None, exact]
        low, high = HIGH_ATTENUATION_HU
        return [
            None,
            exact,
            values < EMPHYSEMA_HU,
            (values >= low) & (values <= high),
            np.maximum(1 + exact / 1000, 0),
        ]


def _summed(keys: np.ndarray, columns: Sequence[np.ndarray | None], length: int) -> np.ndarray:
    """(columns, length) float64: each column summed up by key."""
    return np.stack([np.bincount(keys, column, minlength=length) for column in columns]).astype(np.float64)


def _places(listed: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Turns labels into their places in an ascending list."""
    known = np.asarray(listed, np.int64)
    if not len(known) or known[-1] >= 2**16:
        return lambda labels: np.searchsorted(known, labels)
    table = np.zeros(known[-1] + 1, np.intp)
    table[known] = np.arange(len(known))
    return lambda labels: table[labels]


class Survey:
    """All regions of an image.

    Parameters
    ----------
    volume : the image
    labels : on its grid
    erode_mm : what is left out along the border of the labelled area

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid.
    """

    def __init__(self, volume: Volume, labels: LabelMap, erode_mm: float = 0.0) -> None:
        check_grid(volume, labels)
        self.volume = volume
        self.names = labels.names
        self.labels = eroded(np.asarray(labels.array), labels.geometry, erode_mm)
        self.listed = labels_of(labels.names, self.labels)
        lungs = [label for label in self.listed if self.names.get(label, "").lower() in LUNG_NAMES.values()]
        self.union = lungs if len(lungs) == len(LUNG_NAMES) else self.listed
        self._image = None if volume.unit == "rgb" else np.asarray(volume.array)
        self._regions: tuple[int | None, dict[int | None, Region]] = (-1, {})

    def region(self, cut: slice, grid: Geometry, label: int | None) -> Region:
        """What a label (None: the union) covers in a part of the image; asked for part by part."""
        if self._regions[0] != cut.start:
            image = None if self._image is None else self._image[cut]
            frame = Frame(image, self.labels[cut], grid, self.names, self.volume.unit == "HU")
            found: dict[int | None, Region] = {}
            for one, region in frame.regions(self.listed).items():
                found[one] = region
            if self.union:
                found[None] = Region.joined([found[one] for one in self.union])
            self._regions = (cut.start, found)
        return self._regions[1][label]
