"""Make the pictures of the documentation: the phantom, segmented and painted on, in the whole napari window.

Usage: ``python tools/with_display.py python docs/images/make.py``
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from make_cohort import make_scans
from napari.layers import Labels
from qtpy.QtCore import QEventLoop, QTimer

from napari_lungseg import read, write
from napari_lungseg.analysis.case_report import write_case_report
from napari_lungseg.cohort.case import Task
from napari_lungseg.cohort.run import run_cohort
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.series_chooser import SeriesChooser
from napari_lungseg.training.rounds import PaintSettings
from napari_lungseg.volume import LabelMap

HERE = Path(__file__).parent
ROUNDS = 8
# Slice → label (1 heart, 100 background) and both ends of each stroke.
STROKES = {
    z: [
        (1, (62, 190), (112, 140)),
        (1, (58, 170), (72, 208)),
        (1, (92, 126), (118, 150)),
        (100, (60, 128), (120, 118)),
        (100, (80, 80), (130, 80)),
        (100, (105, 208), (132, 180)),
        (100, (138, 163), (160, 140)),
        (100, (30, 130), (32, 180)),
    ]
    for z in (36, 42)
}
SHOWN = 39


def wait(milliseconds: int) -> None:
    """Let the window live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def segment(viewer: Any, widget: Any) -> Labels:
    """Press Segment and wait for the result."""
    widget.run_button.click()
    while widget.job is not None:
        wait(50)
    if widget.result is None:
        raise SystemExit("The run gave no result; see the notification above.")
    return widget.result


def train(viewer: Any, widget: Any) -> None:
    """Paint the heart and what is not the heart in two slices, and train until a few rounds are over."""
    widget.paint.new_button.click()
    widget.paint.classes.renamed.emit(1, "heart")
    widget.paint.classes.finish_typing()
    layer = widget.paint.pairs[0].labels
    layer.brush_size = 7
    for z, marked in STROKES.items():
        viewer.dims.set_current_step(0, z)
        for label, (row, column), (last_row, last_column) in marked:
            for share in np.linspace(0, 1, 30):
                place = (z, row + share * (last_row - row), column + share * (last_column - column))
                layer.paint(tuple(round(value) for value in place), label)
    viewer.dims.set_current_step(0, SHOWN)
    wait(1000)
    widget.training.form.update(dataclasses.asdict(PaintSettings()))
    widget.training.train_button.click()
    while widget.run.is_running and (not widget.run.rounds or widget.run.rounds[-1].number < ROUNDS):
        wait(50)


