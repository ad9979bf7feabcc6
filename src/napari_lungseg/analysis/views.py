"""Pictures of one scan under its labels: slices with outlines, and the whole chest seen from the front."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..volume import LabelMap, Volume, label_colour
from .page import figure
from .regions import labels_of

_COLUMNS, _ROWS = 4, 3
_PANEL = 2.6  # inches across
_LONGEST = 512  # pixels of a slice; outlines stay clear at this size
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
    _, height, width = view.geometry.spacing
    shape = (view.geometry.shape[1] * height) / (view.geometry.shape[2] * width)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    across = _PANEL * (2 if count == 1 else 1)
    drawn = figure(across * columns, (across * shape + 0.25) * rows, facecolor="black")
    window = _window(view)
    panels = drawn.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    what = "frame" if view.is_frames else "slice"
    for panel, z in zip(panels, chosen, strict=False):
        draw_slice(panel, np.asarray(view.array[z]), marks[z], window, height / width, labels.colours)
        if len(marks) > 1:
            panel.set_title(f"{what} {z}", color="white", fontsize=8, pad=2)
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
    array = np.asarray(view.array)
    shadow = {label: (marks == label).any(axis=1) for label in labels_of({}, marks)}
    shape, aspect = array[:, 0].shape, view.geometry.spacing[0] / view.geometry.spacing[2]
    mean = np.stack([part.mean(axis=0, dtype=np.float32) for part in array])
    pictures = (("brightest voxel (MIP)", array.max(axis=1), _MIP_WINDOW_HU), ("mean", mean, _MEAN_WINDOW_HU))
    drawn = figure(2 * 4.4, 4.4 * shape[0] * aspect / shape[1] + 0.3, facecolor="black")
    for panel, (title, image, window) in zip(drawn.subplots(1, 2), pictures, strict=True):
        low, high = window if view.unit == "HU" else _percentiles(image)
        panel.imshow(image[::-1], cmap="gray", vmin=low, vmax=high, aspect=aspect)
        for label, mask in shadow.items():
            _outline(panel, mask[::-1], _colour(labels.colours, label))
        panel.set_title(title, color="white", fontsize=9, pad=3)
        panel.set_axis_off()
    return drawn


def draw_slice(
    axes: Any,
    image: np.ndarray,
    marks: np.ndarray,
    window: tuple[float, float],
    aspect: float,
    colours: Mapping[int, str],
) -> None:
    """One slice with the outlines of its labels."""
    step = max(1, -(-max(image.shape[:2]) // _LONGEST))
    image, marks = image[::step, ::step], marks[::step, ::step]
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
    for label in np.unique(marks[marks > 0]):
        _outline(axes, marks == label, _colour(colours, int(label)))


def _outline(axes: Any, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():  # one that fills all has no outline
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.1)


def _standard(volume: Volume, labels: LabelMap) -> tuple[Volume, np.ndarray]:
    """The standard view of both; voxels without a number are drawn as dark as any."""
    array = np.asarray(volume.array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        finite = array[np.isfinite(array)]
        darkest = float(finite.min()) if finite.size else 0.0
        volume = dataclasses.replace(volume, array=np.where(np.isfinite(array), array, darkest))
    view, turn = volume.reoriented()
    return view, turn.apply(np.asarray(labels.array))


def _window(view: Volume) -> tuple[float, float]:
    """The lung window for HU, else what the file wants shown or what holds nearly all of the middle slice."""
    if view.unit == "HU":
        return _LUNG_WINDOW_HU
    return view.window or _percentiles(np.asarray(view.array[view.geometry.shape[0] // 2]))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, _PERCENTILES).tolist() if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def _colour(colours: Mapping[int, str], label: int) -> str:
    return colours.get(label, label_colour(label))
