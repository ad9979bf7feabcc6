"""How volumes and labels look in a layer: window, colours, and the names under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..volume import LUNG_NAMES, PALETTE, Volume, label_colour, plain_name

# Centre -600, width 1500: the usual lung window.
LUNG_WINDOW_HU = (-1350.0, 150.0)
# How far the slider of a CT's window reaches: from below air to dense bone.
RANGE_HU = (-1500.0, 3100.0)
DISPLAY_PERCENTILES = (0.5, 99.5)
_CALLED = 3


def called(names: Iterable[str]) -> str:
    """What classes are called together: "lungs", "heart", "heart and aorta", "heart, aorta and 2 more"."""
    each = list(names)
    if {plain_name(name) for name in each} == set(LUNG_NAMES.values()):
        return "lungs"
    if len(each) > _CALLED:
        each = [*each[: _CALLED - 1], f"{len(each) - _CALLED + 1} more"]
    return " and ".join(part for part in (", ".join(each[:-1]), *each[-1:]) if part) or "nothing"


# Of classes that a person makes: unlike the lungs' orange and blue, and unlike each other.
_FREE = ("#CC79A7", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#999999")


def free_colour(taken: Iterable[str]) -> str:
    """A colour for one more class."""
    used = {colour.lower() for colour in taken}
    return next((colour for colour in _FREE if colour.lower() not in used), _FREE[len(used) % len(_FREE)])


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


def contrast_range(volume: Volume) -> tuple[float, float]:
    """Between which values a window can be chosen: all of HU that scans have, else of one slice; no less than is shown."""
    low, high = contrast_limits(volume)
    if volume.unit == "HU":
        lowest, highest = RANGE_HU
    else:
        middle = np.asarray(volume.array[volume.geometry.shape[0] // 2])
        finite = middle[np.isfinite(middle)]
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (low, high)
    return min(low, lowest), max(high, highest)


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


def features(names: Mapping[int, str], nothing: str = "background") -> dict[str, list[Any]]:
    """What napari shows in the status bar under the cursor; ``nothing`` is what 0 stands for."""
    table = {0: nothing, **names}
    return {"index": list(table), "name": list(table.values())}


def colours_of(layer: Any, labels: Iterable[int | None]) -> dict[int, str]:
    """Label → ``"#rrggbb"`` in which a Labels layer shows it."""
    shades = {label: layer.get_color(label) for label in labels if label}
    return {
        label: "#" + "".join(f"{round(255 * float(part)):02x}" for part in shade[:3])
        for label, shade in shades.items()
        if shade is not None
    }
