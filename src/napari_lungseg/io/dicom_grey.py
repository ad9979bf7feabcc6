"""From stored grey values to physical ones: rescale, padding, VOI lookup table, inversion, in the order of the standard.

The order is that of DICOM PS3.3 C.11 and PS3.4 N.2: modality transformation, then VOI, then the presentation, of which
MONOCHROME1 is a part. A window changes nothing here: it is only what is to be shown first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ReadError
from ..findings import Finding
from ..volume import Unit
from .dicom_decode import stored_values
from .dicom_header import Frame

AIR_HU = -1000
# Between these a padding value already shows air.
_ALREADY_AIR_HU = (-1100, -950)
# Between these a padding value may occur inside the patient as well: only what touches the border is padding then.
_TISSUE_HU = (-1000, 3071)
_LARGEST = 32767
_INTEGERS = (np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True, eq=False)
class Greys:
    """How the frames of one stack become values of one kind.

    Parameters
    ----------
    dtype : of the result, wide enough for all frames
    hounsfield : whether the result is in HU
    mirror : ``low + high`` of the range in which grey values are inverted, or None where they are not
    """

    dtype: np.dtype[Any]
    hounsfield: bool
    mirror: float | None

    def values(self, frame: Frame) -> np.ndarray:
        """(rows, columns) values of one frame, decoded, rescaled and inverted where it must be."""
        stored = stored_values(frame)
        padding = _padding_mask(stored, frame) if self.hounsfield else None
        values = _rescaled(stored, frame, self.dtype)
        if not self.hounsfield and frame.get("VOILUTSequence"):
            values = _looked_up(values, frame, "VOILUTSequence").astype(self.dtype)
        if padding is not None:
            values[padding] = AIR_HU
        if self.mirror is not None:
            values = (self.mirror - values).astype(self.dtype, copy=False)
        return values

    def window(self, frame: Frame) -> tuple[float, float] | None:
        """(low, high) that the file wants shown, mirrored with the inversion."""
        window = None if not self.hounsfield and frame.get("VOILUTSequence") else file_window(frame)
        if window is None or self.mirror is None:
            return window
        return self.mirror - window[1], self.mirror - window[0]


def greys(frames: Sequence[Frame], unit: Unit) -> tuple[Greys, list[Finding]]:
    """Decide how the frames of a stack become values, from their headers alone.

    Parameters
    ----------
    frames : of one stack
    unit : ``"HU"`` or ``"a.u."``
    """
    hounsfield = unit == "HU"
    ranges = [_range(frame, hounsfield) for frame in frames]
    whole = all(_is_whole(frame) for frame in frames)
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if hounsfield:
        low = min(low, AIR_HU)
    inverted = frames[0].text("PhotometricInterpretation") == "MONOCHROME1"
    mirror = low + high if inverted and not hounsfield else None
    return Greys(_dtype(low, high, whole, hounsfield), hounsfield, mirror), _findings(frames[0], inverted, hounsfield)


def _dtype(low: float, high: float, whole: bool, hounsfield: bool) -> np.dtype[Any]:
    if not whole:
        return np.dtype(np.float32)
    if hounsfield:  # int16 holds every Hounsfield value there is; unsigned 16-bit files merely could hold more
        return np.dtype(np.int16)
    fitting = (kind for kind in _INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.dtype(next(fitting, np.float32))


def _findings(frame: Frame, inverted: bool, hounsfield: bool) -> list[Finding]:
    findings = []
    if inverted and not hounsfield:
        told = "The file stores bright as dark (MONOCHROME1); the grey values were inverted once."
        findings.append(Finding("inverted-greys", told))
    if inverted and hounsfield:
        told = "The file wants an inverted display (MONOCHROME1); Hounsfield units are kept as they are."
        findings.append(Finding("inverted-display", told))
    shape = frame.text("PresentationLUTShape")
    if shape and (shape == "INVERSE") != inverted:
        told = f"The file contradicts itself: {frame.text('PhotometricInterpretation')} with a presentation that is {shape}. "
        findings.append(Finding("contradictory-greys", told + "The former decides; check that bone is bright."))
    if not hounsfield and frame.get("VOILUTSequence"):
        findings.append(Finding("voi-lut-applied", "The file's lookup table for display (VOI LUT) was applied."))
    return findings


def _slope(frame: Frame) -> tuple[float, float]:
    slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept")
    return (slope if slope else 1.0), (intercept if intercept is not None else 0.0)


def _is_whole(frame: Frame) -> bool:
    """Whether integers stay integers, of a size that leaves room to compute with them."""
    if frame.get("BitsStored") is None and frame.count("BitsAllocated", 16) > 16:
        return False  # float pixels
    return frame.get("ModalityLUTSequence") is not None or all(
        value.is_integer() and abs(value) <= _LARGEST for value in _slope(frame)
    )


def _range(frame: Frame, hounsfield: bool) -> tuple[float, float]:
    """(low, high) that values can have after rescale and VOI lookup table."""
    if not hounsfield and frame.get("VOILUTSequence"):
        return 0.0, float(2 ** _table(frame, "VOILUTSequence")[2] - 1)
    if frame.get("ModalityLUTSequence"):
        return 0.0, float(2 ** _table(frame, "ModalityLUTSequence")[2] - 1)
    low, high = _stored_range(frame)
    slope, intercept = _slope(frame)
    first, last = low * slope + intercept, high * slope + intercept
    return min(first, last), max(first, last)


def _stored_range(frame: Frame) -> tuple[int, int]:
    bits = frame.count("BitsStored", frame.count("BitsAllocated", 16))
    signed = frame.count("PixelRepresentation", 0) == 1
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _rescaled(stored: np.ndarray, frame: Frame, dtype: np.dtype[Any]) -> np.ndarray:
    if frame.get("ModalityLUTSequence"):
        return _looked_up(stored, frame, "ModalityLUTSequence").astype(dtype)
    slope, intercept = _slope(frame)
    if dtype.kind == "f":
        return np.asarray(stored * dtype.type(slope) + dtype.type(intercept), dtype=dtype)
    low, high = _range(frame, hounsfield=True)
    if low < np.iinfo(dtype).min or high > np.iinfo(dtype).max:
        stored = _within(stored, dtype, slope, intercept)
    # Modulo 2^16 the sum is right again, even where a stored value alone is beyond the type.
    values = stored.astype(dtype, copy=not stored.flags.writeable)
    if slope != 1:
        values *= dtype.type(slope)
    if intercept:
        values += np.asarray(int(intercept)).astype(dtype)
    return values


def _within(stored: np.ndarray, dtype: np.dtype[Any], slope: float, intercept: float) -> np.ndarray:
    """Stored values limited to those whose rescaled value the type can hold."""
    ends = sorted((limit - intercept) / slope for limit in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    own = np.iinfo(stored.dtype)
    low, high = (min(max(own.min, end), own.max) for end in (math.ceil(ends[0]), math.floor(ends[1])))
    return np.asarray(np.clip(stored, low, high, out=stored if stored.flags.writeable else None))


def _table(frame: Frame, keyword: str) -> tuple[np.ndarray, int, int]:
    """Entries of a lookup table (Modality or VOI LUT Sequence), the value the first stands for, and bits of an entry."""
    try:
        item = frame.get(keyword)[0]
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        kind = "<u2" if len(data) >= 2 * (count or 65536) or bits > 8 else "u1"
        entries = np.frombuffer(data, kind) if isinstance(data, bytes) else np.asarray(data, dtype=np.int64)
        if not len(entries) or not 1 <= bits <= 16:
            raise ValueError(f"{len(entries)} entries of {bits} bits")
    except Exception as error:  # pydicom raises anything on damaged values
        name = frame.instance.path.name
        raise ReadError(f"A lookup table in {name} ({keyword}) is damaged. Copy or export the file again.") from error
    if frame.count("PixelRepresentation", 0) and first > 0x7FFF:
        first -= 0x10000  # written unsigned for signed pixels
    return entries, first, bits


def _looked_up(values: np.ndarray, frame: Frame, keyword: str) -> np.ndarray:
    """Values through a lookup table; outside the table its ends hold."""
    entries, first, _ = _table(frame, keyword)
    index = np.rint(values).astype(np.int64) - first
    return np.asarray(entries[np.clip(index, 0, len(entries) - 1)])


def _padding_mask(stored: np.ndarray, frame: Frame) -> np.ndarray | None:
    """(rows, columns) whether a pixel lies outside what was scanned, or None where nothing has to be changed."""
    limits = [frame.number(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if limits[0] is None:
        return None
    ends = sorted(_as_stored(limit if limit is not None else limits[0], frame) for limit in limits)
    slope, intercept = _slope(frame)
    shown = [end * slope + intercept for end in ends]
    if all(_ALREADY_AIR_HU[0] <= value <= _ALREADY_AIR_HU[1] for value in shown):
        return None
    mask = (stored >= ends[0]) & (stored <= ends[1])
    if any(_TISSUE_HU[0] <= value <= _TISSUE_HU[1] for value in shown):
        from skimage.segmentation import clear_border

        mask &= ~clear_border(mask)
    return np.asarray(mask)


def _as_stored(value: float, frame: Frame) -> float:
    """A padding value in the pixels' own sign, however the header wrote it."""
    low, high = _stored_range(frame)
    turn = 1 << frame.count("BitsAllocated", 16)
    if value > high and low < 0:
        return value - turn
    return value + turn if value < 0 and low == 0 else value


def file_window(frame: Frame) -> tuple[float, float] | None:
    """(low, high) of the file's first window, or None.

    LINEAR counts pixel values (DICOM PS3.3 C.11.2.1.2.1); of LINEAR_EXACT and SIGMOID it is centre ± half the width.
    """
    centre, width = frame.number("WindowCenter"), frame.number("WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    if frame.text("VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID"):
        return centre - width / 2, centre + width / 2
    half = max(width - 1, 1.0) / 2
    return centre - 0.5 - half, centre - 0.5 + half
