"""Small deeds on layers: step through labelled slices, swap the lungs, turn Labels into an Image and back."""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ..errors import InvalidVolumeError
from ..volume import LEFT_LUNG, RIGHT_LUNG
from .appearance import label_colormap
from .layers import KEY, unsigned

SWAPPED_AT_ONCE = 2**18  # voxels looked at; some 20 ms


def next_labelled_slice(viewer: Any, step: int = 1) -> bool:
    """Go to the nearest slice above (``step`` 1) or below (-1) that has a label; False where there is none."""
    layer = active_labels(viewer)
    if layer is None or layer.ndim < 3 or viewer.dims.ndisplay != 2:
        return False
    axis = viewer.dims.not_displayed[-1] - (viewer.dims.ndim - layer.ndim)
    if axis < 0:
        return False
    index = round(float(layer.world_to_data(viewer.dims.point)[axis])) + step
    while 0 <= index < layer.data.shape[axis]:
        if np.any(np.take(layer.data, index, axis)):
            place = [0.0] * layer.ndim
            place[axis] = index
            viewer.dims.set_point(viewer.dims.not_displayed[-1], layer.data_to_world(place)[axis])
            return True
        index += step
    return False


def swap_lungs(layer: Any) -> int:
    """Swap right and left lung in a Labels layer, as one step that undo takes back; returns the voxels changed."""
    return sum(swapping_lungs(layer))


def swapping_lungs(layer: Any) -> Generator[int, None, None]:
    """`swap_lungs` bit by bit, yielding the voxels changed each time; the brush is laid down meanwhile."""
    # Not ``editable = False``, at which napari forgets all that could be undone.
    mode, layer.mode = layer.mode, "pan_zoom"
    try:
        with layer.block_history():
            # The indices of all voxels at once would take more memory than the scan.
            thick = max(1, SWAPPED_AT_ONCE * len(layer.data) // max(1, layer.data.size))
            for first in range(0, len(layer.data), thick):
                yield _swap(layer, first, first + thick)
    finally:
        layer.mode = mode
        layer.refresh()


def _swap(layer: Any, first: int, stop: int) -> int:
    part = np.asarray(layer.data[first:stop])
    lungs = (part == RIGHT_LUNG) | (part == LEFT_LUNG)
    if not lungs.any():
        return 0
    where = np.nonzero(lungs)
    values = (RIGHT_LUNG + LEFT_LUNG - part[where]).astype(part.dtype)
    layer.data_setitem((where[0] + first, *where[1:]), values, refresh=False)
    return int(values.size)


def active_labels(viewer: Any) -> Any:
    """The active Labels layer, or else the topmost one, or None."""
    active = viewer.layers.selection.active
    candidates = [active, *reversed(viewer.layers)]
    return next((layer for layer in candidates if isinstance(layer, Labels)), None)


def convert_layer(viewer: Any, layer: Any) -> Any:
    """Replace an Image layer by a Labels layer, or the other way round, keeping its place and metadata.

    Raises
    ------
    InvalidVolumeError
        For an image whose values cannot be labels.
    """
    shared = {key: getattr(layer, key) for key in ("name", "scale", "translate", "units", "axis_labels")}
    shared["metadata"] = copy.copy(layer.metadata)
    made: Any
    if isinstance(layer, Labels):
        stored = {"modality": "ct", "unit": "a.u.", **layer.metadata.get(KEY, {})}
        made = Image(np.asarray(layer.data), colormap="gray", **shared)
        made.metadata[KEY] = stored
    elif isinstance(layer, Image) and not layer.rgb:
        array = _as_labels(np.asarray(layer.data))
        colours = layer.metadata.get(KEY, {}).get("colours", {})
        made = Labels(array, colormap=label_colormap(colours, array.dtype), opacity=0.5, **shared)
    else:
        raise InvalidVolumeError(f"Layer {layer.name!r} is in colour; labels are whole numbers, one per pixel.")
    index = viewer.layers.index(layer)
    viewer.layers.remove(layer)
    viewer.layers.insert(index, made)
    viewer.layers.selection.active = made
    return made


def _as_labels(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        whole = array.astype(np.int64)
        if not np.array_equal(whole, array):
            raise InvalidVolumeError("The image has fractions; labels are whole numbers.")
        array = whole
    return unsigned(array)
