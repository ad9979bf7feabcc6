"""PNG, JPEG and TIFF: read as radiographs, photographs, label maps or slices; PNG and TIFF are written.

The resolution that PNG and JPEG headers (and TIFF tags of most programs) state is that of a screen or a printer, not
of the patient; only ImageJ's and OME's spacing of a TIFF is a length in the object, so only that is believed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidVolumeError, ReadError, WriteError
from ..findings import Finding
from ..volume import Geometry, LabelMap, Modality, Volume
from . import suffix_of
from .claims import check_png
from .decoded import Decoded
from .infer import settle
from .tiff import decode_tiff

if TYPE_CHECKING:
    from . import Item

_TIFF, _JPEG = (".tif", ".tiff"), (".jpg", ".jpeg")
# PNG stores its bit depth and colour type here (ISO 15948, 11.2.2): Pillow reduces 16-bit colour to 8 bits.
_PNG_DEPTH, _PNG_COLOUR = 24, 25
_MANY_SLICES = ".nii.gz, .nrrd, .mha or .tif"


def read_raster(paths: Sequence[Path], *, modality: Modality | None = None, labels: bool | None = None) -> list[Item]:
    """Read pictures; several of one size and kind become one stack of radiographs.

    Parameters
    ----------
    paths : the files
    modality, labels : the caller's word, see `napari_lungseg.io.read`

    Raises
    ------
    ReadError
        For a picture that cannot be read, with the reason.
    """
    items: list[Item] = []
    for path in paths:
        try:
            items += [settle(decoded, modality, labels) for decoded in _decode(path)]
        except InvalidVolumeError as error:
            raise ReadError(f"{path.name} cannot be used. {error}") from error
    return _stacked(items, modality) if len(paths) > 1 else items


def _decode(path: Path) -> list[Decoded]:
    if suffix_of(path) in _TIFF:
        return decode_tiff(path)
    array, names_colours = _pixels(path)
    geometry = Geometry((1, array.shape[0], array.shape[1]), units="pixel")
    lossy = suffix_of(path) in _JPEG
    return [Decoded(array[None], geometry, path, placed=False, lossy=lossy, colours=names_colours)]


def _pixels(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    """(y, x[, channel]) pixels upright as EXIF says, and the palette of a label map."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    check_png(path)
    if _is_deep_colour_png(path):
        return _through_itk(path), {}
    try:
        with Image.open(path) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "its content is not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ReadError(f"{path.name} cannot be read ({reason}); open it elsewhere and export it again.") from error
    if upright.mode == "P":
        return _palette(upright)
    if upright.mode == "1":
        return np.asarray(upright, dtype=np.uint8), {}
    if upright.mode not in ("L", "LA", "I", "F", "RGB", "RGBA") and not upright.mode.startswith("I;16"):
        upright = upright.convert("RGB")
    return np.array(upright), {}


