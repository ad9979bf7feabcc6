"""What every DICOM object needs that is derived from a series: whose it is, what made it, and labels to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WriteError
from ..volume import LabelMap, Volume
from .dicom_source import Source

# Longest text of value representation LO.
LONGEST_LABEL = 64
# Type 2 elements of the Patient and Study modules, which may be empty but must be there.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
# Derived series are numbered after their source, far from what scanners count to.
_FIRST_SERIES, _MOST_SERIES = 900_000, 100_000


def labels_only(item: Volume | LabelMap, path: Path) -> LabelMap:
    """The item, where it is a label map with something in it.

    Raises
    ------
    WriteError
        Where it is an image, or labels nothing.
    """
    if isinstance(item, Volume):
        raise WriteError(f"{path.name!r} is for labels; write an image as .nii.gz, .mha or .nrrd.")
    if not present(item):
        raise WriteError(f"There is no label to write into {path.name!r}: the label map is empty and names nothing.")
    return item


def present(labels: LabelMap) -> list[int]:
    """Labels that have a voxel or a name, ascending."""
    return sorted({*labels.names, *np.unique(np.asarray(labels.array)).tolist()} - {0})


def ready_headers(source: Source) -> list[Any]:
    """The source's headers with the elements that must be there, empty where nothing is known.

    Positions mean nothing without a frame of reference: a series that names none gets one made of its own identifier.

    Raises
    ------
    WriteError
        Where they do not say which study they belong to.
    """
    from pydicom.uid import generate_uid

    headers = source.headers
    for header in headers:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if not header.get(keyword):
                raise WriteError(
                    f"The DICOM images say nothing of their {keyword}, without which nothing can refer to them. "
                    "Get the original series, or write .nii.gz."
                )
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, None)
        if source.frames[0].position is not None and not header.get("FrameOfReferenceUID"):
            header.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(header.SeriesInstanceUID)])
    return headers


def maker() -> dict[str, Any]:
    """Elements of the General Equipment module."""
    from .. import __version__

    return {
        "manufacturer": "napari-lungseg",
        "manufacturer_model_name": "napari-lungseg",
        "software_versions": str(__version__),
        "device_serial_number": "0",
    }


def series_number(header: Any) -> int:
    """Number of a series derived from this image's."""
    return _FIRST_SERIES + int(header.get("SeriesNumber") or 0) % _MOST_SERIES


def unnamed(value: int) -> str:
    """The name that a label without one gets where the standard wants one."""
    return f"Label {value}"


def unsuitable(error: Exception) -> WriteError:
    """Why nothing can be derived from images whose headers a library refused."""
    reason = " ".join(str(error).split())[:200]
    return WriteError(
        f"The DICOM images' headers do not allow labels that refer to them ({reason}). Get the original series, or write "
        ".nii.gz."
    )
