"""Read the image and the labels of a case, both in the standard view."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import cast

import numpy as np

from ..errors import TrainingDataError
from ..findings import Finding
from ..io import read
from ..io.infer import apply_offset
from ..io.jsrt import read_jsrt
from ..volume import LEFT_LUNG, RIGHT_LUNG, LabelMap, Modality, Reorientation, Volume
from .cases import Case

# Headers are rounded: grids closer than this are the same.
_SAME_GRID_MM = 0.1


def read_image(case: Case, modality: Modality | None = None, offset: float | None = None) -> Volume:
    """The image as its file has it, but for squashed pixels, and an offset added to a CT without Hounsfield units.

    Raises
    ------
    ReadError
        When the file cannot be read.
    TrainingDataError
        When it holds several images, or a label map.
    """
    if case.image.suffix.lower() == ".img":
        return read_jsrt(case.image)
    items = read(case.image, modality=modality, labels=False)
    if len(items) != 1:
        raise TrainingDataError(f"{case.image.name} holds {len(items)} images; a case is one. Name a single series.")
    volume = cast("Volume", items[0])  # labels=False makes it one
    if offset is not None and volume.modality == "ct" and volume.unit == "a.u.":
        volume = apply_offset(volume, offset)
    return volume if case.aspect is None else _unsquashed(volume, case.aspect)


def _unsquashed(volume: Volume, aspect: float) -> Volume:
    """The same pixels, as wide as the true width ÷ height of the picture makes them."""
    geometry = volume.geometry
    z, y, _ = geometry.spacing
    rows, columns = geometry.shape[1:]
    told = Finding(
        "aspect-restored", f"The picture was squashed; its pixels count as {aspect * rows / columns:.3g} wide."
    )
    wide = dataclasses.replace(geometry, spacing=(z, y, y * aspect * rows / columns))
    return dataclasses.replace(volume, geometry=wide, findings=(*volume.findings, told))


def read_case(
    case: Case, modality: Modality | None, allowed: Collection[int], offset: float | None = None
) -> tuple[Volume, np.ndarray | None, tuple[Finding, ...]]:
    """The image and its labels, loaded, in the standard view.

    Parameters
    ----------
    case : what to read
    modality : of the image, or None to judge by its values
    allowed : labels that may occur, without 0
    offset : what is added to a CT that is not in Hounsfield units, or None

    Returns
    -------
    The image; its labels, (z, y, x) uint8 in the same view, or None for an unlabelled case; what was noticed.

    Raises
    ------
    ReadError
        When a file cannot be read.
    TrainingDataError
        When image and masks do not fit each other, or a mask holds other values than labels.
    """
    image = read_image(case, modality, offset)
    view, turn = image.load().reoriented()
    if not case.masks:
        return view, None, ()
    labels = np.zeros(view.geometry.shape, np.uint8)
    noticed: list[Finding] = []
    for number, path in enumerate(case.masks):
        mask, told = _in_view(read_mask(path), path, image, view, turn)
        noticed += told
        if case.mask_labels:
            labels[mask != 0] = case.mask_labels[number]
        else:
            _check_values(mask, path, allowed)
            labels = mask.astype(np.uint8)
    if {RIGHT_LUNG, LEFT_LUNG} <= set(case.mask_labels) and modality == "xray":
        noticed += put_sides_right(labels, case.name)
    return view, np.ascontiguousarray(labels), tuple(noticed)


def read_mask(path: Path) -> LabelMap:
    """The one label map in a file; 0/255 becomes 0/1.

    Raises
    ------
    ReadError
        When it cannot be read as labels.
    TrainingDataError
        When there are several.
    """
    items = read(path, labels=True)
    if len(items) != 1:
        raise TrainingDataError(f"{path.name} holds {len(items)} label maps; a mask is one.")
    return cast("LabelMap", items[0])  # labels=True makes it one


def _in_view(
    mask: LabelMap, path: Path, image: Volume, view: Volume, turn: Reorientation
) -> tuple[np.ndarray, list[Finding]]:
    """The mask's voxels on the grid of the standard view.

    A picture says nothing of where it lies, so it is taken as made beside the image, pixel for pixel.
    """
    if image.geometry.is_mm and mask.geometry.is_mm:
        turned, _ = mask.reoriented()
        if turned.geometry.shape == view.geometry.shape and turned.geometry.same_grid(view.geometry, _SAME_GRID_MM):
            return np.asarray(turned.array), []
        raise TrainingDataError(_elsewhere(path, turned, view))
    array, told = _resized(np.asarray(mask.array), image.geometry.shape, path)
    return np.asarray(turn.apply(array)), told


def _elsewhere(path: Path, mask: LabelMap, image: Volume) -> str:
    if mask.geometry.shape != image.geometry.shape:
        return _sizes(path, mask.geometry.shape, image.geometry.shape)
    return f"{path.name} lies on another grid (origin, spacing or direction) than its image; resample it first."


def _sizes(path: Path, mask: tuple[int, ...], image: tuple[int, ...]) -> str:
    found, wanted = (" × ".join(map(str, shape)) for shape in (mask, image))
    return f"{path.name} has {found} voxels (z, y, x), its image {wanted}; they must be of one size."


def _resized(mask: np.ndarray, shape: tuple[int, int, int], path: Path) -> tuple[np.ndarray, list[Finding]]:
    """A mask drawn on a copy of the image that is a whole number of times smaller or larger, on the image's pixels."""
    if mask.shape == shape:
        return mask, []
    up, down = shape[1] // mask.shape[1], mask.shape[1] // shape[1]
    if up > 1 and shape == (mask.shape[0], mask.shape[1] * up, mask.shape[2] * up):
        fitting = mask.repeat(up, axis=1).repeat(up, axis=2)
    elif down > 1 and mask.shape == (shape[0], shape[1] * down, shape[2] * down):
        fitting = mask[:, down // 2 :: down, down // 2 :: down]
    else:
        raise TrainingDataError(_sizes(path, mask.shape, shape))
    times = f"{up} times smaller" if up > 1 else f"{down} times larger"
    return fitting, [Finding("mask-rescaled", f"{path.name} is {times} than its image and was brought to its size.")]


def _check_values(mask: np.ndarray, path: Path, allowed: Collection[int]) -> None:
    odd = sorted(set(np.unique(mask).tolist()) - {0, *allowed})
    if odd:
        shown = ", ".join(map(str, odd[:5])) + (" …" if len(odd) > 5 else "")
        raise TrainingDataError(
            f"{path.name} holds the values {shown}; expected 0 and {', '.join(map(str, sorted(allowed)))}. "
            "Masks must be saved without smoothing or JPEG."
        )


def put_sides_right(labels: np.ndarray, name: str) -> list[Finding]:
    """Swap right and left lung, in place, where they lie on the wrong sides of a frontal X-ray.

    In the standard view the patient's right lung is at the viewer's left, whatever a data set's folders are called.
    """
    columns = np.arange(labels.shape[2])
    right, left = (labels == RIGHT_LUNG).sum(axis=(0, 1)), (labels == LEFT_LUNG).sum(axis=(0, 1))
    if not right.any() or not left.any() or np.average(columns, weights=right) < np.average(columns, weights=left):
        return []
    is_right = labels == RIGHT_LUNG
    labels[labels == LEFT_LUNG] = RIGHT_LUNG
    labels[is_right] = LEFT_LUNG
    told = f"{name}: the masks' sides are those of the picture, not of the patient; right and left were exchanged."
    return [Finding("sides-exchanged", told)]
