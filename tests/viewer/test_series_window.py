"""A disc of several studies, dropped on the whole window: chosen by keys that are really pressed."""

from __future__ import annotations

import gc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantom import ORIENTATIONS, ct_series, places, voxels
from pydicom.fileset import FileSet
from qtpy.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent

from napari_lungseg.io import read
from napari_lungseg.plugin import series_chooser
from napari_lungseg.plugin.layers import layer_facts

pytestmark = pytest.mark.viewer


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Two studies, lying in different ways."""
    for study, (name, slices) in enumerate({"axial feet first supine": 5, "oblique": 9}.items(), 1):
        told = {"StudyInstanceUID": f"1.2.{study}", "SeriesInstanceUID": f"1.2.{study}.1", "SeriesNumber": study}
        told |= {"StudyDate": f"2024010{study}", "StudyTime": "101112", "StudyID": str(study)}
        axes = ORIENTATIONS[name]
        ct_series(tmp_path / "disc", voxels(slices), places(slices, axes), axes, prefix=f"{study}-", **told)
    return tmp_path / "disc"


def drop(viewer: Any, path: Path) -> None:
    """Drop a path on the canvas, as a file manager does."""
    if path.is_dir():
        # Napari's own reader takes folders, too, so that napari asks; this is what it then does with the answer.
        viewer.open(path, plugin="napari-lungseg")
        return
    held = QMimeData()
    held.setUrls([QUrl.fromLocalFile(str(path))])
    nothing = Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(100, 100), Qt.DropAction.CopyAction, held, Qt.MouseButton.LeftButton, nothing)
    viewer.window._qt_viewer.dropEvent(event)


def packed(disc: Path) -> Path:
    """The folder as a ZIP file."""
    path = disc.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in disc.iterdir():
            archive.write(file, file.name)
    return path


def burnt(disc: Path) -> Path:
    """The folder as a disc; the path is that of its directory file."""
    files = FileSet()
    for path in sorted(disc.iterdir()):
        files.add(path)
    files.write(disc.with_name("cd"))
    del files  # pydicom's temporary folder goes with it
    gc.collect()
    return disc.with_name("cd") / "DICOMDIR"


def chooser_of(qtbot: Any) -> Any:
    """The window that asks, once it does."""
    qtbot.waitUntil(
        lambda: any(each.isVisible() and each.listed.entries for each in series_chooser._OPEN), timeout=60_000
    )
    (chooser,) = series_chooser._OPEN
    return chooser


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS", "ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.parametrize("as_what", [Path.absolute, packed, burnt], ids=["folder", "ZIP file", "DICOMDIR"])
def test_drop_choose_open(viewer: Any, disc: Path, qtbot: Any, as_what: Callable[[Path], Path]) -> None:
    path = as_what(disc)
    QTimer.singleShot(0, lambda: drop(viewer, path))
    chooser = chooser_of(qtbot)
    assert not viewer.layers and chooser.parent() is not None
    chooser.table.mark(0)
    qtbot.keyClick(chooser.table, Qt.Key.Key_Down)
    qtbot.keyClick(chooser.table, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=60_000)
    (expected,) = read(disc, series="1.2.2.1")
    assert layer_facts(viewer.layers[0]).stored["geometry"] == expected.geometry
    np.testing.assert_array_equal(np.asarray(viewer.layers[0].data), expected.reoriented()[0].array)
    np.testing.assert_allclose(viewer.layers[0].scale, expected.reoriented()[0].geometry.spacing)


def test_the_window_may_be_closed_meanwhile(viewer: Any, disc: Path, qtbot: Any) -> None:
    QTimer.singleShot(0, lambda: drop(viewer, disc))
    chooser = chooser_of(qtbot)
    job = chooser.job
    viewer.close()
    qtbot.waitUntil(lambda: not job.is_running, timeout=60_000)
