"""A CT series full of a patient, and a search for that patient in whatever was written or shown."""

from __future__ import annotations

import base64
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from dicom_phantom import ct_series, places
from PIL import Image
from pydicom.uid import generate_uid

from napari_lungseg.phantom import thorax_ct
from napari_lungseg.volume import LabelMap

SHAPE = (9, 48, 56)
# What the header says, in elements that name the patient or those around; the description repeats some of it.
HEADER = {
    "PatientName": "Nadelmann^Quirina",
    "PatientID": "NDL-83651",
    "PatientBirthDate": "19310417",
    "OtherPatientIDs": "ALT-55702",
    "PatientAddress": "Heuhaufenweg",
    "AccessionNumber": "AKZ77310",
    "StudyID": "STD-66412",
    "InstitutionName": "Nadelklinik",
    "ReferringPhysicianName": "Stichler^Otto",
    "OperatorsName": "Zwirner^Ida",
    "StudyDescription": "Thorax Nadelmann",
    "SeriesDescription": "Quirina 17.04.1931",
    "ImageComments": "Fadenlauf",
    "StudyInstanceUID": generate_uid(entropy_srcs=["needles", "study"]),
    "SeriesInstanceUID": generate_uid(entropy_srcs=["needles", "series"]),
    "FrameOfReferenceUID": generate_uid(entropy_srcs=["needles", "frame"]),
}
FOLDER, FILE = "Ordnerling", "Dateinger"
WORDS = (
    *("Nadelmann", "Quirina", "NDL-83651", "19310417", "1931-04-17", "17.04.1931", "ALT-55702", "Heuhaufenweg"),
    *("AKZ77310", "STD-66412", "Nadelklinik", "Stichler", "Zwirner", "Fadenlauf"),
    *(HEADER[keyword] for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")),
)
# Only in names of folders and files.
PATHS = (FOLDER, FILE)


def planted(folder: Path, **elements: object) -> tuple[Path, LabelMap]:
    """Write the phantom as a series into ``folder/FOLDER``; returns where it lies, and its labels on its grid."""
    from napari_lungseg.io import read

    volume, labels = thorax_ct(SHAPE, seed=3)
    stored = (np.asarray(volume.array) + 1024).astype(np.uint16)
    gap, *within = volume.geometry.spacing
    tags = {**HEADER, "PixelSpacing": list(within), "SliceThickness": gap, "PositionReferenceIndicator": "", **elements}
    ct_series(folder / FOLDER, stored, places(len(stored), (1, 0, 0, 0, 1, 0), gap), prefix=f"{FILE}_", **tags)
    # One slice more, cut short: readers tell of a damaged file by its name.
    (damaged,) = ct_series(
        folder / FOLDER, stored[:1], places(10, (1, 0, 0, 0, 1, 0), gap)[9:], prefix=f"{FILE}_x", **tags
    )
    damaged.write_bytes(damaged.read_bytes()[:-500])
    (found,) = read(folder / FOLDER)
    return folder / FOLDER, LabelMap(labels.array, found.geometry, labels.names, source=found.source)


def found_in(content: bytes | str, words: tuple[str, ...] = WORDS + PATHS) -> list[str]:
    """The needles in bytes or a text, whatever their case; those in packed parts as well."""
    data = content.encode() if isinstance(content, str) else content
    seen = b"\n".join(part.lower() for part in _layers(data))
    return [word for word in words if word.lower().encode() in seen or word.lower().encode("utf-16-le") in seen]


def leaks(folder: Path, words: tuple[str, ...] = WORDS + PATHS) -> dict[str, list[str]]:
    """File below a folder → the needles in its name and its content."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    told = {str(path.relative_to(folder)): found_in(path.read_bytes(), words) for path in files}
    return {name: all_of for name, held in told.items() if (all_of := [*held, *found_in(name, words)])}


def _layers(data: bytes) -> Iterator[bytes]:
    """The bytes, and all that is packed in them: gzip, ZIP, Parquet, texts of pictures, pictures in pages."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from _layers(gzip.decompress(data))
    elif data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from _layers(archive.read(name))
    elif data[:4] == b"PAR1":
        from pyarrow import parquet

        table = parquet.read_table(io.BytesIO(data))
        yield repr((table.schema, table.to_pylist())).encode()
    elif data[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*"):
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            yield repr((picture.info, dict(picture.getexif()))).encode()
    elif data[128:132] == b"DICM":
        yield str(pydicom.dcmread(io.BytesIO(data), force=True)).encode()
    for packed in re.findall(rb";base64,([A-Za-z0-9+/=]+)", data):
        yield from _layers(base64.b64decode(packed))
