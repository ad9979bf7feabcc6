"""NIfTI read straight from its bytes: sheared affines, broken headers and lengths in metres are seen, not smoothed over.

ITK refuses sheared affines and quietly takes 1 for a spacing that is not a number. The header therefore goes through
nibabel; voxels are taken as they lie, packed ones through SimpleITK, which is quicker.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from ..findings import Finding
from ..volume import Geometry
from .buffer import array_of
from .claims import MOST_DEFLATED
from .decoded import Decoded, signed_for

_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL, nifti1.h
_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_LONGEST_HEADER = 540
# Unpacked at most behind the voxels: 64 MB.
_CHUNK, _MOST_CHUNKS_BEHIND = 1 << 20, 64
_HEADER_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}
# nibabel counts (x, y, z) in RAS; here it is (z, y, x) in LPS: left and back change sign.
_RAS_TO_LPS = np.diag((1.0, -1.0, -1.0))


def decode_nifti(path: Path) -> list[Decoded]:
    """What a NIfTI file holds: one image, or one per time point.

    Raises
    ------
    ReadError
        For a file that is damaged, truncated, without a valid spacing, or of more than four dimensions.
    """
    header = _header(path)
    _check_header(path, header)
    _check_claims(path, header)
    frames = _quickly(path, header)
    if frames is None:
        frames = _voxels(path, header)
    geometry, placed, findings = _geometry(path, header, frames.shape[1:4])
    label = int(header["intent_code"]) == _LABEL_INTENT
    return [
        Decoded(
            array,
            geometry,
            path,
            placed=placed,
            labels_because="its NIfTI intent is LABEL" if label else "",
            findings=(*findings, *_about_time(index, len(frames))),
        )
        for index, array in enumerate(frames)
    ]


def _cut_short(path: Path, error: Exception) -> ReadError:
    return ReadError(f"{path.name} is damaged or cut short ({error}); copy or export it again.")


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _bytes_of(path: Path, count: int) -> np.ndarray:
    """The file's first bytes, unpacked and writable, so that the voxels are a view of them and can be painted on."""
    if not _is_packed(path):
        return np.fromfile(path, dtype=np.uint8, count=count)
    with gzip.open(path) as file:
        content = np.frombuffer(bytearray(file.read(count)), dtype=np.uint8)
        for _ in range(_MOST_CHUNKS_BEHIND):  # the checksum is looked at where the file ends
            if not file.read(_CHUNK):
                break
    return content


def _header(path: Path) -> Any:
    import nibabel

    try:
        with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
            head = file.read(_LONGEST_HEADER)
    except (OSError, EOFError, zlib.error) as error:
        raise _cut_short(path, error) from error
    kind = _HEADER_SIZES.get(int.from_bytes(head[:4], "little")) or _HEADER_SIZES.get(int.from_bytes(head[:4], "big"))
    if kind is None or len(head) < min(_HEADER_SIZES):
        raise ReadError(f"{path.name} is not a NIfTI file (its header is missing); check that it was not renamed.")
    header_class = getattr(nibabel, kind)
    try:
        return header_class.from_fileobj(io.BytesIO(head), check=False)
    except Exception as error:  # nibabel raises what it meets; whatever it is, the header is unreadable
        raise ReadError(f"{path.name} has a damaged NIfTI header ({error}); export it again.") from error


def _check_header(path: Path, header: Any) -> None:
    """Raise for spacings or an affine that are not numbers, before anything is made of them."""
    axes = min(3, int(header["dim"][0]))
    spacing = np.asarray(header["pixdim"][1 : axes + 1], dtype=float)
    rows = np.asarray([header["srow_x"], header["srow_y"], header["srow_z"]], dtype=float)
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        found = ", ".join(f"{value:g}" for value in spacing)
        raise ReadError(
            f"{path.name} gives the spacing ({found}), but a spacing is a positive number of millimetres. "
            "Its header is damaged; export the scan again."
        )
    if int(header["sform_code"]) > 0 and not np.isfinite(rows).all():
        raise ReadError(f"{path.name} has a position that is not a number in its header; export the scan again.")


