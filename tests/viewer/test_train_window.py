"""*Train on painted labels* in the whole window, with the true training process on a small phantom."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtCore import QThreadPool
from tiny_model import save_tiny

from napari_lungseg.models.weights import read_spec
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.plugin import train_widget
from napari_lungseg.plugin.layers import KEY
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.painting import painting_of
from napari_lungseg.plugin.previews import is_preview
from napari_lungseg.plugin.recovery import recovery_of
from napari_lungseg.plugin.run_folders import FOLDER_VARIABLE
from napari_lungseg.plugin.warm import load_torch

pytestmark = pytest.mark.viewer
SHAPE = (8, 96, 96)
# What a person waits at most; some room for a busy machine is in the tests.
WITHIN_S = 2.0
PATIENCE_MS = 180_000


@pytest.fixture
def trainer(viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any) -> Iterator[Any]:
    """The widget as the Plugins menu opens it, with a phantom and a few strokes; quick to train."""
    monkeypatch.setenv("LUNGSEG_RECOVERY", str(tmp_path / "recovery"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "painted"))
    monkeypatch.setattr(train_widget, "_QUIET_MS", 10)
    load_torch()
    volume, _ = thorax_ct(shape=SHAPE)
    add_item(viewer, volume)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Train on painted labels")
    widget.paint.new_button.click()
    widget.paint.classes.renamed.emit(1, "lung")
    widget.training.start.add_file(save_tiny(tmp_path))
    widget.training.form.update({"steps": 2, "batch_size": 2})
    paint(widget, 3)
    qtbot.waitUntil(lambda: widget.run.process.is_ready, timeout=PATIENCE_MS)
    yield widget
    widget.close_down()
    recovery_of(widget.viewer).close()


def layer_of(widget: Any) -> Labels:
    layer: Labels = widget.paint.pairs[0].labels
    return layer


def paint(widget: Any, z: int) -> None:
    """Strokes of lung and of background, with napari's brush."""
    layer = layer_of(widget)
    layer.brush_size = 5
    for row in range(36, 60, 3):
        layer.paint((z, row, 28), 1)
        layer.paint((z, row, 48), 100)
        layer.paint((z, row, 68), 1)
        layer.paint((z, 8, row), 100)


def train(widget: Any, qtbot: Any, rounds: int = 1) -> int:
    """Press Train and wait for some rounds; returns the number of the process."""
    widget.training.train_button.click()
    wait_for_rounds(widget, qtbot, rounds)
    number: int = widget.run.process.process_id
    return number


def wait_for_rounds(widget: Any, qtbot: Any, rounds: int) -> None:
    wanted = (widget.run.rounds[-1].number if widget.run.rounds else 0) + rounds
    qtbot.waitUntil(lambda: bool(widget.run.rounds) and widget.run.rounds[-1].number >= wanted, timeout=PATIENCE_MS)


def stop(widget: Any, qtbot: Any) -> float:
    """Press Stop; returns how long that took, in seconds."""
    began = time.monotonic()
    widget.training.stop_button.click()
    qtbot.waitUntil(lambda: not widget.run.is_running, timeout=PATIENCE_MS)
    return time.monotonic() - began


def is_gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


