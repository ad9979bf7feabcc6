"""Images and painted labels from files or Python, each pair on one grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from ..analysis.regions import describe
from ..errors import TrainingDataError
from ..findings import Finding
from ..models.catalog import default_model
from ..volume import Geometry, LabelMap, Volume, plain_name
from .painted import BACKGROUND, LARGEST_LABEL, Painted, class_names

Complete: TypeAlias = Iterable[int] | Literal["all"]

# Headers are rounded: grids closer than this are the same.
_SAME_GRID_MM = 0.1


def painted_pair(
    volume: Volume,
    labels: LabelMap,
    *,
    background: int = BACKGROUND,
    edited_from: LabelMap | None = None,
    complete: Complete = (),
    names: Mapping[int, str] | None = None,
) -> Painted:
    """An image and what was painted on it, whose file may have its voxels in another order.

    Parameters
    ----------
    volume : the image
    labels : painted on it; 0 where nothing was
    background : label that stands for painted background; 0 if none does
    edited_from : untouched segmentation that ``labels`` is a correction of
    complete : slices of the standard view, counted from 0, of which all that is not painted is background; or ``"all"``
    names : label → name, instead of those that ``labels`` has

    Raises
    ------
    TrainingDataError
        When labels and image do not lie on one grid, or a number is none of a label or slice.
    """
    if not 0 <= background <= LARGEST_LABEL:
        raise TrainingDataError(
            f"The background's label is {background}; choose one from 1 to {LARGEST_LABEL}, or 0 if none was painted."
        )
    painted = on_grid_of(volume, labels)
    untouched = None if edited_from is None else np.asarray(on_grid_of(volume, edited_from).array)
    slices = _complete_slices(volume.geometry, complete)
    return renamed(Painted(volume, painted, background, untouched, slices), names or {})


def renamed(painted: Painted, names: Mapping[int, str]) -> Painted:
    """The same with other names for some classes.

    Raises
    ------
    TrainingDataError
        When a name is given to the background or to no label.
    """
    for label, name in names.items():
        if label in (0, painted.background) or not 0 <= label <= LARGEST_LABEL:
            what = "background" if label in (0, painted.background) else "no label"
            raise TrainingDataError(
                f"{name!r} cannot be the name of {label}, which is {what}. Name the label of a class."
            )
    labels = dataclasses.replace(painted.labels, names={**painted.labels.names, **names})
    return dataclasses.replace(painted, labels=labels)


def on_grid_of(volume: Volume, labels: LabelMap) -> LabelMap:
    """Labels in the voxel order of their image, by flips and transposes alone.

    A picture says nothing of where it lies, so labels of one are taken as painted pixel for pixel.

    Raises
    ------
    TrainingDataError
        When the voxels lie elsewhere.
    """
    geometry = volume.geometry
    mine = dataclasses.replace(labels.geometry, frames=geometry.frames)
    array = np.asarray(labels.array)
    if mine.is_mm and geometry.is_mm:
        here, there = mine.reorientation(), geometry.reorientation()
        fits = mine.reoriented(here).same_grid(geometry.reoriented(there), _SAME_GRID_MM)
        array = there.undo(here.apply(array))
    else:
        fits = mine.shape == geometry.shape
    if not fits:
        raise TrainingDataError(
            f"The labels ({describe(mine)}) do not lie on the image's grid ({describe(geometry)}). "
            "Choose the labels that were painted on this image."
        )
    return dataclasses.replace(labels, array=np.ascontiguousarray(array), geometry=geometry)


def unnamed(painted: Sequence[Painted], known: Mapping[int, str]) -> list[Finding]:
    """Classes without a name that a start with other names will take for new ones.

    Parameters
    ----------
    known : label → name of the model that is started from; empty from scratch
    """
    names = class_names(painted)
    named = {label for item in painted for label in item.labels.names}
    taken = {plain_name(name) for name in names.values()}
    free = [name for name in known.values() if plain_name(name) not in taken]
    nameless = [label for label in names if label not in named]
    if not free or not nameless:
        return []
    labels = " and ".join(map(str, nameless))
    one = len(nameless) == 1
    return [
        Finding(
            "unnamed-class",
            f"Label{'' if one else 's'} {labels} {'has' if one else 'have'} no name and {'is' if one else 'are'} learned as "
            f"new. The model that is started from knows {', '.join(free)}: if one of these is meant, name it so "
            f"(--name '{nameless[0]}={free[0]}').",
        )
    ]


def bundled_start(painted: Sequence[Painted]) -> str:
    """Name of the bundled model for the images.

    Raises
    ------
    TrainingDataError
        When there are no images.
    IncompatibleModelError
        When no model is bundled for them.
    """
    if not painted:
        raise TrainingDataError("There is no image to learn from; give at least one, with what was painted on it.")
    return default_model(painted[0].volume.modality)


def _complete_slices(geometry: Geometry, complete: Complete) -> frozenset[int]:
    count = geometry.reoriented(geometry.reorientation()).shape[0]
    if complete == "all":
        return frozenset(range(count))
    chosen = frozenset(int(index) for index in complete)
    outside = sorted(index for index in chosen if not 0 <= index < count)
    if outside:
        raise TrainingDataError(
            f"There is no slice {', '.join(map(str, outside))} to be complete: the image has slices 0 to {count - 1} in the "
            "standard view."
        )
    return chosen
