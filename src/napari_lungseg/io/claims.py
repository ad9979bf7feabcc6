"""What headers claim, held against the file before anything is allocated or another file is opened.

ITK believes a header: it allocates what is claimed, may crash on numbers that are none, and follows any path. Of packed
voxels that are damaged it takes what comes out; hence their checksums are looked at here.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..errors import ReadError

# Deflate cannot pack better than this (zlib's technical details: https://zlib.net/zlib_tech.html).
MOST_DEFLATED = 1032
_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
# A zlib or a gzip header, whichever comes.
_ZLIB_OR_GZIP = 47
_MOST_CHANNELS = 1024
# Of lengths and directions; ITK hangs on some larger ones.
_LARGEST = 1e9
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_METAIMAGE_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG", "MET_ULONG", "MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
# MetaIO's lists of numbers: how many there are for n dimensions.
_METAIMAGE_LISTS = {
    **dict.fromkeys(("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation"), 1),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2),
}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
}


def check_metaimage(path: Path) -> None:
    """Check a MetaImage header against the bytes that are there.

    Raises
    ------
    ReadError
        Where it claims more voxels than the file can hold, holds numbers that are none, or names a file elsewhere.
    """
    head = _head(path)
    found = re.search(rb"^\s*ElementDataFile\s*=[ \t]*([^\r\n]*)\r?\n?", head, flags=re.MULTILINE)
    if found is None:
        raise _damaged(path, "ElementDataFile is missing")
    fields = _fields(head[: found.start()], "=")
    dimensions = _counts(path, fields, "NDims", 1)[0]
    sizes = _counts(path, fields, "DimSize", dimensions)
    for key, power in _METAIMAGE_LISTS.items():
        if key in fields:
            _check_floats(path, key, fields[key], dimensions**power)
    channels = _counts(path, fields, "ElementNumberOfChannels", 1)[0] if "ElementNumberOfChannels" in fields else 1
    kind = fields.get("ElementType", "")
    if kind not in _METAIMAGE_BYTES or not 2 <= dimensions <= 4 or channels > _MOST_CHANNELS:
        raise _damaged(path, f"{dimensions} dimensions, {channels} channel(s) of type {kind or 'unknown'}")
    needed = math.prod(sizes) * channels * _METAIMAGE_BYTES[kind]
    packed = fields.get("CompressedData", "").lower().startswith("t")
    voxels: Path | None
    name = found[1].decode(errors="replace").strip()
    if name.upper() == "LOCAL":
        voxels, start = path, found.end()
        there = path.stat().st_size - start
        if packed and not 0 < _counts(path, fields, "CompressedDataSize", 1)[0] <= there:
            raise _damaged(path, "CompressedDataSize is more than there is")
        _check_bytes(path, there, needed, packed)
    else:
        # Beside the header the whole file is packed; ITK would allocate whatever else is said.
        claimed = needed
        if packed and "CompressedDataSize" in fields and "%" not in name and name.upper() != "LIST":
            claimed = max(needed, _counts(path, fields, "CompressedDataSize", 1)[0])
        voxels, start = _check_beside(path, [name], head[found.end() :], claimed, packed), 0
    if packed and voxels and "HeaderSize" not in fields:
        _check_packed(path, voxels, start, needed)


def check_nrrd(path: Path) -> None:
    """Check an NRRD header, as `check_metaimage` does.

    Raises
    ------
    ReadError
        See `check_metaimage`.
    """
    head = _head(path)
    end = re.search(rb"\r?\n\r?\n", head)
    text = head[: end.start()] if end else head
    if not text.startswith(b"NRRD"):
        raise ReadError(f"{path.name} is not an NRRD file (its first line is missing); check that it was not renamed.")
    fields = {key.lower(): value for key, value in _fields(text, ":").items()}
    dimensions = _counts(path, fields, "dimension", 1)[0]
    if dimensions > 8:
        raise _damaged(path, f"{dimensions} dimensions")
    sizes = _counts(path, fields, "sizes", dimensions)
    kind = fields.get("type", "").lower()
    if kind not in _NRRD_BYTES:
        raise _damaged(path, f"voxels of type {kind or 'unknown'}")
    encoding = fields.get("encoding", "").lower()
    needed = math.prod(sizes) * (_NRRD_BYTES[kind] if encoding not in ("txt", "text", "ascii") else 2)
    packed = encoding in ("gz", "gzip")
    name = fields.get("data file", fields.get("datafile", ""))
    if name:
        voxels, start = _check_beside(path, [name.split()[0]], text, needed, packed), 0
    else:
        voxels, start = path, end.end() if end else len(head)
        _check_bytes(path, path.stat().st_size - start, needed, packed)
    if packed and voxels and not {"line skip", "lineskip", "byte skip", "byteskip"} & set(fields):
        _check_packed(path, voxels, start, needed)


def check_png(path: Path) -> None:
    """Check a PNG's size in pixels against its bytes (ISO 15948, 11.2.2); anything else is left to its reader.

    Raises
    ------
    ReadError
        Where it claims more pixels than the file can hold.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) < 26 or head[:4] != b"\x89PNG":
        return
    width, height = (int.from_bytes(head[start : start + 4], "big") for start in (16, 20))
    needed = width * height * head[24] * _PNG_CHANNELS.get(head[25], 1) // 8
    _check_bytes(path, path.stat().st_size, needed, packed=True)
    _check_chunks(path)


