"""NIfTI, MetaImage and NRRD: read with their true geometry, written so that other programs agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidVolumeError, ReadError, WriteError
from ..findings import Finding
from ..volume import Geometry, LabelMap, Modality
from . import segments, suffix_of
from .buffer import array_of
from .claims import check_metaimage, check_nrrd
from .decoded import Decoded
from .infer import settle
from .nifti import decode_nifti

if TYPE_CHECKING:
    from . import Item

_NIFTI = (".nii", ".nii.gz")
_METAIMAGE = (".mha", ".mhd")
_LPS_TO_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
# A text header ends long before this; the words that give a spacing are searched for in it.
_HEADER_BYTES = 1 << 16
_SPACING_WORDS = (b"elementspacing", b"elementsize", b"space directions", b"spacings")
_MM_PER_UNIT = {
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "um": 0.001,
    "µm": 0.001,
    "micron": 0.001,
    "microns": 0.001,
    "nm": 1e-6,
}


def read_itk(paths: Sequence[Path], *, modality: Modality | None = None, labels: bool | None = None) -> list[Item]:
    """Read NIfTI, MetaImage and NRRD files, each by itself.

    Parameters
    ----------
    paths : the files
    modality, labels : the caller's word, see `napari_lungseg.io.read`

    Raises
    ------
    ReadError
        For a file that cannot be read, with the reason.
    """
    items: list[Item] = []
    for path in paths:
        try:
            decode = decode_nifti if suffix_of(path) in _NIFTI else _decode_itk
            items += [settle(decoded, modality, labels) for decoded in decode(path)]
        except InvalidVolumeError as error:
            raise ReadError(f"{path.name} cannot be used. {error}") from error
    return items


def _decode_itk(path: Path) -> list[Decoded]:
    """What a MetaImage or NRRD file holds; a Slicer segmentation of overlapping segments holds several label maps."""
    image = _open(path)
    metadata = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.isascii()}
    array = array_of(image)
    geometry, placed, findings = _geometry(path, image)
    if segments.FIRST_KEY in metadata:
        return segments.decode(path, array, geometry, metadata)
    if array.ndim == 2:
        array = array[None]
    elif image.GetDimension() == 4 and array.ndim == 4:
        return [
            Decoded(phase, geometry, path, placed, findings=(*findings, _time_point(index, len(array))))
            for index, phase in enumerate(array)
        ]
    elif image.GetDimension() == 2:
        array = array[None]
    return [Decoded(array, geometry, path, placed, findings=tuple(findings))]


def _open(path: Path) -> Any:
    import SimpleITK

    (check_metaimage if suffix_of(path) in _METAIMAGE else check_nrrd)(path)
    try:
        image: Any = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ReadError(
            f"{path.name} cannot be read ({reason}). It may be cut short or lack its voxel file; copy or export it again."
        ) from error
    if image.GetDimension() > 4 or (image.GetDimension() == 4 and image.GetNumberOfComponentsPerPixel() > 1):
        raise ReadError(f"{path.name} has {image.GetDimension()} dimensions; expected space, and time at most.")
    return image


def _geometry(path: Path, image: Any) -> tuple[Geometry, bool, list[Finding]]:
    """Where the voxels are, whether the file places them in the patient, and what was noticed."""
    header = _text_header(path)
    scale = _mm_per_unit(header)
    dimension = image.GetDimension()
    spacing = [value * scale for value in image.GetSpacing()[:3]]
    size = image.GetSize()[:3]
    # ITK reports 1 where a file gives no spacing at all.
    known = any(word in header for word in _SPACING_WORDS)
    if dimension == 2:  # a picture: its rows and columns are not patient axes
        shape = (1, size[1], size[0])
        return Geometry(shape, (1.0, spacing[1], spacing[0]), units="mm" if known else "pixel"), False, []
    direction = np.asarray(image.GetDirection()).reshape(dimension, dimension)[:3, :3][::-1, ::-1]
    lengths = np.linalg.norm(direction, axis=0)
    if np.isfinite(lengths).all() and (lengths > 0).all():
        direction = direction / lengths
    z, y, x = (tuple(float(value) for value in row) for row in direction)
    origin = [value * scale for value in image.GetOrigin()[:3]]
    geometry = Geometry(
        (size[2], size[1], size[0]),
        (spacing[2], spacing[1], spacing[0]),
        (origin[2], origin[1], origin[0]),
        (z, y, x),  # type: ignore[arg-type]
        units="mm" if known else "pixel",
    )
    sheared = np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3
    told = "The axes are not at right angles (gantry tilt); lengths and volumes allow for it."
    return geometry, known, [Finding("sheared", told)] if sheared else []


def _text_header(path: Path) -> bytes:
    """The header of a MetaImage or NRRD, in lower case, without the voxels that may follow it."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES).lower()
    end = rb"\r?\n\r?\n" if "nrrd" in suffix_of(path) or suffix_of(path) == ".nhdr" else rb"elementdatafile"
    return re.split(end, head, maxsplit=1)[0]


