"""Pictures of one scan under its labels: slices with outlines, and the whole chest seen from the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..volume import LabelMap, Volume, label_colour
from .page import figure
from .regions import labels_of

_COLUMNS, _ROWS = 4, 3
_PANEL, _WIDE_PANEL = 2.6, 4.4  # inches across
_MARGIN, _HEAD = 0.06, 0.2  # inches around a panel, and over it for a title
_GAP = 0.04  # between slices, as a share of their width; twice as much over each for a line
_LONGEST = 512  # pixels of a slice that is alone in a picture
_LUNG_WINDOW_HU = (-1350.0, 150.0)
_MIP_WINDOW_HU = (-300.0, 1300.0)
_MEAN_WINDOW_HU = (-900.0, 100.0)
_PERCENTILES = (0.5, 99.5)


def draw_mosaic(volume: Volume, labels: LabelMap) -> Any:
    """Slices spread evenly over the labels (of a radiograph itself, of a stack its frames), with the labels' outlines.

    Parameters
    ----------
    volume : the image
    labels : on its grid; where it is empty, slices are spread over the whole scan

    Returns
    -------
    matplotlib.figure.Figure
    """
    view, marks = _standard(volume, labels)
    used = [z for z, part in enumerate(marks) if part.any()] or list(range(len(marks)))
    count = min(len(used), _COLUMNS * _ROWS)
    # The very ends hold a few voxels of the tips, so slices are taken from the middle of equal parts.
    chosen = [used[int((k + 0.5) * len(used) / count)] for k in range(count)]
    # Not much finer than it is drawn: outlines are as smooth, and found in a quarter of the time.
    step = max(1, max(view.geometry.shape[1:]) // (_LONGEST if count == 1 else _LONGEST // 2))
    window = _window(view)
    pictures = [_shrunk(_brightness(_finite(view.array[z]), window), step) for z in chosen]
    columns, aspect = min(count, _COLUMNS), view.geometry.spacing[1] / view.geometry.spacing[2]
    # One panel holds them all, for a dozen would take three times as long.
    image, corners = _tiled(pictures, columns, aspect)
    outlined, _ = _tiled([marks[z][::step, ::step] for z in chosen], columns, aspect)
    inches = columns * _PANEL * (2 if count == 1 else 1)
    drawn, (panel,) = _panels(1, inches, inches * image.shape[0] * aspect / image.shape[1])
    panel.imshow(image, cmap="gray", vmin=0, vmax=1, aspect=aspect)
    for label in labels_of({}, outlined):
        _outline(panel, outlined == label, _colour(labels.colours, label))
    for z, (row, column) in zip(chosen, corners, strict=True):
        if len(marks) > 1:
            title = f"{'frame' if view.is_frames else 'slice'} {z}"
            panel.text(column, row - 2, title, color="white", fontsize=8, va="bottom")
    return drawn


def draw_projections(volume: Volume, labels: LabelMap) -> Any | None:
    """The chest from the front: the brightest and the mean voxel along each ray, with outlines of the labels' shadows.

    Returns
    -------
    matplotlib.figure.Figure, or None for radiographs and single slices
    """
    if volume.is_frames or volume.unit == "rgb" or min(volume.geometry.shape) < 2:
        return None
    view, marks = _standard(volume, labels)
    slices = (_finite(part) for part in view.array)
    brightest, mean = (np.stack(rays) for rays in zip(*((p.max(axis=0), p.mean(axis=0)) for p in slices), strict=True))
    shadow = {label: np.stack([(p == label).any(axis=0) for p in marks]) for label in labels_of({}, marks)}
    aspect = view.geometry.spacing[0] / view.geometry.spacing[2]
    pictures = (("brightest voxel (MIP)", brightest, _MIP_WINDOW_HU), ("mean", mean, _MEAN_WINDOW_HU))
    drawn, panels = _panels(2, _WIDE_PANEL, _WIDE_PANEL * mean.shape[0] * aspect / mean.shape[1])
    for panel, (title, image, window) in zip(panels, pictures, strict=True):
        low, high = window if view.unit == "HU" else _percentiles(image)
        panel.imshow(image[::-1], cmap="gray", vmin=low, vmax=high, aspect=aspect)
        for label, mask in shadow.items():
            _outline(panel, mask[::-1], _colour(labels.colours, label))
        panel.set_title(title, color="white", fontsize=8, pad=2, y=1.0)
    return drawn


def _tiled(pictures: Sequence[np.ndarray], columns: int, aspect: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Pictures of one size in rows, with room between and for a line over each; and where their upper left corners are."""
    rows, width = pictures[0].shape[:2]
    gap = max(1, round(width * _GAP))
    head = max(1, round(2 * gap / aspect))
    corners = [(k // columns * (rows + head) + head, k % columns * (width + gap)) for k in range(len(pictures))]
    shape = (corners[-1][0] + rows, columns * (width + gap) - gap, *pictures[0].shape[2:])
    tiles = np.zeros(shape, pictures[0].dtype)
    for (row, column), picture in zip(corners, pictures, strict=True):
        tiles[row : row + rows, column : column + width] = picture
    return tiles, corners


def _panels(count: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    """A black figure, and its panels beside each other, each so large (inches) and with room for a title."""
    across, up = count * (width + _MARGIN) + _MARGIN, height + _HEAD + _MARGIN
    drawn = figure(across, up, layout="none", facecolor="black")
    left, bottom = _MARGIN / across, _MARGIN / up
    places = {"left": left, "right": 1 - left, "bottom": bottom, "top": 1 - _HEAD / up, "wspace": _MARGIN / width}
    panels = drawn.subplots(1, count, squeeze=False, gridspec_kw=places)[0]
    for panel in panels:
        panel.set_axis_off()
    return drawn, panels


def _outline(axes: Any, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():  # one that fills all has no outline
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.1)


def _standard(volume: Volume, labels: LabelMap) -> tuple[Volume, np.ndarray]:
    """The standard view of both."""
    view, turn = volume.reoriented()
    return view, turn.apply(np.asarray(labels.array))


def _finite(part: Any) -> np.ndarray:
    """A slice whose voxels without a number are as dark as any."""
    array = np.asarray(part)
    known = np.isfinite(array)
    return array if known.all() else np.where(known, array, array[known].min() if known.any() else 0)


def _brightness(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """From 0 (black) to 1."""
    low, high = window
    return np.asarray(np.clip((image.astype(np.float32) - low) / (high - low), 0, 1))


def _window(view: Volume) -> tuple[float, float]:
    """The lung window for HU, else what the file wants shown or what holds nearly all of the middle slice."""
    if view.unit == "HU":
        return _LUNG_WINDOW_HU
    return view.window or _percentiles(np.asarray(view.array[view.geometry.shape[0] // 2]))


def _shrunk(image: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of step × step pixels; those at the far edges may be smaller."""
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], step)
        ends = np.append(starts[1:], image.shape[axis])
        sizes = (ends - starts).reshape([-1 if axis == k else 1 for k in range(image.ndim)])
        image = np.add.reduceat(image, starts, axis=axis) / sizes.astype(np.float32)
    return image


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _PERCENTILES).tolist() if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def _colour(colours: Mapping[int, str], label: int) -> str:
    return colours.get(label, label_colour(label))
