"""What a user does in the whole window: open, segment, cancel, paint, save, open again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from dicom_series import write_series
from fake_network import FakeNetwork
from napari.layers import Image, Labels
from qtpy.QtCore import QElapsedTimer, QTimer
from tiny_model import save_tiny

from napari_lungseg.io import read
from napari_lungseg.plugin.warm import load_torch
from napari_lungseg.volume import LabelMap

pytestmark = pytest.mark.viewer
SLICES = 8


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A DICOM folder."""
    return write_series(tmp_path / "series", SLICES, 96, 112)


def add_widget(viewer: Any) -> Any:
    """*Segment lungs*, as the Plugins menu opens it."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Segment lungs")
    return widget


def wait_for_end(qtbot: Any, widget: Any) -> None:
    qtbot.waitUntil(lambda: widget.job is None, timeout=120_000)


def test_open_segment_cancel_paint_save_reopen(viewer: Any, series: Path, tmp_path: Path, qtbot: Any) -> None:
    (image,) = viewer.open(series, plugin="napari-lungseg")
    qtbot.waitUntil(lambda: isinstance(image.data, np.ndarray), timeout=60_000)
    before = image.data.copy()
    widget = add_widget(viewer)
    assert widget.run_button.text() == f"Segment {image.name}" and "Secret" not in image.name
    load_torch()  # before the model file below is made with it
    widget.add_model(save_tiny(tmp_path))
    widget.form.update({"batch_size": 1, "postprocess": False})

    widget.run_button.click()
    widget.cancel_button.click()
    wait_for_end(qtbot, widget)
    assert list(viewer.layers) == [image]

    widget.run_button.click()
    wait_for_end(qtbot, widget)
    result = widget.result
    assert isinstance(result, Labels) and result.data.shape == image.data.shape
    assert np.array_equal(image.data, before)

    result.brush_size = 5
    result.selected_label = 2
    result.paint((3, 40, 50), 2)
    painted = result.data.copy()
    assert painted[3, 40, 50] == 2
    (saved,) = result.save(str(tmp_path / "lungs.nii.gz"))
    viewer.layers.remove(result)
    (again,) = viewer.open(saved, plugin="napari-lungseg")
    assert isinstance(again, Labels) and np.array_equal(again.data, painted)
    assert np.allclose(again.scale, image.scale) and np.allclose(again.translate, image.translate, atol=1e-4)

    # An independent reader lays the labels over the scan.
    scan, written = read(series)[0], SimpleITK.ReadImage(saved)
    assert np.allclose(written.GetOrigin()[::-1], scan.geometry.origin, atol=1e-4)
    assert np.allclose(written.GetSpacing()[::-1], scan.geometry.spacing, atol=1e-4)

    picture = viewer.screenshot(str(tmp_path / "window.png"), canvas_only=False, flash=False)
    assert picture.std() > 10


def test_dropped_files_make_one_layer_and_the_window_stays_free(viewer: Any, series: Path, qtbot: Any) -> None:
    """As when files are dropped: napari reads them one by one from its running event loop."""
    gaps: list[int] = []
    clock, ticker = QElapsedTimer(), QTimer()
    ticker.timeout.connect(lambda: gaps.append(clock.restart()))
    names = [str(path) for path in series.iterdir()]
    # The names that napari gives its drop event's files are opened by this very method.
    QTimer.singleShot(0, lambda: viewer.open(names, plugin="napari-lungseg", stack=False))
    clock.start()
    ticker.start(5)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=60_000)
    layer = viewer.layers[0]
    qtbot.waitUntil(lambda: isinstance(layer.data, np.ndarray), timeout=60_000)
    assert isinstance(layer, Image) and layer.data.shape[0] == SLICES
    assert len(gaps) > 2


def test_the_canvas_shows_right_at_the_left_in_2d_and_3d(viewer: Any, qtbot: Any) -> None:
    """Rendered pixels, not model state: a label at the patient's right, front and head, in both views."""
    from napari_lungseg.plugin.opening import add_item
    from napari_lungseg.plugin.window import letters_of, show_from_the_front
    from napari_lungseg.volume import Geometry

    array = np.zeros((40, 40, 40), np.uint8)
    array[30:36, 4:10, 4:10] = 1  # head, front, right
    direction = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    # Stored feet first, back to front and left to right: the reader must turn it.
    labels = LabelMap(np.ascontiguousarray(array[::-1, ::-1, ::-1]), Geometry(array.shape, direction=direction))
    add_item(viewer, labels)
    letters = letters_of(viewer)
    viewer.dims.set_current_step(0, 33)
    rows, columns = centre_of_orange(viewer, qtbot)
    assert columns < 0.5 and rows < 0.5
    assert letters.texts == {"left": "R", "right": "L", "up": "A", "down": "P"}
    show_from_the_front(viewer)
    rows, columns = centre_of_orange(viewer, qtbot)
    assert columns < 0.5 and rows < 0.5, "right at the viewer's left, head up"
    assert letters.texts == {"left": "R", "right": "L", "up": "H", "down": "F"}
    # Napari's default 3-D camera mirrors: the letters must say so, and the pixels agree.
    viewer.scene.camera.orientation = ("towards", "down", "right")
    viewer.scene.camera.set_view_direction((0, 1, 0), (1, 0, 0))
    rows, columns = centre_of_orange(viewer, qtbot)
    assert columns > 0.5 and rows < 0.5
    assert letters.texts["right"] == "R" and letters.texts["up"] == "H"


def centre_of_orange(viewer: Any, qtbot: Any) -> tuple[float, float]:
    """Where the right lung's colour is on the canvas, as shares of its height and width."""
    qtbot.wait(200)
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    orange = (picture[..., 0] > picture[..., 2] + 40) & (picture[..., 0] > picture[..., 1] + 15)
    assert orange.sum() > 20
    rows, columns = np.nonzero(orange)
    return float(rows.mean() / picture.shape[0]), float(columns.mean() / picture.shape[1])


def test_closing_the_widget_and_the_window_during_a_run(
    viewer: Any, series: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = FakeNetwork()
    network.steps, network.pause = 10_000, 0.005
    monkeypatch.setattr("napari_lungseg.segmentation.predict.iter_segment", network)
    monkeypatch.setattr("napari_lungseg.plugin.segmenting.load_torch", lambda: None)
    viewer.open(series, plugin="napari-lungseg")
    widget = add_widget(viewer)
    widget.run_button.click()
    qtbot.waitUntil(network.started.is_set, timeout=30_000)
    viewer.window.remove_dock_widget("all")
    qtbot.waitUntil(network.closed.is_set, timeout=30_000)
    assert len(viewer.layers) == 1

    again = add_widget(viewer)
    network.closed.clear()
    again.run_button.click()
    qtbot.wait(100)
    viewer.close()
    qtbot.waitUntil(network.closed.is_set, timeout=30_000)


def test_both_samples_and_both_widgets_open(viewer: Any, qtbot: Any) -> None:
    for sample in ("thorax_ct", "thorax_xray"):
        viewer.open_sample("napari-lungseg", sample)
    assert [type(layer) for layer in viewer.layers] == [Image, Labels, Image, Labels]
    for name in ("Segment lungs", "Open chest scan…"):
        _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", name)
        qtbot.waitUntil(widget.isVisible, timeout=30_000)