def _check_claims(path: Path, header: Any) -> None:
    """Raise where the header claims more voxels than the file can hold: nothing is allocated on its word alone."""
    try:
        shape, itemsize = [abs(int(size)) for size in header.get_data_shape()], header.get_data_dtype().itemsize
        claimed = int(header.get_data_offset()) + math.prod(shape) * itemsize
    except Exception as error:  # an unknown type or an impossible count of dimensions
        raise ReadError(f"{path.name} has a damaged NIfTI header ({error}); export it again.") from error
    there = path.stat().st_size * (MOST_DEFLATED if _is_packed(path) else 1)
    if claimed > there:
        raise ReadError(
            f"{path.name} is cut short or damaged: its header claims {claimed:,} bytes, more than the file can hold. "
            "Copy or export it again."
        )


def _quickly(path: Path, header: Any) -> np.ndarray | None:
    """Voxels of a plain packed volume through SimpleITK, which unpacks about four times faster; None where it cannot.

    SimpleITK takes a file that is cut short for complete, so its voxels are held against the checksum (RFC 1952).
    """
    import SimpleITK

    plain = int(header["dim"][0]) <= 3 and header.get_data_dtype().kind in "iuf" and _scale(header) is None
    if not plain or not _is_packed(path):
        return None
    try:
        array = array_of(SimpleITK.ReadImage(str(path)))
    except RuntimeError:  # sheared, or damaged: the slow way tells which
        return None
    with gzip.open(path) as file:
        before = file.read(int(header.get_data_offset()))
    if zlib.crc32(array.data, zlib.crc32(before)) != _checksum(path):
        return None
    return array.reshape(1, *([1] * (3 - array.ndim)), *array.shape)


def _checksum(path: Path) -> int:
    """The CRC-32 of the unpacked bytes that ends a gzip file of one member."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _voxels(path: Path, header: Any) -> np.ndarray:
    """(time, z, y, x[, channel]) voxels, scaled as the header says; integers stay integers where they can."""
    shape = [int(size) for size in header.get_data_shape()]
    if not shape or min(shape) < 1:
        raise ReadError(f"{path.name} says that it holds no voxels (shape {tuple(shape)}); export it again.")
    channels = 1
    if len(shape) == 5 and shape[3] == 1 and shape[4] in (3, 4):
        channels = shape[4]
    elif any(size > 1 for size in shape[4:]):
        raise ReadError(f"{path.name} has {len(shape)} dimensions {tuple(shape)}; expected space, and time at most.")
    spatial = [*shape[:4], 1, 1, 1, 1][:4]
    try:
        dtype = header.get_data_dtype()
        offset, count = int(header.get_data_offset()), math.prod(spatial) * channels
        flat = np.frombuffer(_bytes_of(path, offset + count * dtype.itemsize), dtype=dtype, count=count, offset=offset)
    except Exception as error:  # too few bytes, an unknown type, an impossible offset: the file is broken
        raise _cut_short(path, error) from error
    if dtype.names:  # RGB and RGBA are records of bytes
        return flat.view(np.uint8).reshape(*spatial[::-1], len(dtype.names))
    array = flat.astype(dtype.newbyteorder("="), copy=False)
    array = np.moveaxis(array.reshape(channels, *spatial[::-1]), 0, -1)
    return _scaled(array[..., 0] if channels == 1 else np.ascontiguousarray(array), header)


def _scale(header: Any) -> tuple[float, float] | None:
    """(slope, intercept), or None where the voxels are taken as they are (nifti1.h: slope 0 means none)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    intercept = intercept if np.isfinite(intercept) else 0.0
    if not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1.0, 0.0):
        return None
    return slope, intercept


