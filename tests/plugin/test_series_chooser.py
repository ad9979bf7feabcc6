"""Choosing among series: what is asked, what opens at once, and what nobody is told."""

from __future__ import annotations

import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_phantom import ORIENTATIONS, ct_series, places, voxels
from labelled_series import labels_on, series
from napari.layers import Image, Labels
from qtpy.QtCore import Qt

from napari_lungseg.io import read, write
from napari_lungseg.io.series_list import list_series
from napari_lungseg.plugin import series_chooser
from napari_lungseg.plugin.layers import layer_facts
from napari_lungseg.plugin.series_chooser import SeriesChooser, needs_choice, open_or_choose, thumbnail_steps
from napari_lungseg.progress import Progress

AXIAL = ORIENTATIONS["axial feet first supine"]


def write_study(folder: Path, patient: int, **slices: int) -> Path:
    """CT series of a patient, ``name=slices``."""
    for number, (name, count) in enumerate(slices.items(), 1):
        told = {"PatientName": f"Secret^{patient}", "PatientID": f"PAT-{patient}", "StudyDate": f"2024010{patient}"}
        told |= {"StudyInstanceUID": f"1.2.{patient}", "SeriesInstanceUID": f"1.2.{patient}.{number}"}
        where = places(count, AXIAL, gap=patient + 0.5)
        described = {"SeriesNumber": number, "SeriesDescription": name}
        stored = voxels(count, seed=patient)
        ct_series(folder, stored, where, AXIAL, prefix=f"{patient}-{number}-", **told, **described)
    return folder


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Two patients; the first has two series."""
    write_study(tmp_path / "disc" / "Secret", 1, thin=12, thick=4)
    return write_study(tmp_path / "disc", 2, lung=7).absolute()


@pytest.fixture
def choose(model_viewer: Any, qtbot: Any) -> Any:
    """Makes choosers, and waits until they have listed."""

    def make(path: Path, **how: Any) -> SeriesChooser:
        chooser = SeriesChooser(model_viewer, path, **how)
        qtbot.waitUntil(lambda: bool(chooser.listed.entries), timeout=60_000)
        return chooser

    return make


def shown(chooser: SeriesChooser) -> list[list[str]]:
    """The table as it is on screen."""
    model = chooser.table.model()
    columns = range(model.columnCount())
    return [[model.index(row, column).data() for column in columns] for row in range(model.rowCount())]


def everything_said(chooser: SeriesChooser) -> str:
    """All that a person can read in the window or copy from it."""
    model = chooser.table.model()
    cells = [model.index(row, column) for row in range(model.rowCount()) for column in range(model.columnCount())]
    tips = [str(cell.data(int(Qt.ItemDataRole.ToolTipRole))) for cell in cells]
    words = (chooser.windowTitle(), chooser.message.text(), chooser.findings.text(), chooser.table.copy_text())
    return " ".join((*words, *tips, *(str(cell.data()) for cell in cells)))


def test_several_studies_are_asked_about(disc: Path, choose: Any, model_viewer: Any, qtbot: Any) -> None:
    ended: list[bool] = []
    chooser = choose(disc, on_end=lambda: ended.append(True))
    assert chooser.isVisible() and not model_viewer.layers
    # Patients come as their files do: those of the second lie at the top.
    assert shown(chooser) == [
        ["patient 1", "2024-01-02", "CT", "series 1, lung", "7", "2.5 × 0.7 × 0.9"],
        ["patient 2", "2024-01-01", "CT", "series 1, thin", "12", "1.5 × 0.7 × 0.9"],
        ["patient 2", "2024-01-01", "CT", "series 2, thick", "4", "1.5 × 0.7 × 0.9"],
    ]
    assert chooser.table.selected == [1], "the largest CT"
    chooser.table.sortByColumn(4, Qt.SortOrder.AscendingOrder)
    assert [row[4] for row in shown(chooser)] == ["4", "7", "12"] and chooser.table.selected == [1]
    chooser.table.sortByColumn(5, Qt.SortOrder.DescendingOrder)
    assert shown(chooser)[0][5].startswith("2.5")
    chooser.table.mark(0)
    qtbot.keyClick(chooser.table, Qt.Key.Key_Return)
    assert not chooser.isVisible()
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    (layer,) = model_viewer.layers
    (expected,) = read(disc, series="1.2.2.1")
    assert layer_facts(layer).stored["geometry"] == expected.geometry
    np.testing.assert_array_equal(np.asarray(layer.data), expected.reoriented()[0].array)


def test_several_are_opened_together(
    disc: Path, choose: Any, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    chooser = choose(disc)
    chooser.table.selectAll()
    assert chooser.open_button.text() == "Open 3 series"
    chooser.open_button.click()
    qtbot.waitUntil(lambda: len(model_viewer.layers) == 3, timeout=60_000)
    assert sorted(layer.data.shape[0] for layer in model_viewer.layers) == [4, 7, 12]
    assert not any("series" in notice.message for notice in notices), "nobody is told again what they chose"


def test_the_largest_ct_is_one_click_in_an_archive_too(
    disc: Path, tmp_path: Path, choose: Any, model_viewer: Any, qtbot: Any
) -> None:
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as archive:
        for path in disc.rglob("*.dcm"):
            archive.write(path, path.relative_to(disc))
    chooser = choose(tmp_path / "disc.zip")
    chooser.largest_button.click()
    qtbot.waitUntil(lambda: len(model_viewer.layers) == 1, timeout=60_000)
    assert model_viewer.layers[0].data.shape[0] == 12


def test_nobody_is_named_unless_that_is_asked_for(
    disc: Path, choose: Any, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    chooser = choose(disc)
    assert "Secret" not in everything_said(chooser) and "PAT-" not in everything_said(chooser)
    chooser.names.click()
    assert shown(chooser)[0][0] == "Secret^2, PAT-2"
    chooser.names.click()
    assert "Secret" not in everything_said(chooser)
    chooser.names.click()
    chooser.open_button.click()
    qtbot.waitUntil(lambda: len(model_viewer.layers) == 1, timeout=60_000)
    told = repr([layer.name for layer in model_viewer.layers]) + "".join(notice.message for notice in notices)
    assert "Secret" not in told and "PAT-" not in told


def test_one_study_of_few_scans_opens_at_once(
    tmp_path: Path, model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_chooser, "PATIENCE_MS", 10**8)
    monkeypatch.setattr(SeriesChooser, "show", lambda chooser: pytest.fail("asked"))
    folder = write_study(tmp_path / "study", 1, thin=6, thick=3)
    ended: list[bool] = []
    SeriesChooser(model_viewer, folder, on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert len(model_viewer.layers) == 2 and not series_chooser._OPEN


def test_what_needs_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = list_series(write_study(tmp_path / "few", 1, a=6, b=3, c=1))
    assert not needs_choice(few)
    many = list_series(write_study(tmp_path / "many", 1, a=2, b=2, c=2, d=2))
    assert needs_choice(many)
    monkeypatch.setattr(series_chooser, "MANY_FILES", 9)
    assert needs_choice(few)
    assert not needs_choice(list_series(write_study(tmp_path / "long", 1, a=11))), "one series, however long"


def test_volumes_without_dicom_open_as_before(tmp_path: Path, disc: Path, model_viewer: Any, qtbot: Any) -> None:
    (volume,) = read(disc, series="1.2.2.1")
    write(volume, tmp_path / "volumes" / "scan.nii.gz")
    ended: list[bool] = []
    SeriesChooser(model_viewer, tmp_path / "volumes", on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert len(model_viewer.layers) == 1 and not series_chooser._OPEN


def test_what_cannot_be_read_is_told_once(tmp_path: Path, model_viewer: Any, qtbot: Any, notices: list[Any]) -> None:
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    ended: list[bool] = []
    SeriesChooser(model_viewer, tmp_path / "torn.zip", on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert ["damaged ZIP" in notice.message for notice in notices] == [True]


def test_listing_that_takes_long_is_shown_and_cancelled(
    disc: Path, model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def slow(path: Path) -> Any:
        try:
            for done in range(100_000):
                yield Progress(done, 5000, "Reading headers …")
                time.sleep(0.01)
        finally:
            closed.set()

    monkeypatch.setattr(series_chooser, "iter_list_series", slow)
    monkeypatch.setattr(series_chooser, "PATIENCE_MS", 10)
    ended: list[bool] = []
    chooser = SeriesChooser(model_viewer, disc, on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: chooser.isVisible() and "of 5,000" in chooser.message.text(), timeout=60_000)
    assert chooser.bar.maximum() == 5000 and not chooser.open_button.isEnabled() and not ended
    qtbot.keyClick(chooser, Qt.Key.Key_Escape)
    assert ended == [True] and not chooser.isVisible() and not series_chooser._OPEN
    qtbot.waitUntil(closed.is_set, timeout=60_000)
    assert not model_viewer.layers


def test_closing_stops_the_pictures(disc: Path, choose: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(entry: Any, size: int) -> np.ndarray:
        begun.set()
        go_on.wait(60)
        drawn.append(entry.slices)
        return np.zeros((size, size), np.uint8)

    monkeypatch.setattr(series_chooser, "thumbnail", slow)
    chooser = choose(disc)
    qtbot.waitUntil(begun.is_set, timeout=60_000)
    job = chooser.job
    chooser.close()
    go_on.set()
    qtbot.waitUntil(lambda: not job.is_running, timeout=60_000)
    assert len(drawn) == 1


def test_pictures_come_one_after_the_other(disc: Path, choose: Any, qtbot: Any, monkeypatch: Any) -> None:
    entries = list_series(disc).entries
    steps = list(thumbnail_steps(entries))
    assert [step.payload[0] for step in steps] == [0, 1, 2] and steps[0].payload[1].ndim == 2
    Path(entries[1].files[6]).write_bytes(b"torn")
    assert [step.payload is None for step in thumbnail_steps(entries)] == [False, True, False]
    chooser = choose(disc)
    icon = chooser.table.model().index(0, 0).data(int(Qt.ItemDataRole.DecorationRole))
    qtbot.waitUntil(lambda: not chooser.job.is_running, timeout=60_000)
    later = chooser.table.model().index(0, 0).data(int(Qt.ItemDataRole.DecorationRole))
    assert later.cacheKey() != icon.cacheKey()
    chooser.reject()


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_labels_open_on_the_scan_that_is_chosen_with_them(
    tmp_path: Path, suffix: str, choose: Any, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    """The labels lie in a folder of their own, where nobody would look for their series."""
    volume = series(tmp_path / "disc" / "scan")
    labels = labels_on(volume)
    path = write(labels, tmp_path / "disc" / "labels" / f"lungs{suffix}")
    path.with_name("lungs.labels.json").unlink(missing_ok=True)
    write_study(tmp_path / "disc" / "other", 2, lung=7)
    chooser = choose(tmp_path / "disc")
    kinds = {entry.modality: row for row, entry in enumerate(chooser.listed.entries) if entry.is_labels}
    assert list(kinds) == ["SEG" if "seg" in suffix else "RTSTRUCT"]
    (row,) = kinds.values()
    scan = next(each for each in chooser.listed.entries if each.study == chooser.listed.entries[row].study)
    chooser._open([chooser.listed.entries[row], scan])
    qtbot.waitUntil(lambda: len(model_viewer.layers) == 2, timeout=60_000)
    image, painted = model_viewer.layers
    assert isinstance(image, Image) and isinstance(painted, Labels)
    assert painted.data.shape == image.data.shape and np.array_equal(painted.translate, image.translate)
    assert painted.data.any()


def test_without_a_window_everything_opens(disc: Path, model_viewer: Any, qtbot: Any) -> None:
    ended: list[bool] = []
    open_or_choose(model_viewer, [disc], on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert len(model_viewer.layers) == 3 and not series_chooser._OPEN
