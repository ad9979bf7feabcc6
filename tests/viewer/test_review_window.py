"""Reviewing a cohort in the whole window, by keys that are really pressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_lungseg.cohort.folder import CORRECTED, DRAFT, FORMAT, LABELS, MANIFEST, ROWS, CohortFolder, write_json
from napari_lungseg.cohort.rows import empty_row
from napari_lungseg.io import write
from napari_lungseg.phantom import thorax_ct

pytestmark = pytest.mark.viewer


def make_cohort(root: Path) -> CohortFolder:
    folder, rows = CohortFolder(root / "out"), []
    for case in ("first", "second", "third"):
        volume, labels = thorax_ct((16, 48, 60))
        scan = write(volume, root / f"{case}.nii.gz")
        write(labels, folder.case(case, LABELS))
        rows.append(empty_row(case, case, 0) | {"state": "done", "modality": "ct"})
        folder.write_record({"input": case, "rows": rows[-1:]}, [scan])
    write_json(folder.root / MANIFEST, {"format": FORMAT, "settings": {}})
    write_json(folder.root / ROWS, rows)
    return folder


def test_correct_accept_and_go_back(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    folder = make_cohort(tmp_path)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Cohort review")
    canvas = viewer.window._qt_viewer.canvas.native

    def press(key: Qt.Key, held: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> str:
        qtbot.keyClick(canvas, key, held)
        qtbot.waitUntil(lambda: not widget.box.is_running and widget.shown is not None, timeout=120_000)
        return str(widget.shown.opened.case)

    widget.open(folder.root)
    qtbot.waitUntil(lambda: widget.shown is not None and not widget.box.is_running, timeout=120_000)
    widget.shown.labels.data[8] = 0
    widget.shown.labels.refresh()
    assert press(Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier) == "second"
    assert folder.case("first", CORRECTED).is_file()
    assert press(Qt.Key.Key_Y, Qt.KeyboardModifier.ShiftModifier) == "third"
    assert len(widget.table.selectionModel().selectedRows()) == 1
    assert press(Qt.Key.Key_PageUp) == "second" and len(viewer.layers) == 2
    assert [said.verdict for said in widget.reviews] == ["corrected", "accepted", ""]
    viewer.window.remove_dock_widget("all")
    assert widget._closed and not any(key in viewer.keymap for key in widget.shortcuts._keys)


def test_a_window_that_is_closed_keeps_changes(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    folder = make_cohort(tmp_path)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Cohort review")
    widget.open(folder.root)
    qtbot.waitUntil(lambda: widget.shown is not None and not widget.box.is_running, timeout=120_000)
    widget.shown.labels.data[8] = 0
    viewer.close()
    qtbot.waitUntil(folder.case("first", DRAFT).is_file, timeout=60_000)
    assert not folder.case("first", CORRECTED).exists()
