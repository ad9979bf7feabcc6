"""Whose scan it is, for whoever asks (``--keep-identifiers``); nobody else is told."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ReadError

if TYPE_CHECKING:
    from . import Item

# Column → DICOM keyword.
IDENTIFIERS = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "birth_date": "PatientBirthDate",
    "study_date": "StudyDate",
    "accession": "AccessionNumber",
    "description": "SeriesDescription",
    "study": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
}


def identifiers_in(header: Any) -> dict[str, str]:
    """Column → what a header says; "" where it says nothing."""
    return {column: str(header.get(keyword) or "").strip() for column, keyword in IDENTIFIERS.items()}


def identifiers_of(item: Item) -> dict[str, str]:
    """Column → what the DICOM files say that a volume or label map came from; empty for any other kind of file."""
    import pydicom

    from .dicom_header import is_dicom
    from .dicom_source import geometry_of, stacks_in
    from .discover import files_of

    paths: list[Path] = []
    with suppress(ReadError):
        paths = files_of(item.source)[0] if item.source else []
    if len(paths) == 1 and is_dicom(paths[0]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every harmless slip in a header
            return identifiers_in(pydicom.dcmread(paths[0], stop_before_pixels=True, force=True))
    own = [stack for stack in stacks_in(filter(is_dicom, paths)) if geometry_of(stack) == item.geometry]
    return identifiers_in(own[0].frames[0].instance.header) if own else {}
