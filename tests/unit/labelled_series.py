"""A synthetic CT series with everything that derived objects refer to, and labels on its grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from dicom_phantom import ORIENTATIONS, ct_series, places
from pydicom.uid import generate_uid

from napari_lungseg.io import read
from napari_lungseg.volume import LabelMap, Volume

RECORD = {"model": "ct-lungs", "version": "1.2", "seconds": 0.5}
# Off-centre along every axis, so that a flip or a transpose shows; 3 is missing, 7 lies on one slice only.
NAMES = {1: "right lung", 2: "left lüng", 5: "heart", 7: "nodule"}


def series(folder: Path, orientation: str = "axial head first supine", count: int = 5, **elements: object) -> Volume:
    """Write a series and read it; its slices are 20 × 27, large enough for holes."""
    stored = np.random.default_rng(3).permutation(count * 20 * 27).astype(np.uint16).reshape(count, 20, 27)
    whose = {
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=[str(folder)]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame"]),
        "PatientName": "Mustermann^Erika",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyDate": "20240229",
        "StudyTime": "120000",
        "StudyID": "17",
        "AccessionNumber": "4",
        "ReferringPhysicianName": "Muster^Arzt",
        "Manufacturer": "Phantom",
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
    }
    axes = ORIENTATIONS[orientation]
    ct_series(folder, stored, places(count, axes), axes, **(whose | elements))
    (volume,) = read(folder)
    assert isinstance(volume, Volume)
    return volume


def labels_on(volume: Volume, names: dict[int, str] | None = None) -> LabelMap:
    """Labels with a hole, an island in it, pixels that touch at corners, an empty slice and a label on one slice."""
    array = np.zeros(volume.geometry.shape, np.uint8)
    array[:, 2:12, 3:13] = 1
    array[:, 5:10, 5:11] = 0  # a hole …
    array[:, 7, 7] = 1  # … with an island in it
    array[:-1, 3:18, 16:20] = 2
    array[0, 15:18, 2:5] = 5
    array[0, 16, 3] = 0
    array[0, 18, 5] = array[0, 19, 6] = 5  # touching at a corner, and at the border
    if len(array) > 2:
        array[-1, 14:17, 22:27] = 7
        array[1] = 0
    known = NAMES if names is None else names
    return LabelMap(array, volume.geometry, known, source=volume.source, record=RECORD)


def foreign(volume: Volume, kind: str, segments: np.ndarray, **options: Any) -> highdicom.seg.Segmentation:
    """A segmentation by highdicom alone, (z, y, x, segment); empty frames left out."""
    headers = [pydicom.dcmread(path) for path in Path(volume.source).iterdir()]
    normal = np.cross(*np.reshape(headers[0].ImageOrientationPatient, (2, 3)))
    headers.sort(key=lambda header: np.dot(header.ImagePositionPatient, normal))
    described = [
        highdicom.seg.SegmentDescription(
            number + 1,
            f"thing {number + 1}",
            highdicom.sr.CodedConcept("85756007", "SCT", "Tissue"),
            highdicom.sr.CodedConcept("85756007", "SCT", "Tissue"),
            "MANUAL",
            display_color=highdicom.color.CIELabColor.from_string("#102030"),
        )
        for number in range(segments.shape[-1])
    ]
    uid = pydicom.uid.generate_uid
    return highdicom.seg.Segmentation(
        headers, segments, kind, described, uid(), 5, uid(), 1, "Maker", "Model", "1", "0", **options
    )
