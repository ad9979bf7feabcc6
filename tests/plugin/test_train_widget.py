"""The *Train on painted labels* widget on a viewer without a window, with a stand-in for the training process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_process import FakeProcess
from napari.layers import Image, Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QLineEdit
from tiny_model import save_tiny

from napari_lungseg.errors import TrainingDataError
from napari_lungseg.findings import Finding
from napari_lungseg.models.weights import read_spec
from napari_lungseg.plugin import keep_box, paint_box, train_widget
from napari_lungseg.plugin.layers import KEY, layer_facts
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.painting import BACKGROUND_NAME, painting_of
from napari_lungseg.plugin.previews import is_preview
from napari_lungseg.plugin.recovery import recovery_of
from napari_lungseg.plugin.rhythm import Rhythm
from napari_lungseg.plugin.run_folders import FOLDER_VARIABLE, KEPT, new_run_folder
from napari_lungseg.plugin.segmenting import Request, result_layer
from napari_lungseg.plugin.shortcuts import KEYS
from napari_lungseg.progress import Progress
from napari_lungseg.training.rounds import PaintSettings, Remarks
from napari_lungseg.volume import FRONTAL, Geometry, Volume, label_colour

from .conftest import make_labels, make_volume

SHAPE = (6, 40, 48)


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def make_trainer(
    model_viewer: Any, process: FakeProcess, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], Any]]:
    """Makes widgets on `model_viewer`, whose process is `process`."""
    monkeypatch.setenv("LUNGSEG_RECOVERY", str(tmp_path / "recovery"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "painted"))
    monkeypatch.setattr(paint_box, "_REST_MS", 10)
    made: list[Any] = []

    def make() -> Any:
        widget = train_widget.TrainWidget(model_viewer, process)
        qtbot.addWidget(widget)
        made.append(widget)
        return widget

    yield make
    for widget in made:
        widget.close_down()
    recovery_of(model_viewer).close()


@pytest.fixture
def trainer(make_trainer: Callable[[], Any], model_viewer: Any) -> Any:
    """A widget with one CT and an empty painted layer."""
    add_item(model_viewer, make_volume("RAS"))
    widget = make_trainer()
    widget.paint.new_button.click()
    return widget


def layer_of(trainer: Any) -> Labels:
    layer: Labels = trainer.paint.pairs[0].labels
    return layer


def paint(layer: Labels, z: int, label: int, rows: slice = slice(5, 15), columns: slice = slice(5, 15)) -> None:
    """A stroke, as napari's brush makes it."""
    where = np.zeros(layer.data.shape, bool)
    (where if layer.ndim == 2 else where[z])[rows, columns] = True
    layer.data_setitem(np.nonzero(where), label)


def begin(trainer: Any, process: FakeProcess, qtbot: Any) -> dict[str, Any]:
    """Paint something, press Train, and wait until the process has its orders."""
    paint(layer_of(trainer), 2, 1)
    paint(layer_of(trainer), 2, 100, slice(20, 30))
    return press_train(trainer, process, qtbot)


def press_train(trainer: Any, process: FakeProcess, qtbot: Any) -> dict[str, Any]:
    count = len(process.begun)
    trainer.training.train_button.click()
    qtbot.waitUntil(lambda: len(process.begun) > count, timeout=20_000)
    return process.begun[-1]


def amounts(trainer: Any) -> dict[str, tuple[int, int]]:
    return {row.name: (row.pixels, row.slices) for row in trainer.paint.classes.rows}


# Painting


def test_new_labels_take_part_and_the_brush_is_ready(trainer: Any, model_viewer: Any) -> None:
    (pair,) = trainer.paint.pairs
    image, layer = model_viewer.layers
    assert (pair.image, pair.labels) == (image, layer) and layer.data.shape == SHAPE and not layer.data.any()
    for attribute in ("scale", "translate", "units", "axis_labels"):
        assert np.array_equal(getattr(layer, attribute), getattr(image, attribute))
    assert model_viewer.layers.selection.active is layer and (layer.mode, layer.selected_label) == ("paint", 1)
    rows = trainer.paint.classes.rows
    assert [(row.label, row.name, row.background) for row in rows] == [(1, "class 1", False), (100, "background", True)]
    assert trainer.training.train_button.isEnabled()


def test_the_count_follows_the_brush_at_rest(trainer: Any, qtbot: Any) -> None:
    layer = layer_of(trainer)
    layer.brush_size = 4
    layer.paint((2, 10, 10), 1)
    assert amounts(trainer)["class 1"] == (0, 0), "not at every move of the brush"
    qtbot.waitUntil(lambda: amounts(trainer)["class 1"][0] > 0, timeout=5000)
    few = amounts(trainer)["class 1"]
    assert few == (np.count_nonzero(layer.data == 1), 1)
    row = trainer.paint.classes.rows[0]
    assert row.is_lacking and str(few[0]) in row.told and "50" in row.told
    paint(layer, 3, 1)
    qtbot.waitUntil(lambda: amounts(trainer)["class 1"] == (few[0] + 100, 2), timeout=5000)
    assert not trainer.paint.classes.rows[0].is_lacking
    layer.undo()
    qtbot.waitUntil(lambda: amounts(trainer)["class 1"] == few, timeout=5000)


