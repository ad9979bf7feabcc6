"""From physical units to the network's input and back, in torch on the model's device."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from . import lungmask_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models.spec import Preprocessing

Box = tuple[int, int, int, int]
BODY_HU = -500
# A body seen at this many pixels a side still shows its outline; tables and blankets are thin there.
_COARSE = 128
_THIN = 3  # coarse pixels, about 12 mm: more would take a thin patient's chest wall away too
# Larger images are thinned before their percentiles are taken; a hundred thousand pixels tell them well enough.
_PERCENTILE_PIXELS = 100_000
_BLANK = 0.05  # of the picture's range


def body_boxes(slices: torch.Tensor) -> list[Box]:
    """Find the body in CT slices.

    Parameters
    ----------
    slices : (n, y, x) HU

    Returns
    -------
    ``(top, bottom, left, right)`` per slice, half-open, in pixels; the whole slice where no body is seen.
    """
    rows, columns = slices.shape[1:]
    step = max(1, max(rows, columns) // _COARSE)
    coarse = (slices[:, ::step, ::step] > BODY_HU).float()[:, None]
    thin = min(_THIN, *(size - 1 + size % 2 for size in coarse.shape[-2:]))
    eroded = 1 - functional.max_pool2d(1 - coarse, thin, stride=1, padding=thin // 2)
    body = functional.max_pool2d(eroded, thin, stride=1, padding=thin // 2)[:, 0] > 0
    spans = torch.cat([_span(body.any(dim=2)), _span(body.any(dim=1))], dim=1).tolist()
    return [_box(span, step, rows, columns) for span in spans]


def _span(seen: torch.Tensor) -> torch.Tensor:
    """(n, length) bool → (n, 2) first and one past the last True; (length, 0) where none is."""
    length = seen.shape[1]
    index = torch.arange(length, device=seen.device)
    first = torch.where(seen, index, length).amin(dim=1)
    last = torch.where(seen, index + 1, 0).amax(dim=1)
    return torch.stack([first, last], dim=1)


def _box(span: Sequence[int], step: int, rows: int, columns: int) -> Box:
    top, bottom, left, right = span
    if bottom <= top or right <= left:
        return 0, rows, 0, columns
    return (
        max(0, (top - 1) * step),
        min(rows, (bottom + 1) * step),
        max(0, (left - 1) * step),
        min(columns, (right + 1) * step),
    )


def border_boxes(slices: torch.Tensor) -> list[Box]:
    """Find what lies within the blank borders of pictures: (n, y, x) or (n, y, x, 3) → one box each.

    A row or column is blank where its values differ by less than a twentieth of the picture's range; a picture that is
    blank all over is kept whole.
    """
    rows, columns = slices.shape[1:3]
    boxes = []
    for image in slices.float():
        grey = image if image.ndim == 2 else image.mean(-1)
        least = _BLANK * float(grey.max() - grey.min())
        used = [(grey.amax(axis) - grey.amin(axis)) > least for axis in (1, 0)]
        (top, bottom), (left, right) = (_span(axis[None])[0].tolist() for axis in used)
        boxes.append((top, bottom, left, right) if bottom > top and right > left else (0, rows, 0, columns))
    return boxes


def boxes_of(slices: torch.Tensor, steps: Preprocessing) -> list[Box]:
    """Part of each slice that the network sees: the body, or what borders leave, where the model wants that."""
    if steps.fit == "lungmask":
        return lungmask_fit.body_boxes(slices)
    if steps.crop_body:
        return body_boxes(slices)
    if steps.crop_border:
        return border_boxes(slices)
    rows, columns = slices.shape[1:3]
    return [(0, rows, 0, columns)] * len(slices)


def to_network(slices: torch.Tensor, boxes: Sequence[Box], steps: Preprocessing) -> torch.Tensor:
    """Crop, scale to 0…1 and resize.

    Parameters
    ----------
    slices : (n, y, x) or (n, y, x, 3), any numeric type, in the model's unit
    boxes : one per slice, from `boxes_of`
    steps : of the model

    Returns
    -------
    (n, channels, rows, columns) float32 of ``steps.size``
    """
    if steps.fit == "lungmask":
        return lungmask_fit.to_network(slices, boxes, steps)
    prepared = []
    for image, (top, bottom, left, right) in zip(slices, boxes, strict=True):
        channels = image[None] if image.ndim == 2 else image.movedim(-1, 0)
        crop = _normalise(channels[:, top:bottom, left:right].float(), steps)
        inner = fit_into(crop.shape[-2:], steps)
        resized = functional.interpolate(crop[None], size=inner.size, mode="bilinear", antialias=True)
        prepared.append(functional.pad(resized, inner.margins) if any(inner.margins) else resized)
    return torch.cat(prepared)


class Fitted(NamedTuple):
    """Where a crop lies in the network's input: its size there and what is padded left, right, above and below."""

    size: tuple[int, int]
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)


