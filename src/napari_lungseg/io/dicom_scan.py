"""The few elements by which DICOM files are sorted into series, read five times faster than a whole header.

Thousands of headers stand between a person and the list of what a disc holds. The usual file (little endian, with its
preamble) is walked over here, element by element, up to the last one that is wanted; whatever is unusual is left to
pydicom. DICOM PS3.5, section 7.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import BinaryIO

from .dicom_header import DamagedFileError, starts_like_dicom

# Tag → keyword, all that listing asks of a file.
WANTED: Mapping[int, str] = MappingProxyType(
    {
        0x00080016: "SOPClassUID",
        0x00080018: "SOPInstanceUID",
        0x00100010: "PatientName",
        0x00100020: "PatientID",
        0x0020000D: "StudyInstanceUID",
        0x0020000E: "SeriesInstanceUID",
        0x00200013: "InstanceNumber",
        0x00200032: "ImagePositionPatient",
        0x00200037: "ImageOrientationPatient",
        0x00280008: "NumberOfFrames",
        0x00280010: "Rows",
    }
)
_LAST = max(WANTED)
_ROWS = 0x00280010
_CHUNK = 16_384
# No header of an image is longer; a file that is no DICOM inside is not read to its end.
_LONGEST_HEADER = 64 * 2**20
_LONG = frozenset(b"OB OW OF OD OL OV SQ UN UT UC UR SV UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF
_TRANSFER_SYNTAX, _IMPLICIT = 0x00020010, b"1.2.840.10008.1.2"
_NOT_WALKED = (b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99")  # big endian, deflated
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_explicit, _implicit, _long = struct.Struct("<HH2sH"), struct.Struct("<HHI"), struct.Struct("<I")


def scan_header(file: BinaryIO) -> dict[str, str] | None:
    """The wanted elements of a DICOM file, keyword → text (several values divided by a backslash).

    Parameters
    ----------
    file : at its beginning; need not be seekable

    Returns
    -------
    what is there, or None where the file is not DICOM

    Raises
    ------
    DamagedFileError
        Where the header cannot be understood.
    """
    head = file.read(_CHUNK)
    if not starts_like_dicom(head):
        return None
    try:
        raw = _walk(head)
    except (struct.error, IndexError, RecursionError):  # it goes on behind this chunk, or is damaged
        raw = None
    if raw is None:
        return _by_pydicom(head + file.read(_LONGEST_HEADER))
    return {WANTED[tag]: _text(tag, value) for tag, value in raw.items()}


def _text(tag: int, value: bytes) -> str:
    if tag == _ROWS:
        return str(int.from_bytes(value, "little"))
    return value.rstrip(b"\0 ").decode("latin-1")


def _walk(head: bytes) -> dict[int, bytes] | None:
    """The raw values of the wanted elements, or None for what pydicom has to read."""
    if head[128:132] != b"DICM":
        return None
    found: dict[int, bytes] = {}
    syntax, at = _meta(head)
    if not syntax or syntax in _NOT_WALKED:
        return None
    implicit = syntax == _IMPLICIT
    while True:
        tag, length, start = _element(head, at, implicit)
        if tag > _LAST:
            return found
        if tag in WANTED:
            found[tag] = head[start : start + length]
            if len(found[tag]) < length:
                return None
        # The usual case without a call, for there are a hundred of them in each of thousands of files.
        at = start + length if length != _UNDEFINED else _behind(head, at, start, length, implicit)


def _meta(head: bytes) -> tuple[bytes, int]:
    """Transfer syntax that the meta information names (b"" where it names none), and where the data set begins."""
    syntax, at = b"", 132
    while head[at : at + 2] == b"\x02\x00":
        tag, length, start = _element(head, at, False)
        at = start + length
        if tag == _TRANSFER_SYNTAX:
            syntax = head[start:at].rstrip(b"\0 ")
    return syntax, at


def _element(head: bytes, at: int, implicit: bool) -> tuple[int, int, int]:
    """Tag, length and start of the value of the element at a place."""
    if implicit or head[at : at + 2] == b"\xfe\xff":
        group, element, length = _implicit.unpack_from(head, at)
        return group << 16 | element, length, at + 8
    group, element, kind, length = _explicit.unpack_from(head, at)
    if kind in _LONG:
        return group << 16 | element, _long.unpack_from(head, at + 8)[0], at + 12
    if kind not in _SHORT:
        raise IndexError("no explicit coding, whatever the file says")
    return group << 16 | element, length, at + 8


def _behind(head: bytes, at: int, start: int, length: int, implicit: bool) -> int:
    """Where the next element begins."""
    if length != _UNDEFINED:
        return start + length
    # A value of unknown kind and undefined length is a sequence in implicit coding (PS3.5, 6.2.2).
    return _behind_items(head, start, implicit or head[at + 4 : at + 6] == b"UN")


def _behind_items(head: bytes, at: int, implicit: bool) -> int:
    """Where a sequence of undefined length ends."""
    while True:
        tag, length, at = _element(head, at, True)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise IndexError
        at = at + length if length != _UNDEFINED else _behind_item(head, at, implicit)


def _behind_item(head: bytes, at: int, implicit: bool) -> int:
    while True:
        tag, length, start = _element(head, at, implicit)
        if tag == _ITEM_END:
            return start
        at = _behind(head, at, start, length, implicit)


def _by_pydicom(content: bytes) -> dict[str, str]:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(
                io.BytesIO(content), stop_before_pixels=True, force=True, specific_tags=list(WANTED)
            )
            values = {keyword: header.get(keyword) for keyword in WANTED.values()}
        except Exception as error:  # pydicom raises anything from AttributeError to struct.error on damaged bytes
            raise DamagedFileError("its header cannot be understood") from error
    return {
        keyword: "\\".join(map(str, value)) if isinstance(value, list | pydicom.multival.MultiValue) else str(value)
        for keyword, value in values.items()
        if value is not None
    }
