"""Write label maps as DICOM segmentations, with highdicom: binary (read everywhere) or as a label map (small and quick)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import WriteError
from ..volume import LabelMap, Volume, label_colour
from .anatomy import codes_for
from .dicom_derived import LONGEST_LABEL, labels_only, maker, present, ready_headers, series_number, unnamed, unsuitable
from .dicom_seg import TRACKING
from .dicom_source import Source, source_of

# Longest AlgorithmParameters (LT) that the standard allows.
_LONGEST_PARAMETERS = 10_240


def write_seg(item: Volume | LabelMap, path: Path) -> set[str]:
    """A label map as a binary DICOM segmentation: one bit per voxel and segment, all slices of the source."""
    return _write(item, path, "BINARY")


def write_labelmap_seg(item: Volume | LabelMap, path: Path) -> set[str]:
    """A label map as a DICOM label-map segmentation (of 2023, not yet read everywhere), RLE compressed."""
    return _write(item, path, "LABELMAP")


def _write(item: Volume | LabelMap, path: Path, kind: Literal["BINARY", "LABELMAP"]) -> set[str]:
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

    labels = labels_only(item, path)
    source = source_of(labels)
    values = present(labels)
    numbers = values if kind == "LABELMAP" else list(range(1, len(values) + 1))
    if values[-1] > 65535:
        raise WriteError(f"Label {values[-1]} is too large for a DICOM segmentation; the largest is 65535.")
    whole_record = json.dumps(dict(labels.record))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of harmless slips in the source's headers
        headers = ready_headers(source)
        try:
            segmentation = highdicom.seg.Segmentation(
                source_images=headers,
                pixel_array=_pixels(source, values, numbers),
                segmentation_type=kind,
                segment_descriptions=_descriptions(labels, values, numbers),
                series_instance_uid=generate_uid(),
                series_number=series_number(headers[0]),
                sop_instance_uid=generate_uid(),
                instance_number=1,
                transfer_syntax_uid=RLELossless if kind == "LABELMAP" else ExplicitVRLittleEndian,
                omit_empty_frames=False,  # the file alone then tells the whole grid
                content_label="LUNGSEG",
                specific_character_set="ISO_IR 192",
                series_description=_series_description(labels),
                **maker(),
            )
            segmentation.save_as(path, enforce_file_format=True)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise unsuitable(error) from error
    held = {"labels", "names", "record", "geometry"}
    if any(len(name) > LONGEST_LABEL for name in labels.names.values()):
        held -= {"names"}
    if len(whole_record) > _LONGEST_PARAMETERS or "model" not in labels.record:
        held -= {"record"}
    if source.frames[0].position is None:  # a radiograph: the standard has no place for its sides and pixel size here
        held -= {"geometry"}
    return held


def _pixels(source: Source, values: Sequence[int], numbers: Sequence[int]) -> np.ndarray:
    """Segment numbers in the order of the source's frames."""
    lookup = np.zeros(max(int(source.array.max()), values[-1]) + 1, np.min_scalar_type(numbers[-1]))
    lookup[list(values)] = numbers
    array: np.ndarray = lookup[source.array]
    count = int(source.frames[0].instance.header.get("NumberOfFrames") or 1)
    if count == 1:
        return array
    ordered = np.zeros((count, *array.shape[1:]), array.dtype)
    ordered[[frame.index for frame in source.frames]] = array
    return ordered


def _series_description(labels: LabelMap) -> str:
    by = str(labels.record.get("model", ""))
    return f"Segmentation {by}".strip()[:LONGEST_LABEL]


def _descriptions(labels: LabelMap, values: Sequence[int], numbers: Sequence[int]) -> list[Any]:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.uid import generate_uid

    algorithm = _algorithm(labels)
    descriptions = []
    for value, number in zip(values, numbers, strict=True):
        name = labels.names.get(value) or unnamed(value)
        category, kind = (CodedConcept(*code) for code in codes_for(name))
        descriptions.append(
            SegmentDescription(
                segment_number=number,
                segment_label=name[:LONGEST_LABEL],
                segmented_property_category=category,
                segmented_property_type=kind,
                algorithm_type="AUTOMATIC" if algorithm else "MANUAL",
                algorithm_identification=algorithm,
                tracking_id=TRACKING.format(value),
                tracking_uid=generate_uid(),
                display_color=CIELabColor.from_string(labels.colours.get(value) or label_colour(value)),
            )
        )
    return descriptions


def _algorithm(labels: LabelMap) -> Any:
    """What made the labels, with the whole record as its parameters; None for labels that nothing but a hand made."""
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    if "model" not in labels.record:
        return None
    identified = AlgorithmIdentificationSequence(
        name=str(labels.record["model"])[:LONGEST_LABEL],
        family=codes.DCM.ArtificialIntelligence,
        version=str(labels.record.get("version") or maker()["software_versions"])[:LONGEST_LABEL],
        source=maker()["manufacturer"],
    )
    parameters = json.dumps(dict(labels.record))
    if len(parameters) <= _LONGEST_PARAMETERS:
        identified[0].AlgorithmParameters = parameters
    return identified
