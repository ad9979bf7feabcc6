"""How a scan is looked at: window presets, the 3-D view, and letters that say where the patient's sides are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from ..volume import Geometry
from .appearance import LUNG_WINDOW_HU
from .layers import KEY, axis_letters, layer_facts

# (low, high) in HU: centre and width are -600/1500, 40/400 and 400/1800, the usual presets of a chest CT.
WINDOWS_HU: Mapping[str, tuple[float, float]] = {
    "lung": LUNG_WINDOW_HU,
    "mediastinum": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
}
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "H": "F", "F": "H"}
_SIDES = {"left": "middle_left", "right": "middle_right", "up": "top_center", "down": "bottom_center"}
# LPS is right-handed when z runs away from the viewer of a usual axial slice; napari's default mirrors it.
PATIENT_ORIENTATION = ("away", "down", "right")


def apply_window(layer: Any, name: str) -> bool:
    """Show an Image layer in a window preset; False for one that is not in Hounsfield units."""
    if layer is None or layer.metadata.get(KEY, {}).get("unit", "HU") != "HU" or getattr(layer, "rgb", False):
        return False
    layer.contrast_limits = WINDOWS_HU[name]
    return True


def show_from_the_front(viewer: Any) -> None:
    """Three dimensions, feet down, seen from the patient's front, right side at the viewer's left."""
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    face_the_patient(viewer)


def face_the_patient(viewer: Any) -> None:
    """Turn the camera of a 3-D view to the patient's front, head up, without the mirror of napari's default."""
    camera = viewer.scene.camera
    camera.orientation = PATIENT_ORIENTATION
    # Axes are (z, y, x) = (head, back, left): look towards the back with the head up.
    camera.set_view_direction((0, 1, 0), (1, 0, 0))


def side_letters(viewer: Any, layer: Any) -> dict[str, str]:
    """Letter at each side of the canvas ("left", "right", "up", "down"); empty where nothing is known."""
    axes = axis_letters(layer_facts(layer)) if layer is not None and hasattr(layer, "metadata") else None
    if axes is None:
        return {}
    # The layer's axes are the last of the viewer's.
    letters = dict(zip(range(viewer.dims.ndim - len(axes), viewer.dims.ndim), axes, strict=True))
    shown = [letters.get(axis) for axis in viewer.dims.displayed]
    down, right = _canvas_axes(viewer)
    sides = {}
    for (axis, sign), towards, away in ((down, "down", "up"), (right, "right", "left")):
        letter = shown[axis]
        if letter is not None:
            sides[towards], sides[away] = (letter, _OPPOSITE[letter])[:: 1 if sign > 0 else -1]
    return sides


def _canvas_axes(viewer: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Which displayed axis runs down and which to the right on the canvas, each with its sense (nearest, in 3-D)."""
    camera = viewer.scene.camera
    _, vertical, horizontal = camera.orientation
    if viewer.dims.ndisplay == 2:
        return (0, 1 if vertical == "down" else -1), (1, 1 if horizontal == "right" else -1)
    view, up = np.asarray(camera.view_direction), np.asarray(camera.up_direction)
    mirrored = -1 if camera.handedness == "right" else 1
    # In (x, y, z), whose cross product is the reverse of that in (z, y, x).
    right = -np.cross(view, up) * mirrored
    return _nearest(-up), _nearest(right)


def _nearest(vector: np.ndarray) -> tuple[int, int]:
    axis = int(np.argmax(np.abs(vector)))
    return axis, int(np.sign(vector[axis]) or 1)


class OrientationLetters:
    """R, L, A, P, H and F at the sides of a viewer's canvas, following what it shows."""

    def __init__(self, viewer: Any) -> None:
        from napari.components.overlays import TextOverlay

        # Weak, or the table of letters below would keep closed viewers alive.
        self._viewer = ref(viewer)
        self._visible = True
        self._overlays = {
            side: TextOverlay(position=position, font_size=14, box=False, color="#F0E442")
            for side, position in _SIDES.items()
        }
        for side, overlay in self._overlays.items():
            viewer.canvas.overlays[f"lungseg_{side}"] = overlay
        for emitter in (
            viewer.dims.events.ndisplay,
            viewer.dims.events.order,
            viewer.dims.events.ndim,
            viewer.scene.camera.events.angles,
            viewer.scene.camera.events.orientation,
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
            viewer.layers.selection.events.active,
        ):
            emitter.connect(self.update)
        self.update()

    @property
    def visible(self) -> bool:
        """Whether letters are wanted."""
        return self._visible

    @visible.setter
    def visible(self, value: bool) -> None:
        self._visible = bool(value)
        self.update()

    @property
    def texts(self) -> dict[str, str]:
        """Letter shown at each side."""
        return {side: overlay.text for side, overlay in self._overlays.items() if overlay.visible}

    def update(self, event: object = None) -> None:
        """Show what holds for the active layer, or for the topmost that knows."""
        viewer = self._viewer()
        letters = side_letters(viewer, _speaker(viewer)) if self._visible and viewer is not None else {}
        for side, overlay in self._overlays.items():
            overlay.text = letters.get(side, "")
            overlay.visible = side in letters


def _speaker(viewer: Any) -> Any:
    """The layer whose sides are shown: the active one, or the topmost that knows."""
    candidates = [viewer.layers.selection.active, *reversed(viewer.layers)]
    return next((layer for layer in candidates if layer is not None and knows(layer)), None)


def knows(layer: Any) -> bool:
    """Whether a layer knows where the patient's sides are."""
    return isinstance(layer.metadata.get(KEY, {}).get("geometry"), Geometry)


_LETTERS: WeakKeyDictionary[Any, OrientationLetters] = WeakKeyDictionary()


def letters_of(viewer: Any) -> OrientationLetters:
    """The letters of a viewer, made when first asked for."""
    if viewer not in _LETTERS:
        _LETTERS[viewer] = OrientationLetters(viewer)
    return _LETTERS[viewer]
