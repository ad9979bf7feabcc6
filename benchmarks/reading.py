"""Time to read an uncompressed CT series, against SimpleITK's series reader on the same files in the same run.

    python benchmarks/reading.py [FOLDER]

Without a folder, a series of 300 slices of 512 × 512 is written to a temporary one. Both readers read the same
files in turn; the medians over several rounds are compared, so that a busy machine disturbs both alike. Ours sorts the files
itself; SimpleITK's series reader needs them sorted by GetGDCMSeriesFileNames, and is timed with that and without.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_lungseg.io.dicom import read_dicom

ROUNDS = 5


def write_series(folder: Path, slices: int = 300, size: int = 512) -> None:
    """Write a CT series in ``folder``, signed 16 bit, the file names not in order."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(-1000, 2000, (size, size)).astype(np.int16)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for name, index in enumerate(rng.permutation(slices)):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 2, int(index) + 1
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImagePositionPatient, image.ImageOrientationPatient = [-180, -170, float(index)], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [0.7, 0.7], 1
        image.Rows = image.Columns = size
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, -24
        image.PixelData = np.roll(pixels, int(index), axis=0).tobytes()
        image.save_as(folder / f"{name:04d}.dcm", enforce_file_format=True)


def read_ours(names: list[str]) -> np.ndarray:
    (volume,) = read_dicom([Path(name) for name in names])
    return np.asarray(volume.load().array)


def read_simpleitk(names: list[str]) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(names)
    return reader.Execute()


def sort_and_read_simpleitk(names: list[str]) -> SimpleITK.Image:
    return read_simpleitk(list(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(Path(names[0]).parent))))


def read_first_slice(names: list[str]) -> np.ndarray:
    (volume,) = read_dicom([Path(name) for name in names])
    return np.asarray(volume.array[0])


def seconds(read: Callable[[list[str]], Any], names: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of processor time (which a busy machine disturbs less)."""
    start = time.perf_counter(), time.process_time()
    read(names)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(folder: Path) -> float:
    """Print the times; return ours divided by SimpleITK's, sorting included."""
    names = [str(name) for name in SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))]
    expected = SimpleITK.GetArrayFromImage(read_simpleitk(names))
    np.testing.assert_array_equal(read_ours(names), expected)  # also warms imports and the disk cache
    readers = {
        "ours": read_ours,
        "SimpleITK": sort_and_read_simpleitk,
        "SimpleITK, sorted before": read_simpleitk,
        "ours, first slice": read_first_slice,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            times[name].append(seconds(read, names))
    medians = {name: [statistics.median(kind) for kind in zip(*pairs, strict=True)] for name, pairs in times.items()}
    print(
        f"{len(names)} slices, median of {ROUNDS} rounds, pydicom {pydicom.__version__}, SimpleITK {SimpleITK.__version__}"
    )
    for name, (clock, processor) in medians.items():
        print(
            f"{name:>24}: {clock:.3f} s on the clock (best {min(times[name])[0]:.3f}), {processor:.3f} s of processor"
        )
    for name in ("SimpleITK", "SimpleITK, sorted before"):
        clock, processor = (ours / theirs for ours, theirs in zip(medians["ours"], medians[name], strict=True))
        print(f"ours / {name} = {clock:.2f} on the clock, {processor:.2f} of processor")
    return medians["ours"][0] / medians["SimpleITK"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder with one uncompressed CT series")
    folder = parser.parse_args().folder
    if folder:
        measure(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        write_series(Path(temporary))
        measure(Path(temporary))


if __name__ == "__main__":
    main()
