"""*Compare labels* on a viewer without a window: what is compared, shown, gone to, refused."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels

from napari_lungseg.analysis.comparing import ONLY_PREDICTED, ONLY_REFERENCE, worst_slices
from napari_lungseg.plugin.compare_widget import ROLE, CompareWidget
from napari_lungseg.plugin.layers import KEY
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.shortcuts import KEYS
from napari_lungseg.volume import FRONTAL, Geometry, LabelMap

from .conftest import DIRECTIONS, make_labels, make_volume
from .test_segment_widget import press


def worse(labels: LabelMap) -> LabelMap:
    """Much of the left lung is missed in slice 4 of the file, a little of the right one is too much in slice 1."""
    array = labels.array.copy()
    array[4, :, 25:] = 0
    array[1, 0:2, 0:2] = 1
    return dataclasses.replace(labels, array=array, name="prediction")


@pytest.fixture
def widget(model_viewer: Any, qtbot: Any) -> Iterator[CompareWidget]:
    made = CompareWidget(model_viewer)
    qtbot.addWidget(made)
    yield made
    made.close_down()


def add_two(viewer: Any, direction: str = "axial") -> tuple[Any, Any]:
    labels = make_labels(make_volume(direction))
    reference = add_item(viewer, dataclasses.replace(labels, name="reference"))
    return add_item(viewer, worse(labels)), reference


def run(widget: CompareWidget, qtbot: Any) -> None:
    widget.box.run_button.click()
    qtbot.waitUntil(lambda: not widget.box.is_running, timeout=60_000)


def test_layers_of_one_name_are_told_apart_by_their_files(widget: CompareWidget, model_viewer: Any) -> None:
    for name in ("one", "two"):
        add_item(model_viewer, dataclasses.replace(make_labels(make_volume()), source=f"somewhere/{name}.nii.gz"))
    shown = [widget.predicted.itemText(index) for index in range(widget.predicted.count())]
    assert shown == ["lungs (one.nii.gz)", "lungs [1] (two.nii.gz)"]
    model_viewer.layers[1].name = "mine"
    assert [widget.predicted.itemText(index) for index in range(widget.predicted.count())] == ["lungs", "mine"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_layers_give_a_table_a_layer_and_the_worst_slice(
    direction: str, widget: CompareWidget, model_viewer: Any, qtbot: Any
) -> None:
    predicted, reference = add_two(model_viewer, direction)
    assert {widget.predicted.layer, widget.reference.layer} == {predicted, reference}
    widget.predicted.layer, widget.reference.layer = predicted, reference
    run(widget, qtbot)
    table = widget.table.table
    assert table.column("name") == ("right lung", "left lung", "both")
    assert {"dice", "iou", "hd95", "assd", "nsd"} <= set(table.columns) and table.title("hd95") == "hd95 (mm)"
    shown = widget.disagreement
    assert np.array_equal(shown.data == ONLY_PREDICTED, (predicted.data > 0) & (reference.data == 0))
    assert np.array_equal(shown.data == ONLY_REFERENCE, (predicted.data == 0) & (reference.data > 0))
    assert np.array_equal(shown.translate, reference.translate) and np.array_equal(shown.scale, reference.scale)
    # The slice on screen is that of the layer with most voxels that differ, however the file is stored.
    differing = (predicted.data != reference.data).sum(axis=(1, 2))
    widget.worse_button.click()
    assert differing[model_viewer.dims.current_step[0]] == differing.max()
    assert "McCall" in widget.studies.text() and "https://" in widget.studies.text()


def test_next_worse_goes_on_and_begins_anew(widget: CompareWidget, model_viewer: Any, qtbot: Any) -> None:
    add_two(model_viewer)
    run(widget, qtbot)
    order = worst_slices(widget.result.slices)
    assert order == [4, 1]
    seen = []
    for _ in range(3):
        press(model_viewer, KEYS["worse"])
        seen.append(model_viewer.dims.current_step[0])
    assert seen == [4, 1, 4]


def test_a_row_selects_its_label_and_shows_where_it_differs(
    widget: CompareWidget, model_viewer: Any, qtbot: Any
) -> None:
    predicted, reference = add_two(model_viewer)
    run(widget, qtbot)
    widget.table.sortByColumn(0, widget.table.horizontalHeader().sortIndicatorOrder())
    widget.table.choose(0)
    assert (predicted.selected_label, reference.selected_label) == (1, 1) and model_viewer.dims.current_step[0] == 1
    widget.table.choose(1)
    assert predicted.selected_label == 2 and model_viewer.dims.current_step[0] == 4


def test_a_click_on_the_curve_goes_to_its_slice(widget: CompareWidget, model_viewer: Any, qtbot: Any) -> None:
    add_two(model_viewer)
    run(widget, qtbot)
    widget.plot.clicked.emit(2.3, 0.5)
    assert model_viewer.dims.current_step[0] == 2 and widget.plot.mark == 2
    widget.plot.clicked.emit(99.0, 0.5)
    assert model_viewer.dims.current_step[0] == 5


def test_the_curve_is_drawn_and_clicked_for_real(widget: CompareWidget, model_viewer: Any, qtbot: Any) -> None:
    from matplotlib.backend_bases import MouseEvent

    add_two(model_viewer)
    widget.show()
    run(widget, qtbot)
    qtbot.waitUntil(lambda: widget.plot.drawn > 0, timeout=60_000)
    canvas = widget.plot._canvas
    canvas.draw()
    x, y = canvas.figure.axes[0].transData.transform((3, 0.5))
    canvas.callbacks.process("button_press_event", MouseEvent("button_press_event", canvas, x, y, button=1))
    assert model_viewer.dims.current_step[0] == 3


def test_a_second_run_replaces_its_layer_and_tells_of_changes(
    widget: CompareWidget, model_viewer: Any, qtbot: Any
) -> None:
    predicted, reference = add_two(model_viewer)
    widget.predicted.layer, widget.reference.layer = predicted, reference
    run(widget, qtbot)
    predicted.paint((0, 30, 40), 2)
    assert "changed since" in widget.box.message.text()
    run(widget, qtbot)
    found = [layer for layer in model_viewer.layers if ROLE in layer.metadata.get(KEY, {})]
    assert found == [widget.disagreement] and found[0].data[0, 30, 40] == ONLY_PREDICTED
    assert found[0] not in widget.predicted.layers


def test_other_grids_are_refused_and_resampled_on_request(
    widget: CompareWidget, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    labels = make_labels(make_volume())
    reference = add_item(model_viewer, dataclasses.replace(labels, name="reference"))
    coarse = make_volume(shape=(6, 20, 24)).geometry
    coarse = dataclasses.replace(coarse, spacing=(3.0, 1.4, 1.8))
    other = LabelMap(labels.array[:, ::2, ::2].copy(), coarse, labels.names, name="coarse")
    predicted = add_item(model_viewer, other)
    widget.predicted.layer, widget.reference.layer = predicted, reference
    run(widget, qtbot)
    assert widget.result is None and "different grids" in notices[-1].message and len(model_viewer.layers) == 2
    widget.form.update({"resample": True})
    run(widget, qtbot)
    assert widget.disagreement.data.shape == reference.data.shape
    assert min(widget.table.table.column("dice")) > 0.85


def test_time_axes_and_the_same_layer_are_refused(
    widget: CompareWidget, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    film = model_viewer.add_layer(Labels(np.zeros((2, 3, 8, 8), int), axis_labels=("t", "z", "y", "x"), name="film"))
    assert not widget.box.run_button.isEnabled()
    widget.run()
    assert "agrees with itself" in notices[-1].message
    widget.predicted.layer, widget.reference.layer = film, model_viewer.add_layer(Labels(np.zeros((3, 8, 8), int)))
    widget.run()
    assert "'t' (time)" in notices[-1].message and not widget.box.is_running


def test_bare_layers_lie_where_the_scan_does(widget: CompareWidget, model_viewer: Any, qtbot: Any) -> None:
    """*New Labels* has scale and place of the scan, but knows neither its direction nor its voxel order."""
    labels = make_labels(make_volume("RAS"))
    reference = add_item(model_viewer, labels)
    bare = model_viewer.add_layer(
        Labels(reference.data.copy(), scale=reference.scale, translate=reference.translate, units=reference.units)
    )
    widget.predicted.layer, widget.reference.layer = bare, reference
    run(widget, qtbot)
    assert set(widget.table.table.column("dice")) == {1.0} and not widget.disagreement.data.any()


def test_empty_layers_and_single_images(widget: CompareWidget, model_viewer: Any, qtbot: Any) -> None:
    model_viewer.add_layer(Labels(np.zeros((7, 9), int), name="one"))
    other = model_viewer.add_layer(Labels(np.zeros((7, 9), int), name="other"))
    run(widget, qtbot)
    assert "nothing to compare" in widget.box.message.text()
    other.data[3, 4] = 1
    run(widget, qtbot)
    assert widget.table.table.column("dice") == (0.0,) and widget.table.table.title("hd95") == "hd95 (pixel)"
    assert not widget.plot.isVisibleTo(widget) and widget.disagreement.data.shape == (7, 9)
    widget.next_worse()


def test_frames_have_a_row_each_and_are_gone_to(widget: CompareWidget, model_viewer: Any, qtbot: Any) -> None:
    grid = Geometry((3, 20, 24), (1.0, 0.5, 0.8), (0.0, 0.0, 0.0), FRONTAL, frames=True)
    array = np.zeros(grid.shape, np.uint8)
    array[:, 3:9, 4:10] = 1
    reference = add_item(model_viewer, LabelMap(array, grid, {1: "lungs"}, name="reference"))
    array = array.copy()
    array[2, 3:6] = 0
    predicted = add_item(model_viewer, LabelMap(array, grid, {1: "lungs"}, name="prediction"))
    widget.predicted.layer, widget.reference.layer = predicted, reference
    run(widget, qtbot)
    assert widget.table.table.column("frame") == (0, 1, 2) and "radiographs" in widget.studies.text()
    assert "accuracy" in widget.table.table.columns  # that is what the study measured
    widget.table.choose(2)
    assert model_viewer.dims.current_step[0] == 2


def test_the_table_is_sorted_copied_and_saved(
    widget: CompareWidget, model_viewer: Any, qtbot: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtCore import Qt
    from qtpy.QtGui import QGuiApplication
    from qtpy.QtWidgets import QFileDialog

    add_two(model_viewer)
    run(widget, qtbot)
    view = widget.table
    view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    dice = [float(line.split("\t")[2]) for line in view.copy_text().splitlines()[1:]]
    assert dice == sorted(dice) and QGuiApplication.clipboard().text().startswith("label\tname\tdice")
    picked: list[int] = []
    view.chosen.connect(picked.append)
    view.clicked.emit(view.model().index(0, 0))
    view.verticalHeader().sectionClicked.emit(2)
    assert [view.table.rows[row][2] for row in picked] == [dice[0], dice[2]]
    assert view.model().headerData(0, Qt.Orientation.Vertical) == view.table.rows[picked[0]][1]
    for suffix in ("csv", "json", "parquet"):
        path = tmp_path / f"table.{suffix}"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, path=path: (str(path), ""))
        widget.save_button.click()
        assert path.stat().st_size
    assert json.loads((tmp_path / "table.json").read_text())[0]["name"] == "right lung"


def test_cancel_and_close_leave_nothing(model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_lungseg.progress import Progress

    closed: list[bool] = []

    def endless(*_: Any) -> Any:
        try:
            while True:
                time.sleep(0.005)
                yield Progress(0, 0, "on and on")
        finally:
            closed.append(True)

    monkeypatch.setattr("napari_lungseg.plugin.compare_widget.compare_steps", endless)
    widget = CompareWidget(model_viewer)
    qtbot.addWidget(widget)
    before = list(add_two(model_viewer))
    start: Callable[[], None] = widget.box.run_button.click
    start()
    qtbot.waitUntil(lambda: widget.box.message.text() == "on and on", timeout=20_000)
    widget.box.cancel_button.click()
    qtbot.waitUntil(lambda: not widget.box.is_running, timeout=20_000)
    assert "Cancelled" in widget.box.message.text() and len(model_viewer.layers) == len(before) and closed
    start()
    qtbot.waitUntil(lambda: widget.box.message.text() == "on and on", timeout=20_000)
    widget.close_down()
    qtbot.waitUntil(lambda: len(closed) == 2, timeout=20_000)
    assert not model_viewer.keymap and widget.result is None
