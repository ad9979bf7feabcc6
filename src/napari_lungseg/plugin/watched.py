"""An image and the layers that are painted on it, while a network learns from them: what changed since it was last told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels

from ..training.painted import BACKGROUND, Overlay, Strokes, overlaid
from .edits import Seen, look_at, slices_of, strokes_since
from .painting import painting_of
from .places import Pair, classes_of


class Watched:
    """Layers of one image, which count as one (`napari_lungseg.training.painted.merged`).

    Parameters
    ----------
    number : of the image in the training
    image : its layer
    layers : that are painted on it
    """

    def __init__(self, number: int, image: Any, layers: Sequence[Labels]) -> None:
        self.number, self.image, self.layers = number, image, list(layers)
        self._seen = [look_at(layer) for layer in layers]

    def strokes(self) -> Strokes | None:
        """What changed since this was last asked; None if nothing did."""
        if len(self.layers) == 1:
            strokes, self._seen[0] = strokes_since(self.layers[0], self._seen[0], self.number)
            return strokes
        now = [look_at(layer) for layer in self.layers]
        if all(new.same_as(old) for new, old in zip(now, self._seen, strict=True)):
            return None
        changed = {z for new, old in zip(now, self._seen, strict=True) for z in _changed(new, old)}
        renamed = any(new.names != old.names for new, old in zip(now, self._seen, strict=True))
        self._seen = now
        slices = tuple(sorted(changed))
        names = classes_of([Pair(self.image, layer) for layer in self.layers])[0] if renamed else None
        complete = frozenset[int]().union(*(seen.complete for seen in now))
        return Strokes(self.number, slices, self._labels(slices), complete, names)

    def _labels(self, slices: Sequence[int]) -> np.ndarray:
        parts = [_part(layer, seen, slices) for layer, seen in zip(self.layers, self._seen, strict=True)]
        background = next((seen.background for seen in self._seen if seen.background), BACKGROUND)
        return overlaid(parts, background)


def _changed(new: Seen, old: Seen) -> set[int]:
    return {*new.slices_since(old), *(new.complete ^ old.complete)}


def _part(layer: Labels, seen: Seen, slices: Sequence[int]) -> Overlay:
    painting = painting_of(layer)
    untouched = None if painting is None else painting.untouched
    if untouched is not None:
        untouched = untouched.reshape(slices_of(layer).shape)[list(slices)]
    return np.asarray(slices_of(layer))[list(slices)], seen.background, untouched, np.isin(slices, list(seen.complete))
