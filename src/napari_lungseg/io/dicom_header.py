"""DICOM headers: which files are DICOM, what they say, and where their pixels lie. No pixel is read here."""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
# ImagePositionPatient, ImageOrientationPatient, PixelSpacing, RescaleIntercept, RescaleSlope, InstanceNumber.
_DECIMALS = frozenset({0x00200032, 0x00200037, 0x00280030, 0x00281052, 0x00281053, 0x00200013})
# SamplesPerPixel, Rows, Columns, BitsAllocated, BitsStored, HighBit and PixelRepresentation.
_SHORTS = frozenset({0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103})
_PIXEL_DATA = {b"\xe0\x7f\x10\x00": "<", b"\x7f\xe0\x00\x10": ">"}
_FLOAT_PIXEL_DATA = (b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09")
_ITEM, _ITEMS_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF
# JPEG 2000 packs an empty image to a few hundred bytes; more than this nothing does.
_MOST_PACKED = 100_000
# A deflated data set larger than this, and so much larger than its file, is no scan.
_MOST_INFLATED, _USUAL_DEFLATE = 1 << 30, 50
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
# They have pixels, but are not scans: segmentations (binary, label map) and dose grids.
NOT_SCANS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.2")


class DamagedFileError(Exception):
    """A DICOM file that is cut off or cannot be understood; turned into a finding or a `ReadError` by the reader."""


class NotAScanError(Exception):
    """A sound DICOM file that holds no scan; the text says what it is.

    Parameters
    ----------
    name : of the kind of object
    sop_class : its UID
    """

    def __init__(self, name: str, sop_class: str = "") -> None:
        super().__init__(name)
        self.sop_class = sop_class


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file with its header.

    Parameters
    ----------
    path : the file
    header : pydicom dataset of all that stands before the pixels
    transfer_syntax : UID of how the pixels are coded, or "" where the file does not say
    plain_offset : byte at which uncompressed little-endian pixels start, or None where pydicom has to decode them
    """

    path: Path
    header: Any
    transfer_syntax: str
    plain_offset: int | None


@dataclass(frozen=True, eq=False)
class Frame:
    """One image: an instance, or one frame of a multi-frame instance.

    Parameters
    ----------
    instance : the file it lies in
    index : its number within the file, from 0
    own : what the functional groups say of this frame alone; goes before the header
    """

    instance: Instance
    index: int = 0
    own: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _known(self) -> dict[str, Any]:
        """What was asked for already: decoding slices asks again, and pydicom takes its time."""
        return {}

    def get(self, keyword: str) -> Any:
        """Value of an element, or None where it is absent, empty or damaged."""
        if keyword not in self._known:
            self._known[keyword] = self._read(keyword)
        return self._known[keyword]

    def _read(self, keyword: str) -> Any:
        value = self.own.get(keyword)
        if value is None:
            try:
                value = self.instance.header.get(keyword)
            except Exception:  # noqa: BLE001 (pydicom raises anything, from KeyError to struct.error, on a damaged value)
                return None
        return None if value is None or (isinstance(value, str | bytes | Sequence) and len(value) == 0) else value

    def text(self, keyword: str) -> str:
        """Value as upper-case words without surrounding blanks, "" where there is none."""
        value = self.get(keyword)
        return "" if value is None else str(value).strip().upper()

    def words(self, keyword: str) -> tuple[str, ...]:
        """Multi-valued text, each upper-case and stripped."""
        value = self.get(keyword)
        many = isinstance(value, Sequence) and not isinstance(value, str)  # a person's name can be iterated, but is one
        values = value if many else [value]
        return () if value is None else tuple(str(word).strip().upper() for word in values)

    @cached_property
    def _known_numbers(self) -> dict[str, tuple[float, ...]]:
        return {}

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Values as finite floats; empty where any is not."""
        if keyword not in self._known_numbers:
            try:
                values = self._read_numbers(keyword)
            except (TypeError, ValueError):
                values = ()
            self._known_numbers[keyword] = values if all(map(math.isfinite, values)) else ()
        return self._known_numbers[keyword]

    def _read_numbers(self, keyword: str) -> tuple[float, ...]:
        # Most of what is asked of every slice is as simple as this, and takes a tenth of pydicom's time here.
        raw = None if keyword in self.own else self.instance.header.get_item(keyword)
        if raw is not None and isinstance(raw.value, bytes):
            if raw.tag in _DECIMALS:
                return tuple(float(word) for word in raw.value.rstrip(b"\0 ").split(b"\\"))
            if raw.tag in _SHORTS and len(raw.value) == 2:
                return (float(int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")),)
        value = self.get(keyword)
        many = isinstance(value, Sequence) and not isinstance(value, str)
        return tuple(float(each) for each in value) if many else (float(value),)

    def number(self, keyword: str) -> float | None:
        """First value as a finite float, or None."""
        values = self.numbers(keyword)
        return values[0] if values else None

    def count(self, keyword: str, default: int) -> int:
        """First value as an integer."""
        value = self.number(keyword)
        return default if value is None else int(value)

    @cached_property
    def position(self) -> np.ndarray | None:
        """(x, y, z) of the centre of the first pixel, mm LPS, or None."""
        values = self.numbers("ImagePositionPatient")
        return np.asarray(values) if len(values) == 3 else None

    @cached_property
    def orientation(self) -> np.ndarray | None:
        """(2, 3) unit vectors (x, y, z) along which columns and rows are counted up, or None."""
        values = self.numbers("ImageOrientationPatient")
        if len(values) != 6:
            return None
        axes = np.asarray(values).reshape(2, 3)
        lengths = np.linalg.norm(axes, axis=1)
        if min(lengths) < 0.5 or np.linalg.norm(np.cross(*axes)) < 0.5:
            return None
        return np.asarray(axes / lengths[:, None])

    @cached_property
    def spacing(self) -> tuple[float, float] | None:
        """(row, column) distances in mm from PixelSpacing, or None."""
        return self.pair("PixelSpacing")

    def pair(self, keyword: str) -> tuple[float, float] | None:
        """Two positive numbers, or None."""
        values = self.numbers(keyword)
        return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.count("Rows", 0), self.count("Columns", 0)

    @property
    def image_type(self) -> tuple[str, ...]:
        """What kind of image it is, of the frame where it says so itself."""
        return self.words("FrameType") or self.words("ImageType")


def is_dicom(path: Path) -> bool:
    """Whether a file's content is DICOM, with or without the preamble that should be there.

    Parameters
    ----------
    path : any file; a folder or an unreadable file is not DICOM
    """
    try:
        with path.open("rb") as file:
            return starts_like_dicom(file.read(132))
    except OSError:
        return False


def starts_like_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM, with preamble or without."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    # Without preamble a data set starts with a low element of group 0002 or 0008.
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", head[:8])
        if group in (0x0002, 0x0008) and element <= 0x0100:
            return head[4:6] in _VALUE_REPRESENTATIONS or length < 1024
    return False


def read_instance(path: Path, *, scans_only: bool = True) -> Instance | None:
    """Read one header, and check that the pixels behind it are all there.

    Parameters
    ----------
    path : any file
    scans_only : whether segmentations and dose grids, which have pixels too, are refused

    Returns
    -------
    the instance, or None where the file is not DICOM

    Raises
    ------
    DamagedFileError
        Where the file is cut off or its header is damaged.
    NotAScanError
        Where it is another DICOM object.
    """
    import pydicom

    with path.open("rb") as file:
        if not starts_like_dicom(file.read(132)):
            return None
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _check_deflated(file)
                header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
        except DamagedFileError:
            raise
        except Exception as error:  # pydicom raises anything from AttributeError to struct.error on damaged bytes
            raise DamagedFileError(f"its header cannot be understood ({error})") from error
        frame = Frame(Instance(path, header, syntax, None))
        _refuse_other_objects(frame, scans_only)
        return Instance(path, header, syntax, None if syntax == _DEFLATED else _check_pixels(file, frame))


def _check_deflated(file: BinaryIO) -> None:
    """Raise where a deflated data set unpacks to far more than a scan would; pydicom unpacks it whole."""
    import zlib

    head = file.read(1024)
    if _DEFLATED.encode() not in head or head[132:140] != b"\x02\0\0\0UL\x04\0":
        file.seek(0)
        return
    file.seek(144 + int.from_bytes(head[140:144], "little"))
    most = max(_MOST_INFLATED, _USUAL_DEFLATE * os.fstat(file.fileno()).st_size)
    unpack, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while part := unpack.unconsumed_tail or file.read(1 << 20):
        total += len(unpack.decompress(part, 1 << 24))
        if total > most:
            raise DamagedFileError(f"it unpacks to more than {most:,} bytes")
    file.seek(0)


def _refuse_other_objects(frame: Frame, scans_only: bool) -> None:
    try:
        uid = frame.get("SOPClassUID") or frame.instance.header.file_meta.get("MediaStorageSOPClassUID")
    except Exception as error:  # pydicom raises anything on a damaged value
        raise DamagedFileError(f"its header cannot be understood ({error})") from error
    known = str(getattr(uid, "name", uid)) if uid is not None else ""
    # A damaged identifier is its own name, and may hold anything, also the patient's.
    name = known.removesuffix(" Storage") if known and known != str(uid) else "object of unknown kind"
    if scans_only and str(uid) in NOT_SCANS:
        raise NotAScanError(name, str(uid))
    if min(frame.shape) < 1:
        if "Image" in name and "Directory" not in name:
            raise DamagedFileError("its header ends before it describes an image")
        raise NotAScanError("DICOMDIR" if "Directory" in name else name, str(uid))


def _check_pixels(file: BinaryIO, frame: Frame) -> int | None:
    """Offset of plain pixels; None for pixels that only pydicom can decode."""
    tag = file.read(4)
    if tag in _FLOAT_PIXEL_DATA:
        return None
    if tag not in _PIXEL_DATA:
        raise DamagedFileError("it is cut off before its pixels")
    allocated = frame.count("BitsAllocated", 0)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= frame.count("BitsStored", allocated) <= allocated:
        raise DamagedFileError("its header contradicts itself about the bits of a pixel")
    order = _PIXEL_DATA[tag]
    rest = file.read(4)
    if rest[:2] in (b"OW", b"OB", b"UN"):
        rest = file.read(4)
    if len(rest) < 4:
        raise DamagedFileError("it is cut off before its pixels")
    (length,) = struct.unpack(f"{order}I", rest)
    start = file.tell()
    size = file.seek(0, 2)
    if length == _UNDEFINED:
        file.seek(start)
        count = _check_fragments(file, size)
        if count - 1 < frame.count("NumberOfFrames", 1):
            raise DamagedFileError(f"its header promises more frames than its {count - 1} compressed one(s)")
        if _bytes_of_frames(frame) > (size - start) * _MOST_PACKED:
            raise DamagedFileError("its header promises far more pixels than can be packed into it")
        return None
    expected = _expected_bytes(frame)
    if min(length, size - start) < expected:
        raise DamagedFileError(
            f"it is cut off: {size - start:,} of {max(length, expected):,} bytes of pixels are there"
        )
    return start if frame.instance.transfer_syntax in _PLAIN else None


def _check_fragments(file: BinaryIO, size: int) -> int:
    """Count the fragments of compressed pixels (the offset table is one), which must not run past the end of the file."""
    count = 0
    while head := file.read(8):
        if len(head) < 8 or head[:4] != _ITEM:
            if head[:4] == _ITEMS_END:
                return count
            raise DamagedFileError("its compressed pixels are damaged")
        end = file.tell() + struct.unpack("<I", head[4:])[0]
        if end > size:
            raise DamagedFileError("it is cut off within its compressed pixels")
        file.seek(end)
        count += 1
    return count


def _expected_bytes(frame: Frame) -> int:
    """Bytes of uncompressed pixels that must be there; subsampled colour takes two thirds."""
    whole = _bytes_of_frames(frame)
    return 2 * whole // 3 if "422" in frame.text("PhotometricInterpretation") else whole


def _bytes_of_frames(frame: Frame) -> int:
    """Bytes of all pixels that the header promises."""
    values = int(np.prod(frame.shape)) * frame.count("SamplesPerPixel", 1) * max(1, frame.count("NumberOfFrames", 1))
    return values * frame.count("BitsAllocated", 16) // 8


def frames_of(instance: Instance) -> list[Frame]:
    """Every frame of an instance, with what its functional groups say of it.

    Raises
    ------
    DamagedFileError
        Where they cannot be understood, or are not as many as the frames.
    """
    whole = Frame(instance)
    count = max(1, whole.count("NumberOfFrames", 1))
    each = whole.get("PerFrameFunctionalGroupsSequence") or [None] * count
    if len(each) != count:
        raise DamagedFileError(f"it describes {len(each)} frames but holds {count}")
    try:
        shared = _flatten(next(iter(whole.get("SharedFunctionalGroupsSequence") or ()), None))
        return [Frame(instance, index, {**shared, **_flatten(groups)}) for index, groups in enumerate(each)]
    except Exception as error:  # pydicom raises anything on damaged values
        raise DamagedFileError("what it says of its frames cannot be understood") from error


def _flatten(groups: Any) -> dict[str, Any]:
    """Keyword → value of all elements in the first item of each functional group."""
    found: dict[str, Any] = {}
    for group in groups if groups is not None else ():
        if group.VR == "SQ" and group.value:
            found.update({element.keyword: element.value for element in group.value[0] if element.keyword})
    return found
