"""The light beside a result and the layer of its uncertainty, in the Segment widget with a stand-in for the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_network import FakeNetwork
from napari.layers import Image

from napari_lungseg.findings import Finding
from napari_lungseg.plugin.layers import KEY
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.traffic_light import LIGHTS, TrafficLight
from napari_lungseg.segmentation.calibration import Prediction
from napari_lungseg.segmentation.confidence import WORDS, judge

from .conftest import DIRECTIONS, make_volume

SURE = Prediction(0.96, 0.94, 0.98)
DOUBT = Finding("ragged-outline", "The outline of a lung is ragged <here>.")


def run(widget: Any, qtbot: Any) -> Any:
    widget.run_button.click()
    qtbot.waitUntil(lambda: widget.job is None, timeout=20_000)
    return widget.result


def test_colour_shape_and_word_differ_for_every_light(qtbot: Any) -> None:
    assert set(LIGHTS) == set(WORDS)
    assert len({colour for colour, _ in LIGHTS.values()}) == len({shape for _, shape in LIGHTS.values()}) == 4
    light = TrafficLight()
    qtbot.addWidget(light)
    assert light.isHidden()
    light.tell(judge([SURE], [DOUBT]))
    assert not light.isHidden() and LIGHTS["amber"][1] in light.text() and "Look at it" in light.text()
    assert "0.96 (0.94 to 0.98" in light.text() and "ragged &lt;here&gt;" in light.text()
    assert light.accessibleName().startswith("Look at it. predicted Dice 0.96")
    light.tell(None)
    assert light.isHidden()


@pytest.mark.parametrize(("findings", "expected"), [([], "green"), ([DOUBT], "amber")])
def test_a_result_has_a_light_until_another_image_is_chosen(
    findings: list[Finding],
    expected: str,
    make_widget: Callable[[], Any],
    model_viewer: Any,
    network: FakeNetwork,
    qtbot: Any,
) -> None:
    add_item(model_viewer, make_volume())
    network.record = {"confidence": judge([SURE], findings).as_record()}
    widget = make_widget()
    assert widget.light.isHidden()
    run(widget, qtbot)
    assert widget.light.confidence.light == expected
    add_item(model_viewer, make_volume("RAS"))
    assert widget.light.isHidden()


def test_the_reason_of_the_light_is_not_told_twice(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    small = Finding(DOUBT.code, "The left lung is small.")  # as the stand-in says
    network.record = {"confidence": judge([SURE], [small]).as_record()}
    widget = make_widget()
    run(widget, qtbot)
    assert widget.light.confidence.reason == small.message and widget._findings.count() == 0


def test_without_a_confidence_there_is_no_light(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    run(widget, qtbot)
    assert widget.light.isHidden()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_uncertainty_lies_on_its_image_and_is_never_taken_for_one(
    direction: str, make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    image = add_item(model_viewer, make_volume(direction))
    widget = make_widget()
    assert not widget._unsure.isChecked()
    widget._unsure.setChecked(True)
    for _ in range(2):
        result = run(widget, qtbot)
    names = [layer.name for layer in model_viewer.layers]
    assert names == ["CT 3", "CT 3 – uncertainty", "CT 3 – lungs"]
    layer = model_viewer.layers[1]
    assert isinstance(layer, Image) and layer.data.dtype == np.uint8 and layer.data.shape == result.data.shape
    # The stand-in is unsure where it labels, so both lie on each other in every orientation.
    assert np.array_equal(np.asarray(layer.data) == 50, np.asarray(result.data) > 0)
    for attribute in ("scale", "translate", "units"):
        assert np.array_equal(getattr(layer, attribute), getattr(image, attribute))
    assert widget.image is image and widget._images.count() == 1


def test_the_uncertainty_of_one_slice_lies_in_that_slice(
    make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any
) -> None:
    add_item(model_viewer, make_volume("feet first", (30, 40, 48)))
    widget = make_widget()
    widget._unsure.setChecked(True)
    widget._one_slice.setChecked(True)
    model_viewer.dims.set_current_step(0, 4)
    run(widget, qtbot)
    layer = next(each for each in model_viewer.layers if each.name.endswith("uncertainty"))
    assert np.flatnonzero(np.asarray(layer.data).any(axis=(1, 2))).tolist() == [4]
    assert layer.metadata[KEY]["geometry"].shape == (30, 40, 48)
