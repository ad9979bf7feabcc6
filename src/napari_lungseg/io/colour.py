"""Pictures in colour: grey in truth, or colour indeed."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..errors import ReadError
from ..findings import Finding
from ..volume import Modality
from .decoded import Decoded

# A picture counts as grey when fewer than this share of its pixels differ between channels by more than the spread.
_COLOURED_SHARE, _COLOURED_SPREAD = 0.01, 0.06


def to_grey(decoded: Decoded, modality: Modality | None) -> Decoded:
    """Drop transparency, and drop channels that say the same thing; colour stays colour unless overruled.

    Raises
    ------
    ReadError
        For voxels of more than four channels.
    """
    array = decoded.array
    if array.ndim == 3:
        return decoded
    channels = array.shape[3]
    if channels > 4:
        raise ReadError(
            f"{decoded.path.name} has {channels} channels per voxel; expected one (grey) or three (colour). "
            "Save the channel that shows the chest and open that."
        )
    if channels <= 2:
        return dataclasses.replace(decoded, array=np.ascontiguousarray(array[..., 0]))
    red, green, blue = (array[..., channel] for channel in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if not spread.any():
        return dataclasses.replace(decoded, array=np.ascontiguousarray(red))
    full = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else float(array.max()) or 1.0
    share = float(np.mean(spread > _COLOURED_SPREAD * full))
    if modality in (None, "photo") and (share >= _COLOURED_SHARE or modality == "photo"):
        colour = array[..., :3] if array.dtype == np.uint8 else _to_bytes(array[..., :3], full)
        return dataclasses.replace(decoded, array=np.ascontiguousarray(colour))
    told = Finding(
        "colour-to-grey", f"The picture is stored in colour ({share:.1%} coloured pixels) and was taken as grey."
    )
    return dataclasses.replace(decoded, array=_luminance(array), findings=(*decoded.findings, told))


def _to_bytes(array: np.ndarray, full: float) -> np.ndarray:
    return np.clip(np.rint(array * (255.0 / full)), 0, 255).astype(np.uint8)


def _luminance(array: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 luma, in the array's own type."""
    luma = array[..., :3] @ np.asarray((0.299, 0.587, 0.114), dtype=np.float32)
    return np.rint(luma).astype(array.dtype) if array.dtype.kind in "iu" else luma.astype(array.dtype)