def _mm_per_unit(header: bytes) -> float:
    """Millimetres in the unit of an NRRD's space; ITK passes its numbers on as they are."""
    units = re.search(rb'^space units:\s*"?([^\s"]+)', header, flags=re.MULTILINE)
    return _MM_PER_UNIT.get(units[1].decode(errors="replace"), 1.0) if units else 1.0


def _time_point(index: int, total: int) -> Finding:
    told = f"Time point {index + 1} of {total} of one file; each is opened as a volume of its own."
    return Finding("time-point", told)


def write_nifti(item: Item, path: Path) -> frozenset[str]:
    """Write NIfTI-1: geometry in the sform (and in the qform where the axes are at right angles); labels by intent.

    Returns
    -------
    frozenset of str
        Which facts the file holds itself.
    """
    import nibabel

    array, affine = _transposed(item), _LPS_TO_RAS @ _xyz_affine(item.geometry)
    image: Any = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    matrix = np.asarray(item.geometry.direction)
    orthogonal = np.abs(matrix.T @ matrix - np.eye(3)).max() < 1e-5
    image.set_qform(affine if orthogonal else None, code=1 if orthogonal else 0)
    if isinstance(item, LabelMap):
        image.header.set_intent("label", name="labels")
    nibabel.save(image, path)
    return frozenset(("geometry", "labels", "modality")) if _is_inferred(item) else frozenset(("geometry", "labels"))


def write_metaimage(item: Item, path: Path) -> frozenset[str]:
    """Write MetaImage, compressed; ``.mhd`` has its voxels in ``.zraw`` beside it. Returns the facts the file holds."""
    _save(_image_of(item), path)
    return frozenset(("geometry", "modality")) if _is_inferred(item) else frozenset(("geometry",))


def write_nrrd(item: Item, path: Path) -> frozenset[str]:
    """Write NRRD, compressed; labels with Slicer's segment keys, names and colours. Returns the facts the file holds."""
    if path.name.lower().endswith(".seg.nrrd") and not isinstance(item, LabelMap):
        raise WriteError("A .seg.nrrd holds a segmentation, and this is an image; write .nrrd instead.")
    image = _image_of(item)
    if not isinstance(item, LabelMap):
        _save(image, path)
        return frozenset(("geometry", "modality")) if _is_inferred(item) else frozenset(("geometry",))
    for key, value in segments.encode(item).items():
        image.SetMetaData(key, value)
    _save(image, path)
    return frozenset(("geometry", "labels", "names", "record"))


def _is_inferred(item: Item) -> bool:
    """Whether reading the bare voxels leads to the same modality, unit and window."""
    if isinstance(item, LabelMap):
        return True
    if item.window is not None or item.unit == "rgb":
        return False
    flat = item.geometry.shape[0] == 1
    if item.modality == "xray":
        return flat and bool(np.min(item.array) > -200)
    return item.unit == "HU" and bool(np.min(item.array) <= -200)


def _xyz_affine(geometry: Geometry) -> np.ndarray:
    """(4, 4) from index (x, y, z, 1) to position (x, y, z, 1), LPS."""
    order = [2, 1, 0, 3]
    return np.asarray(geometry.affine[np.ix_(order, order)])


def _transposed(item: Item) -> np.ndarray:
    """Voxels as nibabel wants them: (x, y, z), colours as records."""
    array = np.asarray(item.array)
    if array.ndim == 4:
        colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        array = np.ascontiguousarray(array, dtype=np.uint8).view(colours)[..., 0]
    if array.dtype == np.float16 or array.dtype == np.bool_:
        array = array.astype(np.float32 if array.dtype == np.float16 else np.uint8)
    return array.transpose(2, 1, 0)


def _image_of(item: Item) -> Any:
    import SimpleITK

    array, geometry = np.asarray(item.array), item.geometry
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    image: Any = SimpleITK.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(np.asarray(geometry.direction)[::-1, ::-1].ravel().tolist())
    return image


def _save(image: Any, path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(image, str(path), useCompression=True)
