"""TIFF as microscopes, ImageJ and exports of scanners write it: pages, axes, spacing, orientation."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from ..findings import Finding
from ..volume import Geometry
from .claims import MOST_DEFLATED, check_tiff
from .decoded import Decoded

_MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter"), 10.0),
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00b5m"), 0.001),
    **dict.fromkeys(("m", "meter"), 1000.0),
    **dict.fromkeys(("inch", "in"), 25.4),
    "nm": 1e-6,
}
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION = 274, 282, 283
_MIN_IS_WHITE, _PALETTE = 0, 3
# As ITU-R BT.601 and CT windows never reach: values at or below this in a stack are Hounsfield units of slices.
_HU_EVIDENCE = -200


def decode_tiff(path: Path) -> list[Decoded]:
    """What a TIFF holds, one entry per series of equal pages (thumbnails left out).

    Raises
    ------
    ReadError
        For a file that is damaged or packed in a way that cannot be unpacked, or has axes that are not space.
    """
    import tifffile

    check_tiff(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            spacing = _spacing(tiff)
            series = [entry for entry in tiff.series if not entry.keyframe.is_reduced] or tiff.series[:1]
            return [_decode_series(path, entry, spacing) for entry in series]
    except ReadError:
        raise
    except Exception as error:  # tifffile raises what it meets in a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ReadError(f"{path.name} cannot be read ({reason}); open it elsewhere and export it again.") from error


def _decode_series(path: Path, series: Any, spacing: tuple[float | None, float, float] | None) -> Decoded:
    page = series.keyframe
    _check_claims(path, series)
    array, axes = _unpacked(path, series), str(series.axes)
    array, axes = _ordered(path, array, axes)
    array, findings = _as_shown(array, page)
    array = _upright(array, page)
    deep = array.shape[0] > 1
    slices = axes[0] == "Z" or (deep and array.dtype.kind in "if" and bool(np.min(array) <= _HU_EVIDENCE))
    known = spacing is not None and (spacing[0] is not None or not slices or not deep)
    z, y, x = spacing if known and spacing else (1.0, 1.0, 1.0)
    geometry = Geometry(
        (array.shape[0], array.shape[1], array.shape[2]), (z or 1.0, y, x), units="mm" if known else "pixel",
        frames=deep and not slices,
    )  # fmt: skip
    return Decoded(
        array,
        geometry,
        path,
        placed=False,
        lossy=int(page.compression) in (6, 7),
        judge_values=False,
        findings=(*findings, *_about_pages(array.shape[0], slices)),
    )


def _check_claims(path: Path, series: Any) -> None:
    """Raise where the pages claim more pixels than the file can hold: nothing is allocated on their word alone."""
    size = path.stat().st_size
    there = size * (1 if int(series.keyframe.compression) == 1 else MOST_DEFLATED)
    beyond = any(count > size for page in series.pages if page is not None for count in page.databytecounts)
    if series.nbytes > there or beyond:
        raise ReadError(
            f"{path.name} is cut short or damaged: it claims {series.nbytes:,} bytes of pixels, more than the file can "
            "hold. Copy or export it again."
        )


def _about_pages(pages: int, slices: bool) -> list[Finding]:
    if pages == 1:
        return []
    if slices:
        return [Finding("pages-as-slices", f"The {pages} pages were taken as neighbouring slices of one volume.")]
    told = f"The {pages} pages were taken as pictures of their own, because nothing in the file makes them slices."
    return [Finding("pages-as-frames", told)]


def _unpacked(path: Path, series: Any) -> np.ndarray:
    """The pixels; where tifffile lacks a decompressor (LZW, JPEG …), through Pillow's libtiff."""
    try:
        return np.asarray(series.asarray())
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error):
            raise
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        wanted = {page.index for page in series.pages}
        pages = [np.array(frame) for index, frame in enumerate(ImageSequence.Iterator(picture)) if index in wanted]
    return np.stack(pages).reshape(series.shape)


