"""What flows through the package: a `Volume` of voxels, a `LabelMap` over them, and the `Geometry` of both.

Every tuple is ordered ``(z, y, x)``, the order of the array. Positions are DICOM patient coordinates (LPS: x grows to
the patient's left, y to the back, z to the head), so in this order a position reads ``(head, back, left)``. Other
conventions (RAS, ITK's xyz) live only inside ``io/``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, TypeAlias

import numpy as np

from .errors import InvalidVolumeError
from .findings import Finding

Modality: TypeAlias = Literal["ct", "xray", "photo"]
MODALITIES: tuple[Modality, ...] = ("ct", "xray", "photo")
Unit: TypeAlias = Literal["HU", "a.u.", "rgb"]
Triple: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Triple, Triple, Triple]

RIGHT_LUNG, LEFT_LUNG = 1, 2
LUNG_NAMES: Mapping[int, str] = {RIGHT_LUNG: "right lung", LEFT_LUNG: "left lung"}
# Okabe & Ito's palette, told apart under every common colour blindness (https://jfly.uni-koeln.de/color/).
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")

AXIAL: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
# The usual display of a frontal radiograph: columns run to the patient's left, rows to the feet.
FRONTAL: Matrix = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
# Positions closer than this to evenly spaced count as even: half the error that a rounded header makes.
EVEN_TOLERANCE_MM = 0.01
_LETTERS = (("F", "H"), ("A", "P"), ("R", "L"))


def label_colour(label: int) -> str:
    """Colour of a label as ``"#rrggbb"``, the same everywhere (1 = right lung, orange; 2 = left lung, sky blue)."""
    return PALETTE[(label - 1) % len(PALETTE)]


def plain_name(name: str) -> str:
    """A class's name as it compares: "Right_Lung" is "right lung"."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _triple(values: Sequence[float]) -> Triple:
    z, y, x = (float(value) for value in values)
    return z, y, x