def fit_into(crop: Sequence[int], steps: Preprocessing) -> Fitted:
    """Where a crop of (rows, columns) pixels comes to lie in the network's input."""
    if steps.fit != "pad":
        return Fitted(steps.size)
    scale = min(steps.size[0] / crop[0], steps.size[1] / crop[1])
    rows, columns = (max(1, min(round(scale * side), size)) for side, size in zip(crop, steps.size, strict=True))
    above, left = (steps.size[0] - rows) // 2, (steps.size[1] - columns) // 2
    return Fitted((rows, columns), (left, steps.size[1] - columns - left, above, steps.size[0] - rows - above))


def _normalise(crop: torch.Tensor, steps: Preprocessing) -> torch.Tensor:
    """Map the window (or the image's own percentiles) to 0…1."""
    if steps.window is not None:
        low, high = steps.window
    else:
        stride = max(1, int((crop.numel() / _PERCENTILE_PIXELS) ** 0.5))
        sample = crop[:, ::stride, ::stride].flatten()
        levels = torch.tensor(steps.percentiles, device=crop.device) / 100
        low, high = torch.quantile(sample, levels).tolist()
    return ((crop - low) / max(high - low, 1e-6)).clamp_(0, 1)


def from_network(
    scores: torch.Tensor, boxes: Sequence[Box], shape: tuple[int, int], steps: Preprocessing
) -> torch.Tensor:
    """Resize class scores back into their boxes and take the best class.

    Parameters
    ----------
    scores : (n, classes, rows, columns)
    boxes : one per slice
    shape : (y, x) of the slices
    steps : of the model

    Returns
    -------
    (n, y, x) uint8 labels; 0 outside the box
    """
    if steps.fit == "lungmask":
        return lungmask_fit.from_network(scores, boxes, shape)
    labels = torch.zeros((len(scores), *shape), dtype=torch.uint8, device=scores.device)
    for label, score, (top, bottom, left, right) in zip(labels, scores, boxes, strict=True):
        label[top:bottom, left:right] = best_class(_resized(score, (bottom - top, right - left), steps))
    return labels


def chances_from_network(score: torch.Tensor, box: Box, shape: tuple[int, int], steps: Preprocessing) -> torch.Tensor:
    """Class scores of one slice (classes, rows, columns) → chances (classes, y, x) of the slice; outside its box background."""
    top, bottom, left, right = box
    whole = torch.zeros((len(score), *shape), device=score.device)
    whole[0] = 1
    whole[:, top:bottom, left:right] = _resized(score.softmax(0), (bottom - top, right - left), steps)
    return whole


def chances_to_network(chances: torch.Tensor, box: Box, steps: Preprocessing) -> torch.Tensor:
    """Chances (classes, y, x) of one slice → (classes, rows, columns) of the network; all background in its margins."""
    shares = to_network(chances, [box] * len(chances), dataclasses.replace(steps, window=(0.0, 1.0)))[:, 0]
    shares[0] += (1 - shares.sum(0)).clamp_min(0)
    return shares


def map_from_network(
    values: torch.Tensor, boxes: Sequence[Box], shape: tuple[int, int], steps: Preprocessing
) -> torch.Tensor:
    """Resize a map of numbers from 0 to 255 back into its boxes: (n, rows, columns) → (n, y, x) uint8; 0 outside them."""
    whole = torch.zeros((len(values), *shape), dtype=torch.uint8, device=values.device)
    for target, value, (top, bottom, left, right) in zip(whole, values, boxes, strict=True):
        target[top:bottom, left:right] = _resized(value[None], (bottom - top, right - left), steps)[0].round()
    return whole


def _resized(score: torch.Tensor, size: tuple[int, int], steps: Preprocessing) -> torch.Tensor:
    """(channels, rows, columns) of the network → (channels, *size) of the crop it was shown."""
    inner = fit_into(size, steps)
    above, before = inner.margins[2], inner.margins[0]
    seen = score[None, :, above : above + inner.size[0], before : before + inner.size[1]]
    return functional.interpolate(seen, size=size, mode="bilinear", antialias=True)[0]


def best_class(scores: torch.Tensor) -> torch.Tensor:
    """The class with the highest score: (…, classes, y, x) → (…, y, x) uint8.

    Comparing the few classes one by one is ten times quicker on a CPU than an arg-max over a short axis.
    """
    best = scores.select(-3, 0)
    label = torch.zeros(best.shape, dtype=torch.uint8, device=scores.device)
    for number in range(1, scores.shape[-3]):
        score = scores.select(-3, number)
        label.masked_fill_(score > best, number)
        best = torch.maximum(best, score)
    return label
