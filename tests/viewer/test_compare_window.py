"""Comparing and measuring in the whole window: a curve that is clicked, a table, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_lungseg.phantom import thorax_ct
from napari_lungseg.plugin.opening import add_item

pytestmark = pytest.mark.viewer


def test_compare_go_to_the_worst_measure_and_close(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    volume, labels = thorax_ct((16, 48, 60))
    add_item(viewer, volume)
    reference = add_item(viewer, dataclasses.replace(labels, name="reference"))
    array = labels.array.copy()
    array[9] = 0
    predicted = add_item(viewer, dataclasses.replace(labels, array=array, name="prediction"))
    _, compare = viewer.window.add_plugin_dock_widget("napari-lungseg", "Compare labels")
    compare.predicted.layer, compare.reference.layer = predicted, reference
    compare.box.run_button.click()
    qtbot.waitUntil(lambda: not compare.box.is_running and compare.result is not None, timeout=120_000)
    compare.worse_button.click()
    assert viewer.dims.current_step[0] == 9
    qtbot.waitUntil(lambda: compare.plot.drawn > 0, timeout=60_000)
    assert np.count_nonzero(compare.disagreement.data) == np.count_nonzero(labels.array[9])

    _, measure = viewer.window.add_plugin_dock_widget("napari-lungseg", "Measure")
    measure.labels.layer = reference
    measure.box.run_button.click()
    qtbot.waitUntil(lambda: not measure.box.is_running and measure.result is not None, timeout=120_000)
    measure.table.choose(0)
    assert reference.selected_label == 1 and "volume_ml" in reference.features
    picture = viewer.screenshot(str(tmp_path / "window.png"), canvas_only=False, flash=False)
    assert picture.std() > 10
    viewer.window.remove_dock_widget("all")
    assert compare._closed and measure._closed
