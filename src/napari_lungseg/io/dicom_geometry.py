"""Where the voxels of DICOM images are: stacks of slices in space, and radiographs with their sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..findings import Finding
from ..volume import AXIAL, EVEN_TOLERANCE_MM, FRONTAL, Geometry, Matrix, Triple
from .dicom_header import Frame

# (row, column) size, its unit, and what is to be told about it.
PixelSize = tuple[tuple[float, float], Literal["mm", "pixel"], list[Finding]]
# Below this the slant between slices is what rounded header values make of a straight stack.
_TILT_TOLERANCE_DEGREES = 0.1
# How far a gap may be from a whole number of regular gaps to count as missing slices.
_WHOLE_GAP_TOLERANCE = 0.1
# DICOM PS3.3 C.7.6.1.1.1: letters of PatientOrientation as directions (x, y, z) in LPS.
_LETTERS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "H": (0.0, 0.0, 1.0),
    "F": (0.0, 0.0, -1.0),
}
_LATERAL_VIEWS = {"LL": "P", "LLO": "P", "RL": "A", "RLO": "A"}


def normal_of(orientation: np.ndarray) -> np.ndarray:
    """(3,) unit normal of a slice, towards the head for the usual axial slice."""
    normal = np.cross(orientation[0], orientation[1])
    return np.asarray(normal / np.linalg.norm(normal))


def along_normal(frames: Sequence[Frame]) -> np.ndarray:
    """(n,) mm of each frame's position along the first frame's normal; all must have position and orientation."""
    orientation = frames[0].orientation
    if orientation is None:
        return np.arange(len(frames), dtype=float)
    return np.asarray(np.array([frame.position for frame in frames]) @ normal_of(orientation))


def _zyx(vector: Sequence[float] | np.ndarray) -> Triple:
    x, y, z = (float(value) for value in vector)
    return z, y, x


def _direction(step: np.ndarray, down: np.ndarray, across: np.ndarray) -> Matrix:
    """Direction matrix from the (x, y, z) unit vectors of the array's three axes."""
    columns = np.array([step, down, across])[:, ::-1].T
    # Adding 0.0 turns -0.0 into 0.0, which reads better and compares the same.
    z, y, x = ((float(row[0]) + 0.0, float(row[1]) + 0.0, float(row[2]) + 0.0) for row in columns)
    return z, y, x


def stack_geometry(frames: Sequence[Frame]) -> tuple[Geometry, list[Finding]]:
    """Geometry of slices in ascending order along their normal.

    Parameters
    ----------
    frames : of one size, orientation and pixel spacing, no two at the same place

    Returns
    -------
    geometry : with ``slice_positions`` where the slices are not evenly spaced, with a slanted first axis where the
        gantry was tilted
    findings : what was noticed
    """
    first = frames[0]
    findings = []
    if first.position is None or first.orientation is None:
        return _unplaced_stack(frames)
    across, down = first.orientation
    normal = normal_of(first.orientation)
    positions = np.array([frame.position for frame in frames])
    step, distances = _step(positions, normal)
    slant = np.degrees(np.arccos(np.clip(step @ normal, -1.0, 1.0)))
    if slant > _TILT_TOLERANCE_DEGREES:
        findings.append(
            Finding(
                "gantry-tilt",
                f"The slices are tilted by {slant:.1f}° against the axis they are stacked along (gantry tilt). Positions and "
                "volumes take it into account; the picture does not.",
            )
        )
    if np.abs(positions - positions[0] - np.outer(distances, step)).max() > EVEN_TOLERANCE_MM * 10:
        findings.append(
            Finding("shifted-slices", "Slices are shifted sideways against each other; positions between them are off.")
        )
    thickness, slice_positions, gaps = _gaps(frames, distances)
    spacing, units, told = _pixel_size(first)
    geometry = Geometry(
        shape=(len(frames), *first.shape),
        spacing=(thickness, *spacing),
        origin=_zyx(positions[0]),
        direction=_direction(step, down, across),
        slice_positions=slice_positions,
        units=units,
    )
    return geometry, [*findings, *gaps, *told]


