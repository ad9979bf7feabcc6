"""A picture of labels over their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume

_TINT = 0.35


@dataclass(frozen=True, eq=False)
class Panel:
    """One cut through an image.

    Parameters
    ----------
    image, labels : (rows, columns)
    window : (low, high) shown as black and white
    aspect : height of a pixel over its width
    title : over the panel
    """

    image: np.ndarray
    labels: np.ndarray
    window: tuple[float, float]
    aspect: float
    title: str


def panels_of(volume: Volume, labels: LabelMap, title: str) -> list[Panel]:
    """The most telling cuts: a radiograph itself; of a scan the axial and the coronal slice with most lung."""
    view, turn = volume.reoriented()
    array, marks = np.asarray(view.array), turn.apply(np.asarray(labels.array))
    low, high = view.window or (float(array.min()), float(array.max()))
    z, y, x = view.geometry.spacing
    level = int(np.argmax((marks > 0).sum(axis=(1, 2))))
    panels = [Panel(array[level], marks[level], (low, high), y / x, title)]
    if not view.is_frames and view.geometry.shape[0] > 1:
        depth = int(np.argmax((marks > 0).sum(axis=(0, 2))))
        panels.append(Panel(array[::-1, depth], marks[::-1, depth], (low, high), z / x, title))
    return panels


def save_picture(panels: Sequence[Panel], colours: dict[int, str], path: Path) -> Path:
    """Draw panels side by side into a PNG file, complete or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ..io.atomic import replacing

    widths = [panel.image.shape[1] / (panel.image.shape[0] * panel.aspect) for panel in panels]
    figure = Figure(figsize=(5 * sum(widths), 5.4), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(_overlay(panel, colours), aspect=panel.aspect, interpolation="nearest")
        for label, colour in colours.items():
            if (panel.labels == label).any():
                axis.contour(panel.labels == label, levels=[0.5], colors=[colour], linewidths=1.2)
        axis.set_title(panel.title, color="white", fontsize=11)
        axis.set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _overlay(panel: Panel, colours: dict[int, str]) -> np.ndarray:
    from matplotlib.colors import to_rgb

    low, high = panel.window
    grey = np.clip((panel.image.astype(np.float32) - low) / (high - low), 0, 1)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for label, colour in colours.items():
        inside = panel.labels == label
        picture[inside] = (1 - _TINT) * picture[inside] + _TINT * np.asarray(to_rgb(colour))
    return picture
