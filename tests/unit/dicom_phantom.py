"""Write synthetic DICOM series whose marked voxels are known in patient coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

ROWS, COLUMNS = 6, 9
SPACING = (0.7, 0.9)
# Row and column direction (x, y, z in LPS) of the usual and unusual ways to lie and to be sliced.
ORIENTATIONS = {
    "axial head first supine": (1, 0, 0, 0, 1, 0),
    "axial feet first supine": (-1, 0, 0, 0, 1, 0),
    "axial head first prone": (-1, 0, 0, 0, -1, 0),
    "axial feet first prone": (1, 0, 0, 0, -1, 0),
    "axial decubitus right": (0, 1, 0, -1, 0, 0),
    "axial decubitus left": (0, -1, 0, 1, 0, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (0.8, 0.6, 0, -0.48, 0.64, 0.6),
}


def dataset(pixels: np.ndarray, sop_class: str = CTImageStorage, **elements: Any) -> FileDataset:
    """A DICOM image of (rows, columns), (frames, rows, columns) or (rows, columns, 3) integers."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID = "Mustermann^Erika", "PAT-4711"
    image.SeriesInstanceUID, image.Modality = "1.2.3.4", "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        image.NumberOfFrames = len(pixels)
    image.Rows, image.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    image.BitsAllocated = image.BitsStored = 8 * pixels.dtype.itemsize
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return image


def save(image: FileDataset, path: Path) -> Path:
    """Write a dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def ct_slice(pixels: np.ndarray, position: Sequence[float], **elements: Any) -> FileDataset:
    """One CT slice in HU, at a place."""
    usual = {
        "ImagePositionPatient": [float(value) for value in position],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": list(SPACING),
        "SliceThickness": 2.5,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "SeriesNumber": 4,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    }
    return dataset(pixels, **(usual | elements))


def voxels(count: int = 5, seed: int = 3) -> np.ndarray:
    """(count, ROWS, COLUMNS) stored values, all different, so that every transposition and flip shows."""
    values = np.random.default_rng(seed).permutation(count * ROWS * COLUMNS).astype(np.uint16)
    return values.reshape(count, ROWS, COLUMNS)


def places(count: int, orientation: Sequence[float], gap: float = 2.5, tilt: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    """(count, 3) positions, off-centre, ascending along the normal, slanted by ``tilt`` mm from slice to slice."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    return np.array([-120.5, -80.25, 33.0]) + np.outer(np.arange(count), gap * normal + np.array(tilt))


def ct_series(
    folder: Path,
    stored: np.ndarray,
    positions: np.ndarray,
    orientation: Sequence[float] = ORIENTATIONS["axial head first supine"],
    *,
    seed: int = 1,
    prefix: str = "",
    **elements: Any,
) -> list[Path]:
    """Write a CT series whose file names and instance numbers are not in the order of the slices."""
    shuffled = np.random.default_rng(seed).permutation(len(stored))
    paths = []
    for number, index in enumerate(shuffled):
        told = {"ImageOrientationPatient": [float(v) for v in orientation], "InstanceNumber": number + 1} | elements
        image = ct_slice(stored[index], positions[index], **told)
        paths.append(save(image, folder / f"{prefix}{number:03d}.dcm"))
    return paths


def radiograph(pixels: np.ndarray, **elements: Any) -> FileDataset:
    """A frontal digital radiograph, 12 bit."""
    usual = {"Modality": "DX", "BitsStored": 12, "HighBit": 11, "SeriesNumber": 1}
    return dataset(pixels, DigitalXRayImageStorageForPresentation, **(usual | elements))


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def enhanced_ct(
    stored: np.ndarray, positions: np.ndarray, orientation: Sequence[float], **elements: Any
) -> FileDataset:
    """An enhanced CT whose frames lie in the given order; the rescale differs from frame to frame."""
    frames = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=[float(v) for v in position])],
            FrameContentSequence=[_item(StackID="1", InStackPositionNumber=number + 1)],
            PixelValueTransformationSequence=[_item(RescaleSlope=1, RescaleIntercept=-1000 - number, RescaleType="HU")],
            FrameVOILUTSequence=[_item(WindowCenter=-600.0, WindowWidth=1500.0)],
        )
        for number, position in enumerate(positions)
    ]
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=[float(v) for v in orientation])],
        PixelMeasuresSequence=[_item(PixelSpacing=list(SPACING), SliceThickness=2.5)],
        CTImageFrameTypeSequence=[_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
    )
    return dataset(
        stored,
        EnhancedCTImageStorage,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        **elements,
    )


def lookup_table(values: Sequence[int], first: int, bits: int = 12) -> Dataset:
    """Item of a Modality or VOI LUT Sequence."""
    item = _item(LUTDescriptor=[len(values), first, bits])
    item.add_new("LUTData", "OW", np.asarray(values, "<u2").tobytes())
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    return item