def _step(positions: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vector from slice to slice, and each slice's distance from the first along it."""
    span = positions[-1] - positions[0]
    length = float(np.linalg.norm(span))
    if length < EVEN_TOLERANCE_MM:
        return normal, np.zeros(len(positions))
    step = span / length
    return step, (positions - positions[0]) @ step


def _gaps(frames: Sequence[Frame], distances: np.ndarray) -> tuple[float, tuple[float, ...] | None, list[Finding]]:
    """Slice spacing, slice positions where it is not even, and what is wrong with it."""
    count = len(distances)
    if count == 1:
        thickness = frames[0].number("SpacingBetweenSlices") or frames[0].number("SliceThickness")
        told = Finding("no-slice-thickness", "The slice's thickness is not told; 1 mm is assumed.")
        return (abs(thickness), None, []) if thickness else (1.0, None, [told])
    mean = float(distances[-1]) / (count - 1)
    if np.abs(distances - mean * np.arange(count)).max() <= EVEN_TOLERANCE_MM:
        return mean, None, []
    gaps = np.diff(distances)
    regular = float(np.median(gaps))
    return regular, tuple(float(distance) for distance in distances), _gap_findings(gaps, regular)


def _gap_findings(gaps: np.ndarray, regular: float) -> list[Finding]:
    findings = []
    ratios = gaps / regular
    whole = np.maximum(1, np.round(ratios))
    skipped = (whole > 1) & (np.abs(ratios - whole) < _WHOLE_GAP_TOLERANCE)
    if skipped.any():
        missing = int((whole[skipped] - 1).sum())
        findings.append(
            Finding(
                "missing-slices",
                f"{missing} slice{'s are' if missing > 1 else ' is'} missing in {int(skipped.sum())} place(s) (regular "
                f"distance {regular:.3f} mm). Volumes bridge the gaps; get the complete series to be sure.",
            )
        )
    rest = gaps[~skipped]
    if rest.size and np.ptp(rest) > 2 * EVEN_TOLERANCE_MM:
        findings.append(
            Finding(
                "uneven-spacing",
                f"The distance between slices varies from {rest.min():.3f} to {rest.max():.3f} mm. "
                "Each slice keeps its own position; the picture shows them evenly.",
            )
        )
    return findings


def _unplaced_stack(frames: Sequence[Frame]) -> tuple[Geometry, list[Finding]]:
    """Slices that do not say where they lie, in the order of SliceLocation or of their numbers."""
    first = frames[0]
    thickness = first.number("SpacingBetweenSlices") or first.number("SliceThickness")
    locations = np.array([frame.number("SliceLocation") or 0.0 for frame in frames])
    if len(frames) > 1 and np.all(np.diff(locations) > 0):
        thickness = float(np.mean(np.diff(locations)))
    spacing, units, told = _pixel_size(first)
    across, down = first.orientation if first.orientation is not None else np.eye(3)[:2]
    step = np.cross(across, down)
    missing = Finding(
        "no-position",
        "The file does not say where the image lies in the patient: axial slices from the feet to the head are assumed. "
        "Check right and left.",
    )
    geometry = Geometry(
        shape=(len(frames), *first.shape),
        spacing=(abs(thickness) if thickness else 1.0, *spacing),
        origin=_zyx(first.position if first.position is not None else (0.0, 0.0, 0.0)),
        direction=_direction(step / np.linalg.norm(step), down, across),
        units=units,
    )
    return geometry, [missing, *told]


def _pixel_size(frame: Frame) -> PixelSize:
    """(row, column) spacing of a slice."""
    spacing = frame.spacing
    return (spacing, "mm", []) if spacing else _without_spacing(frame)


def _without_spacing(frame: Frame) -> PixelSize:
    rows, columns = frame.pair("PixelAspectRatio") or (1.0, 1.0)
    told = "The file does not say how large a pixel is; lengths and volumes are in pixels. Set the spacing if known."
    return (rows / columns, 1.0), "pixel", [Finding("no-spacing", told)]


def radiograph_geometry(frames: Sequence[Frame]) -> tuple[Geometry, list[Finding]]:
    """Geometry of a projection radiograph: its pixel size and which side is which.

    Parameters
    ----------
    frames : the frames of one instance
    """
    first = frames[0]
    spacing, units, told = radiograph_spacing(first)
    direction, sides = radiograph_direction(first)
    geometry = Geometry(
        shape=(len(frames), *first.shape),
        spacing=(1.0, *spacing),
        origin=_zyx(first.position if first.position is not None else (0.0, 0.0, 0.0)),
        direction=direction,
        units=units,
        frames=len(frames) > 1,
    )
    return geometry, [*told, *sides]


def radiograph_spacing(frame: Frame) -> PixelSize:
    """(row, column) size of a radiograph's pixels, "mm" or "pixel", and what is to be told about it.

    PixelSpacing that was calibrated (it says how, or differs from ImagerPixelSpacing) holds in the patient and is taken
    as it is. Otherwise the spacing is the detector's, and is divided by the magnification where that is known (DICOM
    PS3.3 10.7.1.3).
    """
    pixel, imager = frame.spacing, frame.pair("ImagerPixelSpacing")
    same = pixel is not None and imager is not None and np.allclose(pixel, imager, rtol=1e-4)
    if pixel is not None and (frame.text("PixelSpacingCalibrationType") or not same):
        return pixel, "mm", []
    detector = imager or frame.pair("NominalScannedPixelSpacing")
    if detector is None:
        return _without_spacing(frame)
    magnification = frame.number("EstimatedRadiographicMagnificationFactor") or 0.0
    if magnification > 0:
        return (detector[0] / magnification, detector[1] / magnification), "mm", []
    told = "The pixel size is the detector's and the magnification is not known: lengths come out somewhat too large."
    return detector, "mm", [Finding("detector-spacing", told)]


def radiograph_direction(frame: Frame) -> tuple[Matrix, list[Finding]]:
    """Direction of a radiograph's axes, from what the file tells about the patient's sides.

    In this order: ImageOrientationPatient, PatientOrientation, ViewPosition with FieldOfViewHorizontalFlip, and the
    usual display (patient's right at the viewer's left) with a finding.
    """
    if frame.orientation is not None:
        across, down = frame.orientation
        return _direction(normal_of(frame.orientation), down, across), []
    letters = frame.words("PatientOrientation")
    sides = [np.array(_LETTERS[word[0]]) for word in letters if word and word[0] in _LETTERS]
    if len(letters) == len(sides) == 2 and abs(float(sides[0] @ sides[1])) < 0.5:
        return _direction(np.cross(sides[0], sides[1]), sides[1], sides[0]), []
    return _direction_from_view(frame)


def _direction_from_view(frame: Frame) -> tuple[Matrix, list[Finding]]:
    view, flip = frame.text("ViewPosition"), frame.text("FieldOfViewHorizontalFlip")
    if view in _LATERAL_VIEWS:
        across, down = np.array(_LETTERS[_LATERAL_VIEWS[view]]), np.array(_LETTERS["F"])
        told = f"This is a lateral view ({view}); its sides are taken from the usual display."
        return _direction(np.cross(across, down), down, across), [Finding("lateral-view", told)]
    # A detector looks at the patient's front in an AP view and at the back in a PA view, seen along the beam; an image
    # made for presentation was turned to the usual display whatever the flip says.
    if view in ("AP", "PA") and flip in ("YES", "NO") and frame.text("PresentationIntentType") != "FOR PRESENTATION":
        mirrored = (view == "PA") != (flip == "YES")
        shown = "right" if mirrored else "left"
        told = f"Sides worked out from the view ({view}) and the detector's flip ({flip}): columns run to the patient's {shown}."
        across, down = np.array(_LETTERS["R" if mirrored else "L"]), np.array(_LETTERS["F"])
        return _direction(np.cross(across, down), down, across), [Finding("sides-inferred", told)]
    told = "The file does not say which side is which; the usual display is assumed (patient's right at the viewer's left)."
    return FRONTAL if view != "AXIAL" else AXIAL, [Finding("sides-assumed", told)]
