"""Layers that do not lie on each other although they look as if they did: told once, with a cure where there is one."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import numpy as np
from napari.layers import Image
from napari.utils.notifications import Notification, NotificationSeverity, notification_manager, show_warning

from ..volume import Geometry
from .layers import KEY, layer_facts, length_units

# Directions closer than this (cosines) count as the same: a rounded header's error.
_SAME_DIRECTION = 1e-3
_TOLD: WeakSet[Any] = WeakSet()


def check_overlay(viewer: Any, layer: Any) -> None:
    """Warn, once per layer, of directions that differ from an open scan's and of pixels beside millimetres."""
    if layer in _TOLD:
        return
    others = [other for other in viewer.layers if other is not layer and isinstance(other, Image)]
    if differing := [other.name for other in others if _differ(layer, other)]:
        _TOLD.add(layer)
        show_warning(
            f"{layer.name} was taken in another direction than {', '.join(differing)}: "
            "both are shown along their own slices, and do not overlay."
        )
    units = length_units(layer_facts(layer).units)
    if (
        isinstance(layer, Image)
        and units == "pixel"
        and any(length_units(layer_facts(o).units) == "mm" for o in others)
    ):
        _TOLD.add(layer)
        text = (
            f"{layer.name} does not say how large its pixels are, beside scans in mm: their sizes cannot be compared."
        )
        action = ("Set the spacing", lambda *_: ask_spacing(layer))
        notification_manager.dispatch(Notification(text, NotificationSeverity.WARNING, actions=(action,)))


def ask_spacing(layer: Any) -> None:
    """Ask for the size of a pixel, and give it to the layer."""
    from qtpy.QtWidgets import QInputDialog

    told = "Size of a pixel (mm):"
    spacing, answered = QInputDialog.getDouble(None, f"Spacing of {layer.name}", told, 1.0, 0.001, 100.0, 4)
    if answered:
        set_spacing(layer, spacing)


def set_spacing(layer: Any, spacing: float) -> None:
    """Make a layer's pixels ``spacing`` mm wide and high; their proportions stay."""
    layer.scale = np.asarray(layer.scale) * (spacing / layer.scale[-1])
    layer.units = ("mm",) * layer.ndim


def _differ(first: Any, second: Any) -> bool:
    geometries = [layer.metadata.get(KEY, {}).get("geometry") for layer in (first, second)]
    directions = [
        np.asarray(geometry.reoriented(geometry.reorientation()).direction)
        for geometry in geometries
        if isinstance(geometry, Geometry) and geometry.is_mm
    ]
    return len(directions) == 2 and not np.allclose(directions[0], directions[1], atol=_SAME_DIRECTION)
