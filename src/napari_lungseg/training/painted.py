"""Painted labels: what a few strokes on an image say, and what they leave open.

A voxel that nobody painted is *unknown*, not background. Background is painted with a label of its own, which becomes 0
in what is learned. Where a segmentation was corrected, only what differs from it counts as painted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import TrainingDataError
from ..findings import Finding
from ..volume import LabelMap, Volume, plain_name
from .unknown import IGNORE

BACKGROUND = 100
"""The label that stands for painted background, unless a class bears it."""

LARGEST_LABEL = IGNORE - 1
ENOUGH_PIXELS = 50


def background_label(names: Iterable[int]) -> int:
    """The label to paint background with: `BACKGROUND`, or the next one that no class bears."""
    taken = set(names)
    return next(label for label in range(BACKGROUND, LARGEST_LABEL) if label not in taken)


@dataclass(frozen=True, eq=False)
class Painted:
    """An image and what was painted on it.

    Parameters
    ----------
    volume : the image
    labels : on its grid, as painted: 0 where nothing was
    background : label that stands for painted background; 0 if none does
    edited_from : the untouched segmentation on the same grid that ``labels`` is a correction of, or None
    complete : slices (frames) of the standard view, of which all that is not painted is background

    Raises
    ------
    TrainingDataError
        When labels and image are not on one grid, or a label is too large.
    """

    volume: Volume
    labels: LabelMap
    background: int = BACKGROUND
    edited_from: np.ndarray | None = None
    complete: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "complete", frozenset(int(index) for index in self.complete))
        shape = self.volume.geometry.shape
        for what, array in (("painted labels", self.labels.array), ("untouched segmentation", self.edited_from)):
            if array is not None and tuple(array.shape) != shape:
                raise TrainingDataError(
                    f"The {what} have shape {tuple(array.shape)}, but the image {shape}. Paint in a layer that was made "
                    "for this image."
                )
        largest = int(np.max(self.labels.array, initial=0))
        if largest > LARGEST_LABEL:
            raise TrainingDataError(
                f"The label {largest} is too large to be learned; use labels from 1 to {LARGEST_LABEL}."
            )

    def standard(self) -> Painted:
        """The same in the standard view, with its voxels in memory."""
        volume, turn = self.volume.load().reoriented()
        labels, _ = self.labels.reoriented()
        untouched = None if self.edited_from is None else turn.apply(self.edited_from)
        return dataclasses.replace(self, volume=volume, labels=labels, edited_from=untouched)

    def known(self, slices: slice | Sequence[int] = slice(None)) -> np.ndarray:
        """What is known of slices of the standard view (which this must be in).

        Returns
        -------
        (n, y, x) uint8: 0 background, the label of a class, or `IGNORE` where nothing is known
        """
        numbers = np.arange(len(self.labels.array))[slices]
        untouched = None if self.edited_from is None else self.edited_from[numbers]
        complete = np.isin(numbers, list(self.complete))
        return known_labels(np.asarray(self.labels.array)[numbers], self.background, untouched, complete)

    def painted_slices(self) -> list[int]:
        """Slices of the standard view (which this must be in) of which something is known."""
        array = np.asarray(self.labels.array)
        if self.edited_from is None:
            touched = array.reshape(len(array), -1).any(axis=1)
        else:
            touched = (array != self.edited_from).reshape(len(array), -1).any(axis=1)
            if self.background:
                touched |= (array == self.background).reshape(len(array), -1).any(axis=1)
        return sorted({*np.flatnonzero(touched).tolist(), *(z for z in self.complete if 0 <= z < len(array))})

    def with_strokes(self, strokes: Strokes) -> Painted:
        """The same after more was painted; the arrays of the labels are copied."""
        array = np.array(self.labels.array)
        array[list(strokes.slices)] = strokes.labels
        names = dict(self.labels.names) if strokes.names is None else dict(strokes.names)
        labels = dataclasses.replace(self.labels, array=array, names=names)
        return dataclasses.replace(self, labels=labels, complete=strokes.complete)


@dataclass(frozen=True, eq=False)
class Strokes:
    """What changed in the painted labels of one image since they were last looked at.

    Parameters
    ----------
    image : number of the image
    slices : of the standard view
    labels : (n, y, x), what these slices show now
    complete : all slices that are complete now
    names : label → name of all classes, where these changed
    """

    image: int
    slices: tuple[int, ...]
    labels: np.ndarray
    complete: frozenset[int] = frozenset()
    names: Mapping[int, str] | None = field(default=None)


def known_labels(
    labels: np.ndarray, background: int, edited_from: np.ndarray | None = None, complete: np.ndarray | None = None
) -> np.ndarray:
    """What painted slices say.

    Parameters
    ----------
    labels : (n, y, x) as painted
    background : label that stands for painted background; 0 if none does
    edited_from : (n, y, x) untouched segmentation that the labels are a correction of, or None
    complete : (n,) bool, slices of which all that is not painted is background; None: none

    Returns
    -------
    (n, y, x) uint8: 0 background, the label of a class, or `IGNORE` where nothing is known
    """
    meant = np.where(labels == background, 0, labels) if background else labels
    if edited_from is None:
        painted = labels != 0
    else:
        painted = labels != edited_from
        if background:
            painted |= labels == background
    if complete is not None:
        painted |= np.asarray(complete, bool)[:, None, None]
    return np.where(painted, meant, IGNORE).astype(np.uint8)


def merged(layers: Sequence[Painted]) -> Painted:
    """Several layers that are painted on one image, as if all were painted in one; where two say something, the last counts.

    Parameters
    ----------
    layers : on the same image; no label of one is the background of another

    Returns
    -------
    In the standard view, unless there is only one layer.
    """
    if len(layers) == 1:
        return layers[0]
    parts = [layer.standard() for layer in layers]
    first, background = parts[0], next((part.background for part in parts if part.background), BACKGROUND)
    numbers = np.arange(len(first.labels.array))
    array = overlaid(
        [
            (np.asarray(part.labels.array), part.background, part.edited_from, np.isin(numbers, list(part.complete)))
            for part in parts
        ],
        background,
    )
    colours = {label: colour for part in parts for label, colour in part.labels.colours.items()}
    labels = dataclasses.replace(first.labels, array=array, names=class_names(parts), colours=colours)
    return Painted(first.volume, labels, background, None, frozenset().union(*(part.complete for part in parts)))


Overlay = tuple[np.ndarray, int, "np.ndarray | None", np.ndarray]
"""Slices of a painted layer: labels, background, what they are a correction of or None, and (n,) which are complete."""


def overlaid(layers: Sequence[Overlay], background: int) -> np.ndarray:
    """(n, y, x) uint8: slices of several layers of one image, as if all were painted in one; the last one counts.

    Parameters
    ----------
    layers : see `Overlay`
    background : label that stands for painted background in what is returned
    """
    whole = np.zeros(layers[0][0].shape, np.uint8)
    for labels, own, untouched, complete in layers:
        # In a complete slice of a correction all that is left of the result counts, too.
        base = None if untouched is None else np.where(complete[:, None, None], 0, untouched)
        known = known_labels(labels, own, base)
        whole = np.where(known == IGNORE, whole, np.where(known == 0, background, known)).astype(np.uint8)
    return whole


def class_names(painted: Sequence[Painted]) -> dict[int, str]:
    """Label → name of every class that is named or painted in any of the images.

    Raises
    ------
    TrainingDataError
        When one label bears two names.
    """
    names: dict[int, str] = {}
    for item in painted:
        background = {0, item.background}
        unnamed = {int(label): f"class {label}" for label in np.unique(item.labels.array)}
        for label, name in (unnamed | dict(item.labels.names)).items():
            if label in background:
                continue
            alike = plain_name(names.get(label, name)) == plain_name(name)
            if label in item.labels.names and not alike and names[label] != f"class {label}":
                raise TrainingDataError(
                    f"Label {label} is {names[label]!r} in one layer and {name!r} in another. Give it one name in all."
                )
            if label in item.labels.names or label not in names:
                names[label] = name
    return dict(sorted(names.items()))


def count_painted(painted: Sequence[Painted]) -> dict[int, tuple[int, int]]:
    """Class (0: background) → known pixels and slices, over images in the standard view."""
    counts: dict[int, tuple[int, int]] = dict.fromkeys((0, *class_names(painted)), (0, 0))
    for item in painted:
        for index in item.painted_slices():
            per_label = np.bincount(item.known([index]).ravel(), minlength=IGNORE + 1)
            for label in counts:
                if per_label[label]:
                    pixels, slices = counts[label]
                    counts[label] = (pixels + int(per_label[label]), slices + 1)
    return counts


def lacking_paint(painted: Sequence[Painted]) -> list[Finding]:
    """Classes painted too little to be learned, with how much they have; images in the standard view."""
    names = {0: "background", **class_names(painted)}
    findings = []
    for label, (pixels, slices) in count_painted(painted).items():
        if pixels >= ENOUGH_PIXELS:
            continue
        where = f" in {slices} slice{'s' if slices > 1 else ''}" if slices else ""
        which = f" (label {painted[0].background})" if label == 0 and painted[0].background else f" (label {label})"
        has = f"{pixels} pixels{where}" if pixels else "nothing"
        findings.append(
            Finding(
                "too-little-paint",
                f"{names[label]}{which} has {has} painted; at least {ENOUGH_PIXELS} pixels are needed to learn it.",
            )
        )
    return findings


def check_painted(painted: Sequence[Painted], from_scratch: bool) -> list[Finding]:
    """Whether anything can be learned from images in the standard view; returns what there is to tell.

    Raises
    ------
    TrainingDataError
        When nothing is painted, images do not go together, or a network that knows nothing sees only one class.
    """
    if not any(item.painted_slices() for item in painted):
        raise TrainingDataError(
            "Nothing is painted yet. Choose a class, paint a few strokes of it and of the background, and try again."
        )
    first = painted[0].volume
    for item in painted[1:]:
        if (item.volume.modality, item.volume.unit) != (first.modality, first.unit):
            raise TrainingDataError(
                f"One image is {first.modality} in {first.unit}, another {item.volume.modality} in {item.volume.unit}. "
                "Train one model for each."
            )
    counts = count_painted(painted)
    if from_scratch and sum(pixels > 0 for pixels, _ in counts.values()) < 2:
        missing = "background" if counts[0][0] == 0 else "any class"
        label = f" (label {painted[0].background})" if missing == "background" else ""
        raise TrainingDataError(
            f"A network from scratch needs two kinds of tissue to tell apart, and nothing of {missing}{label} is painted. "
            "Paint a stroke of it, mark a slice as complete, or start from a model."
        )
    return lacking_paint(painted)