def test_a_row_chooses_what_the_brush_paints(trainer: Any, model_viewer: Any) -> None:
    layer, image = layer_of(trainer), model_viewer.layers[0]
    layer.mode = "pan_zoom"
    model_viewer.layers.selection.active = image
    trainer.paint.classes.cellClicked.emit(1, 0)
    assert model_viewer.layers.selection.active is layer
    assert (layer.mode, layer.selected_label) == ("paint", 100)
    layer.selected_label = 1
    assert trainer.paint.classes.currentRow() == 0, "and what the brush paints is marked"


def test_classes_are_added_named_and_coloured_in_all_layers(trainer: Any) -> None:
    trainer.paint.add_button.click()
    table = trainer.paint.classes
    assert [row.label for row in table.rows] == [1, 2, 100] and layer_of(trainer).selected_label == 2
    editor = table.findChildren(QLineEdit)[-1]
    editor.setText("nodule")
    table.finish_typing()
    table.recoloured.emit(2, "#123456")
    stored = layer_of(trainer).metadata[KEY]
    assert stored["names"] == {1: "class 1", 2: "nodule", 100: BACKGROUND_NAME} and stored["colours"][2] == "#123456"
    assert np.allclose(layer_of(trainer).get_color(2), np.array([0x12, 0x34, 0x56, 255]) / 255, atol=0.01)
    table.item(1, 2).setText("  ")
    assert table.item(1, 2).text() == "nodule" and stored["names"][2] == "nodule"


def test_a_complete_slice_is_background_wherever_nothing_is_painted(trainer: Any, model_viewer: Any) -> None:
    paint(layer_of(trainer), 3, 1)
    model_viewer.dims.set_current_step(0, 3)
    trainer.paint.where.complete.click()
    assert painting_of(layer_of(trainer)).complete == {3}
    assert amounts(trainer) == {"class 1": (100, 1), "background": (SHAPE[1] * SHAPE[2] - 100, 1)}
    model_viewer.dims.set_current_step(0, 4)
    assert not trainer.paint.where.complete.isChecked()
    model_viewer.dims.set_current_step(0, 3)
    assert trainer.paint.where.complete.isChecked()
    trainer.paint.where.complete.click()
    assert not painting_of(layer_of(trainer)).complete and amounts(trainer)["background"] == (0, 0)


def test_only_what_differs_from_a_result_counts(make_trainer: Callable[[], Any], model_viewer: Any) -> None:
    image = add_item(model_viewer, make_volume())
    result = result_layer(Request(layer_facts(image), image.unique_id), make_labels(make_volume()))
    model_viewer.add_layer(result)
    trainer = make_trainer()
    assert trainer.paint.pairs == [] and trainer.paint.correct_button.isEnabled()
    paint(result, 1, 0, slice(5, 10), slice(4, 12))  # erased: 5 × 8 of the right lung
    trainer.paint.correct_button.click()
    assert layer_of(trainer) is result
    assert amounts(trainer) == {"right lung": (0, 0), "left lung": (0, 0), "background": (40, 1)}
    paint(result, 1, 2, slice(30, 33), slice(30, 35))
    trainer.paint.count()
    assert amounts(trainer) == {"right lung": (0, 0), "left lung": (15, 1), "background": (40, 1)}


def test_layers_of_others_take_part_only_where_they_are_ticked(
    make_trainer: Callable[[], Any], model_viewer: Any
) -> None:
    volume = make_volume()
    image = add_item(model_viewer, volume)
    read = add_item(model_viewer, make_labels(volume))
    elsewhere = model_viewer.add_labels(np.zeros((6, 40, 47), np.uint8), name="another grid")
    trainer = make_trainer()
    table = trainer.paint.table
    assert trainer.paint.pairs == [] and painting_of(read) is None
    table.item(0, 0).setCheckState(table.item(0, 0).checkState().Checked)
    assert [(pair.image, pair.labels) for pair in trainer.paint.pairs] == [(image, read)]
    assert table.rowCount() == 1 and elsewhere.name not in (table.item(0, 0).text(), table.item(0, 1).text())


def test_a_correction_starts_from_the_model_that_made_the_result_and_keeps_earlier_strokes(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any, tmp_path: Path
) -> None:
    trainer.paint.classes.renamed.emit(1, "heart")
    strokes, image = layer_of(trainer), model_viewer.layers[0]
    painting_of(strokes).complete.add(5)
    model = save_tiny(tmp_path)
    begin(trainer, process, qtbot)
    process.tell_round(1)
    trained = process.finish()
    start = trainer.training.start
    listed = [start.box.itemText(row) for row in range(start.box.count()) if start.box.itemData(row) == str(trained)]
    assert start.start == "ct-lungs" and listed[0].startswith("lungs (painted ")

    volume = make_volume("RAS")
    result = result_layer(Request(layer_facts(image), image.unique_id, str(model)), make_labels(volume))
    model_viewer.add_layer(result)
    before = result.data.copy()
    trainer.paint.correct_button.click()
    assert start.start == str(model)
    assert [(pair.image, pair.labels) for pair in trainer.paint.pairs] == [(image, strokes), (image, result)]
    names = {label: name for label, name in result.metadata[KEY]["names"].items() if label < 100}
    assert names == {1: "heart", 2: "left lung", 3: "right lung"}, "one label has one name"
    assert np.array_equal(result.data == 3, before == 1) and amounts(trainer)["right lung"] == (0, 0)

    erased = before[1] == 1
    result.data_setitem((np.ones(erased.sum(), int), *np.nonzero(erased)), 0)
    paint(result, 2, 3, slice(0, 5), slice(0, 5))
    given = press_train(trainer, process, qtbot)
    (painted,) = given["painted"]
    assert given["start"] == str(model) and painted.complete == {5} and painted.edited_from is None
    known = painted.standard().known()
    assert (known[2, 5:15, 5:15] == 1).all() and (known[2, :5, :5] == 3).all() and (known[1][erased] == 0).all()
    assert (known[2, 20:30, 5:15] == 0).all() and (known[5] == 0).all() and (known[0] == 255).all()
    assert (known[[1, 2, 3]] == 2).sum() == 0, "what nobody touched is unknown"
    process.updates.clear()
    paint(strokes, 4, 1, slice(0, 3), slice(0, 3))
    painting_of(result).complete.add(4)
    process.tell_round(1)
    (update,) = process.updates[-1].strokes
    assert (update.image, update.slices, update.complete) == (0, (4,), {4, 5})
    assert (update.labels[0][:3, :3] == 1).all() and (update.labels[0] == 2).sum() == (before[4] == 2).sum()
    process.tell_ranking([0.0, 0.0, 0.0, 0.0, 0.0, 9.0])
    model_viewer.layers.selection.active = strokes
    trainer.paint.where.next_button.click()
    assert model_viewer.layers.selection.active is strokes


