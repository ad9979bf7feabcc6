"""Painted slices as a network sees them: prepared once, and again only where somebody painted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..models.spec import Preprocessing
from ..segmentation.predict import _tensor
from ..segmentation.preprocess import Box, boxes_of, fit_into, from_network, to_network
from .losses import IGNORE
from .painted import Painted, Strokes

Place = tuple[int, int]
"""(number of the image, slice of its standard view)."""

# A stroke thinner than a pixel of the network still counts where it covers this share of one.
_COVERED = 0.15
# Held-out paint is taken in squares of so many network pixels, so that it does not lie in the midst of what is learned.
_TILE = 24


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice at the network's size.

    Parameters
    ----------
    image : (channels, rows, columns) float32, 0…1
    box : what of the slice is shown
    shape : (y, x) of the slice
    """

    image: torch.Tensor
    box: Box
    shape: tuple[int, int]


class Examples:
    """Images, what is painted on them, and both at the network's size.

    Parameters
    ----------
    painted : images in the standard view
    steps : of the network
    hold_out : share of the paint that is held out
    seed : of which paint that is
    """

    def __init__(self, painted: Sequence[Painted], steps: Preprocessing, hold_out: float, seed: int) -> None:
        self.painted = list(painted)
        self.steps = steps
        self.hold_out, self.seed = hold_out, seed
        self._slices: dict[Place, Slice] = {}
        self.labels: dict[Place, torch.Tensor] = {}
        """Place → (rows, columns) uint8, `IGNORE` where nothing is known; all the paint."""
        for number, item in enumerate(self.painted):
            self._take(number, item.painted_slices())

    @property
    def places(self) -> list[Place]:
        """Every slice there is, painted or not."""
        return [(number, z) for number, item in enumerate(self.painted) for z in range(len(item.labels.array))]

    def take_up(self, strokes: Strokes) -> None:
        """Learn from what was painted since."""
        before = self.painted[strokes.image].complete
        item = self.painted[strokes.image] = self.painted[strokes.image].with_strokes(strokes)
        self._take(strokes.image, sorted({*strokes.slices, *(before ^ item.complete)}))

    def _take(self, number: int, slices: Sequence[int]) -> None:
        item = self.painted[number]
        for z in slices:
            known = item.known([z])
            if (known != IGNORE).any():
                self.labels[number, z] = self._labels((number, z), known)
            else:
                self.labels.pop((number, z), None)

    def slice(self, place: Place) -> Slice:
        """A slice at the network's size; kept for the next time."""
        if place not in self._slices:
            number, z = place
            voxels = _tensor(self.painted[number].volume.array[z : z + 1])
            box = boxes_of(voxels, self.steps)[0]
            image = to_network(voxels, [box], self.steps)[0]
            self._slices[place] = Slice(image, box, (voxels.shape[1], voxels.shape[2]))
        return self._slices[place]

    def _labels(self, place: Place, known: np.ndarray) -> torch.Tensor:
        """Known labels at the network's size: of each pixel the class that covers most of it."""
        box = self.slice(place).box
        masks = dataclasses.replace(self.steps, window=(0.0, 1.0))
        classes = [label for label in np.unique(known) if label != IGNORE]
        shares = torch.cat(
            [to_network(torch.from_numpy((known == c).astype(np.float32)), [box], masks) for c in classes]
        )
        most, which = shares[:, 0].max(dim=0)
        labels = torch.tensor([int(c) for c in classes], dtype=torch.uint8)[which]
        return torch.where(most > _COVERED, labels, IGNORE).to(torch.uint8)

    def divided(self) -> tuple[dict[Place, torch.Tensor], dict[Place, torch.Tensor], int]:
        """Labels to learn from, labels held out, and in how many squares; by squares chosen at random but always the same.

        Of a class with fewer than two squares nothing is held out, and nothing at all while little is painted.
        """
        learned = {place: labels.clone() for place, labels in self.labels.items()}
        held = {place: torch.full_like(labels, IGNORE) for place, labels in self.labels.items()}
        squares: dict[int, list[tuple[Place, int, int]]] = {}
        for place, labels in sorted(self.labels.items(), key=lambda item: item[0]):
            for row in range(0, labels.shape[0], _TILE):
                for column in range(0, labels.shape[1], _TILE):
                    for label in np.unique(labels[row : row + _TILE, column : column + _TILE].numpy()).tolist():
                        if label != IGNORE:
                            squares.setdefault(label, []).append((place, row, column))
        if not self.hold_out or any(len(found) < 2 for found in squares.values()):
            return learned, {}, 0
        chosen = {square for found in squares.values() for square in found if self._is_held(square)}
        for place, row, column in chosen:
            part = (slice(row, row + _TILE), slice(column, column + _TILE))
            held[place][part] = learned[place][part]
            learned[place][part] = IGNORE
        return _known(learned), _known(held), len(chosen)

    def _is_held(self, square: tuple[Place, int, int]) -> bool:
        (image, z), row, column = square
        draw = np.random.default_rng((self.seed, image, z, row, column)).random()
        return bool(draw < self.hold_out)

    def to_labels(self, scores: torch.Tensor, place: Place) -> np.ndarray:
        """(classes, rows, columns) scores → (y, x) uint8 labels of the slice."""
        seen = self.slice(place)
        return from_network(scores[None], [seen.box], seen.shape, self.steps)[0].numpy()

    def to_slice(self, values: torch.Tensor, place: Place) -> np.ndarray:
        """(rows, columns) of the network → (y, x) float32 of the slice; 0 outside of what the network is shown."""
        seen = self.slice(place)
        top, bottom, left, right = seen.box
        size = (bottom - top, right - left)
        inner = fit_into(size, self.steps)
        before, above = inner.margins[0], inner.margins[2]
        shown = values[above : above + inner.size[0], before : before + inner.size[1]]
        whole = torch.zeros(seen.shape)
        whole[top:bottom, left:right] = functional.interpolate(shown[None, None].float(), size=size, mode="bilinear")[
            0, 0
        ]
        return whole.numpy()


def _known(labels: dict[Place, torch.Tensor]) -> dict[Place, torch.Tensor]:
    return {place: array for place, array in labels.items() if bool((array != IGNORE).any())}


def spread(places: Sequence[Place]) -> list[Place]:
    """Places in an order in which the first few already lie everywhere: halves, quarters, eighths …"""
    bits = max(1, (len(places) - 1).bit_length())
    reversed_bits = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits)]
    return [places[number] for number in reversed_bits if number < len(places)]
