"""What a stroke says of the slices beside it.

A stroke lies on one slice, but what is under it goes on above and below: there it counts as well, as far as the image looks
the same and a little less of its rim with every step. Thirty strokes then speak of a hundred slices instead of thirty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch.nn import functional

from ..segmentation.across import slice_positions
from ..segmentation.preprocess import fit_into
from .examples import Examples, Place, Slice
from .losses import IGNORE

# Slices so many mm away are lent a stroke; its rim loses one pixel of the network for each step.
_STEPS_MM = (3.0, 6.0)
# A slice may lie so much further away than that, as a share of the step.
_SLACK = 0.5
# Grey values this near to each other look the same: 120 HU of the CT window.
_ALIKE = 0.075


def lent(learned: Mapping[Place, torch.Tensor], examples: Examples) -> dict[Place, torch.Tensor]:
    """Lend what is painted to the slices beside it.

    Parameters
    ----------
    learned : place → (rows, columns) uint8, `IGNORE` where nothing is known
    examples : the images

    Returns
    -------
    Place → labels as above, of slices that something is lent to. What is nearer counts, and what is painted there before both.
    """
    given: dict[Place, torch.Tensor] = {}
    loans = sorted(_loans(learned, examples), key=lambda loan: (loan[0], loan[1], loan[2]))
    for _, place, source, steps in loans:
        labels = _moved(learned[source], examples.slice(source), examples.slice(place), steps, examples)
        before = given.get(place, learned.get(place))
        given[place] = labels if before is None else torch.where(before == IGNORE, labels, before)
    return {place: labels for place, labels in given.items() if bool((labels != IGNORE).any())}


def _loans(learned: Mapping[Place, torch.Tensor], examples: Examples) -> Iterator[tuple[float, Place, Place, int]]:
    """(distance in mm, lent to, painted, steps)."""
    for source in learned:
        number, z = source
        volume = examples.painted[number].volume
        if volume.is_frames:
            continue
        where = slice_positions(volume.geometry)
        for steps, wanted in enumerate(_STEPS_MM, 1):
            for side in (-1, 1):
                beside = int(np.abs(where - where[z] - side * wanted).argmin())
                distance = float(abs(where[beside] - where[z]))
                # The same slice may be the nearest to both steps.
                if beside != z and abs(distance - wanted) <= _SLACK * _STEPS_MM[0]:
                    yield distance, (number, beside), source, steps


def _moved(labels: torch.Tensor, source: Slice, target: Slice, steps: int, examples: Examples) -> torch.Tensor:
    """Labels of one slice as they are lent to another."""
    for _ in range(steps - 1):
        labels = _eroded(labels)
    other = sampled(target.image, target, source, examples)
    alike = ((_blurred(source.image) - _blurred(other)).abs() < _ALIKE).all(0)
    kept = torch.where(alike, labels, IGNORE)
    # What lies outside is 0 there: IGNORE, which is 255, becomes that for the while.
    shifted = (255 - kept).float()[None]
    return (255 - sampled(shifted, source, target, examples, "nearest")[0]).to(torch.uint8)


def _eroded(labels: torch.Tensor) -> torch.Tensor:
    """Labels without the pixels beside which something else stands, or nothing."""
    padded = functional.pad(labels[None, None].float(), (1, 1, 1, 1), mode="replicate")[0, 0]
    rows, columns = labels.shape
    same = torch.ones_like(labels, dtype=torch.bool)
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        same &= padded[down : down + rows, right : right + columns] == labels
    return torch.where(same, labels, IGNORE).to(torch.uint8)


def _blurred(image: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(image[None], 3, stride=1, padding=1, count_include_pad=False)[0]


def sampled(values: torch.Tensor, of: Slice, at: Slice, examples: Examples, mode: str = "bilinear") -> torch.Tensor:
    """(channels, rows, columns) of one slice at the pixels of another, whose body may be cropped otherwise; 0 outside."""
    if of.box == at.box:
        return values
    axes = [_along(of, at, axis, examples) for axis in (0, 1)]
    down, across = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([across, down], -1)[None]
    return functional.grid_sample(values[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]


def _along(of: Slice, at: Slice, axis: int, examples: Examples) -> torch.Tensor:
    """Where along an axis of one slice's network pixels those of another lie; the image runs from -1 to 1."""
    count = examples.steps.size[axis]
    first, scale = _placed(at, axis, examples)
    pixels = (torch.arange(count) + 0.5 - first) / scale  # of the whole slice, from its edge
    first, scale = _placed(of, axis, examples)
    return 2 * (pixels * scale + first) / count - 1


def _placed(one: Slice, axis: int, examples: Examples) -> tuple[float, float]:
    """Where pixel 0 of the whole slice lies among the network's, and how many of these a pixel is wide."""
    top, bottom, left, right = one.box
    inner = fit_into((bottom - top, right - left), examples.steps)
    margin = (inner.margins[2], inner.margins[0])[axis]
    start, length = ((top, bottom - top), (left, right - left))[axis]
    scale = inner.size[axis] / length
    return margin - start * scale, scale