def _check_chunks(path: Path) -> None:
    """Whether every chunk ends within the file, and those of pixels bear their checksums."""
    size, at = path.stat().st_size, 8
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(8)
            length = int.from_bytes(head[:4], "big")
            at += 12 + length
            if head[4:] == b"IEND":
                return
            if head[4:] == b"IDAT" and at <= size:
                _check_sum(path, head[4:] + file.read(length), file.read(4))
    if at > size:
        raise ReadError(f"{path.name} is cut short or damaged: one of its parts ends behind the file. Copy it again.")


def _check_sum(path: Path, chunk: bytes, told: bytes) -> None:
    if zlib.crc32(chunk) != int.from_bytes(told, "big"):
        raise ReadError(f"{path.name} is damaged: the checksum of its pixels is wrong. Copy or export it again.")


def check_tiff(path: Path) -> None:
    """Check that a TIFF's list of pages ends, and lies within the file (TIFF 6.0, section 2; BigTIFF).

    Raises
    ------
    ReadError
        Where it goes in a circle or points outside.
    """
    size, seen = path.stat().st_size, set()
    with path.open("rb") as file:
        head = file.read(16)
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        big = int.from_bytes(head[2:4], order) == 43
        count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if big else (2, 12, 4)
        at = int.from_bytes(head[8:16] if big else head[4:8], order)
        while at:
            if at in seen or at + count_bytes > size:
                raise ReadError(f"{path.name} is damaged: its list of pages leads nowhere. Copy or export it again.")
            seen.add(at)
            file.seek(at)
            file.seek(at + count_bytes + entry_bytes * int.from_bytes(file.read(count_bytes), order))
            at = int.from_bytes(file.read(offset_bytes), order)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _damaged(path: Path, what: str) -> ReadError:
    return ReadError(f"{path.name} has a damaged header ({what}); copy or export it again.")


def _fields(text: bytes, separator: str) -> dict[str, str]:
    """``key separator value`` of each line."""
    lines = [line.partition(separator) for line in text.decode(errors="replace").splitlines()]
    return {key.strip(): value.strip() for key, found, value in lines if found}


def _counts(path: Path, fields: Mapping[str, str], key: str, count: int) -> list[int]:
    """So many whole numbers from 1."""
    words = fields.get(key, "").split()
    if len(words) != count or not all(word.isascii() and word.isdigit() and int(word[:20]) > 0 for word in words):
        raise _damaged(path, f"{key} is {fields.get(key, 'missing')!r:.40}; expected {count} whole number(s) from 1")
    return [int(word[:20]) for word in words]


def _check_floats(path: Path, key: str, text: str, count: int) -> None:
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(value) <= _LARGEST for value in values):
        raise _damaged(path, f"{key} is {text!r:.60}; expected {count} number(s) of a sensible size")


def _check_bytes(path: Path, there: int, needed: int, packed: bool) -> None:
    """Whether the voxels claimed fit into the bytes that are there."""
    if needed > there * (MOST_DEFLATED if packed else 1):
        raise ReadError(
            f"{path.name} is cut short or damaged: its header claims {needed:,} bytes of voxels, and {there:,} bytes"
            f"{' of packed ones' if packed else ''} are there. Copy or export it again."
        )


def _check_beside(path: Path, names: Sequence[str], listed: bytes, needed: int, packed: bool) -> Path | None:
    """Check voxel files named in a header: below the header's folder, and large enough where there is one alone: that."""
    many = names[0].upper() == "LIST" or "%" in names[0]
    if names[0].upper() == "LIST":
        lines = listed.decode(errors="replace").splitlines()
        names = [line.strip() for line in lines if line.strip() and ":" not in line]
    for name in names:
        steps = Path(os.path.normpath(name)).parts
        if Path(name).is_absolute() or "\0" in name or not steps or steps[0] == "..":
            raise ReadError(
                f"{path.name} names voxels outside its own folder; put its voxel file beside it and name that in the header."
            )
    if many:
        return None
    try:
        there = (path.parent / names[0]).stat().st_size
    except OSError as error:
        raise ReadError(
            f"{path.name} needs its voxel file {names[0]!r:.80} beside it, which is not there; copy both."
        ) from error
    _check_bytes(path, there, needed, packed)
    return path.parent / names[0]


def _check_packed(path: Path, voxels: Path, start: int, needed: int) -> None:
    """Whether packed voxels come out whole, with the checksum at their end."""
    unpack, size = zlib.decompressobj(_ZLIB_OR_GZIP), 0
    try:
        with voxels.open("rb") as file:
            file.seek(start)
            while not unpack.eof and (block := file.read(_BLOCK_BYTES)):
                size += len(unpack.decompress(block))
    except zlib.error as error:
        raise ReadError(
            f"{path.name} is damaged: its packed voxels are broken ({error}). Copy or export it again."
        ) from error
    if size < needed or not unpack.eof:
        raise ReadError(
            f"{path.name} is cut short or damaged: its packed voxels end too early. Copy or export it again."
        )
