"""Read DICOM structure sets (PS3.3 A.19): contours on the slices of a scan become labels on its grid."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidVolumeError, ReadError
from ..findings import Finding
from ..volume import Geometry, LabelMap
from . import sidecar
from .contours import fill
from .decoded import Decoded
from .dicom_derived import unnamed
from .dicom_header import Frame, Instance
from .dicom_kind import neutral_name
from .dicom_source import Grid, grids_beside
from .label_layers import Label, Layers
from .placing import indices_on

_AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# Slices: a contour further than this from its slice is told; its points further than this from one plane are not planar.
_ON_A_SLICE = 0.1
_LISTED = 4
# Contours whose planes are this close lie on one plane, mm.
_SAME_PLANE_MM = 0.05

# Plane of a contour, mm along the first axis → its polygons, (row, column) in pixels.
Planes = Mapping[float, list[np.ndarray]]


def read_rtstruct(path: Path, grids: Sequence[Grid] = ()) -> list[LabelMap]:
    """Read one structure set.

    Parameters
    ----------
    path : the file
    grids : of scans at hand; else the series is looked for in the file's folder

    Returns
    -------
    one label map; several where structures overlap

    Raises
    ------
    ReadError
        Where the file is damaged, draws no area, or its scan is not at hand.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every harmless slip in a header
        header = _header(path)
        try:
            structures, findings = _structures(header)
        except AttributeError as error:
            raise ReadError(
                f"{path.name} is a damaged structure set: {error.name} is missing. Copy or export it again."
            ) from error
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ReadError(f"The contours of {path.name} are damaged ({error}). Copy or export it again.") from error
        if not any(contours for _, contours in structures):
            raise ReadError(f"{path.name} is a structure set without any closed contour; there is nothing to open.")
        entry = sidecar.read(path, "labels").entry
        geometry = _grid(header, path, grids, entry, [points for _, found in structures for points in found])
    layers = Layers(geometry.shape, max(label.value for label, _ in structures))
    for label, contours in structures:
        layers.add(label, _masks(contours, geometry, label, findings))
    decoded = Decoded(
        layers.arrays[0],
        geometry,
        path,
        names={int(label): str(name) for label, name in entry.get("names", {}).items()},
        record=dict(entry.get("record", {})),
        findings=tuple(findings),
        name=neutral_name(Frame(Instance(path, header, "", None))),
    )
    return list(layers.label_maps(decoded))


def _header(path: Path) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(path, force=True)
    except Exception as error:  # pydicom raises anything on damaged bytes
        raise ReadError(f"{path.name} is a damaged DICOM structure set ({error}). Copy or export it again.") from error


def _structures(header: Any) -> tuple[list[tuple[Label, list[np.ndarray]]], list[Finding]]:
    """Every structure with closed contours or none at all, (n, 3) points in mm ``(z, y, x)``, and what was left out."""
    names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in header.get("StructureSetROISequence") or ()}
    drawn = list(header.get("ROIContourSequence") or ())
    numbers = [int(item.ReferencedROINumber) for item in drawn]
    usable = len(set(numbers)) == len(numbers) and all(0 < number < 65536 for number in numbers)
    found, others = [], []
    for index, (number, item) in enumerate(zip(numbers, drawn, strict=True)):
        contours = [_points(contour) for contour in item.get("ContourSequence") or () if _is_area(contour)]
        contours = [points for points in contours if len(points) > 2]
        name = "" if names.get(number) == unnamed(number) else names.get(number, "")
        if contours or not item.get("ContourSequence"):
            label = Label(number if usable else index + 1, name, _colour(item.get("ROIDisplayColor")))
            found.append((label, contours))
        else:
            others.append(name)
    listed = ", ".join(others[:_LISTED]) + (" …" if len(others) > _LISTED else "")
    told = f"{len(others)} structure(s) are points or open lines, and are not opened: {listed}."
    return found, [Finding("not-areas", told)] if others else []


def _is_area(contour: Any) -> bool:
    return str(contour.get("ContourGeometricType", "")) in _AREAS and bool(contour.get("ContourData"))


def _points(contour: Any) -> np.ndarray:
    # DICOM's points are (x, y, z).
    return np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)[:, ::-1]


def _colour(value: Any) -> str:
    if value is None or len(value) != 3:
        return ""
    return "#" + "".join(f"{min(255, max(0, int(part))):02X}" for part in value)


