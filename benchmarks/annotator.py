"""Somebody who paints, simulated: strokes where a prediction is wrong, in proportion to how wrong it is.

A stroke runs along the middle of one wrong region, of one class, is at most `LENGTH` pixels long, and never leaves the
true class. Everything random comes from a seed.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.graph import route_through_array

RADIUS = 4
LENGTH = 80


class Annotator:
    """Paints strokes on slices.

    Parameters
    ----------
    truth : number of the image → (z, y, x) true labels, 0 background
    allowed : (image, slice) that may be painted on
    background : label that background is painted with
    seed : of everything random
    """

    def __init__(
        self, truth: list[np.ndarray], allowed: list[tuple[int, int]], background: int, seed: int, radius: int = RADIUS
    ) -> None:
        self.truth, self.allowed, self.background = truth, allowed, background
        self.rng = np.random.default_rng(seed)
        self.radius = radius
        self.labels = [np.zeros(array.shape, np.uint8) for array in truth]
        self.strokes = 0

    def some_places(self, n: int) -> list[tuple[int, int]]:
        """Slices that somebody leafs through."""
        chosen = self.rng.choice(len(self.allowed), min(n, len(self.allowed)), replace=False)
        return [self.allowed[i] for i in chosen]

    def begin(self, classes: list[int]) -> set[tuple[int, int]]:
        """One stroke of each class, 0 being the background, in the slice where all are largest."""
        least = [min((self.truth[i][z] == c).sum() for c in classes) for i, z in self.allowed]
        place = self.allowed[int(np.argmax(least))]
        for label in classes:
            self._stroke(place, self.truth[place[0]][place[1]] == label, label)
        return {place}

    def correct(self, predicted: dict[tuple[int, int], np.ndarray], strokes: int) -> set[tuple[int, int]]:
        """Paint strokes where predicted slices are wrong; returns the slices that were painted on."""
        wrong = {p: (labels != self.truth[p[0]][p[1]]) & ~self._painted(p) for p, labels in predicted.items()}
        touched = set()
        for _ in range(strokes):
            places = [place for place in wrong if wrong[place].any()]
            if not places:
                break
            weights = np.array([wrong[place].sum() for place in places], float)
            place = places[self.rng.choice(len(places), p=weights / weights.sum())]
            truth = self.truth[place[0]][place[1]]
            labels = np.unique(truth[wrong[place]])
            shares = np.array([(wrong[place] & (truth == label)).sum() for label in labels], float)
            label = int(self.rng.choice(labels, p=shares / shares.sum()))
            wrong[place] &= ~self._stroke(place, wrong[place] & (truth == label), label)
            touched.add(place)
        return touched

    def _painted(self, place: tuple[int, int]) -> np.ndarray:
        return self.labels[place[0]][place[1]] != 0

    def _stroke(self, place: tuple[int, int], region: np.ndarray, label: int) -> np.ndarray:
        """Paint along the middle of one piece of a region; returns the mask of the stroke."""
        pieces, _ = ndimage.label(region)
        sizes = np.bincount(pieces.ravel())[1:].astype(float)
        piece = pieces == 1 + self.rng.choice(len(sizes), p=sizes / sizes.sum())
        path = self._path(piece)
        mask = np.zeros(region.shape, bool)
        mask[tuple(path.T)] = True
        disc = np.hypot(*np.mgrid[-self.radius : self.radius + 1, -self.radius : self.radius + 1]) <= self.radius
        mask = ndimage.binary_dilation(mask, disc) & (self.truth[place[0]][place[1]] == label)
        self.labels[place[0]][place[1]][mask] = label or self.background
        self.strokes += 1
        return mask

    def _path(self, piece: np.ndarray) -> np.ndarray:
        """(n, 2) pixels through the middle of a piece, between two of its points."""
        depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
        points = np.argwhere(piece)
        weights = depth[piece] ** 2
        first, last = points[self.rng.choice(len(points), 2, p=weights / weights.sum())]
        cost = np.where(piece, 1 / depth.clip(0.5) ** 2, 1e6)
        path, _ = route_through_array(cost, first, last, fully_connected=True, geometric=True)
        return np.array(path[:LENGTH])
