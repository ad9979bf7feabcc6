"""Read DICOM segmentations (PS3.3 A.51, A.90): binary, fractional and label map, with names and colours.

Frames may stand in any order, those of empty slices may be missing, and segments may overlap.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from ..findings import Finding
from ..volume import EVEN_TOLERANCE_MM, Geometry, LabelMap
from . import sidecar
from .decoded import Decoded
from .dicom_decode import stored_values
from .dicom_derived import unnamed
from .dicom_geometry import along_normal, radiograph_geometry, stack_geometry
from .dicom_header import DamagedFileError, Frame, Instance, NotAScanError, frames_of, read_instance
from .dicom_kind import neutral_name
from .dicom_source import Grid, grids_beside
from .label_layers import Label, Layers
from .placing import fits, placed_on

# How this package keeps a label's number where segments must be numbered from 1 without gaps (TrackingID).
TRACKING = "napari-lungseg label {}"
# How far gaps between slices may be from whole multiples of one distance for the slices between to be empty ones.
_WHOLE = 0.05


def read_seg(path: Path, grids: Sequence[Grid] = ()) -> list[LabelMap]:
    """Read one segmentation.

    Parameters
    ----------
    path : the file
    grids : of scans at hand; the labels are put on the first that they belong to and whose voxels theirs are

    Returns
    -------
    one label map; several where segments overlap

    Raises
    ------
    ReadError
        Where the file is damaged, or its frames lie in several orientations.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every harmless slip in a header
        instance, frames = _frames(path)
        geometry, places = _grid(frames, path)
        labels = _labels(frames[0])
        findings: list[Finding] = []
        found = _masks(frames, places, findings)
        layers = Layers(
            geometry.shape, max([label.value for label in labels.values()] + [number for number, _ in found])
        )
        for number, masks in found:
            layers.add(labels.get(number, Label(number)), masks)
        for label in _absent(labels, layers):
            layers.add(label, {})
        record = _record(frames[0])
        decoded = Decoded(
            layers.arrays[0], geometry, path, record=record, findings=tuple(findings), name=neutral_name(frames[0])
        )
        entry = sidecar.read(path, "labels").entry
        decoded = sidecar.apply(decoded, entry)
        series, frame_of_reference = _belongs_to(instance)
        gap = frames[0].number("SpacingBetweenSlices") or 0.0
        own = [grid for grid in grids if grid.may_be(series, frame_of_reference)]
        near = [grid for grid in own if fits(decoded.geometry, grid.geometry, gap)] or grids_beside(path, series)
        return [_on(labels, near or own, gap, "geometry" in entry) for labels in layers.label_maps(decoded)]


def _frames(path: Path) -> tuple[Instance, list[Frame]]:
    try:
        instance = read_instance(path, scans_only=False)
        if instance is None:
            raise DamagedFileError("it does not begin like DICOM")
        # A palette is for display: the stored values are the labels.
        if "PhotometricInterpretation" in instance.header:
            instance.header.PhotometricInterpretation = "MONOCHROME2"
        frames = frames_of(instance)
    except NotAScanError as error:
        raise ReadError(
            f"{path.name} is a DICOM segmentation without rows or columns. Copy or export it again."
        ) from error
    except (DamagedFileError, OSError) as error:
        raise ReadError(f"{path.name} is a damaged DICOM segmentation: {error}. Copy or export it again.") from error
    if frames[0].get("TotalPixelMatrixColumns") is not None:
        raise ReadError(f"{path.name} segments a whole-slide image, not a scan.")
    return instance, frames


def _grid(frames: Sequence[Frame], path: Path) -> tuple[Geometry, list[int]]:
    """Geometry of the slices that there are frames of, and the slice each frame lies on."""
    if frames[0].position is None or frames[0].orientation is None:
        images = [str(_referenced_image(frame)) for frame in frames]
        order = list(dict.fromkeys(images))
        firsts = [frames[images.index(image)] for image in order]
        return radiograph_geometry(firsts)[0], [order.index(image) for image in images]
    for frame in frames:
        if frame.position is None or frame.orientation is None:
            raise ReadError(f"{path.name} says only of some frames where they lie; export it again.")
        if np.abs(frame.orientation - frames[0].orientation).max() > 1e-3:
            raise ReadError(f"{path.name} has frames in several orientations; export one segmentation for each.")
    distances = along_normal(frames)
    order_along = np.argsort(distances, kind="stable")
    groups = np.concatenate([[0], np.cumsum(np.diff(distances[order_along]) > EVEN_TOLERANCE_MM)])
    places = np.empty(len(frames), int)
    places[order_along] = groups
    firsts = [frames[order_along[np.flatnonzero(groups == group)[0]]] for group in range(groups[-1] + 1)]
    return stack_geometry(firsts)[0], places.tolist()


def _with_empty_slices(labels: LabelMap, told: float) -> LabelMap:
    """The labels on an even grid, where slices between them are missing because nothing lies on them."""
    geometry = labels.geometry
    count = geometry.shape[0]
    known = np.asarray(geometry.slice_positions or geometry.spacing[0] * np.arange(count))
    for step in (told, float(np.diff(known).min(initial=np.inf))):
        numbers = np.rint(known / step).astype(int) if 0 < step < np.inf else np.arange(count)
        if count > 1 and numbers[-1] >= count and np.abs(known / step - numbers).max() <= _WHOLE:
            array = np.zeros((int(numbers[-1]) + 1, *geometry.shape[1:]), labels.array.dtype)
            array[numbers] = labels.array
            spacing = (float(known[-1] / numbers[-1]), *geometry.spacing[1:])
            even = dataclasses.replace(geometry, shape=array.shape, spacing=spacing, slice_positions=None)
            return dataclasses.replace(labels, array=array, geometry=even)
    return labels


