"""Arrays of DICOM stacks: small ones at once, big ones lazily, one chunk for each slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ReadError
from .dicom_decode import stored_values
from .dicom_header import Frame

# 64 slices of 512² are 32 MB and take about a second even in the slowest coding (JPEG 2000), a tenth of it uncompressed:
# below that nobody waits, above it the first slice should not wait for the rest.
LAZY_ABOVE = 64


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Slices that are read when they are asked for; what Dask needs of an array.

    Parameters
    ----------
    frames : one for each slice
    dtype : of the values
    read : frame → (rows, columns) of ``dtype``
    """

    frames: Sequence[Frame]
    dtype: np.dtype[Any]
    read: Callable[[Frame], np.ndarray]
    ndim: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return len(self.frames), *self.frames[0].shape

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read the slices of a basic index: slices or integers."""
        key = key if isinstance(key, tuple) else (key,)
        if not isinstance(key[0], slice):
            return np.asarray(self.read(self.frames[key[0]])[key[1:]])
        slices = [self.read(frame)[None] for frame in self.frames[key[0]]]
        stacked = (
            slices[0] if len(slices) == 1 else np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *slices])
        )
        return np.asarray(stacked[(slice(None), *key[1:])])


def lazy(stack: SliceStack) -> Any:
    """Dask array (z, y, x) over a stack, one chunk for each slice."""
    import dask.array

    chunks = (1, *stack.shape[1:])
    meta = np.empty((0, 0, 0), stack.dtype)
    return dask.array.from_array(stack, chunks=chunks, name=False, asarray=False, inline_array=True, meta=meta)


def load(frames: Sequence[Frame], read: Callable[[Frame], np.ndarray]) -> tuple[np.ndarray | None, list[int], str]:
    """Read all frames now.

    Returns
    -------
    array : (z, y, x[, 3]) of the frames that could be decoded, or None where none could
    good : their numbers
    reason : why the first of the others could not, or ""
    """
    slices, good, reason = [], [], ""
    for number, frame in enumerate(frames):
        try:
            slices.append(read(frame))
            good.append(number)
        except ReadError as error:
            reason = reason or str(error)
    return (np.stack(slices) if slices else None), good, reason


def colours(frame: Frame) -> np.ndarray:
    """(rows, columns, 3) colours of one frame, 8 bit."""
    values = stored_values(frame)[..., :3]
    bits = 8 * values.dtype.itemsize if frame.text("PhotometricInterpretation").startswith("PALETTE") else None
    bits = bits or frame.count("BitsStored", 8 * values.dtype.itemsize)
    return values if values.dtype == np.uint8 else (values.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)


def as_grey(array: np.ndarray) -> np.ndarray | None:
    """(z, y, x) of colours that are all grey, or None where there is a colour among them."""
    red, green, blue = (array[..., channel] for channel in range(3))
    return np.ascontiguousarray(red) if np.array_equal(red, green) and np.array_equal(red, blue) else None
