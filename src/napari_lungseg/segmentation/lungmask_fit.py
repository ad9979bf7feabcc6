"""Crop, resize and the way back just as lungmask 0.2 does them, for the weights that were trained with it.

Its results rest on details of SciPy: positions run from the first pixel's centre to the last's, whole numbers stay whole
numbers, and where rounding puts the last position a hair outside the image, a zero is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models.spec import Preprocessing

Box = tuple[int, int, int, int]
_BODY_HU = -500
_COARSE = 128  # pixels a side of the picture in which it looks for the body


def body_boxes(slices: torch.Tensor) -> list[Box]:
    """Box of the largest body in each slice: (n, y, x) HU → ``(top, bottom, left, right)``, half-open, in pixels.

    The body is found on the CPU, in a thinned image of one bit a pixel.
    """
    rows, columns = slices.shape[1:]
    thinned = _nearest(slices, (_COARSE, _COARSE)) > _BODY_HU
    return [_box(_body(mask), rows, columns) for mask in thinned.cpu().numpy()]


def _body(mask: np.ndarray) -> np.ndarray:
    """(128, 128) bool → the largest piece of it, without bridges and holes."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(ndimage.binary_closing(mask), structure=np.ones((3, 3)))
    pieces, count = ndimage.label(ndimage.binary_erosion(filled, iterations=2))
    if not count:
        return np.zeros_like(mask)
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    body: np.ndarray = ndimage.binary_dilation(pieces == largest, iterations=2)
    return body


def _box(body: np.ndarray, rows: int, columns: int) -> Box:
    """Box of a coarse mask that is brought to (rows, columns)."""
    spans: list[int] = []
    for axis, length in ((1, rows), (0, columns)):
        at, outside = _places(_COARSE, length)
        seen = np.asarray(body.any(axis=axis))[at.numpy()]
        inside = np.flatnonzero(seen & ~outside.numpy())
        spans += [int(inside[0]), int(inside[-1]) + 1] if len(inside) else [0, length]
    return spans[0], spans[1], spans[2], spans[3]


def to_network(slices: torch.Tensor, boxes: Sequence[Box], steps: Preprocessing) -> torch.Tensor:
    """Clip to the window, crop, resize and scale: (n, y, x) HU → (n, 1, rows, columns) float32, 0…1."""
    low, high = steps.window or (-1024, 600)
    prepared = []
    for image, (top, bottom, left, right) in zip(slices, boxes, strict=True):
        resized = _linear(image[top:bottom, left:right].float().clamp(low, high), steps.size)
        if not slices.is_floating_point():
            resized = torch.copysign((resized.abs() + 0.5).floor(), resized)
        prepared.append((resized - low) / (high - low))
    return torch.stack(prepared)[:, None]


def from_network(scores: torch.Tensor, boxes: Sequence[Box], shape: tuple[int, int]) -> torch.Tensor:
    """Take the best class, then resize the labels: (n, classes, rows, columns) → (n, y, x) uint8; 0 outside the box."""
    from .preprocess import best_class

    labels = torch.zeros((len(scores), *shape), dtype=torch.uint8, device=scores.device)
    for label, best, (top, bottom, left, right) in zip(labels, best_class(scores), boxes, strict=True):
        label[top:bottom, left:right] = _nearest(best, (bottom - top, right - left))
    return labels


def _positions(length: int, wanted: int) -> torch.Tensor:
    """Where ``wanted`` pixels lie among ``length``, float64: centre of the first to centre of the last."""
    step = (length - 1) / (wanted - 1) if wanted > 1 else 1.0
    return torch.arange(wanted, dtype=torch.float64) * step


def _places(length: int, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest pixel of each position, and whether the position has come to lie outside."""
    positions = _positions(length, wanted)
    return (positions + 0.5).floor().clamp(max=length - 1).long(), positions > length - 1


def _nearest(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(…, y, x) → (…, *size): the nearest pixel."""
    for axis, wanted in zip((-2, -1), size, strict=True):
        at, outside = (each.to(images.device) for each in _places(images.shape[axis], wanted))
        images = images.index_select(axis, at)
        images = images.masked_fill(outside if axis == -1 else outside[:, None], 0)
    return images


def _linear(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(y, x) float32 → ``size``: between the two nearest pixels of each axis."""
    for axis, wanted in enumerate(size):
        last = image.shape[axis] - 1
        positions = _positions(image.shape[axis], wanted)
        below = positions.floor().clamp(max=last)
        share = (positions - below).float().to(image.device)
        outside = (positions > last).to(image.device)
        below = below.long().to(image.device)
        if axis == 0:
            share, outside = share[:, None], outside[:, None]
        lower, upper = image.index_select(axis, below), image.index_select(axis, (below + 1).clamp(max=last))
        image = (lower + (upper - lower) * share).masked_fill(outside, 0)
    return image
