"""How volumes and labels look in a layer: window, colours, and the names under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..volume import PALETTE, Volume, label_colour

# Centre -600, width 1500: the usual lung window.
LUNG_WINDOW_HU = (-1350.0, 150.0)
DISPLAY_PERCENTILES = (0.5, 99.5)


def contrast_limits(volume: Volume) -> tuple[float, float]:
    """What to show of a volume: the file's window, the lung window for HU, else percentiles of one slice."""
    if volume.window is not None:
        return volume.window
    if volume.unit == "HU":
        return LUNG_WINDOW_HU
    middle = np.asarray(volume.array[volume.geometry.shape[0] // 2], dtype=np.float32)
    finite = middle[np.isfinite(middle)]
    low, high = np.percentile(finite, DISPLAY_PERCENTILES).tolist() if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def label_colormap(colours: Mapping[int, str], dtype: np.dtype[Any]) -> Any:
    """A colormap that colours *every* label the dtype holds: the palette, repeated, but for the colours that differ."""
    from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap

    own = {label: colour for label, colour in colours.items() if colour.lower() != label_colour(label).lower()}
    if not own:
        return CyclicLabelColormap(colors=["transparent", *PALETTE])
    # A direct colormap draws nothing for labels it does not list; past this many the rest share one grey.
    listed = range(1, min(int(np.iinfo(dtype).max), 1023) + 1)
    table: dict[int | None, str] = {label: own.get(label, label_colour(label)) for label in listed}
    return DirectLabelColormap(color_dict=table | own | {None: PALETTE[-1], 0: "transparent"})


def features(names: Mapping[int, str]) -> dict[str, list[Any]]:
    """What napari shows in the status bar under the cursor."""
    table = {0: "background", **names}
    return {"index": list(table), "name": list(table.values())}


def colours_of(layer: Any, labels: Iterable[int | None]) -> dict[int, str]:
    """Label → ``"#rrggbb"`` in which a Labels layer shows it."""
    shades = {label: layer.get_color(label) for label in labels if label}
    return {
        label: "#" + "".join(f"{round(255 * float(part)):02x}" for part in shade[:3])
        for label, shade in shades.items()
        if shade is not None
    }
