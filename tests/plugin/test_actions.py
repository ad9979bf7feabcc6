"""Labelled slices, swapping the lungs, and turning layers into one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.plugin import actions, pacing
from napari_lungseg.plugin.actions import (
    active_labels,
    convert_layer,
    next_labelled_slice,
    swap_lungs,
    swapping_lungs,
)
from napari_lungseg.plugin.layers import layer_to_labels, layer_to_volume
from napari_lungseg.plugin.opening import add_item

from .conftest import make_labels, make_volume


def test_steps_go_to_slices_with_labels(model_viewer: Any) -> None:
    volume = make_volume("feet first")
    add_item(model_viewer, volume)
    layer = add_item(model_viewer, make_labels(volume))
    filled = [index for index in range(6) if layer.data[index].any()]
    model_viewer.dims.set_current_step(0, 0)
    seen = []
    while next_labelled_slice(model_viewer):
        seen.append(model_viewer.dims.current_step[0])
    assert seen == [index for index in filled if index > 0]
    assert next_labelled_slice(model_viewer, -1) and model_viewer.dims.current_step[0] == filled[-2]
    model_viewer.dims.ndisplay = 3
    assert not next_labelled_slice(model_viewer)


def test_swap_is_one_step_of_undo(model_viewer: Any) -> None:
    layer = add_item(model_viewer, make_labels(make_volume()))
    before = layer.data.copy()
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 7)
    changed = swap_lungs(layer)
    assert changed == np.count_nonzero(before)
    assert np.array_equal(layer.data == 1, before == 2) and np.array_equal(layer.data == 2, before == 1)
    assert layer.data[0, 0, 0] == 7
    layer.undo()
    assert np.array_equal(layer.data == 1, before == 1) and layer.data[0, 0, 0] == 7
    layer.undo()
    assert np.array_equal(layer.data, before)
    assert swap_lungs(Labels(np.zeros((4, 5), np.uint8))) == 0


def test_swap_works_in_two_dimensions() -> None:
    layer = Labels(np.array([[1, 2, 0], [0, 3, 1]], np.uint8))
    swap_lungs(layer)
    assert np.array_equal(layer.data, [[2, 1, 0], [0, 3, 2]])


def test_the_window_lives_while_lungs_are_swapped(qtbot: Any, model_viewer: Any, monkeypatch: Any) -> None:
    layer = add_item(model_viewer, make_labels(make_volume()))
    before = layer.data.copy()
    layer.mode = "paint"
    monkeypatch.setattr(pacing, "window_is_running", lambda: True)
    monkeypatch.setattr(pacing, "MOMENT_S", 0.0)
    monkeypatch.setattr(actions, "SWAPPED_AT_ONCE", 1)
    ended: list[bool] = []
    pacing.paced(swapping_lungs(layer), lambda: ended.append(True))
    assert not ended and layer.mode == "pan_zoom"
    qtbot.waitUntil(lambda: bool(ended))
    assert layer.mode == "paint"
    assert np.array_equal(layer.data == 1, before == 2) and np.array_equal(layer.data == 2, before == 1)
    layer.undo()
    assert np.array_equal(layer.data, before)


def test_labels_become_an_image_and_back(model_viewer: Any) -> None:
    labels = make_labels(make_volume("oblique"))
    layer = add_item(model_viewer, labels)
    image = convert_layer(model_viewer, layer)
    assert isinstance(image, Image) and layer not in model_viewer.layers and image.name == layer.name
    assert layer_to_volume(image).geometry == labels.geometry
    back = convert_layer(model_viewer, image)
    assert isinstance(back, Labels) and model_viewer.layers.selection.active is back
    again = layer_to_labels(back)
    assert np.array_equal(again.array, labels.array) and again.names == labels.names


def test_fractions_and_colours_are_no_labels(model_viewer: Any) -> None:
    fractions = model_viewer.add_layer(Image(np.array([[0.5, 1.0]])))
    with pytest.raises(InvalidVolumeError, match="fractions"):
        convert_layer(model_viewer, fractions)
    colours = model_viewer.add_layer(Image(np.zeros((4, 5, 3), np.uint8), rgb=True))
    with pytest.raises(InvalidVolumeError, match="colour"):
        convert_layer(model_viewer, colours)
    whole = convert_layer(model_viewer, model_viewer.add_layer(Image(np.array([[0.0, 3.0]]))))
    assert whole.data.dtype == np.uint8 and whole.data.max() == 3


def test_the_labels_meant_are_the_active_or_the_topmost(model_viewer: Any) -> None:
    assert active_labels(model_viewer) is None
    first = add_item(model_viewer, make_labels(make_volume()))
    second = add_item(model_viewer, make_labels(make_volume()))
    assert active_labels(model_viewer) is second
    model_viewer.layers.selection.active = first
    assert active_labels(model_viewer) is first
