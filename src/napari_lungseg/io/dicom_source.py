"""The DICOM series that labels belong to: its grid when they are read, its instances when they are written."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import InvalidVolumeError, ReadError, WriteError
from ..volume import Geometry, LabelMap, Volume
from .dicom_geometry import radiograph_geometry, stack_geometry
from .dicom_header import DamagedFileError, Frame, NotAScanError, frames_of, read_instance
from .dicom_kind import is_colour, modality_of
from .dicom_series import Stack, group
from .placing import placed_on

Reference: TypeAlias = "str | Path | Volume | Sequence[Volume]"
# Siblings of a file that are looked at for the series it belongs to; a folder with more is named by the caller.
_MOST_SIBLINGS = 3000
_NAME_IT = "Name its folder: reference= in Python, --reference on the command line."


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a scan on which labels may lie.

    Parameters
    ----------
    geometry : of the scan
    series, frame_of_reference : its UIDs, or "" where they are not known
    """

    geometry: Geometry
    series: str = ""
    frame_of_reference: str = ""

    def may_be(self, series: Iterable[str], frame_of_reference: str) -> bool:
        """Whether labels of these series or of this frame of reference can belong to it; unknown is no obstacle."""
        if not self.series or self.series in series:
            return True
        return bool(frame_of_reference) and self.frame_of_reference == frame_of_reference


@dataclass(frozen=True, eq=False)
class Source:
    """What labels are written for.

    Parameters
    ----------
    frames : of the series, one for each slice of ``array``, ascending along their normal
    array : the labels in the voxel order of the series
    geometry : of the series
    """

    frames: tuple[Frame, ...]
    array: np.ndarray
    geometry: Geometry

    @property
    def headers(self) -> list[Any]:
        """Pydicom data set of each instance, in the order of the slices."""
        return list({id(frame.instance): frame.instance.header for frame in self.frames}.values())


def source_of(labels: LabelMap) -> Source:
    """Find the DICOM images that labels lie on, in ``labels.source``.

    Raises
    ------
    WriteError
        Where there are none, or none on this grid.
    """
    path = Path(labels.source) if labels.source else None
    if path is None or not path.exists():
        raise WriteError(
            f"DICOM labels refer to the DICOM images they lie on, and those are not known here. {_NAME_IT}"
        )
    stacks = _stacks(path)
    if not stacks:
        raise WriteError(
            f"{path.name} holds no DICOM images, and DICOM labels must refer to the images they lie on. {_NAME_IT}"
        )
    for stack in stacks:
        geometry = geometry_of(stack)
        placed = None if geometry is None else _placed(labels, geometry)
        if placed is not None and geometry is not None:
            return Source(stack.frames, np.asarray(placed.array), geometry)
    shape = " × ".join(map(str, labels.geometry.shape))
    raise WriteError(
        f"None of the {len(stacks)} DICOM series in {path.name} lies on the labels' grid ({shape} voxels), so that labels "
        f"cannot refer to its slices. {_NAME_IT}"
    )


def _placed(labels: LabelMap, geometry: Geometry) -> LabelMap | None:
    try:
        return placed_on(labels, geometry)
    except InvalidVolumeError:
        return None


def _stacks(path: Path) -> list[Stack]:
    from . import archive
    from .discover import files_of

    try:
        if not archive.is_archive(path):
            return stacks_in(files_of(path)[0])
        with archive.opened(path) as zipped:
            names = [member.filename for member in archive.members_of(zipped)[0]]
        with archive.unpacked(path, names) as (files, _):
            return stacks_in(files)  # headers alone, which stay when the files go
    except ReadError:
        return []


def stacks_in(paths: Iterable[Path]) -> list[Stack]:
    """Stacks of images among files, from their headers alone; what is damaged or no scan is passed over."""
    frames: list[Frame] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every harmless slip in a header
        for path in paths:
            try:
                instance = read_instance(path)
                frames += frames_of(instance) if instance else []
            except (DamagedFileError, NotAScanError, OSError):
                continue
        return group(frames, None)


def geometry_of(stack: Stack) -> Geometry | None:
    """Geometry of the volume that a stack becomes, or None where its headers contradict themselves."""
    flat = is_colour(stack.frames[0]) or modality_of(stack.frames[0], None) != "ct"
    try:
        return (radiograph_geometry if flat else stack_geometry)(stack.frames)[0]
    except InvalidVolumeError:
        return None


def grid_of(stack: Stack) -> Grid | None:
    """The grid of a stack, with its identifiers."""
    geometry = geometry_of(stack)
    if geometry is None:
        return None
    return Grid(geometry, stack.series, str(stack.frames[0].get("FrameOfReferenceUID") or ""))


def grids_of(reference: Reference) -> list[Grid]:
    """Grids of what a caller named: a file or folder, or volumes that are open already.

    Raises
    ------
    ReadError
        Where a path holds no scan.
    """
    if isinstance(reference, Volume):
        return [Grid(reference.geometry)]
    if not isinstance(reference, str | Path):
        return [Grid(volume.geometry) for volume in reference]
    grids = [grid for stack in _stacks(Path(reference)) if (grid := grid_of(stack)) is not None]
    if grids:
        return grids
    from . import read

    volumes = [item for item in read(reference) if isinstance(item, Volume)]
    if not volumes:
        raise ReadError(f"{Path(reference).name} holds no scan on whose grid labels could be opened.")
    return [Grid(volume.geometry) for volume in volumes]


def grids_beside(path: Path, series: Iterable[str]) -> list[Grid]:
    """Grids of these series, where their files lie in the same folder as ``path``."""
    import pydicom

    wanted = set(series)
    siblings = [sibling for sibling in sorted(path.parent.iterdir()) if sibling.is_file() and sibling != path]
    if not wanted or len(siblings) > _MOST_SIBLINGS:
        return []
    members = []
    for sibling in siblings:
        try:
            header = pydicom.dcmread(sibling, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        except Exception:  # noqa: BLE001 (pydicom raises anything on damaged bytes; a sibling is no reason to fail)
            continue
        if str(header.get("SeriesInstanceUID", "")) in wanted:
            members.append(sibling)
    return [grid for stack in stacks_in(members) if (grid := grid_of(stack)) is not None]
