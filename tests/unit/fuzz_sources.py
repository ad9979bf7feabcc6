"""Small sound files of every format, the same bytes in every run, for mutation."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from dicom_phantom import ORIENTATIONS, ct_slice, dataset, enhanced_ct, lookup_table, places, radiograph
from PIL import Image
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

ROWS, COLUMNS, SLICES = 40, 48, 4  # JPEG 2000 wants 32 at least
FORMATS = ("dicom", "nifti", "nrrd", "metaimage", "tiff", "png")
# What holds or refers to scans; a round of its own, for the numbers of cases say which format they are of.
CONTAINERS = ("seg", "rtstruct", "zip")


def phantom() -> np.ndarray:
    """(SLICES, ROWS, COLUMNS) smooth int16 values from -1000 to 600 with a little noise: it packs, and every voxel counts."""
    z, y, x = np.mgrid[:SLICES, :ROWS, :COLUMNS]
    smooth = 800 * np.sin(z + y / 7 + x / 5) - 200
    return (smooth + np.random.default_rng(5).integers(-5, 6, smooth.shape)).astype(np.int16)


def write_all(folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, list[Path]]:
    """Format → files to mutate; what lies beside them (raw voxels of a header, a scan) is left as it is."""
    makers = {"dicom": _dicom, "nifti": _nifti, "nrrd": _nrrd, "metaimage": _metaimage, "tiff": _tiff, "png": _png}
    makers |= {"seg": partial(_labels, (".seg.dcm", ".labelmap.dcm")), "rtstruct": partial(_labels, (".rtstruct.dcm",))}
    makers["zip"] = _zip
    found = {}
    for name in formats:
        (folder / name).mkdir(parents=True)
        found[name] = makers[name](folder / name)
    return found


def _save(image: Any, path: Path, number: int, **how: bool) -> Path:
    """Write DICOM with identifiers that are the same in every run."""
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{number}"
    dcmwrite(path, image, enforce_file_format=True, **how)
    return path


def _dicom(folder: Path) -> list[Path]:
    hounsfield = phantom()
    stored = (hounsfield + 1024).astype(np.uint16)
    plain = (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    packed = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
    paths = [_save(ct_slice(stored[0], (-10, -20, 5)), folder / "explicit.dcm", 1)]
    for number, syntax in enumerate((*plain, *packed), 2):
        image = ct_slice(stored[0], (-10, -20, 5))
        if syntax in packed:
            image.compress(syntax, generate_instance_uid=False)
        else:
            image.file_meta.TransferSyntaxUID = syntax
        paths.append(_save(image, folder / f"{number}.dcm", number))
    big = ct_slice(stored[0], (-10, -20, 5), PixelData=stored[0].astype(">u2").tobytes())
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    paths.append(_save(big, folder / "big.dcm", 10, implicit_vr=False, little_endian=False))
    axial = ORIENTATIONS["axial head first supine"]
    enhanced = enhanced_ct(stored, places(SLICES, axial), axial)
    paths.append(_save(enhanced, folder / "enhanced.dcm", 11))
    enhanced.compress(RLELossless, generate_instance_uid=False)
    paths.append(_save(enhanced, folder / "frames.dcm", 12))
    table = lookup_table(range(0, 4096, 8), 0)
    shown = radiograph(stored[0] & 0x0FFF, VOILUTSequence=[table], PhotometricInterpretation="MONOCHROME1")
    paths.append(_save(shown, folder / "radiograph.dcm", 13))
    colours = np.repeat((stored[0] >> 3).astype(np.uint8)[..., None], 3, axis=2)
    paths.append(_save(dataset(colours, SecondaryCaptureImageStorage, Modality="OT"), folder / "colours.dcm", 14))
    return paths


def _nifti(folder: Path) -> list[Path]:
    affine = np.array([[-0.9, 0, 0, 90], [0, -0.7, 0.2, 60], [0, 0, 2.5, -300], [0, 0, 0, 1]])
    voxels = phantom().T
    images = {
        "plain.nii": nibabel.Nifti1Image(voxels, np.diag((-0.9, -0.7, 2.5, 1))),
        "sheared.nii": nibabel.Nifti1Image(voxels.astype(np.float32), affine),
        "phases.nii": nibabel.Nifti1Image(np.stack([voxels, voxels + 1], axis=3), affine),
        "second.nii": nibabel.Nifti2Image((voxels > 0).astype(np.uint8), np.diag((-0.9, -0.7, 2.5, 1))),
        "scaled.nii": nibabel.Nifti1Image(voxels, affine),
    }
    images["scaled.nii"].header.set_slope_inter(2, -5)
    paths = []
    for name, image in images.items():
        nibabel.save(image, folder / name)
        paths.append(folder / name)
    for path in paths[:3]:
        packed = path.with_name(f"{path.name}.gz")
        packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        paths.append(packed)
    return paths


def _itk_image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 0.7, 2.5)[: image.GetDimension()])
    image.SetOrigin((-90.0, -60.0, -300.0)[: image.GetDimension()])
    return image


def _itk_files(folder: Path, names: Sequence[str]) -> list[Path]:
    arrays = (phantom(), phantom(), phantom().astype(np.float32), (phantom() > 0).astype(np.uint8))
    for number, (name, array) in enumerate(zip(names, arrays, strict=True)):
        sitk.WriteImage(_itk_image(array), str(folder / name), useCompression=number % 2 == 1)
    return [folder / name for name in names]


def _nrrd(folder: Path) -> list[Path]:
    return _itk_files(folder, ("plain.nrrd", "packed.nrrd", "detached.nhdr", "packed.nhdr"))


def _metaimage(folder: Path) -> list[Path]:
    return _itk_files(folder, ("plain.mha", "packed.mha", "detached.mhd", "packed.mhd"))


def _tiff(folder: Path) -> list[Path]:
    voxels = phantom()
    tifffile.imwrite(folder / "plain.tif", voxels, metadata=None)
    tifffile.imwrite(folder / "ome.ome.tif", voxels, ome=True, metadata={"axes": "ZYX"}, compression="zlib")
    tifffile.imwrite(folder / "imagej.tif", voxels, imagej=True, metadata={"axes": "ZYX", "spacing": 2.5, "unit": "mm"})
    tifffile.imwrite(folder / "tiled.tif", voxels.astype(np.uint16), tile=(16, 16), compression="zlib", metadata=None)
    grey = Image.fromarray((voxels[0] >> 3).astype(np.uint8))
    grey.save(folder / "lzw.tif", compression="tiff_lzw")
    grey.convert("P").save(folder / "palette.tif")
    return sorted(folder.iterdir())


def _png(folder: Path) -> list[Path]:
    grey = Image.fromarray((phantom()[0] >> 3).astype(np.uint8))
    grey.save(folder / "grey.png")
    Image.fromarray((phantom()[0] + 1024).astype(np.uint16)).save(folder / "deep.png")
    grey.convert("RGB").save(folder / "colour.png")
    grey.convert("P").save(folder / "palette.png")
    grey.convert("1").save(folder / "bits.png")
    colours = np.repeat((phantom()[0] + 1024).astype(np.uint16)[..., None], 3, axis=2)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(folder / "deep-colour.png"))
    return sorted(folder.iterdir())


def _scan(folder: Path) -> list[Path]:
    """A CT series with all that labels refer to."""
    axial = ORIENTATIONS["axial head first supine"]
    stored = (phantom() + 1024).astype(np.uint16)
    folder.mkdir()
    paths = []
    for number, position in enumerate(places(SLICES, axial)):
        whose = {"StudyInstanceUID": "1.2.3.1", "FrameOfReferenceUID": "1.2.3.2", "PositionReferenceIndicator": ""}
        whose |= {"PatientBirthDate": "", "PatientSex": "F", "StudyDate": "", "StudyTime": "", "StudyID": ""}
        whose |= {"AccessionNumber": "", "ReferringPhysicianName": "", "Manufacturer": "Phantom"}
        image = ct_slice(stored[number], position, InstanceNumber=number + 1, **whose)
        paths.append(_save(image, folder / f"{number}.dcm", 20 + number))
    return paths


def _labels(suffixes: Sequence[str], folder: Path) -> list[Path]:
    """Segmentations or structure sets of a scan that lies beside them, the same bytes in every run."""
    import pydicom

    from napari_lungseg.io import read, write
    from napari_lungseg.volume import LabelMap

    _scan(folder / "beside")
    (volume,) = read(folder / "beside")
    array = np.zeros(volume.array.shape, np.uint8)
    array[1:, 5:30, 4:20], array[1:3, 12:20, 8:14], array[:3, 8:33, 26:44] = 1, 0, 2
    labels = LabelMap(array, volume.geometry, {1: "right lung", 2: "left lung"}, source=str(folder / "beside"))
    paths = [write(labels, folder / f"labels{suffix}") for suffix in suffixes]
    for number, path in enumerate(paths, 30):
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID = f"1.2.3.{number}"
        for element in image.iterall():
            if element.VR in ("DA", "TM", "DT"):
                element.value = ""
            elif element.VR == "UI" and str(element.value).startswith("1.2.826.0.1.3680043."):
                element.value = "1.2.3.40"
        _save(image, path, number)
    for left in folder.glob("*.json"):
        left.unlink()
    return paths


def _zip(folder: Path) -> list[Path]:
    """Archives: packed and plain, with volumes, with names that lead outside, links, passwords and archives in them."""
    scan = {path.name: path.read_bytes() for path in _scan(folder / "scan")}
    png = io.BytesIO()
    Image.fromarray((phantom()[0] >> 3).astype(np.uint8)).save(png, "png")
    nifti = nibabel.Nifti1Image(phantom().T, np.diag((-0.9, -0.7, 2.5, 1))).to_bytes()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.dcm"), scan["0.dcm"])
    holds = {
        "plain": scan,
        "packed": {f"study/series/{name}": content for name, content in scan.items()},
        "volume": {"volume.nii": nifti, "notes.txt": b"x"},
        "picture": {"picture.png": png.getvalue()},
        "outside": {
            f"{way}{name}": scan[name] for way, name in zip(("../", "/", "a/../../", "C:\\\\"), scan, strict=True)
        },
        "link": {**scan, "link.dcm": b"/etc/passwd"},
        "nested": {**scan, "inner.zip": inner.getvalue()},
        "locked": {**scan, "locked.dcm": scan["0.dcm"]},
    }
    paths = []
    for name, members in holds.items():
        path = folder / f"{name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                entry = zipfile.ZipInfo(member)
                entry.compress_type = zipfile.ZIP_STORED if name == "plain" else zipfile.ZIP_DEFLATED
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16 if member == "link.dcm" else 0o600 << 16
                archive.writestr(entry, content)
            if name == "locked":
                archive.infolist()[-1].flag_bits |= 1  # in the directory at the end
        paths.append(path)
    return paths
