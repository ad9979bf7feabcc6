"""Window presets, the front view and the letters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.window import WINDOWS_HU, apply_window, letters_of, show_from_the_front
from napari_lungseg.volume import FRONTAL, Geometry, Volume

from .conftest import DIRECTIONS, make_volume

AXIAL_LETTERS = {"left": "R", "right": "L", "up": "A", "down": "P"}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_stack_is_shown_like_an_axial_ct(model_viewer: Any, direction: str) -> None:
    letters = letters_of(model_viewer)
    add_item(model_viewer, make_volume(direction))
    assert letters.texts == AXIAL_LETTERS


def test_letters_follow_the_axes_on_screen(model_viewer: Any) -> None:
    letters = letters_of(model_viewer)
    assert letters.texts == {}
    add_item(model_viewer, make_volume())
    model_viewer.dims.order = (1, 0, 2)  # coronal; z runs to the head, and down on screen
    assert letters.texts == {"left": "R", "right": "L", "up": "F", "down": "H"}
    model_viewer.dims.order = (2, 0, 1)
    assert letters.texts == {"left": "A", "right": "P", "up": "F", "down": "H"}
    model_viewer.scene.camera.orientation2d = ("up", "left")
    assert letters.texts == {"left": "P", "right": "A", "up": "H", "down": "F"}


def test_letters_of_a_radiograph_and_of_nothing_known(model_viewer: Any) -> None:
    letters = letters_of(model_viewer)
    geometry = Geometry((1, 8, 9), (1.0, 0.2, 0.2), direction=FRONTAL)
    add_item(model_viewer, Volume(np.zeros((1, 8, 9), np.uint8), geometry, "xray", "a.u."))
    assert letters.texts == {"left": "R", "right": "L", "up": "H", "down": "F"}
    model_viewer.layers.clear()
    model_viewer.add_layer(Image(np.zeros((8, 9))))
    assert letters.texts == {}


def test_letters_can_be_hidden(model_viewer: Any) -> None:
    letters = letters_of(model_viewer)
    add_item(model_viewer, make_volume())
    letters.visible = False
    assert letters.texts == {}
    letters.visible = True
    assert letters.texts == AXIAL_LETTERS
    assert letters_of(model_viewer) is letters


def test_the_front_view_stands_the_patient_up_unmirrored(model_viewer: Any) -> None:
    letters = letters_of(model_viewer)
    add_item(model_viewer, make_volume())
    show_from_the_front(model_viewer)
    camera = model_viewer.scene.camera
    assert np.allclose(camera.view_direction, (0, 1, 0), atol=1e-6)
    assert np.allclose(camera.up_direction, (1, 0, 0), atol=1e-6)
    assert camera.handedness == "left"  # of (z, y, x): right-handed in the patient's (x, y, z)
    assert letters.texts == {"left": "R", "right": "L", "up": "H", "down": "F"}


def test_the_letters_say_when_a_3d_view_is_mirrored(model_viewer: Any) -> None:
    """Napari's default 3-D view of an axial stack is seen from the head with x to the right: mirrored."""
    letters = letters_of(model_viewer)
    add_item(model_viewer, make_volume())
    show_from_the_front(model_viewer)
    model_viewer.scene.camera.orientation = ("towards", "down", "right")
    model_viewer.scene.camera.set_view_direction((0, 1, 0), (1, 0, 0))
    assert letters.texts["left"] == "L" and letters.texts["up"] == "H"


def test_the_window_of_a_scan_can_be_widened(model_viewer: Any) -> None:
    """Napari's slider would end at the lung window, and a heart could not be seen."""
    ct = add_item(model_viewer, make_volume())
    assert tuple(ct.contrast_limits) == WINDOWS_HU["lung"] and tuple(ct.contrast_limits_range) == (-1500.0, 3100.0)
    grey = np.linspace(0, 1000, 72, dtype=np.float32).reshape(1, 8, 9)
    xray = add_item(model_viewer, Volume(grey, Geometry((1, 8, 9)), "xray", "a.u.", window=(-50.0, 200.0)))
    assert tuple(xray.contrast_limits) == (-50.0, 200.0) and tuple(xray.contrast_limits_range) == (-50.0, 1000.0)


def test_window_presets_are_for_hounsfield_units(model_viewer: Any) -> None:
    ct = add_item(model_viewer, make_volume())
    for name, window in WINDOWS_HU.items():
        assert apply_window(ct, name) and tuple(ct.contrast_limits) == window
    xray = add_item(model_viewer, Volume(np.zeros((1, 8, 9), np.uint8), Geometry((1, 8, 9)), "xray", "a.u."))
    before = tuple(xray.contrast_limits)
    assert not apply_window(xray, "bone") and tuple(xray.contrast_limits) == before