def _ordered(path: Path, array: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """(z, y, x[, channel]) and the name of the first axis: Z for slices, anything else for pages."""
    channels = [axis for axis in axes if axis == "S" or (axis == "C" and array.shape[axes.index(axis)] <= 4)]
    channel = channels[-1] if channels else ""
    stacked = [axis for axis in axes if axis not in "YX" and axis != channel and array.shape[axes.index(axis)] > 1]
    if "Y" not in axes or "X" not in axes or len(stacked) > 1:
        sizes = ", ".join(f"{axis}: {size}" for axis, size in zip(axes, array.shape, strict=True))
        raise ReadError(
            f"{path.name} has more axes than a scan ({sizes}); expected rows, columns and slices. "
            "Save one channel and one time point and open that."
        )
    order = [*stacked, "Y", "X", *([channel] if channel else [])]
    index = tuple(slice(None) if axis in order else 0 for axis in axes)
    kept = [axis for axis in axes if axis in order]
    array = array[index].transpose([kept.index(axis) for axis in order])
    if not stacked:
        array = array[None]
    if channel and array.shape[-1] == 1:
        array, channel = array[..., 0], ""
    return np.ascontiguousarray(array), stacked[0] if stacked else "I"


def _as_shown(array: np.ndarray, page: Any) -> tuple[np.ndarray, list[Finding]]:
    """Pixels so that larger is brighter: inverted where 0 means white, looked up where there is a palette."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    photometric = int(page.photometric)
    if photometric == _PALETTE and page.colormap is not None:
        return np.ascontiguousarray(np.moveaxis(np.asarray(page.colormap)[:, array], 0, -1)), []
    if photometric != _MIN_IS_WHITE or array.dtype.kind != "u":
        return array, []
    brightest = array.dtype.type(2 ** int(page.bitspersample) - 1)
    return brightest - array, [Finding("inverted", "The file stores 0 as white; it was inverted, once.")]


def _upright(array: np.ndarray, page: Any) -> np.ndarray:
    """Rows and columns as the orientation tag (TIFF 6.0, tag 274) wants them shown."""
    tag = page.tags.get(_ORIENTATION)
    turn = int(tag.value) if tag is not None else 1
    if turn in (5, 6, 7, 8):
        array = array.swapaxes(1, 2)
    if turn in (3, 4, 7, 8):
        array = array[:, ::-1]
    if turn in (2, 3, 6, 7):
        array = array[:, :, ::-1]
    return np.ascontiguousarray(array)


def _spacing(tiff: Any) -> tuple[float | None, float, float] | None:
    """(z, y, x) mm of ImageJ or OME; z is None where only the pixels have a size, all is None without either."""
    return _ome_spacing(tiff.ome_metadata) if tiff.is_ome else _imagej_spacing(tiff)


def _ome_spacing(text: str) -> tuple[float | None, float, float] | None:
    root = ET.fromstring(text)
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    lengths: list[float | None] = []
    for axis in "ZYX":
        value = pixels.get(f"PhysicalSize{axis}")
        unit = _MM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        lengths.append(float(value) * unit if value and unit else None)
    z, y, x = lengths
    return (z, y, x) if y and x else None


def _imagej_spacing(tiff: Any) -> tuple[float | None, float, float] | None:
    facts = tiff.imagej_metadata if tiff.is_imagej else None
    unit = _MM_PER_UNIT.get(str((facts or {}).get("unit", "")).lower())
    tags = tiff.pages[0].tags
    if not facts or not unit or _X_RESOLUTION not in tags or _Y_RESOLUTION not in tags:
        return None
    per_unit = [tags[tag].value for tag in (_Y_RESOLUTION, _X_RESOLUTION)]
    if any(not numerator or not denominator for numerator, denominator in per_unit):
        return None
    y, x = (denominator / numerator * unit for numerator, denominator in per_unit)
    depth = facts.get("spacing")
    return (float(depth) * unit if depth else None), y, x