@dataclass(frozen=True)
class Geometry:
    """Where voxels are, in mm, patient coordinates.

    Parameters
    ----------
    shape : (z, y, x) number of voxels
    spacing : (z, y, x) mm between voxel centres along the array's axes; pixels where ``units`` says so
    origin : (z, y, x) position of the centre of voxel ``[0, 0, 0]``, mm
    direction : 3 × 3; column ``j`` is the unit vector in which array axis ``j`` runs. The columns need not be
        orthogonal (gantry tilt, sheared NIfTI).
    slice_positions : mm along the first axis from voxel 0, one per slice, where the slices are not evenly spaced
    units : ``"mm"``, or ``"pixel"`` for an image that does not say how large its pixels are
    frames : whether the slices are images of their own (a stack of radiographs), not neighbours in space

    Raises
    ------
    InvalidVolumeError
        For a number that is not finite, a spacing ≤ 0, or a direction that is not three independent unit vectors.
    """

    shape: tuple[int, int, int]
    spacing: Triple = (1.0, 1.0, 1.0)
    origin: Triple = (0.0, 0.0, 0.0)
    direction: Matrix = AXIAL
    slice_positions: tuple[float, ...] | None = None
    units: Literal["mm", "pixel"] = "mm"
    frames: bool = False

    def __post_init__(self) -> None:
        z, y, x = (int(size) for size in self.shape)
        object.__setattr__(self, "shape", (z, y, x))
        object.__setattr__(self, "spacing", _triple(self.spacing))
        object.__setattr__(self, "origin", _triple(self.origin))
        rows = tuple(_triple(row) for row in self.direction)
        object.__setattr__(self, "direction", rows)
        if min(self.shape) < 1:
            raise InvalidVolumeError(f"The image has shape {self.shape}; every axis needs at least one voxel.")
        if not np.all(np.isfinite(self.spacing)) or min(self.spacing) <= 0:
            raise InvalidVolumeError(
                f"The spacing is {self.spacing} (z, y, x); it must be finite and positive. The file's header is damaged."
            )
        if not np.all(np.isfinite(self.origin)) or not np.all(np.isfinite(self.direction)):
            raise InvalidVolumeError("The origin or direction is not a finite number. The file's header is damaged.")
        matrix = np.asarray(self.direction)
        if not np.allclose(np.linalg.norm(matrix, axis=0), 1.0, atol=1e-3) or abs(np.linalg.det(matrix)) < 1e-3:
            raise InvalidVolumeError(
                f"The direction {self.direction} is not made of three independent unit vectors. "
                "The file's header is damaged."
            )
        if self.slice_positions is not None:
            self._check_slice_positions()

    def _check_slice_positions(self) -> None:
        positions = tuple(float(position) for position in self.slice_positions or ())
        object.__setattr__(self, "slice_positions", positions)
        if len(positions) != self.shape[0]:
            raise InvalidVolumeError(f"There are {len(positions)} slice positions for {self.shape[0]} slices.")
        if positions[0] != 0:
            raise InvalidVolumeError(f"Slice positions count from the first slice; found {positions[0]} instead of 0.")
        if not np.all(np.diff(positions) > 0):
            raise InvalidVolumeError("Slice positions must grow from slice to slice.")

    @property
    def is_mm(self) -> bool:
        """Whether the spacing is a length rather than a count of pixels."""
        return self.units == "mm"

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) matrix from an index ``(z, y, x, 1)`` to a position ``(z, y, x, 1)``, mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel: |det| of the affine, which holds for sheared grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def position(self, index: Sequence[float]) -> np.ndarray:
        """Position (z, y, x) in mm of an array index, on uneven slices too."""
        z, y, x = (float(value) for value in index)
        if self.slice_positions is not None:
            z = float(np.interp(z, np.arange(self.shape[0]), self.slice_positions)) / self.spacing[0]
        return np.asarray((self.affine @ (z, y, x, 1.0))[:3])

    @property
    def slice_thicknesses_mm(self) -> np.ndarray:
        """(z,) mm of the first axis that each slice stands for: to half-way to its neighbours."""
        if self.slice_positions is None or self.shape[0] < 2:
            return np.full(self.shape[0], self.spacing[0])
        gaps = np.diff(self.slice_positions)
        return np.asarray((np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2)

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and every corner voxel lies at the same place."""
        if self.shape != other.shape or self.frames != other.frames or self.units != other.units:
            return False
        corners = list(product(*((0, size - 1) for size in self.shape)))
        return all(bool(np.allclose(self.position(c), other.position(c), atol=tolerance_mm)) for c in corners)

    def axis_letters(self) -> tuple[str, str, str]:
        """Letter (R, L, A, P, H or F) to which each array axis runs, nearest match."""
        letters = []
        for axis in self.reorientation().axes_in_world():
            world, sign = axis
            letters.append(_LETTERS[world][int(sign > 0)])
        return letters[0], letters[1], letters[2]

    def reorientation(self) -> Reorientation:
        """The flips and transpose that turn this array to the nearest standard view.

        A stack becomes axial: head up the stack, anterior up the screen, the patient's right at the viewer's left.
        A single slice (and each frame of a stack of radiographs) stays a slice: it is only turned within its plane
        (axial: anterior up; coronal and frontal radiographs: head up, patient's right at the viewer's left; sagittal:
        head up, anterior at the viewer's left).
        """
        worlds = _nearest_world_axes(np.asarray(self.direction))
        signs = tuple(int(np.sign(self.direction[worlds[j]][j]) or 1) for j in range(3))
        # Uneven slices of another plane stay slices too: a transpose would make the unevenness in-plane.
        if self.shape[0] > 1 and not self.frames and (self.slice_positions is None or worlds[0] == 0):
            order = (worlds.index(0), worlds.index(1), worlds.index(2))
            wanted = (1, 1, 1)
        else:
            rows, columns = _in_plane(worlds)
            order = (0, rows, columns)
            wanted = (signs[0], -1 if worlds[rows] == 0 else 1, 1)
        flips = tuple(signs[axis] != want for axis, want in zip(order, wanted, strict=True))
        return Reorientation(order, (flips[0], flips[1], flips[2]), worlds, (signs[0], signs[1], signs[2]))

    def reoriented(self, turn: Reorientation) -> Geometry:
        """Geometry of ``turn.apply(array)``: the same voxels at the same places."""
        matrix = np.asarray(self.direction)[:, list(turn.order)]
        origin_index = [0.0, 0.0, 0.0]
        for axis, (source, flip) in enumerate(zip(turn.order, turn.flips, strict=True)):
            if flip:
                origin_index[source] = self.shape[source] - 1
                matrix[:, axis] *= -1
        positions = self.slice_positions
        if positions is not None and turn.flips[0]:
            positions = tuple(positions[-1] - position for position in reversed(positions))
        z, y, x = turn.order
        head, back, left = (_triple(row) for row in matrix.tolist())
        return dataclasses.replace(
            self,
            shape=(self.shape[z], self.shape[y], self.shape[x]),
            spacing=(self.spacing[z], self.spacing[y], self.spacing[x]),
            origin=_triple(self.position(origin_index).tolist()),
            direction=(head, back, left),
            slice_positions=positions,
        )


def _nearest_world_axes(matrix: np.ndarray) -> tuple[int, int, int]:
    """World axis nearest to each array axis, each used once (greedy by the largest cosine)."""
    cosines = np.abs(matrix)
    worlds = [-1, -1, -1]
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
        worlds[int(axis)] = int(world)
        cosines[world, :] = -1
        cosines[:, axis] = -1
    return worlds[0], worlds[1], worlds[2]


def _in_plane(worlds: tuple[int, int, int]) -> tuple[int, int]:
    """Which of the array axes 1 and 2 runs down the screen: head–foot if there is one, else front–back."""
    return (1, 2) if worlds[1] < worlds[2] else (2, 1)


@dataclass(frozen=True)
class Reorientation:
    """Flips and a transpose; `apply` turns an array to the standard view, `undo` turns it back.

    Parameters
    ----------
    order : which source axis becomes each axis of the result
    flips : whether each axis of the *result* is reversed
    worlds, signs : per source axis, the nearest patient axis (0 head, 1 back, 2 left) and its sense
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    worlds: tuple[int, int, int]
    signs: tuple[int, int, int]

    @property
    def is_identity(self) -> bool:
        """Whether nothing is moved."""
        return self.order == (0, 1, 2) and not any(self.flips)

    def axes_in_world(self) -> list[tuple[int, int]]:
        """Per source axis ``(world, sign)``."""
        return list(zip(self.worlds, self.signs, strict=True))

    def apply(self, array: Any) -> Any:
        """Turn an array ``(z, y, x[, channel])``, numpy or Dask, to the standard view (a view, no copy)."""
        turned = array.transpose(*self.order, *range(3, array.ndim))
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def undo(self, array: Any) -> Any:
        """Turn an array in the standard view back to the source's order (a view, no copy)."""
        unflipped = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]
        inverse = [self.order.index(axis) for axis in range(3)]
        return unflipped.transpose(*inverse, *range(3, array.ndim))


def _check_grid(array: Any, geometry: Geometry, what: str) -> None:
    if tuple(array.shape[:3]) != geometry.shape:
        raise InvalidVolumeError(
            f"The {what} has shape {tuple(array.shape)}, but its geometry is for {geometry.shape}."
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: voxels, where they are and what they mean.

    Parameters
    ----------
    array : (z, y, x) array of numbers, or (z, y, x, 3) with unit ``"rgb"``; NumPy, or Dask while it is not needed.
        A radiograph has ``z == 1``; several radiographs of one size are frames along z.
    geometry : where the voxels are
    modality : ``"ct"``, ``"xray"`` or ``"photo"``
    unit : ``"HU"``, ``"a.u."`` (arbitrary) or ``"rgb"``
    window : (low, high) in ``unit`` that the file wants shown, or None
    findings : what the reader noticed
    source : the file or folder it came from, or "". Never shown as a name: paths may hold a patient's name
    name : a neutral name for layers: modality, series number, description

    Raises
    ------
    InvalidVolumeError
        When array, geometry and unit do not fit each other.
    """

    array: Any
    geometry: Geometry
    modality: Modality = "ct"
    unit: Unit = "HU"
    window: tuple[float, float] | None = None
    findings: tuple[Finding, ...] = ()
    source: str = ""
    name: str = "scan"

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))
        object.__setattr__(self, "source", str(self.source))
        channels = self.array.shape[3:]
        if self.array.ndim not in (3, 4) or (channels == (3,)) != (self.unit == "rgb"):
            raise InvalidVolumeError(
                f"An array of shape {tuple(self.array.shape)} does not fit unit {self.unit!r}: "
                "expected (z, y, x), or (z, y, x, 3) with unit 'rgb'."
            )
        _check_grid(self.array, self.geometry, "image")
        if self.modality not in MODALITIES:
            raise InvalidVolumeError(f"The modality is {self.modality!r}, but must be one of {', '.join(MODALITIES)}.")
        if not np.issubdtype(self.array.dtype, np.number) or np.issubdtype(self.array.dtype, np.complexfloating):
            raise InvalidVolumeError(f"The voxels are {self.array.dtype}; expected integers or floating-point numbers.")
        if self.modality != "ct" and self.geometry.shape[0] > 1 and not self.geometry.frames:
            object.__setattr__(self, "geometry", dataclasses.replace(self.geometry, frames=True))
        if self.window is not None:
            low, high = (float(value) for value in self.window)
            if not low < high:
                raise InvalidVolumeError(f"The window ({low}, {high}) must run from low to high.")
            object.__setattr__(self, "window", (low, high))

    @property
    def is_frames(self) -> bool:
        """Whether each ``array[z]`` is an image of its own, so that nothing is connected across z."""
        return self.modality != "ct" or self.geometry.frames

    @property
    def is_lazy(self) -> bool:
        """Whether the voxels are still on disk."""
        return not isinstance(self.array, np.ndarray)

    def load(self) -> Volume:
        """The same volume with its voxels in memory."""
        return dataclasses.replace(self, array=np.asarray(self.array)) if self.is_lazy else self

    def reoriented(self) -> tuple[Volume, Reorientation]:
        """This volume in the standard view, and the turn that made it (see `Geometry.reorientation`)."""
        turn = self.geometry.reorientation()
        if turn.is_identity:
            return self, turn
        geometry = self.geometry.reoriented(turn)
        return dataclasses.replace(self, array=turn.apply(self.array), geometry=geometry), turn


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels on a grid.

    Parameters
    ----------
    array : (z, y, x) array of unsigned integers; 0 is background
    geometry : where the voxels are
    names : label → name
    colours : label → ``"#rrggbb"``; labels without one take `label_colour`
    findings : what the maker noticed
    source : the file it came from, or ""
    name : a neutral name for layers
    record : what made it (model, settings, device …), as JSON-ready values

    Raises
    ------
    InvalidVolumeError
        When the array is not unsigned integers on the geometry's grid.
    """

    array: Any
    geometry: Geometry
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    source: str = ""
    name: str = "labels"
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))
        object.__setattr__(self, "source", str(self.source))
        if self.array.ndim != 3 or self.array.dtype.kind != "u":
            raise InvalidVolumeError(
                f"Labels must be unsigned integers (z, y, x); found {self.array.dtype} of shape {tuple(self.array.shape)}."
            )
        _check_grid(self.array, self.geometry, "label map")
        names = {int(label): str(name) for label, name in self.names.items()}
        object.__setattr__(self, "names", names)
        colours = {label: label_colour(label) for label in names} | {int(k): str(v) for k, v in self.colours.items()}
        object.__setattr__(self, "colours", colours)

    def reoriented(self) -> tuple[LabelMap, Reorientation]:
        """These labels in the standard view, and the turn that made it (see `Geometry.reorientation`)."""
        turn = self.geometry.reorientation()
        if turn.is_identity:
            return self, turn
        geometry = self.geometry.reoriented(turn)
        return dataclasses.replace(self, array=turn.apply(self.array), geometry=geometry), turn
