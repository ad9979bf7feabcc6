"""Time to list the series of a folder with thousands of files, against SimpleITK on the same files in the same run.

    python benchmarks/listing.py [FOLDER] [--series 20] [--slices 250] [--size 512]

Without a folder, CT series are written to a temporary one: headers of a hundred elements, with sequences and private ones,
and 512 × 512 pixels each where the disk has room (2.7 GB). As root, the page cache is dropped before each cold run.
SimpleITK is timed for GetGDCMSeriesIDs alone, and with GetGDCMSeriesFileNames of every series, which it takes to know
what each holds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_lungseg.io.series_list import list_series

ROUNDS = 3
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def header(series: int, size: int) -> FileDataset:
    """What the slices of one series share, about as much as a scanner writes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID = CTImageStorage
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    image.PatientName, image.PatientID = f"Phantom^{series // 4}", f"PH{series // 4}"
    image.StudyDate, image.Modality, image.SeriesNumber = f"202401{series // 4 + 1:02d}", "CT", series % 4 + 1
    image.SeriesDescription, image.ImageType = "Thorax 1.0 B70f", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient, image.PixelSpacing, image.SliceThickness = [1, 0, 0, 0, 1, 0], [0.7, 0.7], 1
    image.Rows = image.Columns = size
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.KVP, image.XRayTubeCurrent, image.ExposureTime, image.ConvolutionKernel = 120, 200, 500, "B70f"
    for keyword in ("ReferencedStudySequence", "ReferencedPatientSequence", "SourceImageSequence"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, generate_uid()
        setattr(image, keyword, [item] * 4)
    for group in (0x0009, 0x0019, 0x0029):
        block = image.private_block(group, "PHANTOM HEADER", create=True)
        for element in range(16):
            block.add_new(element, "LO", f"private value {element}")
        block.add_new(0x20, "OB", bytes(2048))
    return image


def write_folder(folder: Path, series: int, slices: int, size: int) -> None:
    """Write CT series in ``folder``, their files mixed and not in order."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2000, (size, size)).astype(np.int16)
    headers = [header(number, size) for number in range(series)]
    for name, both in enumerate(rng.permutation(series * slices)):
        number, index = divmod(int(both), slices)
        image = headers[number]
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.InstanceNumber, image.ImagePositionPatient = index + 1, [-180, -170, float(index)]
        image.PixelData = np.roll(pixels, index, axis=0).tobytes()
        image["PixelData"].VR = "OW"
        image.save_as(folder / f"{name:05d}.dcm", enforce_file_format=True)


def ours(folder: Path) -> int:
    return len(list_series(folder).entries)


def simpleitk_ids(folder: Path) -> int:
    return len(SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def simpleitk_ids_and_names(folder: Path) -> int:
    reader = SimpleITK.ImageSeriesReader
    return len([reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))])


def seconds(of: Callable[[Path], int], folder: Path, expected: int, cold: bool) -> float:
    if cold:
        os.sync()
        _DROP_CACHES.write_text("3")
    start = time.perf_counter()
    found = of(folder)
    if found != expected:
        raise SystemExit(f"{of.__name__} found {found} series, not {expected}.")
    return time.perf_counter() - start


def measure(folder: Path, cold: bool) -> None:
    """Print the median seconds of each, and theirs divided by ours."""
    expected = ours(folder)
    readers = (ours, simpleitk_ids, simpleitk_ids_and_names)
    times: dict[str, list[float]] = {reader.__name__: [] for reader in readers}
    # Naming every series takes GDCM minutes where there are many: it is timed once.
    for turn in range(ROUNDS):
        for reader in readers if turn == 0 else readers[:2]:
            times[reader.__name__].append(seconds(reader, folder, expected, cold))
    print("cold disk" if cold else "warm disk")
    first = statistics.median(times["ours"])
    for name, each in times.items():
        median = statistics.median(each)
        print(f"  {name:>24}: {median:7.2f} s of {len(each)} (best {min(each):.2f}), {median / first:.2f} × ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder with DICOM series directly in it")
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--slices", type=int, default=250)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not options.folder:
            room = shutil.disk_usage(temporary).free
            size = options.size if 4 * options.series * options.slices * options.size**2 < room else 128
            write_folder(folder, options.series, options.slices, size)
            print(f"{options.series} series of {options.slices} slices of {size} × {size}")
        print(f"{os.cpu_count()} cores, pydicom {pydicom.__version__}, SimpleITK {SimpleITK.__version__}")
        measure(folder, cold=False)
        if os.access(_DROP_CACHES, os.W_OK):
            measure(folder, cold=True)
        else:
            print("The page cache cannot be dropped without root: no cold figures.")


if __name__ == "__main__":
    main()
