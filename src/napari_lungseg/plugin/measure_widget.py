"""The *Measure* widget."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import napari.layers
import napari.viewer
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QPushButton, QVBoxLayout

from ..analysis.plots import draw_histogram, draw_profile
from ..errors import LungSegError
from .appearance import colours_of
from .canvas import Plot
from .compare_widget import is_comparable
from .docked import DockedWidget
from .job_box import JobBox
from .jobs import report
from .layer_choice import LayerChoice
from .layers import LayerFacts, check_axes, layer_facts
from .measured import Measured, measure_steps, report_steps, store_features
from .places import go_to_slice, image_under, slice_on_screen
from .previews import is_preview
from .table_view import TableView

_PLOT_HEIGHT = 320


class MeasureWidget(DockedWidget):
    """Measure an Image layer under a Labels layer: a table to sort, click, copy and save.

    Parameters
    ----------
    napari_viewer : the viewer it works on
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.result: Measured | None = None
        self._measured: napari.layers.Labels | None = None
        self._build()
        self.viewer.dims.events.point.connect(self._mark)
        self._choose_image()

    # Running

    def run(self) -> None:
        """Measure what is chosen, in the background."""
        facts = self._facts()
        if facts is not None:
            self.box.start(partial(measure_steps, *facts), partial(self._finished, self.labels.layer))

    def save_report(self) -> None:
        """Ask for a file, and write a page about the image and its labels there, in the background."""
        facts = self._facts()
        if facts is None:
            return
        path, _ = QFileDialog.getSaveFileName(self, "Save the report", "report.html", "Pages (*.html)")
        if path:
            steps = partial(report_steps, *facts, Path(path))
            self.box.start(steps, lambda page: self.box.tell(f"The report is in {page.name}."))

    def _facts(self) -> tuple[LayerFacts, LayerFacts] | None:
        """Of the image and the labels; None where they cannot be measured, which is told."""
        image, labels = self.image.layer, self.labels.layer
        if self.box.is_running or image is None or labels is None:
            return None
        facts = (layer_facts(image), layer_facts(labels))
        try:
            for each in facts:
                check_axes(each)
        except LungSegError as error:
            report(error)
            return None
        return facts

    def _finished(self, layer: napari.layers.Labels, result: Measured) -> None:
        self._unwatch()
        self.result, self._measured = result, layer
        colours = colours_of(layer, result.table.column("label"))
        self.table.show_table(result.table, colours)
        self.plot.show_plot(partial(_draw, result, colours))
        self.plot.setVisible(bool(result.largest) and result.histogram is not None)
        kept = store_features(layer, result.table)
        told = "The figures are kept in the layer's features, too." if kept else ""
        self.box.tell(told if len(result.table) else "The layer holds no label, so there is nothing to measure.")
        layer.events.paint.connect(self._changed)
        layer.events.data.connect(self._changed)
        self._mark()

    def _go_to_row(self, number: int) -> None:
        """Select the label of a row, and go to its largest slice."""
        layer = self._measured
        if self.result is None or layer is None or layer not in self.viewer.layers:
            return
        row = dict(zip(self.table.table.columns, self.table.table.rows[number], strict=True))
        if row["label"] is not None:
            layer.selected_label = row["label"]
        index = row.get("frame", self.result.largest.get(row["label"]))
        if index is not None:
            go_to_slice(self.viewer, layer, index)

    def _go_to_click(self, x: float) -> None:
        layer = self._measured
        if layer is not None and layer in self.viewer.layers and layer.ndim == 3:
            go_to_slice(self.viewer, layer, min(max(round(x), 0), layer.data.shape[0] - 1))

    def _mark(self, event: object = None) -> None:
        layer = self._measured
        shown = layer is not None and layer.ndim == 3 and layer in self.viewer.layers
        self.plot.mark_at(slice_on_screen(self.viewer, layer) if shown else None)

    def _changed(self, event: object = None) -> None:
        self.box.tell("The labels have changed since; measure again.")

    # Building

    def _build(self) -> None:
        layout = QVBoxLayout()
        self.image = LayerChoice(self.viewer, _is_image)
        self.labels = LayerChoice(self.viewer, is_comparable)
        form = QFormLayout()
        form.addRow("Image", self.image)
        form.addRow("Labels", self.labels)
        layout.addLayout(form)
        self.box = JobBox("Measure", self.run)
        self.box.changed.connect(self._enable)
        self.table = TableView()
        self.table.chosen.connect(self._go_to_row)
        self.labels.chosen.connect(self._choose_image)
        self.image.chosen.connect(self._enable)
        self.plot = Plot(_PLOT_HEIGHT)
        self.plot.setVisible(False)
        self.plot.setToolTip("Area of each label over the slices (click to go to one), and how its values are spread")
        self.plot.clicked.connect(lambda x, y: self._go_to_click(x))
        for widget in (self.box, self.table, self.plot):
            layout.addWidget(widget)
        layout.addLayout(self._build_ends())
        layout.addStretch()
        self.show_content(layout, 400)

    def _build_ends(self) -> QHBoxLayout:
        self.copy_button, self.save_button = QPushButton("Copy"), QPushButton("Save table…")
        self.copy_button.setToolTip("The table, to paste into a spreadsheet")
        self.copy_button.clicked.connect(lambda: self.table.copy_text())
        self.save_button.setToolTip("CSV, JSON or Parquet")
        self.save_button.clicked.connect(lambda: self.table.ask_and_save("measurements.csv"))
        row = QHBoxLayout()
        self.report_button = QPushButton("Save report…")
        self.report_button.setToolTip("One page about this case, to print or send: pictures, table, findings, settings")
        self.report_button.clicked.connect(lambda: self.save_report())
        for button in (self.copy_button, self.save_button, self.report_button):
            row.addWidget(button)
        return row

    def _choose_image(self) -> None:
        """The image under the labels."""
        if self.labels.layer is not None:
            self.image.layer = image_under(self.viewer, self.labels.layer)
        self._enable()

    def _enable(self) -> None:
        ready = self.image.layer is not None and self.labels.layer is not None
        for button in (self.box.run_button, self.report_button):
            button.setEnabled(ready and not self.box.is_running)
        for widget in (self.copy_button, self.save_button):
            widget.setEnabled(self.result is not None)
        self.table.setVisible(self.result is not None)
        if not ready and self.result is None:
            self.box.tell("Open an image, and make or open its labels.")

    # Leaving

    def let_go(self) -> None:
        """Stop the run and call nothing back."""
        self._unwatch()
        self.viewer.dims.events.point.disconnect(self._mark)
        self.box.close_down()
        self.plot.close_down()
        self.image.close_down()
        self.labels.close_down()

    def _unwatch(self) -> None:
        if self._measured is not None:
            self._measured.events.paint.disconnect(self._changed)
            self._measured.events.data.disconnect(self._changed)
        self._measured = None


def _draw(result: Measured, colours: Mapping[int, str], figure: Any, colour: str) -> None:
    """The profile first, for its clicks count; a single image has none."""
    several = len(set(result.profile.column("slice"))) > 1
    panels = figure.subplots(1 + several, 1, squeeze=False)[:, 0]
    if several:
        draw_profile(panels[0], result.profile, colours, colour)
    if result.histogram is not None:
        draw_histogram(panels[-1], result.histogram, colours, colour)


def _is_image(layer: Any) -> bool:
    return isinstance(layer, napari.layers.Image) and not is_preview(layer)
