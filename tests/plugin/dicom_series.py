"""A synthetic CT series on disk, written by pydicom; names are not in slice order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SPACING = (2.5, 0.8, 0.8)


def write_series(folder: Path, slices: int = 6, rows: int = 48, columns: int = 56) -> Path:
    """A body of soft tissue with two lungs of air, the right one larger; returns the folder."""
    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    order = np.random.default_rng(3).permutation(slices)
    for name, index in enumerate(order):
        _slice(int(index), rows, columns, study, series, frame).save_as(
            folder / f"{name}.dcm", enforce_file_format=True
        )
    return folder


def hounsfield(index: int, rows: int, columns: int) -> np.ndarray:
    """Voxels of one slice, HU."""
    y, x = np.mgrid[:rows, :columns]
    array = np.full((rows, columns), -1000, np.int16)
    array[((y - rows / 2) / (0.45 * rows)) ** 2 + ((x - columns / 2) / (0.45 * columns)) ** 2 < 1] = 40
    for centre, width in ((0.32, 0.13), (0.66, 0.10)):
        inside = ((y - rows / 2) / (0.28 * rows)) ** 2 + ((x - centre * columns) / (width * columns)) ** 2 < 1
        array[inside] = -850 + index
    return array


def _slice(index: int, rows: int, columns: int, study: str, series: str, frame: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    scan.SOPClassUID, scan.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    scan.StudyInstanceUID, scan.SeriesInstanceUID, scan.FrameOfReferenceUID = study, series, frame
    scan.Modality, scan.SeriesNumber, scan.SeriesDescription = "CT", 3, "Thorax"
    scan.PatientName, scan.PatientID = "Secret^Name", "secret"
    scan.InstanceNumber = index + 1
    scan.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    scan.ImagePositionPatient = [-20.0, -15.0, 100.0 + SPACING[0] * index]
    scan.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    scan.PixelSpacing, scan.SliceThickness = [SPACING[1], SPACING[2]], SPACING[0]
    scan.Rows, scan.Columns = rows, columns
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.BitsAllocated, scan.BitsStored, scan.HighBit, scan.PixelRepresentation = 16, 16, 15, 1
    scan.RescaleSlope, scan.RescaleIntercept, scan.RescaleType = 1, -1024, "HU"
    scan.PixelData = (hounsfield(index, rows, columns) + 1024).astype(np.int16).tobytes()
    return scan