def _referenced_image(frame: Frame) -> tuple[str, ...]:
    sources = frame.get("SourceImageSequence") or ()
    return tuple(f"{item.get('ReferencedSOPInstanceUID')} {item.get('ReferencedFrameNumber', 1)}" for item in sources)


def _labels(frame: Frame) -> dict[int, Label]:
    """What each segment number stands for."""
    found: dict[int, Label] = {}
    values: set[int] = set()
    for item in frame.get("SegmentSequence") or ():
        number = int(item.get("SegmentNumber", 0))
        own = re.fullmatch(TRACKING.format(r"(\d+)"), str(item.get("TrackingID", "")))
        value = int(own[1]) if own else number
        if number == 0:
            continue
        name = str(item.get("SegmentLabel", "") or _meaning(item)).strip()
        name = "" if name == unnamed(value) else name
        found[number] = Label(value, name, _colour(item.get("RecommendedDisplayCIELabValue")))
        values.add(value)
    if not found:
        raise ReadError(f"{frame.instance.path.name} describes no segment; export it again.")
    if len(values) < len(found) or max(values) > 65535:
        return {number: dataclasses.replace(label, value=number) for number, label in found.items()}
    return found


def _meaning(item: Any) -> str:
    types = item.get("SegmentedPropertyTypeCodeSequence") or ()
    return str(types[0].get("CodeMeaning", "")) if types else ""


def _colour(value: Any) -> str:
    """``"#rrggbb"`` of a CIELab value as DICOM scales it (PS3.3 C.10.7.1.1), "" where there is none."""
    from highdicom.color import CIELabColor

    if value is None or len(value) != 3:
        return ""
    red, green, blue = CIELabColor.from_dicom_value([int(part) for part in value]).to_rgb(clip=True)
    return f"#{red:02X}{green:02X}{blue:02X}"


def _masks(
    frames: Sequence[Frame], places: Sequence[int], findings: list[Finding]
) -> list[tuple[int, dict[int, np.ndarray]]]:
    """Segment number and, per slice, its voxels; frames of one segment on one slice are joined."""
    kind = frames[0].text("SegmentationType")
    members: defaultdict[int, list[tuple[int, Frame]]] = defaultdict(list)
    for frame, z in zip(frames, places, strict=True):
        members[0 if kind == "LABELMAP" else frame.count("ReferencedSegmentNumber", 1)].append((z, frame))
    if kind == "LABELMAP":
        return _label_map_masks(members[0])
    threshold = 0.5
    if kind == "FRACTIONAL":
        threshold = frames[0].count("MaximumFractionalValue", 255) / 2
        told = "The segmentation is fractional; voxels of at least one half are taken."
        findings.append(Finding("fractional-segmentation", told))
    found = []
    for number in sorted(members):
        masks: dict[int, np.ndarray] = {}
        for z, frame in members[number]:
            mask = _values(frame) >= threshold
            masks[z] = masks[z] | mask if z in masks else mask
        found.append((number, masks))
    return found


def _label_map_masks(members: Sequence[tuple[int, Frame]]) -> list[tuple[int, dict[int, np.ndarray]]]:
    found: defaultdict[int, dict[int, np.ndarray]] = defaultdict(dict)
    for z, frame in members:
        values = _values(frame)
        for number in np.unique(values):
            if number:
                found[int(number)][z] = values == number
    return sorted(found.items())


def _values(frame: Frame) -> np.ndarray:
    """(rows, columns) stored values of a frame; single bits follow each other across frames (PS3.5 8.1.1)."""
    offset = frame.instance.plain_offset
    if offset is None or frame.count("BitsAllocated", 8) != 1:
        return stored_values(frame)
    size = int(np.prod(frame.shape))
    first, shift = divmod(frame.index * size, 8)
    packed = np.fromfile(frame.instance.path, np.uint8, -(-(shift + size) // 8), offset=offset + first)
    return np.unpackbits(packed, bitorder="little")[shift : shift + size].reshape(frame.shape)


def _absent(labels: Mapping[int, Label], layers: Layers) -> list[Label]:
    """Segments that are described but have no voxel."""
    there = {label.value for found in layers.labels for label in found}
    return [label for label in labels.values() if label.value not in there]


def _record(frame: Frame) -> dict[str, Any]:
    """What made the labels: the whole record where this package wrote it, else name and version of the algorithm."""
    import json

    for item in frame.get("SegmentSequence") or ():
        for algorithm in item.get("SegmentationAlgorithmIdentificationSequence") or ():
            try:
                record = json.loads(str(algorithm.get("AlgorithmParameters", "")))
            except ValueError:
                record = None
            if isinstance(record, dict):
                return record
            told = {"model": algorithm.get("AlgorithmName"), "version": algorithm.get("AlgorithmVersion")}
            return {key: str(value) for key, value in told.items() if value}
    return {}


def _belongs_to(instance: Instance) -> tuple[list[str], str]:
    """Series that a segmentation names as its source, and its frame of reference."""
    header = instance.header
    series = [str(item.get("SeriesInstanceUID", "")) for item in header.get("ReferencedSeriesSequence") or ()]
    return series, str(header.get("FrameOfReferenceUID", ""))


def _on(labels: LabelMap, grids: Sequence[Grid], gap: float, complete: bool) -> LabelMap:
    """The labels on the first grid that fits them; on their own where none does, with empty slices if not complete."""
    for grid in grids:
        placed = placed_on(labels, grid.geometry, gap)
        if placed is not None:
            return placed
    labels = labels if complete else _with_empty_slices(labels, gap)
    if not grids:
        return labels
    told = "The labels lie on a grid of their own, not on that of the scan; they open beside it."
    return dataclasses.replace(labels, findings=(*labels.findings, Finding("other-grid", told)))
