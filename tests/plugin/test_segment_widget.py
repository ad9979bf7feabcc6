"""The *Segment lungs* widget on a viewer without a window, with a stand-in for the network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_network import FakeNetwork
from napari.layers import Image, Labels

from napari_lungseg.errors import IncompatibleModelError
from napari_lungseg.plugin import warm
from napari_lungseg.plugin.layers import KEY, layer_facts, layer_to_labels
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.painting import MADE_BY
from napari_lungseg.plugin.segmenting import Request, result_layer, show_result
from napari_lungseg.plugin.shortcuts import KEYS
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.volume import FRONTAL, Geometry, Volume

from .conftest import DIRECTIONS, make_labels, make_volume


def run(widget: Any, qtbot: Any) -> Any:
    """Press the button and wait for the end."""
    widget.run_button.click()
    qtbot.waitUntil(lambda: widget.job is None, timeout=20_000)
    return widget.result


def test_a_run_makes_a_labels_layer_on_the_image(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    image = add_item(model_viewer, make_volume("RAS"))
    widget = make_widget()
    assert widget.run_button.text() == "Segment CT 3" and not widget.cancel_button.isEnabled()
    result = run(widget, qtbot)
    assert isinstance(result, Labels) and model_viewer.layers[-1] is result and result.name == "CT 3 – lungs"
    for attribute in ("scale", "translate", "units", "axis_labels"):
        assert np.array_equal(getattr(result, attribute), getattr(image, attribute))
    labels = layer_to_labels(result)
    assert labels.geometry == make_volume("RAS").geometry
    assert np.count_nonzero(labels.array[:, 2:20, 3:9]) == np.count_nonzero(labels.array) > 0
    record = result.metadata[KEY]["record"]
    assert record["model"] == "fake" and record["image"] == "CT 3" and record["device"] == "cpu"
    assert list(result.features["name"]) == ["background", "right lung", "left lung"]
    assert "Took" in widget._time.text() and "on cpu" in widget._time.text()
    assert [widget._findings.item(row).text() for row in range(widget._findings.count())] == ["The left lung is small."]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_image_is_handed_over_as_in_its_file(
    direction: str, make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    volume = make_volume(direction)
    image = add_item(model_viewer, volume)
    before = image.data.copy()
    run(make_widget(), qtbot)
    given = network.calls[0]["volume"]
    assert given.geometry == volume.geometry and np.array_equal(given.array, volume.array)
    assert np.array_equal(image.data, before)


def test_cancel_changes_nothing(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    network.steps, network.pause = 10_000, 0.005
    widget = make_widget()
    widget.run_button.click()
    assert widget.cancel_button.isEnabled() and not widget.run_button.isEnabled()
    qtbot.waitUntil(lambda: widget._bar.value() > 1, timeout=20_000)
    widget.cancel_button.click()
    qtbot.waitUntil(lambda: widget.job is None, timeout=20_000)
    assert len(model_viewer.layers) == 1 and network.closed.is_set() and not network.finished
    assert widget.run_button.isEnabled() and "Cancelled" in widget._message.text()


def test_a_second_run_replaces_its_own_result(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    first = run(widget, qtbot)
    first.name = "named by me"
    network.value = 2
    second = run(widget, qtbot)
    assert list(model_viewer.layers)[1:] == [second] and second.name == "named by me" and second.data.max() == 2


def test_a_result_is_called_after_its_classes_and_replaces_only_its_like(model_viewer: Any) -> None:
    image = add_item(model_viewer, make_volume())
    request = Request(layer_facts(image), image.unique_id, "mine.safetensors")
    lungs = make_labels(make_volume())
    for names in ({1: "right lung", 2: "left lung"}, {1: "heart"}, {1: "heart"}, dict(enumerate("abcde", 1))):
        show_result(model_viewer, result_layer(request, dataclasses.replace(lungs, names=names)))
    assert [layer.name for layer in model_viewer.layers][1:] == [
        "CT 3 – lungs",
        "CT 3 – heart",
        "CT 3 – a, b and 3 more",
    ]
    assert model_viewer.layers[-1].metadata[KEY][MADE_BY] == "mine.safetensors"


@pytest.mark.parametrize(
    "edit",
    [
        lambda layer: layer.paint((2, 5, 5), 2),
        lambda layer: layer.fill((2, 0, 0), 2),
        lambda layer: setattr(layer, "data", layer.data.copy()),
        lambda layer: layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 5),
    ],
    ids=["paint", "fill", "data", "data_setitem"],
)
def test_a_result_that_a_hand_touched_is_kept(
    edit: Callable[[Any], None], make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    first = run(widget, qtbot)
    edit(first)
    kept = first.data.copy()
    second = run(widget, qtbot)
    assert first in model_viewer.layers and second is not first and np.array_equal(first.data, kept)


def test_labels_of_others_are_never_touched(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    volume = make_volume()
    add_item(model_viewer, volume)
    own = add_item(model_viewer, make_labels(volume))
    before = own.data.copy()
    run(make_widget(), qtbot)
    assert own in model_viewer.layers and np.array_equal(own.data, before) and len(model_viewer.layers) == 3


@pytest.mark.parametrize("direction", ["axial", "feet first", "sagittal"])
def test_only_the_slice_on_screen(
    direction: str, make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    shape = (30, 40, 24)
    volume = make_volume(direction, shape)
    add_item(model_viewer, volume)
    widget = make_widget()
    widget._one_slice.setChecked(True)
    model_viewer.dims.set_current_step(0, 4)
    result = run(widget, qtbot)
    given = network.calls[0]["volume"]
    standard, _ = volume.reoriented()
    assert given.geometry.shape == (1, *standard.geometry.shape[1:])
    assert np.allclose(given.geometry.origin, standard.geometry.position((4, 0, 0)))
    assert np.array_equal(given.array[0], standard.array[4])
    filled = [index for index in range(len(result.data)) if result.data[index].any()]
    assert filled == [4] and layer_to_labels(result).geometry == volume.geometry
    assert result.metadata[KEY]["record"]["slice"] == 4


def test_a_slice_result_does_not_replace_that_of_the_stack(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    whole = run(widget, qtbot)
    widget._one_slice.setChecked(True)
    run(widget, qtbot)
    assert whole in model_viewer.layers and len(model_viewer.layers) == 3


def test_no_single_slice_when_another_plane_is_shown(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, notices: list[Any]
) -> None:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    widget._one_slice.setChecked(True)
    model_viewer.dims.order = (1, 0, 2)
    widget.run()
    assert widget.job is None and "axial slices" in notices[-1].message


def test_a_radiograph_and_a_bare_array(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    geometry = Geometry((1, 60, 50), (1.0, 0.2, 0.2), (3.0, 4.0, 5.0), FRONTAL)
    xray = add_item(model_viewer, Volume(np.zeros((1, 60, 50), np.uint8), geometry, "xray", "a.u.", name="X-ray 1"))
    widget = make_widget()
    assert run(widget, qtbot).data.shape == (60, 50)
    model_viewer.add_layer(Image(np.full((5, 30, 40), -500, np.int16), name="bare"))
    assert widget.run_button.text() == "Segment bare"
    bare = run(widget, qtbot)
    assert bare.data.shape == (5, 30, 40) and network.calls[1]["volume"].modality == "ct"
    model_viewer.layers.selection.active = xray
    assert widget.image is xray


def test_time_axes_are_refused_by_name(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, notices: list[Any]
) -> None:
    model_viewer.add_layer(Image(np.zeros((2, 3, 8, 8)), axis_labels=("t", "z", "y", "x"), name="film"))
    widget = make_widget()
    widget.run()
    assert not network.calls and "'t' (time)" in notices[-1].message


def test_the_form_reaches_the_network_and_is_remembered(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    widget._device.setCurrentText("cpu")
    widget._kind.setCurrentText("CT")
    widget.form.update({"mirror": True, "batch_size": 3})
    run(widget, qtbot)
    call = network.calls[0]
    assert call["device"] == "cpu" and call["settings"] == SegmentSettings(mirror=True, batch_size=3)
    widget.close_down()
    again = make_widget()
    assert again._device.currentText() == "cpu" and again.modality == "ct"
    assert again.form.settings == SegmentSettings(mirror=True, batch_size=3)


def test_an_error_is_told_in_the_widget_and_the_next_run_works(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any, notices: list[Any]
) -> None:
    add_item(model_viewer, make_volume())
    network.error = IncompatibleModelError("The model is for X-rays.")
    widget = make_widget()
    run(widget, qtbot)
    assert len(model_viewer.layers) == 1 and notices[-1].message == "The model is for X-rays."
    assert widget._findings.item(0).text() == "The model is for X-rays."
    network.error = None
    assert run(widget, qtbot) is not None and len(model_viewer.layers) == 2


def test_the_combo_follows_the_viewer(make_widget: Callable[[], Any], model_viewer: Any) -> None:
    widget = make_widget()
    assert widget.image is None and not widget.run_button.isEnabled()
    first = model_viewer.add_layer(Image(np.zeros((8, 9)), name="first"))
    second = model_viewer.add_layer(Image(np.zeros((8, 9)), name="second"))
    assert widget.image is second
    model_viewer.layers.selection.active = first
    assert widget.image is first and widget.run_button.text() == "Segment first"
    model_viewer.add_layer(Labels(np.zeros((8, 9), int)))
    assert widget.image is first
    first.name = "renamed"
    assert widget.run_button.text() == "Segment renamed"
    model_viewer.layers.remove(first)
    assert widget.image is second
    model_viewer.layers.clear()
    assert widget.image is None and widget.run_button.text() == "Segment"


def test_keys_run_and_cancel_and_are_given_back(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    network.steps, network.pause = 10_000, 0.005
    widget = make_widget()
    bound = {str(key): command for key, command in model_viewer.keymap.items()}
    own = {"segment", "cancel", "next", "previous", "swap", "lung", "mediastinum", "bone", "front"}
    assert own <= set(KEYS) and len(bound) == len(own)
    press(model_viewer, KEYS["segment"])
    assert widget.job is not None
    press(model_viewer, KEYS["cancel"])
    qtbot.waitUntil(lambda: widget.job is None, timeout=20_000)
    press(model_viewer, KEYS["bone"])
    assert tuple(model_viewer.layers[0].contrast_limits) == (-500.0, 1300.0)
    widget.close_down()
    assert not model_viewer.keymap


def press(viewer: Any, key: str) -> None:
    """What napari calls for a key."""
    from app_model.types import KeyBinding

    viewer.keymap[KeyBinding.from_str(key.replace("Control", "Ctrl").replace("-", "+"))](viewer)


def test_closing_during_a_run_calls_nothing_back(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    network.steps, network.pause = 10_000, 0.005
    widget = make_widget()
    widget.run()
    qtbot.waitUntil(lambda: bool(network.calls), timeout=20_000)
    widget.close_down()
    qtbot.waitUntil(network.closed.is_set, timeout=20_000)
    qtbot.wait(50)
    assert len(model_viewer.layers) == 1
    model_viewer.add_layer(Image(np.zeros((4, 4))))


def test_the_window_stays_responsive_while_it_runs(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    """What we do in the window's thread, step by step, is short even for a large scan."""
    add_item(model_viewer, make_volume(shape=(60, 256, 256)))
    network.steps, network.pause = 50, 0.01
    widget = make_widget()
    spent: list[float] = []
    for name in ("_progress", "_finished", "_ended"):
        timed(widget, name, spent)
    started = time.thread_time()
    widget.run()
    spent.append(time.thread_time() - started)
    qtbot.waitUntil(lambda: widget.job is None, timeout=30_000)
    assert len(spent) > 50
    # Of processor time: on a busy machine the clock says what other programs do.
    assert max(spent) < 0.2, f"the longest of {len(spent)} steps took {max(spent):.3f} s"


def timed(widget: Any, name: str, spent: list[float]) -> None:
    """Keep how long a method takes."""
    method = getattr(widget, name)

    def wrapper(*arguments: Any) -> None:
        started = time.thread_time()
        method(*arguments)
        spent.append(time.thread_time() - started)

    setattr(widget, name, wrapper)


def test_torch_is_warmed_in_a_quiet_moment(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from qtpy.QtCore import QEvent, QObject

    warmed: list[bool] = []
    monkeypatch.setattr(warm, "QUIET_MS", 60)
    monkeypatch.delitem(warm.sys.modules, "torch", raising=False)
    monkeypatch.setattr(warm.Warmer, "_warm", lambda self: warmed.append(True))
    owner = QObject()
    warmer = warm.Warmer(owner)
    for _ in range(6):
        qtbot.wait(20)
        warmer.eventFilter(None, QEvent(QEvent.Type.KeyPress))
        assert not warmed
    qtbot.waitUntil(lambda: bool(warmed), timeout=5_000)
    warmer.stop()