def _scaled(array: np.ndarray, header: Any) -> np.ndarray:
    """``slope · value + intercept``, in integers when both are whole and nothing overflows."""
    scale = _scale(header)
    if scale is None:
        return array
    slope, intercept = scale
    if array.dtype.kind in "iu":
        ends = (float(array.min()), float(array.max()))
        fitting = signed_for(slope, intercept, *ends, *(end * slope + intercept for end in ends))
        if fitting is not None:
            return array.astype(fitting) * int(slope) + int(intercept)
    return array.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _geometry(path: Path, header: Any, shape: tuple[int, ...]) -> tuple[Geometry, bool, list[Finding]]:
    """Where the voxels are, whether the file places them in the patient, and what was noticed."""
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    findings: list[Finding] = []
    stated = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    unit = _unit(header)
    scale = _MM_PER_UNIT.get(unit, 1.0)
    pixdim = np.asarray(header["pixdim"][1:4], dtype=float) * scale
    spacing = np.where(np.isfinite(pixdim) & (pixdim > 0), pixdim, 1.0)[::-1]
    if not stated or int(header["dim"][0]) < 3:
        says_nothing = bool(np.all(spacing == 1)) and unit == "unknown"
        told = "The file does not say how it lies in the patient (neither sform nor qform)."
        findings += [Finding("no-orientation", told)] if size[0] > 1 else []
        return Geometry(size, tuple(spacing), units="pixel" if says_nothing else "mm"), False, findings
    ras = _affine(path, header) * scale
    if size[0] == 1 and unit == "unknown" and np.array_equal(np.abs(ras[:3]), np.eye(4)[:3]):
        return Geometry(size, units="pixel"), False, findings  # the affine of someone who had none
    matrix = _RAS_TO_LPS @ ras[2::-1, 2::-1]
    lengths = np.linalg.norm(matrix, axis=0)
    if not (lengths > 0).all():
        raise ReadError(f"{path.name} has a degenerate affine (an axis of length 0); export the scan again.")
    origin = _RAS_TO_LPS @ ras[2::-1, 3]
    direction = matrix / lengths
    findings += _about_forms(header, scale, ras, size)
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        findings.append(
            Finding("sheared", "The axes are not at right angles (gantry tilt); lengths and volumes allow for it.")
        )
    rows = tuple(tuple(float(value) for value in row) for row in direction)
    return Geometry(size, tuple(lengths), tuple(origin), rows), True, findings  # type: ignore[arg-type]


def _unit(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:  # a code that the format does not know
        return "unknown"


def _affine(path: Path, header: Any) -> np.ndarray:
    try:
        return np.asarray(header.get_best_affine(), dtype=float)
    except Exception as error:  # nibabel raises what it meets in a damaged quaternion
        raise ReadError(
            f"{path.name} has a damaged position in its header ({error}); export the scan again."
        ) from error


def _about_forms(header: Any, scale: float, ras: np.ndarray, shape: tuple[int, int, int]) -> list[Finding]:
    """Tell when qform and sform place the far corner more than a voxel apart: other programs may take the other."""
    if not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return []
    import nibabel

    corner = (shape[2], shape[1], shape[0], 1)
    try:
        apart = np.linalg.norm((np.asarray(header.get_qform()) * scale - ras)[:3] @ corner)
    except (
        ValueError,
        TypeError,
        nibabel.spatialimages.HeaderDataError,
    ):  # an invalid quaternion: there is no second opinion
        return []
    if apart <= np.abs(ras[:3, :3]).max():
        return []
    told = f"The two positions in the header (sform, qform) differ by up to {apart:.0f} mm; sform was taken."
    return [Finding("nifti-forms-differ", told)]


def _about_time(index: int, total: int) -> list[Finding]:
    if total == 1:
        return []
    told = f"Time point {index + 1} of {total} of one file; each is opened as a volume of its own."
    return [Finding("time-point", told)]