def _grid(
    header: Any, path: Path, grids: Sequence[Grid], entry: Mapping[str, Any], contours: Sequence[np.ndarray]
) -> Geometry:
    """The grid to draw on: that of the series referred to, of a scan on whose slices the contours lie, or the sidecar's."""
    series, frame_of_reference = _belongs_to(header)
    near = [grid for grid in grids if grid.may_be(series, frame_of_reference) and _lies_on(contours, grid.geometry)]
    if not near and not entry.get("geometry"):
        near = [grid for grid in grids_beside(path, series) if _lies_on(contours, grid.geometry)]
    if near:
        return min(near, key=lambda grid: grid.series not in series).geometry
    if entry.get("geometry"):
        try:
            return Geometry(**entry["geometry"])
        except (InvalidVolumeError, TypeError, ValueError) as error:
            raise ReadError(f"The .labels.json beside {path.name} is damaged ({error}); move it away.") from error
    raise ReadError(
        f"{path.name} holds contours, and the scan they were drawn on is not here: open them together with it, put the file "
        "into the scan's folder, or name the scan (reference= in Python)."
    )


def _belongs_to(header: Any) -> tuple[list[str], str]:
    """Series that the structure set refers to, and its frame of reference."""
    series: list[str] = []
    frame_of_reference = ""
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        frame_of_reference = frame_of_reference or str(frame.get("FrameOfReferenceUID", ""))
        for study in frame.get("RTReferencedStudySequence") or ():
            series += [str(item.get("SeriesInstanceUID", "")) for item in study.get("RTReferencedSeriesSequence") or ()]
    return series, frame_of_reference


def _lies_on(contours: Sequence[np.ndarray], grid: Geometry) -> bool:
    """Whether at least one contour lies on a slice of the grid: planar, near a slice, within the image."""
    if grid.frames or not grid.is_mm:
        return False
    size = np.array(grid.shape) - 0.5
    for points in contours:
        indices = indices_on(points, grid)
        flat = np.ptp(indices[:, 0]) < 2 * _ON_A_SLICE and np.abs(indices[:, 0] - np.rint(indices[:, 0])).max() < 0.5
        if flat and bool(np.any(np.all((indices > -0.5) & (indices < size), axis=1))):
            return True
    return False


def _masks(
    contours: Sequence[np.ndarray], grid: Geometry, label: Label, findings: list[Finding]
) -> dict[int, np.ndarray]:
    """Slice number → voxels of one structure. Contours on one plane are joined by exclusive or: an inner one is a hole."""
    planes, tilted = _planes(contours, grid)
    masks: dict[int, np.ndarray] = {}
    outside = between = 0
    for place, polygons in planes.items():
        z = round(place)
        if not 0 <= z < grid.shape[0]:
            outside += len(polygons)
            continue
        between += abs(place - z) > _ON_A_SLICE
        mask = fill(polygons, (grid.shape[1], grid.shape[2]))
        masks[z] = masks[z] | mask if z in masks else mask
    name = label.name or f"structure {label.value}"
    if tilted:
        told = f"{name}: {tilted} contour(s) are not parallel to the slices and are left out."
        findings.append(Finding("tilted-contours", told))
    if outside:
        findings.append(
            Finding("contours-outside", f"{name}: {outside} contour(s) lie outside the scan and are left out.")
        )
    if between:
        told = f"{name}: {between} contour(s) lie between slices and are drawn on the nearest."
        findings.append(Finding("contours-between", told))
    return masks


def _planes(contours: Sequence[np.ndarray], grid: Geometry) -> tuple[Planes, int]:
    """Polygons by the plane they lie on, in slices, and how many lie on none."""
    same = _SAME_PLANE_MM / grid.spacing[0]
    planes: defaultdict[float, list[np.ndarray]] = defaultdict(list)
    tilted = 0
    for points in contours:
        indices = indices_on(points, grid)
        if np.ptp(indices[:, 0]) > 2 * _ON_A_SLICE:
            tilted += 1
            continue
        place = float(indices[:, 0].mean())
        near = min(planes, key=lambda known: abs(known - place), default=None)
        planes[near if near is not None and abs(near - place) < same else place].append(indices[:, 1:])
    return planes, tilted