def main() -> None:
    """Write the pictures beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("LUNGSEG_RECOVERY", "LUNGSEG_PAINTED"):
            os.environ[variable] = folder
        picture_choosing(Path(folder) / "disc")
        picture_segmenting()
        picture_training()
        picture_comparing()
        picture_measuring()
        picture_report(Path(folder))
        picture_reviewing(cohort_of_phantoms(Path(folder)))


def write_disc(folder: Path) -> None:
    """Two studies of phantoms as DICOM, written by what the tests write theirs with."""
    sys.path.insert(0, str(HERE.parents[1] / "tests" / "unit"))
    from dicom_phantom import ct_series

    kinds = {"Lung B60f": {}, "Mediastinum B30f": {}, "Lung B60f follow-up": {"effusion": 0.45, "consolidation": 0.4}}
    for number, (name, ill) in enumerate(kinds.items(), 1):
        volume, _ = thorax_ct((48, 192, 216), seed=number // 3, **ill)
        spacing, study = volume.geometry.spacing, 1 + number // 3
        window = (40, 400) if name.startswith("Med") else (-600, 1500)
        places = np.array(volume.geometry.origin[::-1]) + np.outer(np.arange(48), (0, 0, spacing[0]))
        ct_series(
            folder / str(number),
            (np.asarray(volume.array) + 1024).astype(np.uint16),
            places,
            PixelSpacing=list(spacing[1:]),
            SeriesNumber=number,
            SeriesDescription=name,
            StudyDate=f"20240{study}15",
            StudyInstanceUID=f"1.2.{study}",
            SeriesInstanceUID=f"1.2.{study}.{number}",
            WindowCenter=window[0],
            WindowWidth=window[1],
        )


def picture_choosing(folder: Path) -> None:
    """``series.png``"""
    write_disc(folder)
    (volume,) = read(folder, series="row-3")
    _, labels = thorax_ct((48, 192, 216), seed=1, effusion=0.45, consolidation=0.4)
    write(dataclasses.replace(labels, source=volume.source), folder / "lungs.seg.dcm")
    viewer = napari.Viewer()
    chooser = SeriesChooser(viewer, folder, viewer.window.main_menu.window())
    while not chooser.listed.entries or chooser.job.is_running:
        wait(50)
    chooser.resize(900, 420)
    wait(500)
    chooser.grab().save(str(HERE / "series.png"))
    chooser.reject()
    viewer.close()


def picture_training() -> None:
    """``train.png``"""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 960)
    volume, _ = thorax_ct(shape=(96, 256, 288))
    add_item(viewer, volume).contrast_limits = (-160, 240)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Train on painted labels")
    train(viewer, widget)
    viewer.reset_view()
    wait(500)
    viewer.screenshot(str(HERE / "train.png"), canvas_only=False, flash=False)
    viewer.close()


def run(widget: Any) -> None:
    """Press the button of a widget, and wait for its result to be drawn."""
    widget.box.run_button.click()
    while widget.box.is_running or not widget.plot.drawn:
        wait(50)


def spoiled(labels: LabelMap) -> LabelMap:
    """Labels with what goes wrong in practice: edges too wide, a part that is missed, an end that is swapped."""
    from scipy.ndimage import grey_dilation

    array = grey_dilation(labels.array, (1, 3, 3))
    missed = array[30:48, :, :110]
    missed[missed == 1] = 0
    end = array[80:]
    end[end > 0] = 3 - end[end > 0]
    return dataclasses.replace(labels, array=array, name="prediction")


def picture_comparing() -> None:
    """``compare.png``"""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    volume, labels = thorax_ct(shape=(96, 256, 288))
    add_item(viewer, volume)
    reference = add_item(viewer, dataclasses.replace(labels, name="reference"))
    predicted = add_item(viewer, spoiled(labels))
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Compare labels")
    widget.predicted.layer, widget.reference.layer = predicted, reference
    run(widget)
    widget.next_worse()
    viewer.reset_view()
    wait(1000)
    viewer.screenshot(str(HERE / "compare.png"), canvas_only=False, flash=False)
    viewer.close()


def picture_measuring() -> None:
    """``measure.png``"""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    volume, labels = thorax_ct(shape=(96, 256, 288))
    add_item(viewer, volume)
    add_item(viewer, dataclasses.replace(labels, name="lungs"))
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Measure")
    run(widget)
    widget.table.choose(1)
    viewer.reset_view()
    wait(1000)
    viewer.screenshot(str(HERE / "measure.png"), canvas_only=False, flash=False)
    viewer.close()


def picture_report(folder: Path) -> None:
    """``report.png``, where there is a Chromium to look at the page with."""
    from PIL import Image

    page = write_case_report(*thorax_ct(shape=(96, 256, 288)), folder / "report.html")
    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("There is no chromium, so report.png stays as it was.")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=900,3040"]
    subprocess.run([*command, f"--screenshot={folder / 'report.png'}", page.as_uri()], check=True)
    small = Image.open(folder / "report.png").convert("RGB")
    small.resize((600, 600 * small.height // small.width)).quantize(128).save(HERE / "report.png", optimize=True)


def cohort_of_phantoms(folder: Path) -> Path:
    """The results of the cohort that ``cohort-page.png`` shows."""
    make_scans(folder / "scans")
    run_cohort([folder / "scans"], Task(folder / "out"))
    return folder / "out"


def picture_reviewing(out: Path) -> None:
    """``review.png``: the second case, for the first could not be read."""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Cohort review")
    widget.open(out)
    widget.next_case()
    while widget.box.is_running or widget.shown is None:
        wait(50)
    viewer.reset_view()
    wait(6000)  # until the notifications are gone
    viewer.screenshot(str(HERE / "review.png"), canvas_only=False, flash=False)
    viewer.close()


def picture_segmenting() -> None:
    """``segment-ct.png`` and ``segment-xray.png``"""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Segment lungs")
    for name, make in (("ct", thorax_ct), ("xray", thorax_xray)):
        viewer.layers.clear()
        widget.result = None
        volume, _ = make() if name == "xray" else make(shape=(96, 256, 288))
        add_item(viewer, volume)
        segment(viewer, widget)
        viewer.reset_view()
        wait(6000)  # until the notifications are gone
        viewer.screenshot(str(HERE / f"segment-{name}.png"), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
