"""The *Compare labels* widget."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import napari.layers
import napari.viewer
from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
)

from ..analysis.comparing import LabelComparison, iter_compare, worst_slices
from ..analysis.evaluation import EvaluateSettings
from ..analysis.observers import ObserverStudy, studies_for, told
from ..analysis.plots import draw_slices
from ..errors import LungSegError
from ..progress import Progress
from .appearance import colours_of
from .canvas import Plot
from .docked import DockedWidget
from .form import SettingsForm
from .grids import labels_beside
from .job_box import JobBox
from .jobs import report
from .layer_choice import LayerChoice
from .layers import KEY, LayerFacts, check_axes, labels_to_layer, layer_facts
from .places import go_to_slice, slice_on_screen
from .previews import is_preview
from .shortcuts import KEYS, Shortcuts
from .table_view import TableView

ROLE = "disagreement_of"
"""Key in ``layer.metadata["napari_lungseg"]``: unique ids of the two layers whose disagreement a layer shows."""
_SHOWN = ("label", "name", "dice", "iou", "hd95", "assd", "nsd", "relative_difference")
_OPACITY = 0.8
_CHANGED = "The labels have changed since; compare again."


class CompareWidget(DockedWidget):
    """Compare two Labels layers: metrics, a curve over the slices, a layer of the disagreement.

    Parameters
    ----------
    napari_viewer : the viewer it works on
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.result: LabelComparison | None = None
        self.disagreement: napari.layers.Labels | None = None
        self._compared: tuple[Any, Any] | None = None
        self._rank = -1  # of the slice that `next_worse` went to last
        self._build()
        self._choose_two()
        self.viewer.dims.events.point.connect(self._mark)
        self.viewer.layers.events.inserted.connect(self._choose_two)
        self.shortcuts = Shortcuts(self.viewer, {"worse": self.next_worse})

    # Running

    def run(self) -> None:
        """Compare the two layers that are chosen, in the background."""
        predicted, reference = self.predicted.layer, self.reference.layer
        if self.box.is_running or predicted is None or reference is None:
            return
        try:
            if predicted is reference:
                raise LungSegError("A layer agrees with itself; choose two different Labels layers.")
            facts = (layer_facts(predicted), layer_facts(reference))
            for each in facts:
                check_axes(each)
        except LungSegError as error:
            report(error)
            return
        steps = partial(compare_steps, *facts, self.form.settings)
        self.box.start(steps, partial(self._finished, predicted, reference))

    def _finished(self, predicted: Any, reference: Any, result: LabelComparison) -> None:
        self._unwatch()
        self.result, self._compared, self._rank = result, (predicted, reference), -1
        self.box.tell(result.note or _summary(result))
        table = result.table
        studies = studies_for(table, result.disagreement.geometry)
        wanted = dict.fromkeys(("frame", *_SHOWN, *(study.metric for study in studies)))
        columns = [name for name in wanted if name in table.columns]
        colours = colours_of(reference, table.column("label"))
        self.table.show_table(table.only(*columns), colours)
        self._show_studies(studies)
        self.plot.show_plot(partial(_draw, result, colours))
        self.plot.setVisible(len(set(result.slices.column("slice"))) > 1)
        self._show_disagreement(predicted, reference, result)
        for layer in self._compared:
            layer.events.paint.connect(self._changed)
            layer.events.data.connect(self._changed)
        self._mark()

    def _show_disagreement(self, predicted: Any, reference: Any, result: LabelComparison) -> None:
        """Show the layer over both; the one of an earlier comparison of the same two goes."""
        of = (str(predicted.unique_id), str(reference.unique_id))
        for layer in [each for each in self.viewer.layers if each.metadata.get(KEY, {}).get(ROLE) == of]:
            self.viewer.layers.remove(layer)
        data, attributes, kind = labels_to_layer(result.disagreement)
        for name in ("scale", "translate", "units", "axis_labels"):
            attributes[name] = getattr(reference, name)
        attributes |= {"name": f"disagreement: {predicted.name} | {reference.name}", "opacity": _OPACITY}
        attributes["metadata"][KEY][ROLE] = of
        layer = napari.layers.Layer.create(data, attributes, kind)
        self.disagreement = self.viewer.add_layer(layer)

    # Going to slices

    def next_worse(self) -> None:
        """Go to the slice that differs most; from there to the next worse one."""
        if self.result is None:
            show_info("Compare two layers first.")
            return
        order = worst_slices(self.result.slices)
        if not order:
            show_info("The two agree in every slice.")
            return
        stays = self._rank >= 0 and order[self._rank] == self._slice_on_screen()
        self._rank = (self._rank + 1) % len(order) if stays else 0
        self.go_to(order[self._rank])

    def go_to(self, index: int) -> None:
        """Show a slice of the layers that were compared."""
        if self._compared is not None and self._compared[1] in self.viewer.layers:
            go_to_slice(self.viewer, self._compared[1], index)

    def _go_to_label(self, row: int) -> None:
        """Select a label in both layers, and go to the slice in which it differs most."""
        if self.result is None or self._compared is None:
            return
        picked = dict(zip(self.table.table.columns, self.table.table.rows[row], strict=True))
        if picked["label"] is not None:
            for layer in self._compared:
                layer.selected_label = picked["label"]
        order = worst_slices(self.result.slices, picked["name"])
        wanted = picked.get("frame", order[0] if order else None)
        if wanted is not None:
            self.go_to(wanted)

    def _go_to_click(self, x: float, y: float) -> None:
        if self.result is not None:
            last = max(self.result.slices.column("slice"))
            self.go_to(min(max(round(x), 0), last))

    def _slice_on_screen(self) -> int | None:
        if self._compared is None or self._compared[1] not in self.viewer.layers:
            return None
        return slice_on_screen(self.viewer, self._compared[1])

    def _mark(self, event: object = None) -> None:
        self.plot.mark_at(self._slice_on_screen())

    def _changed(self, event: object = None) -> None:
        self.box.tell(_CHANGED)

    # Building

    def _build(self) -> None:
        layout = QVBoxLayout()
        self.predicted = LayerChoice(self.viewer, is_comparable)
        self.reference = LayerChoice(self.viewer, is_comparable)
        self.form = SettingsForm(EvaluateSettings, without=("worst", "seed"))
        form = QFormLayout()
        for label, box in (("Prediction", self.predicted), ("Reference", self.reference)):
            form.addRow(label, box)
            box.chosen.connect(self._enable)
        layout.addLayout(form)
        layout.addWidget(self.form.plain.native)
        self.box = JobBox("Compare", self.run)
        self.box.changed.connect(self._enable)
        self.studies = QLabel("")
        self.studies.setWordWrap(True)
        self.table, self.plot = TableView(), Plot()
        self.table.setVisible(False)
        self.plot.setVisible(False)
        self.plot.setToolTip("Dice of each slice, and the area that differs (filled); click to go to a slice")
        self.studies.setOpenExternalLinks(True)
        self.table.chosen.connect(self._go_to_label)
        self.plot.clicked.connect(self._go_to_click)
        for widget in (self.box, self.table, self.studies, self.plot):
            layout.addWidget(widget)
        layout.addLayout(self._build_ends())
        layout.addStretch()
        self.show_content(layout, 400)

    def _build_ends(self) -> QHBoxLayout:
        self.worse_button = QPushButton("Worst slice")
        self.worse_button.setToolTip(f"The slice that differs most, then the next worse one ({KEYS['worse']})")
        self.worse_button.clicked.connect(lambda: self.next_worse())
        self.copy_button, self.save_button = QPushButton("Copy"), QPushButton("Save table…")
        self.copy_button.setToolTip("The table, to paste into a spreadsheet")
        self.copy_button.clicked.connect(lambda: self.table.copy_text())
        self.save_button.setToolTip("CSV, JSON or Parquet")
        self.save_button.clicked.connect(lambda: self.table.ask_and_save("comparison.csv"))
        row = QHBoxLayout()
        for button in (self.worse_button, self.copy_button, self.save_button):
            row.addWidget(button)
        return row

    def _show_studies(self, studies: list[ObserverStudy]) -> None:
        colour = self.palette().link().color().lighter().name()
        link = f'<a style="color: {colour}" href="{{}}">source</a>'
        self.studies.setText("<br>".join(f"{told(study)} {link.format(study.url)}" for study in studies))

    def _choose_two(self, event: object = None) -> None:
        """The topmost two layers, as long as the same one is chosen twice; a result stands for the prediction."""
        layers = self.predicted.layers
        if self.predicted.layer is self.reference.layer and len(layers) > 1:
            two = sorted(layers[-2:], key=lambda layer: bool(layer.metadata.get(KEY, {}).get("record")))
            self.reference.layer, self.predicted.layer = two
        self._enable()

    def _enable(self) -> None:
        two = self.predicted.layer is not None and self.predicted.layer is not self.reference.layer
        self.box.run_button.setEnabled(two and not self.box.is_running)
        for widget in (self.worse_button, self.copy_button, self.save_button):
            widget.setEnabled(self.result is not None)
        self.table.setVisible(self.result is not None)
        if not two and self.result is None:
            self.box.tell("Open or make two Labels layers to compare.")

    # Leaving

    def let_go(self) -> None:
        """Stop the run and call nothing back."""
        self.box.close_down()
        self._unwatch()
        self.shortcuts.remove()
        self.plot.close_down()
        self.predicted.close_down()
        self.reference.close_down()
        self.viewer.dims.events.point.disconnect(self._mark)
        self.viewer.layers.events.inserted.disconnect(self._choose_two)

    def _unwatch(self) -> None:
        for layer in self._compared or ():
            layer.events.paint.disconnect(self._changed)
            layer.events.data.disconnect(self._changed)
        self._compared = None


def compare_steps(
    predicted: LayerFacts, reference: LayerFacts, settings: EvaluateSettings
) -> Generator[Progress, None, LabelComparison]:
    """Compare two layers; the same generator as anywhere runs inside."""
    yield Progress(0, 0, "Reading the labels …")
    return (yield from iter_compare(labels_beside(predicted, reference), labels_beside(reference, predicted), settings))


def is_comparable(layer: Any) -> bool:
    """Whether a layer is a Labels layer that somebody made, not one that shows previews or differences."""
    if not isinstance(layer, napari.layers.Labels) or is_preview(layer):
        return False
    return ROLE not in layer.metadata.get(KEY, {})


def _draw(result: LabelComparison, colours: Mapping[int, str], figure: Any, colour: str) -> None:
    draw_slices(figure.subplots(), result.slices, colours, colour)


def _summary(result: LabelComparison) -> str:
    if not len(result.table):
        return "Neither layer holds a label, so there is nothing to compare."
    count = len(worst_slices(result.slices))
    of = len(set(result.slices.column("slice")))
    return f"The two differ in {count} of {of} slices." if of > 1 else ""
