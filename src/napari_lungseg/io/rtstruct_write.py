"""Write label maps as DICOM structure sets: closed planar contours along the edges of pixels, with pydicom alone."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WriteError
from ..volume import Geometry, LabelMap, Volume, label_colour
from .anatomy import codes_for
from .contours import outlines
from .dicom_derived import LONGEST_LABEL, labels_only, maker, present, ready_headers, series_number, unnamed, unsuitable
from .dicom_header import Frame
from .dicom_source import Source, source_of

# Patient and Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): taken over from the source, as the standard demands.
_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName",),
)
# What an unlabelled, not interpreted structure is; organs are "ORGAN" (PS3.3 C.8.8.8).
_ORGAN = "Anatomical Structure"


def write_rtstruct(item: Volume | LabelMap, path: Path) -> set[str]:
    """A label map as a structure set. Returns the facts the file holds.

    Raises
    ------
    WriteError
        Where there is no series to refer to, or it does not lie in space.
    """
    labels = labels_only(item, path)
    source = source_of(labels)
    if source.frames[0].position is None or source.geometry.frames:
        raise WriteError("Contours need slices that lie in space, which a radiograph does not; write .seg.dcm or .png.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of harmless slips in the source's headers
        try:
            _structure_set(labels, source).save_as(path, enforce_file_format=True)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise unsuitable(error) from error
    held = {"labels", "names"}
    return held - {"names"} if any(len(name) > LONGEST_LABEL for name in labels.names.values()) else held


def _item(**elements: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _structure_set(labels: LabelMap, source: Source) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    headers = ready_headers(source)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RTStructureSetStorage, generate_uid()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit VR has no room for contours of more than 64 KiB
    plan = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    plan.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _PATIENT_AND_STUDY:
        if keyword in headers[0]:
            setattr(plan, keyword, headers[0][keyword].value)
    now = dt.datetime.now()
    made = maker()
    told = {
        "SOPClassUID": RTStructureSetStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "RTSTRUCT",
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": series_number(headers[0]),
        "SeriesDescription": f"Contours {labels.record.get('model', '')}".strip()[:LONGEST_LABEL],
        "SeriesDate": now.strftime("%Y%m%d"),
        "SeriesTime": now.strftime("%H%M%S"),
        "OperatorsName": None,
        "InstanceCreationDate": now.strftime("%Y%m%d"),
        "InstanceCreationTime": now.strftime("%H%M%S"),
        "InstanceNumber": 1,
        "Manufacturer": made["manufacturer"],
        "ManufacturerModelName": made["manufacturer_model_name"],
        "SoftwareVersions": made["software_versions"],
        "StructureSetLabel": "LUNGSEG",
        "StructureSetName": labels.name[:LONGEST_LABEL],
        "StructureSetDate": now.strftime("%Y%m%d"),
        "StructureSetTime": now.strftime("%H%M%S"),
        "ApprovalStatus": "UNAPPROVED",
        "PositionReferenceIndicator": None,
    }
    for keyword, value in told.items():
        setattr(plan, keyword, value)
    frame_of_reference = str(headers[0].FrameOfReferenceUID)
    plan.FrameOfReferenceUID = frame_of_reference
    plan.ReferencedFrameOfReferenceSequence = [_referenced(headers, frame_of_reference)]
    _add_structures(plan, labels, source, frame_of_reference)
    return plan


def _referenced(headers: Sequence[Any], frame_of_reference: str) -> Any:
    """Study, series and every instance that the contours were drawn on."""
    images = [_reference(header) for header in headers]
    series = _item(SeriesInstanceUID=headers[0].SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # Detached Study Management, by convention
        ReferencedSOPInstanceUID=headers[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=frame_of_reference, RTReferencedStudySequence=[study])


def _reference(header: Any, frame: int | None = None) -> Any:
    image = _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
    if frame is not None and int(header.get("NumberOfFrames") or 1) > 1:
        image.ReferencedFrameNumber = frame + 1
    return image


def _add_structures(plan: Any, labels: LabelMap, source: Source, frame_of_reference: str) -> None:
    """Structure Set, ROI Contour and RT ROI Observations modules; a structure's number is its label."""
    automatic = "model" in labels.record
    plan.StructureSetROISequence, plan.ROIContourSequence, plan.RTROIObservationsSequence = [], [], []
    for value in present(labels):
        name = (labels.names.get(value) or unnamed(value))[:LONGEST_LABEL]
        colour = labels.colours.get(value) or label_colour(value)
        category, kind = codes_for(name)
        roi = _item(
            ROINumber=value,
            ReferencedFrameOfReferenceUID=frame_of_reference,
            ROIName=name,
            ROIGenerationAlgorithm="AUTOMATIC" if automatic else "MANUAL",
        )
        if automatic:
            roi.ROIGenerationDescription = f"{labels.record['model']} {labels.record.get('version', '')}".strip()[:64]
        plan.StructureSetROISequence.append(roi)
        drawn = _item(ReferencedROINumber=value, ROIDisplayColor=[int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        contours = _contours(source, value)
        if contours:
            drawn.ContourSequence = contours
        plan.ROIContourSequence.append(drawn)
        code = _item(CodeValue=kind.value, CodingSchemeDesignator=kind.scheme, CodeMeaning=kind.meaning)
        plan.RTROIObservationsSequence.append(
            _item(
                ObservationNumber=value,
                ReferencedROINumber=value,
                RTROIIdentificationCodeSequence=[code],
                RTROIInterpretedType="ORGAN" if category.meaning == _ORGAN else "",
                ROIInterpreter=None,
            )
        )


def _contours(source: Source, value: int) -> list[Any]:
    """One item for each polygon of a label, slice by slice."""
    items: list[Any] = []
    for z in np.flatnonzero((source.array == value).any(axis=(1, 2))).tolist():
        frame = source.frames[z]
        for polygon in outlines(source.array[z] == value):
            items.append(
                _item(
                    ContourNumber=len(items) + 1,
                    ContourImageSequence=[_reference(frame.instance.header, frame.index)],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(polygon),
                    ContourData=_positions(polygon, frame, source.geometry),
                )
            )
    return items


def _positions(polygon: np.ndarray, frame: Frame, geometry: Geometry) -> list[str]:
    """DICOM's x, y, z of points on a slice, mm, to a ten-thousandth."""
    matrix = np.asarray(geometry.direction) * np.asarray(geometry.spacing)
    origin = np.asarray(frame.position)[::-1]
    points = origin + polygon @ matrix[:, 1:].T
    return [f"{value:.4f}" for value in points[:, ::-1].ravel()]
