"""Stored pixel values of a DICOM frame: straight from the file where they are plain, through pydicom otherwise."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from .dicom_header import Frame
from .dicom_kind import is_colour

_TYPES = {(8, 0): "u1", (8, 1): "i1", (16, 0): "<u2", (16, 1): "<i2"}


def stored_values(frame: Frame) -> np.ndarray:
    """(rows, columns) or (rows, columns, 3) values as they are stored: no rescale, no window.

    Raises
    ------
    ReadError
        Where the pixels are damaged, or coded in a way that no installed decoder knows.
    """
    kind = _TYPES.get((frame.count("BitsAllocated", 0), frame.count("PixelRepresentation", 0)))
    offset = frame.instance.plain_offset
    if offset is None or kind is None or is_colour(frame) or not _is_low_aligned(frame):
        return _decoded(frame)
    rows, columns = frame.shape
    size = rows * columns * np.dtype(kind).itemsize
    try:
        values = np.fromfile(frame.instance.path, kind, rows * columns, offset=offset + frame.index * size)
    except OSError as error:
        raise ReadError(
            f"{frame.instance.path.name} can no longer be read ({error.strerror}). Open it again."
        ) from error
    if values.size < rows * columns:
        raise ReadError(f"{frame.instance.path.name} has become shorter since it was opened. Open it again.")
    return _without_unused_bits(values.reshape(rows, columns), frame)


def _is_low_aligned(frame: Frame) -> bool:
    stored = frame.count("BitsStored", frame.count("BitsAllocated", 16))
    return frame.count("HighBit", stored - 1) == stored - 1


def _without_unused_bits(values: np.ndarray, frame: Frame) -> np.ndarray:
    """Clear the bits above BitsStored, which may hold overlays, and extend the sign over them. Changes ``values``."""
    unused = 8 * values.itemsize - frame.count("BitsStored", 8 * values.itemsize)
    if unused > 0:
        values <<= unused
        values >>= unused
    return values


def _decoded(frame: Frame) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    path = frame.instance.path
    try:
        several = frame.count("NumberOfFrames", 1) > 1
        dataset = _parsed(path, path.stat().st_mtime_ns) if several else _parse(path)
        values = pixel_array(dataset, index=frame.index, decoding_plugin=_decoder(dataset.file_meta.TransferSyntaxUID))
        if frame.text("PhotometricInterpretation").startswith("PALETTE"):
            values = apply_color_lut(values, dataset)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # decoders raise anything; those written in Rust panic outside of Exception
        raise ReadError(_why(frame, error)) from error
    return np.asarray(values)


def _decoder(syntax: Any) -> str:
    """Name of pydicom's plugin to use, "" for its own choice: CharLS takes a quarter of libjpeg's time for JPEG-LS."""
    from pydicom.pixels.decoders.base import get_decoder

    return "pyjpegls" if "pyjpegls" in get_decoder(syntax).available_plugins else ""


def _why(frame: Frame, error: BaseException) -> str:
    from pydicom.uid import UID

    syntax = UID(frame.instance.transfer_syntax)
    coded = syntax.name if syntax.name != syntax else "an unknown syntax"  # a damaged one may hold anything
    reason = " ".join(str(error).replace(syntax or " ", coded).split())[:200]
    return (
        f"The pixels of {frame.instance.path.name} (coded as {coded}) cannot be decoded: {reason}. "
        "The file is damaged or coded in an unusual way: get it again, or convert it to uncompressed DICOM."
    )


def _parse(path: Path) -> Any:
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset) or ImplicitVRLittleEndian
    return dataset


def _guessed_syntax(dataset: Any) -> Any:
    """Transfer syntax of a file without meta header, from how its elements turned out to be written."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    if implicit or implicit is None:
        return None
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


# The frames of one large file are read one after the other: parse it once, keep no more than that.
@lru_cache(maxsize=1)
def _parsed(path: Path, modified: int) -> Any:
    return _parse(path)
