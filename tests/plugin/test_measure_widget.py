"""*Measure* on a viewer without a window: the table, the layer's features, going to slices, files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_lungseg.analysis.measure import measure
from napari_lungseg.plugin.measure_widget import MeasureWidget
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.volume import FRONTAL, Geometry, LabelMap, Volume

from .conftest import DIRECTIONS, make_labels, make_volume


@pytest.fixture
def widget(model_viewer: Any, qtbot: Any) -> Iterator[MeasureWidget]:
    made = MeasureWidget(model_viewer)
    qtbot.addWidget(made)
    yield made
    made.close_down()


def run(widget: MeasureWidget, qtbot: Any, button: str = "") -> None:
    (getattr(widget, button) if button else widget.box.run_button).click()
    qtbot.waitUntil(lambda: not widget.box.is_running, timeout=60_000)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_row_per_label_in_the_table_and_the_features(
    direction: str, widget: MeasureWidget, model_viewer: Any, qtbot: Any
) -> None:
    volume = make_volume(direction)
    image = add_item(model_viewer, volume)
    layer = add_item(model_viewer, make_labels(volume))
    assert (widget.image.layer, widget.labels.layer) == (image, layer)
    run(widget, qtbot)
    expected = measure(volume, make_labels(volume))
    assert widget.table.table.columns == expected.columns
    for shown, row in zip(widget.table.table.rows, expected.rows, strict=True):  # summed up in another order
        assert shown == tuple(value if isinstance(value, str | None) else pytest.approx(value) for value in row)
    features = layer.features.set_index("index")
    assert list(features.index) == [0, 1, 2] and features.loc[0, "name"] == "background"
    for row in expected:
        if row["label"] is not None:
            assert features.loc[row["label"], "volume_ml"] == pytest.approx(row["volume"])
    # The rows go to the slice of the layer that holds most of the label.
    for number, label in ((1, 2), (0, 1)):
        widget.table.choose(number)
        counts = (layer.data == label).sum(axis=(1, 2))
        assert counts[model_viewer.dims.current_step[0]] == counts.max() and layer.selected_label == label


def test_features_of_others_stay_and_are_not_doubled(widget: MeasureWidget, model_viewer: Any, qtbot: Any) -> None:
    volume = make_volume()
    add_item(model_viewer, volume)
    layer = add_item(model_viewer, make_labels(volume))
    layer.features = {"index": [0, 1, 7], "mine": ["a", "b", "c"]}
    run(widget, qtbot)
    first = layer.features.copy()
    assert list(first["index"]) == [0, 1, 2, 7] and list(first["mine"].dropna()) == ["a", "b", "c"]
    layer.paint((2, 30, 30), 1)
    assert "changed since" in widget.box.message.text()
    run(widget, qtbot)
    assert list(layer.features.columns) == list(first.columns) and len(layer.features) == 4
    assert layer.features["voxels"][1] > first["voxels"][1]


def test_labels_on_another_grid_are_refused(
    widget: MeasureWidget, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    add_item(model_viewer, make_volume())
    add_item(model_viewer, make_labels(make_volume(shape=(6, 40, 50))))
    run(widget, qtbot)
    assert widget.result is None and "grid" in notices[-1].message and not widget.table.isVisibleTo(widget)


def test_bare_layers_empty_labels_and_one_voxel(widget: MeasureWidget, model_viewer: Any, qtbot: Any) -> None:
    picture = np.full((4, 9, 8), 0.5, np.float32)
    model_viewer.add_layer(Image(picture, name="bare"))
    layer = model_viewer.add_layer(Labels(np.zeros((4, 9, 8), int), name="bare labels"))
    run(widget, qtbot)
    assert "no label" in widget.box.message.text() and not widget.plot.isVisibleTo(widget)
    layer.data[1, 3, 3] = 3
    run(widget, qtbot)
    assert widget.table.table.column("label") == (3,)
    assert widget.result.largest[3] == 1 and widget.result.profile.units["area"] == "pixel"


def test_frames_have_a_row_each_and_no_features(widget: MeasureWidget, model_viewer: Any, qtbot: Any) -> None:
    grid = Geometry((3, 20, 24), (1.0, 0.5, 0.8), (0.0, 0.0, 0.0), FRONTAL, frames=True)
    add_item(model_viewer, Volume(np.zeros(grid.shape, np.uint8), grid, "xray", "a.u.", name="X-ray"))
    array = np.zeros(grid.shape, np.uint8)
    array[:, 3:9, 4:10] = 1
    layer = add_item(model_viewer, LabelMap(array, grid, {1: "lungs"}, name="lungs"))
    before = layer.features.copy()
    run(widget, qtbot)
    assert widget.table.table.column("frame") == (0, 1, 2) and layer.features.equals(before)
    widget.table.choose(2)
    assert model_viewer.dims.current_step[0] == 2


def test_plots_are_drawn_and_followed(widget: MeasureWidget, model_viewer: Any, qtbot: Any) -> None:
    volume = make_volume()
    add_item(model_viewer, volume)
    layer = add_item(model_viewer, make_labels(volume))
    widget.show()
    run(widget, qtbot)
    qtbot.waitUntil(lambda: widget.plot.drawn > 0, timeout=60_000)
    areas = [row["area"] for row in widget.result.profile if row["label"] == 1]
    assert areas == pytest.approx((layer.data == 1).sum(axis=(1, 2)) * 0.7 * 0.9)
    assert sum(row["share"] for row in widget.result.histogram if row["label"] == 2) == pytest.approx(100)
    widget.plot.clicked.emit(3.2, 0.0)
    assert model_viewer.dims.current_step[0] == 3 and widget.plot.mark == 3


def test_the_report_is_saved_and_names_no_layer_of_others(
    widget: MeasureWidget, model_viewer: Any, qtbot: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog

    path = tmp_path / "report.html"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    model_viewer.add_layer(Image(np.full((4, 19, 18), -800, np.int16), name="Smith_John"))
    model_viewer.add_layer(Labels(np.ones((4, 19, 18), int), name="Smith_John labels"))
    run(widget, qtbot, "report_button")
    page = path.read_text(encoding="utf-8")
    assert "<h1>CT</h1>" in page and "Smith" not in page and "report.html" in widget.box.message.text()


def test_closing_lets_go(model_viewer: Any, qtbot: Any) -> None:
    widget = MeasureWidget(model_viewer)
    qtbot.addWidget(widget)
    volume = make_volume()
    add_item(model_viewer, volume)
    layer = add_item(model_viewer, dataclasses.replace(make_labels(volume), name="lungs"))
    run(widget, qtbot)
    widget.close_down()
    layer.paint((2, 30, 30), 1)
    assert "changed since" not in widget.box.message.text()