def test_paint_train_pause_paint_resume_stop_use_save_and_reload(
    trainer: Any, viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget, layer = trainer, layer_of(trainer)
    viewer.dims.set_current_step(0, 5)
    widget.training.uncertainty.setChecked(True)
    train(widget, qtbot)
    unsure = next(each for each in viewer.layers if isinstance(each, Image) and is_preview(each))
    qtbot.waitUntil(lambda: bool(unsure.data[5].any()), timeout=PATIENCE_MS)
    assert not unsure.data[[0, 1, 2, 4, 6, 7]].any(), "only the slice on screen"
    assert viewer.layers.selection.active is layer
    assert widget.run.rounds[-1].device and widget.run.rounds[-1].memory_mb > 100

    widget.training.pause_button.click()
    qtbot.wait(1500)
    rested = len(widget.run.rounds)
    pixels = widget.run.rounds[-1].pixels
    paint(widget, 6)
    painting_of(layer).complete.add(3)
    painted = layer.data.copy()
    qtbot.wait(1000)
    assert len(widget.run.rounds) == rested, "it rests"
    widget.training.pause_button.click()
    wait_for_rounds(widget, qtbot, 2)
    assert widget.run.rounds[-1].pixels > 2 * pixels, "what was painted meanwhile is learned from"
    viewer.layers[0].contrast_limits = (-200, 200)
    wait_for_rounds(widget, qtbot, 1)
    widget.paint.where.next_button.click()
    assert viewer.dims.current_step[0] not in (3, 6)

    stop(widget, qtbot)
    last = widget.run.rounds[-1].number
    said = widget.training._about_preview
    qtbot.waitUntil(lambda: "the model that is kept (round" in said.text(), timeout=PATIENCE_MS)
    assert widget.keeping.model.is_file() and np.array_equal(layer.data, painted)
    widget.training.pause_button.click()  # which now says Resume
    wait_for_rounds(widget, qtbot, 1)
    assert widget.run.rounds[-1].number > last
    stop(widget, qtbot)

    monkeypatch.setattr(type(widget.keeping), "_is_wanted", lambda self: True)
    widget.keeping.use_button.click()
    segment = viewer.window.add_plugin_dock_widget("napari-lungseg", "Segment lungs")[1]
    assert segment.model == str(widget.keeping.model)
    segment.run_button.click()
    qtbot.waitUntil(lambda: segment.job is None, timeout=PATIENCE_MS)
    assert segment.result.metadata[KEY]["names"] == {1: "lung"}

    widget.keeping.save_model(tmp_path / "mine.safetensors")
    qtbot.waitUntil((tmp_path / "mine.safetensors").is_file, timeout=PATIENCE_MS)
    assert read_spec(tmp_path / "mine.safetensors").name == "mine"
    widget.save_work(tmp_path / "work")
    qtbot.waitUntil((tmp_path / "work" / "work.json").is_file, timeout=PATIENCE_MS)
    for each in list(viewer.layers)[1:]:
        viewer.layers.remove(each)
    widget.open_work(tmp_path / "work")
    qtbot.waitUntil(lambda: bool(widget.paint.pairs), timeout=PATIENCE_MS)
    assert np.array_equal(layer_of(widget).data, painted) and painting_of(layer_of(widget)).complete == {3}
    assert read_spec(widget.training.start.start).names == {1: "lung"}


def test_stop_takes_effect_at_any_moment_and_another_training_can_begin(trainer: Any, qtbot: Any) -> None:
    widget = trainer
    widget.training.train_button.click()
    assert stop(widget, qtbot) < WITHIN_S, "before it has begun"
    widget.training.train_button.click()
    qtbot.waitUntil(lambda: widget.run.process.is_training, timeout=PATIENCE_MS)
    assert stop(widget, qtbot) < WITHIN_S + 0.5, "while it builds the network"
    folders = set()
    for _ in range(2):
        train(widget, qtbot)
        folders.add(widget.run.plan.folder)
        assert stop(widget, qtbot) < WITHIN_S + 0.5, "in the midst of a round"
        assert widget.keeping.model.is_file()
    assert len(folders) == 2


def close_widget(widget: Any, viewer: Any) -> None:
    viewer.window.remove_dock_widget("all")


def close_window(widget: Any, viewer: Any) -> None:
    viewer.close()


@pytest.mark.parametrize("close", [close_widget, close_window])
def test_nothing_is_left_of_a_training_whose_window_is_closed(
    close: Callable[[Any, Any], None], trainer: Any, viewer: Any, qtbot: Any
) -> None:
    if sys.platform == "win32":
        pytest.skip("There is no signal 0 to ask with.")
    number = train(trainer, qtbot)
    assert number and not is_gone(number)
    close(trainer, viewer)
    qtbot.waitUntil(lambda: is_gone(number), timeout=20_000)
    pool = QThreadPool.globalInstance()
    assert pool is not None
    qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=20_000)


@pytest.mark.parametrize("which", ["image", "labels"])
def test_closing_a_layer_ends_its_training(which: str, trainer: Any, viewer: Any, qtbot: Any) -> None:
    train(trainer, qtbot)
    viewer.layers.remove(getattr(trainer.paint.pairs[0], which))
    qtbot.waitUntil(lambda: not trainer.run.is_running, timeout=PATIENCE_MS)
    assert "closed" in trainer.training._findings.text() and trainer.keeping.model.is_file()


def test_a_click_in_the_canvas_paints_what_the_table_says(trainer: Any, viewer: Any, qtbot: Any) -> None:
    """The mouse, as a person moves it: events of the canvas, not methods of the layer."""
    if sys.platform == "darwin":
        pytest.skip("The canvas needs the true pointer there.")
    viewer.dims.set_current_step(0, 4)
    trainer.paint.classes.chosen.emit(1)
    layer = layer_of(trainer)
    assert not layer.data[4].any()
    drag(viewer, [(4, 40, 28), (4, 44, 28), (4, 50, 28)])
    assert (layer.data[4] == 1).sum() > 20
    qtbot.waitUntil(lambda: trainer.paint.classes.rows[0].slices == 2, timeout=10_000)


def drag(viewer: Any, points: list[tuple[int, int, int]]) -> None:
    """Drag over data positions of the active layer, through napari's own mouse callbacks."""
    from napari.utils._test_utils import read_only_mouse_event
    from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

    layer = viewer.layers.selection.active
    kinds = ["mouse_press", *["mouse_move"] * (len(points) - 2), "mouse_release"]
    calls = {
        "mouse_press": mouse_press_callbacks,
        "mouse_move": mouse_move_callbacks,
        "mouse_release": mouse_release_callbacks,
    }
    for kind, point in zip(kinds, points, strict=True):
        event = read_only_mouse_event(
            type=kind, is_dragging=True, position=layer.data_to_world(point), dims_displayed=(1, 2)
        )
        calls[kind](layer, event)
