"""Small sound files of every format, the same bytes in every run, for mutation."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
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


def phantom() -> np.ndarray:
    """(SLICES, ROWS, COLUMNS) smooth int16 values from -1000 to 600 with a little noise: it packs, and every voxel counts."""
    z, y, x = np.mgrid[:SLICES, :ROWS, :COLUMNS]
    smooth = 800 * np.sin(z + y / 7 + x / 5) - 200
    return (smooth + np.random.default_rng(5).integers(-5, 6, smooth.shape)).astype(np.int16)


def write_all(folder: Path) -> dict[str, list[Path]]:
    """Format → files to mutate; what lies beside them (raw voxels of a header) is left as it is."""
    makers = (_dicom, _nifti, _nrrd, _metaimage, _tiff, _png)
    found = {}
    for name, maker in zip(FORMATS, makers, strict=True):
        (folder / name).mkdir(parents=True)
        found[name] = maker(folder / name)
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
