"""What changed in a painted layer since somebody last asked.

Changes are found by comparing with a copy whenever somebody asks: some 5 ms for 512 × 512 × 150 labels. napari's events
cannot tell: undo of a hidden layer and changes of ``layer.data`` in place emit none, and a stroke is announced at its end.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels

from ..errors import TrainingDataError
from ..training.painted import Strokes
from .layers import KEY, unsigned
from .painting import painting_of


class Edits:
    """When each slice of a layer was last found to have changed.

    Parameters
    ----------
    layer : not held
    """

    _numbers = itertools.count(1)

    def __init__(self, layer: Labels) -> None:
        self._seen = np.array(layer.data)
        self.versions = np.full(len(_slices(self._seen)), next(self._numbers))

    def fits(self, layer: Labels) -> bool:
        """Whether the layer still has data of the same size and type."""
        return bool(layer.data.shape == self._seen.shape and layer.data.dtype == self._seen.dtype)

    def look(self, layer: Labels) -> None:
        """Give slices that changed a new number."""
        number = next(self._numbers)
        for index, (now, before) in enumerate(zip(slices_of(layer), _slices(self._seen), strict=True)):
            if not np.array_equal(now, before):
                before[...] = now
                self.versions[index] = number


_EDITS: WeakKeyDictionary[Labels, Edits] = WeakKeyDictionary()


def slices_of(layer: Labels) -> Any:
    """The slices of a layer along its first axis; a flat layer is one."""
    return _slices(layer.data)


def _slices(data: Any) -> Any:
    return data if data.ndim == 3 else data[None]


def slice_versions(layer: Labels) -> np.ndarray:
    """(slices,) a number for each slice of the first axis that grows whenever the slice changes; a flat layer has one."""
    if layer in _EDITS and _EDITS[layer].fits(layer):
        _EDITS[layer].look(layer)
    else:
        _EDITS[layer] = Edits(layer)
    return _EDITS[layer].versions.copy()


@dataclass(frozen=True, eq=False)
class Seen:
    """What a reader knows of a painted layer.

    Parameters
    ----------
    versions : of its slices
    complete, background : of its `Painting`
    names, colours : of its classes
    """

    versions: np.ndarray
    complete: frozenset[int]
    background: int
    names: Mapping[int, str]
    colours: Mapping[int, str]

    def slices_since(self, earlier: Seen | None) -> tuple[int, ...]:
        """Slices that changed since; all where nothing was known, or the layer then had another size."""
        if earlier is None or len(earlier.versions) != len(self.versions):
            return tuple(range(len(self.versions)))
        return tuple(np.flatnonzero(self.versions != earlier.versions).tolist())

    def same_as(self, other: Seen | None) -> bool:
        """Whether nothing changed."""
        return other is not None and not self.slices_since(other) and self._words() == other._words()

    def _words(self) -> tuple[object, ...]:
        return self.complete, self.background, self.names, self.colours


def look_at(layer: Labels) -> Seen:
    """How a painted layer is now.

    Raises
    ------
    TrainingDataError
        When the layer is not painted on.
    """
    painting = painting_of(layer)
    if painting is None:
        raise TrainingDataError(f"Nothing is painted in layer {layer.name!r}. Choose it for painting first.")
    stored = layer.metadata[KEY]
    return Seen(
        slice_versions(layer),
        frozenset(painting.complete),
        painting.background,
        dict(stored.get("names", {})),
        dict(stored.get("colours", {})),
    )


def changed_slices(layer: Labels, seen: Seen | None) -> tuple[tuple[int, ...], Seen]:
    """Slices that changed since a reader last asked (all at first), and what the reader then knows."""
    now = look_at(layer)
    return now.slices_since(seen), now


def strokes_since(layer: Labels, seen: Seen | None, image: int) -> tuple[Strokes | None, Seen]:
    """What changed since a reader last asked, for a training that runs; None if nothing did.

    Parameters
    ----------
    layer : painted
    seen : what this function returned before; None: nothing yet
    image : number of the image in the training

    Raises
    ------
    InvalidVolumeError
        For negative labels.
    """
    slices, now = changed_slices(layer, seen)
    if seen is not None and now.same_as(seen):
        return None, seen
    shown = slices_of(layer)
    labels = np.array([shown[index] for index in slices], shown.dtype).reshape(-1, *shown.shape[1:])
    names = None if seen is not None and now.names == seen.names else now.names
    return Strokes(image, slices, unsigned(labels) if slices else labels, now.complete, names), now