def test_a_correction_that_is_begun_during_a_training_says_that_it_waits_for_the_next(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    image = model_viewer.layers[0]
    begin(trainer, process, qtbot)
    findings = trainer.training._findings
    assert findings.text() == ""
    result = result_layer(Request(layer_facts(image), image.unique_id), make_labels(make_volume("RAS")))
    model_viewer.add_layer(result)
    trainer.paint.correct_button.click()
    waits = f"{result.name} is learned from at the next Train"
    assert findings.text().count(waits) == 1 and layer_of(trainer).name not in findings.text()


def test_an_empty_layer_gives_way_to_a_correction(trainer: Any, model_viewer: Any) -> None:
    image = model_viewer.layers[0]
    result = result_layer(Request(layer_facts(image), image.unique_id), make_labels(make_volume("RAS")))
    model_viewer.add_layer(result)
    trainer.paint.correct_button.click()
    assert [pair.labels for pair in trainer.paint.pairs] == [result] and set(amounts(trainer)) == {
        "right lung",
        "left lung",
        "background",
    }


def test_nothing_is_begun_before_anything_is_painted(trainer: Any, process: FakeProcess, notices: list[Any]) -> None:
    trainer.training.train_button.click()
    assert not trainer.run.is_running and "Nothing is painted yet" in notices[-1].message


def test_a_name_is_not_lost_that_is_typed_while_strokes_are_counted(trainer: Any) -> None:
    trainer.show()
    trainer.paint.add_button.click()
    table = trainer.paint.classes
    editor = table.findChildren(QLineEdit)[-1]
    editor.setText("nod")
    paint(layer_of(trainer), 2, 2)
    trainer.paint.count()
    assert editor.text() == "nod" and table.rows[1].pixels == 100
    table.finish_typing()
    assert layer_of(trainer).metadata[KEY]["names"][2] == "nod"


def test_new_classes_have_colours_unlike_the_lungs(trainer: Any) -> None:
    trainer.paint.classes.finish_typing()
    trainer.paint.add_button.click()
    trainer.paint.classes.finish_typing()
    trainer.paint._fill_menu(menu := trainer.paint.known_button.menu())
    next(action for action in menu.actions() if action.text() == "left lung").trigger()
    colours = [row.colour for row in trainer.paint.classes.rows]
    assert len(set(colours)) == 4 and label_colour(1) not in colours
    assert colours[2] == label_colour(2), "what the model knows has the model's colour"
    status = layer_of(trainer).features
    assert status["name"][0] == "not painted"


def test_work_that_is_looked_for_can_be_given_up(
    trainer: Any, qtbot: Any, model_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    paint(layer_of(trainer), 2, 1)
    trainer.save_work(tmp_path / "work")
    qtbot.waitUntil((tmp_path / "work" / "work.json").is_file, timeout=20_000)
    model_viewer.layers.clear()
    answers = iter(["cancel", "leave out"])
    monkeypatch.setattr(train_widget, "ask_for_image", lambda parent, question: next(answers))
    opened: list[Any] = []
    told = trainer._opened
    monkeypatch.setattr(trainer, "_opened", lambda *got: opened.append(told(*got)))
    for number in (1, 2):
        trainer.open_work(tmp_path / "work")
        qtbot.waitUntil(lambda number=number: len(opened) == number, timeout=20_000)
        assert any("image is missing" in notice.message for notice in notices) == (number == 2)
        assert "saved work is open" not in trainer.training._message.text() and trainer.keeping.folder is None


def test_a_kind_that_a_person_chose_goes_with_the_image(
    make_trainer: Callable[[], Any], model_viewer: Any, process: FakeProcess, qtbot: Any
) -> None:
    model_viewer.add_image(np.full((40, 48), 7, np.uint16), name="scan")
    trainer = make_trainer()
    trainer.paint.new_button.click()
    trainer.training.kind.setCurrentText("CT")
    assert trainer.training.start.start == "ct-lungs"
    paint(layer_of(trainer), 0, 1)
    assert press_train(trainer, process, qtbot)["painted"][0].volume.modality == "ct"


def test_models_are_offered_for_their_own_kind_of_image(trainer: Any, tmp_path: Path) -> None:
    start, model = trainer.training.start, save_tiny(tmp_path)
    start.add_file(model, "the model of this work")
    assert start.start == str(model)
    start.show_for("xray")
    assert start.box.findData(str(model)) < 0 and start.start == "xray-lungs"


def test_a_round_that_takes_long_is_told_until_it_is_over(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    begin(trainer, process, qtbot)
    now = [0.0]
    rhythm = trainer.run._rhythm = Rhythm(lambda: now[0])
    for number in range(3):
        now[0] += 4
        process.tell_round(number)
    now[0] += 9
    assert not rhythm.is_late
    now[0] += 4
    trainer.run._watch.timeout.emit()
    assert "far longer than usual" in trainer.training._findings.text()
    process.tell_round(4)
    assert "far longer" not in trainer.training._findings.text()


# Training


def test_train_hands_over_what_is_painted(trainer: Any, process: FakeProcess, qtbot: Any, tmp_path: Path) -> None:
    trainer.paint.classes.renamed.emit(1, "nodule")
    painting_of(layer_of(trainer)).complete.add(4)
    trainer.training.form.update({"seconds": 30})
    given = begin(trainer, process, qtbot)
    (painted,) = given["painted"]
    volume = make_volume("RAS")
    assert painted.volume.geometry == volume.geometry and np.array_equal(painted.volume.array, volume.array)
    assert np.array_equal(painted.standard().labels.array, layer_of(trainer).data)
    assert painted.background == 100 and painted.complete == {4} and painted.labels.names[1] == "nodule"
    assert given["start"] == "ct-lungs" and given["settings"] == PaintSettings(seconds=30) and not given["resume"]
    assert given["folder"].parent == tmp_path / "painted" and given["folder"].is_dir()


def test_new_strokes_go_out_at_the_end_of_a_round(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    begin(trainer, process, qtbot)
    process.updates.clear()
    process.tell_round(0)
    assert not process.updates, "nothing was painted"
    paint(layer_of(trainer), 4, 1)
    process.tell(None, "round 1: loss 0.3")
    assert not process.updates, "in the midst of a round"
    painting_of(layer_of(trainer)).complete.add(5)
    process.tell_round(1)
    (strokes,) = process.updates[-1].strokes
    assert (strokes.image, strokes.slices, strokes.complete, strokes.names) == (0, (4,), {5}, None)
    assert np.array_equal(strokes.labels[0], layer_of(trainer).data[4])
    trainer.paint.classes.renamed.emit(1, "nodule")
    process.tell_round(2)
    assert process.updates[-1].strokes[0].names[1] == "nodule" and process.updates[-1].strokes[0].slices == ()
    assert len(process.updates) == 2


def test_previews_are_shown_in_layers_of_their_own(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    begin(trainer, process, qtbot)
    layer = layer_of(trainer)
    before = layer.data.copy()
    assert model_viewer.layers.selection.active is layer, "who paints paints on"
    assert len(model_viewer.layers) == 2, "an empty layer would say that nothing was found"
    found = np.zeros(SHAPE[1:], np.uint8)
    found[3:9] = 1
    process.tell_preview(0, 3, found)
    image, preview, top = model_viewer.layers
    assert top is layer and is_preview(preview) and not is_preview(image)
    assert model_viewer.layers.selection.active is layer
    assert np.array_equal(preview.data[3], found) and np.count_nonzero(preview.data) == found.sum()
    assert np.array_equal(layer.data, before) and not preview.editable
    assert preview.name == f"{image.name} – preview" and np.allclose(preview.get_color(1), layer.get_color(1))
    trainer.training.uncertainty.click()
    (unsure,) = [each for each in model_viewer.layers if isinstance(each, Image) and is_preview(each)]
    assert (unsure.data[3] == 128).all() and np.count_nonzero(unsure.data) == unsure.data[3].size
    process.tell_preview(0, 2, found)
    assert unsure.visible and (unsure.data[2] == 128).all() and model_viewer.layers.selection.active is layer
    trainer.training.preview.click()
    trainer.training.uncertainty.click()
    assert not unsure.visible and not preview.visible
    trainer.training.preview.click()
    model_viewer.layers.remove(preview)
    process.tell_preview(0, 4, found)  # whoever removed it did not want it
    assert preview not in model_viewer.layers
    process.finish()
    press_train(trainer, process, qtbot)
    assert unsure in model_viewer.layers, "until there is something newer to see"
    process.tell_preview(0, 2, found)
    assert len([each for each in model_viewer.layers if is_preview(each)]) == 1 and unsure not in model_viewer.layers


def test_what_a_preview_is_of_is_said_and_what_is_out_of_date_is_faint(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    about = trainer.training._about_preview
    model_viewer.dims.set_current_step(0, 3)
    begin(trainer, process, qtbot)
    assert "next round" in about.text()
    found = np.ones(SHAPE[1:], np.uint8)
    process.tell_preview(0, 3, found, number=1)
    process.tell_round(1)
    preview = next(each for each in model_viewer.layers if is_preview(each))
    full = preview.opacity
    assert "round 1" in about.text() and "faint" not in about.text()
    model_viewer.dims.set_current_step(0, 4)
    process.tell_preview(0, 4, found, number=2)
    process.tell_round(2)
    assert preview.opacity == full
    model_viewer.dims.set_current_step(0, 3)
    assert "round 1" in about.text() and "faint" in about.text() and preview.opacity < full
    process.tell_preview(0, 3, found, number=3)
    process.tell_round(3, best_number=2)
    assert preview.opacity == full
    process.finish()
    assert process.calls[-1] == "look (0, 3)" and preview.opacity < full, "round 3 is not the one that is kept"
    process.tell_preview(0, 3, 2 * found, number=2)
    assert preview.opacity == full and (preview.data[3] == 2).all() and "kept (round 2)" in about.text()
    model_viewer.dims.set_current_step(0, 4)
    qtbot.wait(300)
    assert "look (0, 4)" not in process.calls and preview.opacity == full, "looked at in round 2, too"
    model_viewer.dims.set_current_step(0, 5)
    qtbot.waitUntil(lambda: process.calls[-1] == "look (0, 5)", timeout=5000)
    assert "is looking" in about.text()
    process.can_look = False
    model_viewer.dims.set_current_step(0, 1)
    qtbot.waitUntil(lambda: "Segment shows" in about.text(), timeout=5000)


def test_previews_are_no_images_to_train_on(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    begin(trainer, process, qtbot)
    process.tell_preview(0, 3, np.ones(SHAPE[1:], np.uint8))
    assert trainer.paint.table.rowCount() == 1 and len(trainer.paint.pairs) == 1


def test_pause_stop_and_resume(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    training = trainer.training
    given = begin(trainer, process, qtbot)
    assert not training.train_button.isEnabled() and training.pause_button.text() == "Pause"
    process.tell_round(3)
    training.pause_button.click()
    assert process.calls[-1] == "pause" and training.pause_button.text() == "Resume"
    assert training.train_button.text() == "Paused" and "after Resume" in trainer.run.about_preview
    process.updates.clear()
    paint(layer_of(trainer), 5, 1)
    training.pause_button.click()
    assert process.calls[-1] == "resume" and process.updates[-1].strokes[0].slices == (5,)
    training.stop_button.click()
    assert process.calls[-1] == "stop" and not training.stop_button.isEnabled() and trainer.run.is_running
    model = process.finish()
    assert not trainer.run.is_running and trainer.keeping.model == model and "Round 3" in training._message.text()
    assert training.pause_button.text() == "Resume" and training.pause_button.isEnabled()
    training.form.update({"seconds": 10})
    training.pause_button.click()
    qtbot.waitUntil(lambda: len(process.begun) == 2, timeout=20_000)
    again = process.begun[-1]
    assert again["resume"] and again["folder"] == given["folder"]
    assert again["settings"].seconds == 10 + 6, "as long again, after the 6 s that it has learned"


def test_a_new_training_has_a_folder_of_its_own(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    first = begin(trainer, process, qtbot)
    process.tell_round(1)
    process.finish()
    second = press_train(trainer, process, qtbot)
    assert second["folder"] != first["folder"] and not second["resume"] and trainer.run.rounds == []


def test_stop_before_the_process_was_asked(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    paint(layer_of(trainer), 2, 1)
    trainer.training.train_button.click()
    trainer.training.stop_button.click()
    assert not trainer.run.is_running and "before anything" in trainer.training._message.text()
    qtbot.wait(300)
    assert not process.begun and trainer.training.train_button.isEnabled()


def test_the_slice_on_screen_is_previewed_once_the_slider_rests(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    model_viewer.dims.set_current_step(0, 2)
    begin(trainer, process, qtbot)
    assert process.updates[-1].look == (0, 2)
    process.updates.clear()
    for z in (3, 4, 5):
        model_viewer.dims.set_current_step(0, z)
    qtbot.waitUntil(lambda: bool(process.updates), timeout=5000)
    assert [update.look for update in process.updates] == [(0, 5)]


@pytest.mark.parametrize("which", ["image", "labels"])
def test_closing_a_layer_stops_its_training(
    which: str, trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    begin(trainer, process, qtbot)
    layer = getattr(trainer.paint.pairs[0], which)
    model_viewer.layers.remove(layer)
    assert process.calls[-1] == "stop" and layer.name in trainer.training._findings.text()
    process.tell_preview(0, 1, np.ones(SHAPE[1:], np.uint8))
    process.tell_round(1)
    process.finish()
    assert not trainer.run.is_running and not trainer.training.pause_button.isEnabled(), "nothing to resume with"


def test_a_failure_is_told_and_another_training_can_begin(
    trainer: Any, process: FakeProcess, qtbot: Any, notices: list[Any]
) -> None:
    begin(trainer, process, qtbot)
    process.failed.emit(TrainingDataError("Nothing of background is painted."))
    process.ended.emit()
    assert "background" in notices[-1].message and "background" in trainer.training._findings.text()
    press_train(trainer, process, qtbot)
    assert not trainer.training._findings.isVisibleTo(trainer)
    process.tell(Finding("too-little-paint", "nodule has 3 pixels."))
    assert "nodule has 3 pixels" in trainer.training._findings.text()
    trainer.training.tell("The image was closed.")
    process.tell(Remarks((Finding("too-little-paint", "background has 9 pixels."),)))
    text = trainer.training._findings.text()
    assert "nodule" not in text and "background has 9" in text and "closed" in text
    process.tell(Remarks(()))
    assert trainer.training._findings.text() == "• The image was closed."
    process.failed.emit(TrainingDataError("Memory ran out."))
    process.ended.emit()
    assert not [layer for layer in trainer.viewer.layers if is_preview(layer)], "nothing was seen"


def test_a_round_that_is_kept_though_another_was_higher_is_explained(
    trainer: Any, process: FakeProcess, qtbot: Any
) -> None:
    begin(trainer, process, qtbot)
    process.tell_round(1, dice=0.9)
    process.tell_round(2, dice=0.894)
    process.finish()
    text = trainer.training._message.text()
    assert "Round 2 is kept, Dice 0.894" in text and "round 1 had 0.900 is within its error" in text


def test_rounds_that_were_judged_on_other_paint_are_not_called_comparable(
    trainer: Any, process: FakeProcess, qtbot: Any
) -> None:
    begin(trainer, process, qtbot)
    process.tell_round(1, dice=1.0)
    process.tell_round(2, dice=0.8, pixels=400)
    process.finish()
    text = trainer.training._message.text()
    assert "Round 2 is kept, Dice 0.800" in text and "cannot be compared" in text and "error" not in text


def test_a_step_that_ends_late_does_not_hide_that_it_is_paused(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    begin(trainer, process, qtbot)
    process.progress.emit(Progress(1, 0, "round 1: loss 0.500"))
    assert "loss 0.500" in trainer.training._message.text()
    trainer.pause_or_resume()
    process.progress.emit(Progress(1, 0, "round 1: loss 0.400"))
    assert "Paused" in trainer.training._message.text()
    trainer.pause_or_resume()
    process.progress.emit(Progress(1, 0, "round 1: loss 0.300"))
    assert "loss 0.300" in trainer.training._message.text()


def test_figures_in_words(trainer: Any, process: FakeProcess, qtbot: Any) -> None:
    trainer.training.form.update({"seconds": 30})
    begin(trainer, process, qtbot)
    process.tell_round(4, dice=0.81)
    text = trainer.training._figures.text()
    assert all(each in text for each in ("Round 4", "cpu", "8 s", "22 s left", "512 MB", "0.810"))
    process.tell_round(5, dice=0.7, best_number=4)
    assert "round 4" in trainer.training._figures.text() and "kept" in trainer.training._figures.text()
    process.tell_round(6, dice=None)
    assert "Nothing is painted" in trainer.training._figures.text()
    process.tell_round(7, dice=0.9, dices={0: 0.99, 1: 0.81})
    trainer.paint.classes.renamed.emit(1, "heart")
    trainer.paint.add_class("aorta")
    process.tell_round(8, dice=0.9, dices={0: 0.99, 1: 0.81})
    text = trainer.training._figures.text()
    assert "held-out paint 0.900" in text and text.endswith("heart 0.810 · aorta – · background 0.990")
    process.tell_round(9, held_out=False)
    text = trainer.training._figures.text()
    assert "held-out" not in text and "paint it learned from" in text
    trainer.training.curves.rounds = trainer.training.curves.rounds[-3:]
    assert len(trainer.training.curves.rounds) == 3


# Where to paint next


def test_next_goes_where_painting_is_worth_most(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any, notices: list[Any]
) -> None:
    trainer.paint.where.next_button.click()
    assert "press Train" in notices[-1].message
    begin(trainer, process, qtbot)
    nan = float("nan")
    process.tell_ranking([nan, 3.0, 99.0, 7.0, 8.0, nan])  # slice 2 is painted
    for expected in (4, 3, 1, 2, 4):  # what is painted comes last
        trainer.paint.where.next_button.click()
        assert model_viewer.dims.current_step[0] == expected
    painting_of(layer_of(trainer)).complete.add(4)
    for expected in (3, 1, 2, 3):
        trainer.paint.where.next_button.click()
        assert model_viewer.dims.current_step[0] == expected, "complete slices need no more paint"


def test_the_bar_shows_what_is_done_and_a_click_goes_there(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    begin(trainer, process, qtbot)
    painting_of(layer_of(trainer)).complete.add(0)
    process.tell_ranking([0.0, 5.0, 0.0, 10.0, 0.0, 0.0])
    trainer.paint.count()
    bar = trainer.paint.where.bar
    bar.resize(60, 20)
    columns = bar.columns().astype(int)
    middle = columns[:, 5::10]  # of each of the six slices
    assert len({tuple(colour) for colour in middle[0]}) == 3, "complete, empty, painted"
    assert (middle[0, 0] != middle[0, 1]).any() and (middle[0, 2] != middle[0, 1]).any()
    distance = np.abs(middle[1] - middle[1, 3]).sum(axis=1)
    assert distance[3] == 0 < distance[1] < distance[4], "the more it is worth, the brighter"
    qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=QPoint(35, 10))
    assert model_viewer.dims.current_step[0] == 3
    assert (
        "slice 3" in bar.describe((0, 3)) and "painted" in bar.describe((0, 2)) and "complete" in bar.describe((0, 0))
    )


def test_radiographs_are_pairs_of_one_slice(
    make_trainer: Callable[[], Any], model_viewer: Any, process: FakeProcess, qtbot: Any
) -> None:
    for name in ("one", "two"):
        geometry = Geometry((1, 40, 48), (1.0, 0.2, 0.2), direction=FRONTAL)
        array = np.random.default_rng(0).integers(0, 4000, (1, 40, 48)).astype(np.uint16)
        add_item(model_viewer, Volume(array, geometry, "xray", "a.u.", name=name))
    trainer = make_trainer()
    for image in list(model_viewer.layers):
        model_viewer.layers.selection.active = image
        trainer.paint.new_button.click()
    assert [pair.image.name for pair in trainer.paint.pairs] == ["one", "two"]
    assert [pair.image.visible for pair in trainer.paint.pairs] == [False, True], "one does not cover the other"
    second = trainer.paint.pairs[1].labels
    paint(second, 0, 1)
    model_viewer.layers.selection.active = second
    given = press_train(trainer, process, qtbot)
    assert given["start"] == "xray-lungs" and len(given["painted"]) == 2
    assert process.updates[-1].look == (1, 0)
    process.updates.clear()
    paint(second, 0, 1, slice(20, 25))
    process.tell_preview(0, 0, np.zeros((40, 48), np.uint8))
    process.tell_preview(1, 0, np.ones((40, 48), np.uint8))
    process.tell_round(1)
    assert process.updates[-1].strokes[0].image == 1 and process.updates[-1].strokes[0].slices == (0,)
    assert next(layer for layer in model_viewer.layers if layer.name == "two – preview").data.all()
    process.tell_ranking([4.0], [9.0])
    trainer.paint.where.next_button.click()
    one, two = trainer.paint.pairs
    assert one.image.visible and not two.image.visible and model_viewer.layers.selection.active is one.labels
    shown = {layer.name: layer.visible for layer in model_viewer.layers if is_preview(layer)}
    assert shown == {"one – preview": True, "two – preview": False}
    bar = trainer.paint.where.bar
    bar.resize(204, 20)
    assert [bar.place_at(x) for x in (0, 99, 101, 104, 203)] == [(0, 0), (0, 0), None, (1, 0), (1, 0)]


# Keeping


def test_a_model_that_got_worse_is_not_used_unasked(
    trainer: Any, process: FakeProcess, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(trainer, process, qtbot)
    process.tell_round(0)
    process.tell_round(1, dice=0.4, best_number=0)
    model = process.finish()
    save_tiny(model.parent).replace(model)
    asked: list[str] = []
    monkeypatch.setattr(keep_box, "agreed", lambda parent, question: asked.append(question))
    monkeypatch.setattr(keep_box.QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    assert "the start is what is kept" in trainer.training._message.text()
    trainer.keeping.save_model_button.click()
    trainer.keeping.use_button.click()
    assert "No round was better" in asked[0] and not (tmp_path / "mine.safetensors").exists()
    process.tell_round(2, dice=0.95)
    trainer.keeping.save_model_button.click()
    qtbot.waitUntil((tmp_path / "mine.safetensors").exists, timeout=30_000)
    assert read_spec(tmp_path / "mine.safetensors").name == "mine"


def test_work_is_saved_and_opened_as_it_was(
    trainer: Any,
    make_trainer: Callable[[], Any],
    process: FakeProcess,
    qtbot: Any,
    model_viewer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer.paint.classes.renamed.emit(1, "nodule")
    paint(layer_of(trainer), 2, 1)
    painting_of(layer_of(trainer)).complete.add(5)
    trainer.training.form.update({"seconds": 77})
    trainer.training.start.choose("interactive")
    painted = layer_of(trainer).data.copy()
    trainer.save_work(tmp_path / "work")
    qtbot.waitUntil((tmp_path / "work" / "work.json").is_file, timeout=20_000)
    model_viewer.layers.clear()
    trainer.training.form.update({"seconds": 5})
    trainer.training.start.choose("ct-lungs")

    volume = make_volume("RAS")
    asked: list[str] = []
    place = tmp_path / "moved.nii.gz"
    from napari_lungseg.io import write

    write(volume, place)
    monkeypatch.setattr(train_widget, "ask_for_image", lambda parent, question: asked.append(question) or place)
    trainer.open_work(tmp_path / "work")
    qtbot.waitUntil(lambda: len(trainer.paint.pairs) == 1, timeout=20_000)
    assert len(asked) == 1 and np.array_equal(layer_of(trainer).data, painted)
    assert painting_of(layer_of(trainer)).complete == {5} and amounts(trainer)["nodule"] == (100, 1)
    assert trainer.training.form.settings.seconds == 77 and trainer.training.start.start == "interactive"


def test_work_finds_an_image_that_is_open(trainer: Any, qtbot: Any, model_viewer: Any, tmp_path: Path) -> None:
    image, layer = model_viewer.layers
    paint(layer, 2, 1)
    trainer.save_work(tmp_path / "work")
    qtbot.waitUntil((tmp_path / "work" / "work.json").is_file, timeout=20_000)
    model_viewer.layers.remove(layer)
    trainer.open_work(tmp_path / "work")
    qtbot.waitUntil(lambda: len(trainer.paint.pairs) == 1, timeout=20_000)
    assert trainer.paint.pairs[0].image is image and len(model_viewer.layers) == 2


def test_work_that_is_opened_ends_what_an_old_training_told(
    trainer: Any, process: FakeProcess, qtbot: Any, tmp_path: Path
) -> None:
    begin(trainer, process, qtbot)
    process.tell_round(1)
    process.finish()
    trainer.save_work(tmp_path / "work")
    qtbot.waitUntil((tmp_path / "work" / "work.json").is_file, timeout=20_000)
    assert "Ended" in trainer.training._message.text() and trainer.training._figures.text()
    trainer.open_work(tmp_path / "work")
    qtbot.waitUntil(lambda: "saved work is open" in trainer.training._message.text(), timeout=20_000)
    assert not trainer.training._figures.text() and trainer.keeping.folder == tmp_path / "work"


@pytest.mark.parametrize(("answer", "saved_in"), [("again", "work"), ("elsewhere", "other"), ("cancel", None)])
def test_work_is_saved_where_it_was_before(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, saved_in: str | None
) -> None:
    (tmp_path / "work").mkdir()
    saved: list[Path] = []
    trainer.keeping.save_wanted.disconnect()
    trainer.keeping.save_wanted.connect(saved.append)
    answers = {"again": tmp_path / "work", "elsewhere": None, "cancel": "cancel"}
    monkeypatch.setattr(keep_box, "ask_where_to_save", lambda parent, last: answers[answer])
    chosen = iter(["work", "other"])
    monkeypatch.setattr(keep_box.QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / next(chosen)), ""))
    trainer.keeping.save_button.click()  # nothing was saved before: asked for a name
    trainer.keeping.save_button.click()
    assert saved == [tmp_path / "work", *([tmp_path / saved_in] if saved_in else [])]


def test_what_a_session_left_is_offered_with_its_image(
    make_trainer: Callable[[], Any], model_viewer: Any, qtbot: Any, process: FakeProcess
) -> None:
    from napari.components import ViewerModel

    earlier = ViewerModel()
    add_item(earlier, make_volume())
    first = make_trainer()
    other = train_widget.TrainWidget(earlier, FakeProcess())
    qtbot.addWidget(other)
    other.paint.new_button.click()
    paint(other.paint.pairs[0].labels, 3, 1)
    recovery_of(earlier).save_now()
    qtbot.waitUntil(lambda: not recovery_of(earlier).is_saving, timeout=20_000)
    recovery_of(earlier).close()
    other.close_down()

    assert first.offers.isHidden()
    add_item(model_viewer, make_volume())
    qtbot.waitUntil(lambda: not first.offers.isHidden(), timeout=20_000)
    assert not make_trainer().offers.isHidden(), "nor does it wait for another image"
    first.offers.restore_button.click()
    qtbot.waitUntil(lambda: bool(first.paint.pairs), timeout=20_000)
    assert layer_of(first).name.startswith("CT 3 – paint, restored from ")
    assert amounts(first)["class 1"] == (100, 1) and first.offers.isHidden()


# The rest


def test_the_process_is_launched_early_but_not_for_nothing(
    make_trainer: Callable[[], Any],
    model_viewer: Any,
    process: FakeProcess,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_widget, "_QUIET_MS", 10)
    add_item(model_viewer, make_volume())
    trainer = make_trainer()
    qtbot.wait(100)
    assert "start" not in process.calls
    trainer.paint.new_button.click()
    qtbot.waitUntil(lambda: "start" in process.calls, timeout=5000)


def test_keys_train_rest_and_mark_and_are_given_back(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    bound = {str(key): command for key, command in model_viewer.keymap.items()}
    model_viewer.dims.set_current_step(0, 2)
    bound[KEYS["complete"].replace("-", "+")](model_viewer)
    assert painting_of(layer_of(trainer)).complete == {2}
    bound[KEYS["train"].replace("-", "+")](model_viewer)
    qtbot.waitUntil(lambda: bool(process.begun), timeout=20_000)
    bound[KEYS["train"].replace("-", "+")](model_viewer)
    assert process.calls[-1] == "pause"
    bound[KEYS["stop"].replace("-", "+")](model_viewer)
    assert process.calls[-1] == "stop"
    trainer.close_down()
    assert not [key for key, command in model_viewer.keymap.items() if command is not None]


def test_a_widget_that_is_closed_lets_go(trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any) -> None:
    begin(trainer, process, qtbot)
    layer = layer_of(trainer)
    trainer.close_down()
    assert process.calls[-1] == "close_down"
    before = trainer.paint.table.rowCount()
    model_viewer.add_image(np.zeros((4, 4)))
    paint(layer, 1, 1)
    model_viewer.dims.set_current_step(0, 1)
    model_viewer.layers.remove(layer)
    assert trainer.paint.table.rowCount() == before and process.calls[-1] == "close_down"


def test_a_widget_closed_just_after_somebody_moved_says_no_more(
    trainer: Any, process: FakeProcess, qtbot: Any, model_viewer: Any
) -> None:
    begin(trainer, process, qtbot)
    process.tell_round(1)
    process.finish()
    model_viewer.dims.set_current_step(0, 1)  # the process is asked for this slice a moment later
    trainer.close_down()
    told: list[None] = []
    trainer.run.previewed.connect(lambda: told.append(None))
    qtbot.wait(300)
    assert not told and process.calls[-1] == "close_down"


def test_what_was_chosen_is_remembered(
    trainer: Any, make_trainer: Callable[[], Any], process: FakeProcess, qtbot: Any
) -> None:
    trainer.training.form.update({"seconds": 42, "learning_rate": 3e-4})
    trainer.training.start.choose("interactive")
    begin(trainer, process, qtbot)
    again = make_trainer()
    assert again.training.form.settings == PaintSettings(seconds=42, learning_rate=3e-4)
    assert again.training.start.start == "interactive"


def test_old_trainings_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "not ours").mkdir()
    made = [new_run_folder() for _ in range(KEPT + 3)]
    assert [folder for folder in made if folder.exists()] == made[3:] and (tmp_path / "not ours").exists()


def test_curves_are_drawn_at_most_once_a_second_and_only_where_they_are_seen(
    trainer: Any, process: FakeProcess, qtbot: Any
) -> None:
    curves = trainer.training.curves
    begin(trainer, process, qtbot)
    for number in range(4):
        process.tell_round(number)
    assert curves.drawn == 0, "the widget was never shown"
    trainer.show()
    qtbot.waitUntil(lambda: curves.drawn == 1, timeout=10_000)
    for number in range(4, 9):
        process.tell_round(number)
    qtbot.wait(200)
    assert curves.drawn == 1
    qtbot.waitUntil(lambda: curves.drawn == 2, timeout=5000)
    assert list(curves._dice.get_xdata()) == [2.0 * number for number in range(9)]