def _palette(picture: Any) -> tuple[np.ndarray, dict[int, str]]:
    """Indices and colours where the indices look like labels, else the colours themselves."""
    indices = np.array(picture)
    mostly_background = np.count_nonzero(indices) <= indices.size / 2
    if not (1 <= indices.max() <= 64 and mostly_background):
        return np.array(picture.convert("RGB")), {}
    palette = np.asarray(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = [int(index) for index in np.unique(indices) if 0 < index < len(palette)]
    return indices, {index: "#" + palette[index].tobytes().hex().upper() for index in used}


def _is_deep_colour_png(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_PNG_COLOUR + 1)
    return head[:4] == b"\x89PNG" and len(head) > _PNG_COLOUR and head[_PNG_DEPTH] == 16 and head[_PNG_COLOUR] != 0


def _through_itk(path: Path) -> np.ndarray:
    import SimpleITK

    try:
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    except RuntimeError as error:
        raise ReadError(f"{path.name} cannot be read; open it elsewhere and export it again.") from error


def _stacked(items: list[Item], modality: Modality | None) -> list[Item]:
    """Pictures of one size and kind as one stack; otherwise each by itself."""
    volumes = [item for item in items if isinstance(item, Volume)]
    maps = [item for item in items if isinstance(item, LabelMap)]
    stacked: list[Item] = []
    for group in (volumes, maps):
        alike = {(i.geometry.shape, i.geometry.spacing, i.geometry.units, getattr(i, "unit", "")) for i in group}
        if len(group) > 1 and len(alike) == 1 and group[0].geometry.shape[0] == 1:
            stacked.append(_stack(group, modality))
        else:
            stacked += group
    return stacked


def _stack(items: Sequence[Item], modality: Modality | None) -> Item:
    """One stack of frames, in the order of the files; the caller's word ``ct`` makes them slices."""
    first = items[0]
    dtype = np.result_type(*(item.array.dtype for item in items))
    array = np.concatenate([np.asarray(item.array, dtype=dtype) for item in items])
    frames = modality != "ct"
    geometry = dataclasses.replace(first.geometry, shape=array.shape[:3], frames=frames)
    kept = {finding.code: finding for item in items for finding in item.findings}
    what = "a stack of pictures, nothing connected from one to the next" if frames else "slices of one CT"
    rows, columns = array.shape[1:3]
    told = Finding(
        "stacked", f"{len(items)} pictures of {rows} × {columns} pixels are opened as {what}, ordered by file name."
    )
    changes: dict[str, Any] = {"array": array, "geometry": geometry, "findings": (*kept.values(), told)}
    if isinstance(first, LabelMap):
        changes["names"] = {label: name for item in items for label, name in getattr(item, "names", {}).items()}
        changes["colours"] = {label: text for item in items for label, text in getattr(item, "colours", {}).items()}
    return dataclasses.replace(first, **changes, source=str(Path(first.source).parent))


def write_png(item: Item, path: Path) -> frozenset[str]:
    """Write one slice as PNG, 8 or 16 bits, or 8-bit colour. Returns the facts the file holds: none."""
    from PIL import Image

    array = np.asarray(item.array)
    if array.shape[0] > 1:
        raise WriteError(f"A PNG holds one slice, and this has {array.shape[0]}; write {_MANY_SLICES} instead.")
    Image.fromarray(_in_16_bits(array[0])).save(path, format="PNG")
    return frozenset()


def _in_16_bits(array: np.ndarray) -> np.ndarray:
    """The same numbers in 8 or 16 unsigned bits."""
    if array.dtype == np.uint8:
        return array
    low, high = array.min(), array.max()
    whole = array.dtype.kind in "iub"
    if not whole or low < 0 or high > np.iinfo(np.uint16).max or array.ndim == 3:
        raise WriteError(
            f"A PNG holds whole numbers from 0 to 65535, and these {array.dtype} values run from {low:g} to {high:g}; "
            f"write {_MANY_SLICES} instead."
        )
    return array.astype(np.uint8 if high <= np.iinfo(np.uint8).max and array.dtype.kind != "u" else np.uint16)


def write_tiff(item: Item, path: Path) -> frozenset[str]:
    """Write OME-TIFF with its spacing in mm; position and direction go into the sidecar. Returns the facts it holds."""
    import tifffile

    array, geometry = np.asarray(item.array), item.geometry
    axes = ("TYX" if geometry.frames else "ZYX") + ("S" if array.ndim == 4 else "")
    facts: dict[str, Any] = {"axes": axes}
    if geometry.is_mm:
        for name, length in zip("ZYX", geometry.spacing, strict=True):
            facts |= {f"PhysicalSize{name}": length, f"PhysicalSize{name}Unit": "mm"}
    photometric = "rgb" if array.ndim == 4 else "minisblack"
    tifffile.imwrite(path, array, ome=True, metadata=facts, photometric=photometric, compression="zlib")
    return frozenset()
