"""The first part of *Train on painted labels*: images, the layers painted on them, and classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from napari.layers import Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QMenu, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ..errors import LungSegError
from ..training.painted import LARGEST_LABEL
from ..volume import label_colour
from .appearance import free_colour
from .classes_table import ClassesTable, ClassRow
from .jobs import report
from .painting import BACKGROUND_COLOUR, begin_painting, name_classes, number_alike, painting_of
from .pairs import PairsTable
from .places import (
    Pair,
    active_image,
    active_pair,
    active_result,
    classes_of,
    image_under,
    images_in,
    layers_on,
    show_only,
)
from .tally import Tallies, both
from .where_panel import WherePanel

# Counting waits until the brush has rested for so long.
_REST_MS = 300
_BRUSH = 10


class PaintBox(QGroupBox):
    """Which images take part, and what is painted on them.

    Signals
    -------
    pairs_changed : other images take part
    counted : it is known again how much is painted
    corrected : (Labels layer) a result that from now on is corrected

    Parameters
    ----------
    viewer : napari viewer or viewer model
    known_classes : returns name → colour of the classes that the model to start from knows
    parent : owner
    """

    pairs_changed = Signal()
    counted = Signal()
    corrected = Signal(object)

    def __init__(
        self, viewer: Any, known_classes: Callable[[], Mapping[str, str]] = dict, parent: QWidget | None = None
    ) -> None:
        super().__init__("1  Paint", parent)
        self._viewer = viewer
        self._known_classes = known_classes
        self._tallies = Tallies()
        self._followed: list[Labels] = []
        self.classes = ClassesTable()
        self.table = PairsTable(viewer, self._begin)
        self.where = WherePanel(viewer, lambda: self.pairs, self._tallies)
        self._build()
        self.table.refresh()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.count)
        self.table.changed.connect(self._follow_pairs)
        self.where.count_wanted.connect(self.count)
        self.classes.chosen.connect(self.paint_with)
        self.classes.renamed.connect(lambda label, name: self._name({label: name}, {}))
        self.classes.recoloured.connect(lambda label, colour: self._name({}, {label: colour}))
        for emitter, callback in self._connections():
            emitter.connect(callback)
        self._follow_pairs()

    @property
    def pairs(self) -> list[Pair]:
        """Images that take part, and the layers that are painted on them."""
        return self.table.pairs

    @property
    def is_painted(self) -> bool:
        """Whether anything was known of any image when it was last counted."""
        return any(self._tallies.known(pair.labels).painted.any() for pair in self.pairs)

    # What a person does

    def new_labels(self) -> None:
        """Make an empty layer to paint in for the active image."""
        image = active_image(self._viewer)
        if image is None:
            report(LungSegError("No image is open. Drop a DICOM folder, a NIfTI or an X-ray on the window first."))
            return
        names, colours = classes_of(self.pairs)
        if not names:
            names, colours = {1: "class 1"}, {1: free_colour(())}
        known = bool(self.pairs)
        try:
            layer = begin_painting(image, names=names, colours=colours)
        except LungSegError as error:
            report(error)
            return
        self._viewer.add_layer(layer)
        self._take_part(image, layer)
        if not known:
            self.classes.edit_name(1)

    def correct_result(self) -> None:
        """Let a result of *Segment lungs* take part: what is changed in it counts as painted."""
        layer = active_result(self._viewer)
        image = None if layer is None else image_under(self._viewer, layer)
        if layer is None or image is None:
            show_info("There is no result to correct yet: segment an image first, then paint in its result.")
            return
        if self._begin(image, layer, correct=True):
            self._take_part(image, layer)

    def add_class(self, name: str = "", colour: str = "") -> None:
        """Add a class and let its name be typed, unless it is given."""
        if not self.pairs:
            self.new_labels()
            return
        self.classes.finish_typing()
        taken = {row.label for row in self.classes.rows}
        taken |= {painting.background for pair in self.pairs if (painting := painting_of(pair.labels)) is not None}
        label = next(label for label in range(1, LARGEST_LABEL) if label not in taken)
        self._name(
            {label: name or f"class {label}"}, {label: colour or free_colour(row.colour for row in self.classes.rows)}
        )
        self.paint_with(label)
        if not name:
            self.classes.edit_name(label)

    def paint_with(self, label: int) -> None:
        """Take up the brush with a class."""
        pair = active_pair(self._viewer, self.pairs)
        if pair is None:
            return
        self._viewer.layers.selection.active = pair.labels
        pair.labels.visible = True
        pair.labels.selected_label = label
        pair.labels.mode = "paint"

    def _begin(self, image: Any, layer: Labels, correct: bool | None = None) -> bool:
        """Make a layer take part that never did; returns whether it can."""
        try:
            number_alike(layer, [pair.labels for pair in self.pairs if pair.labels is not layer])
            begin_painting(image, layer, correct=correct)
        except LungSegError as error:
            report(error)
            return False
        painting = painting_of(layer)
        if painting is not None and painting.untouched is not None:
            self.corrected.emit(layer)
        return True

    def _take_part(self, image: Any, layer: Labels) -> None:
        """Let a layer take part, beside those of the same image in which something is painted."""
        for pair in list(self.pairs):
            if pair.image is image and pair.labels is not layer and not self._tallies.of(pair.labels).painted.any():
                self.table.choose(image, pair.labels, taking_part=False)
        self.table.choose(image, layer)
        show_only(self.pairs, Pair(image, layer))
        self._name({}, {})  # classes of one layer are classes of all
        self._viewer.layers.selection.active = layer
        layer.brush_size = _BRUSH
        self.paint_with(next(iter(classes_of([Pair(image, layer)])[0]), 1))

    def _name(self, names: dict[int, str], colours: dict[int, str]) -> None:
        """Give classes other names or colours, in all images that take part."""
        before, coloured = classes_of(self.pairs)
        for pair in self.pairs:
            name_classes(pair.labels, {**before, **names}, {**coloured, **colours})
        self.count()

    # What is there

    def count(self) -> None:
        """Show how much is painted now."""
        names, colours = classes_of(self.pairs)
        tallies = [
            both(self._tallies.of(layer) for layer in layers_on(self.pairs, image)) for image in images_in(self.pairs)
        ]
        for label in sorted({label for tally in tallies for label in tally.labels}):
            names.setdefault(label, f"class {label}")
        rows = [
            ClassRow(label, name, colours.get(label, label_colour(label)), *_sum(tally.of(label) for tally in tallies))
            for label, name in sorted(names.items())
        ]
        painting = painting_of(self.pairs[0].labels) if self.pairs else None
        if painting is not None and painting.background:
            amount = _sum(tally.of(0) for tally in tallies)
            rows.append(ClassRow(painting.background, "background", BACKGROUND_COLOUR, *amount, background=True))
        self.classes.show_rows(rows)
        for widget in (self.classes, self.add_button, self.known_button):
            widget.setVisible(bool(rows))
        self._mark_class()
        self.where.show_slices()
        self.counted.emit()

    def _mark_class(self, event: object = None) -> None:
        pair = active_pair(self._viewer, self.pairs)
        if pair is not None:
            self.classes.mark(int(pair.labels.selected_label))

    # Following the viewer

    def refresh(self, event: object = None) -> None:
        """Follow the viewer's layers."""
        self.table.refresh()
        self._active_changed()

    def _active_changed(self, event: object = None) -> None:
        self.correct_button.setEnabled(active_result(self._viewer) is not None)
        self.new_button.setEnabled(active_image(self._viewer) is not None)
        self._mark_class()
        self.where.follow()

    def _follow_pairs(self) -> None:
        self._let_go()
        self._followed = [pair.labels for pair in self.pairs]
        for layer in self._followed:
            for emitter, callback in self._layer_connections(layer):
                emitter.connect(callback)
        self.where.show_scores(())
        self.count()
        self._active_changed()
        self.pairs_changed.emit()

    def _let_go(self) -> None:
        for layer in self._followed:
            for emitter, callback in self._layer_connections(layer):
                emitter.disconnect(callback)
        self._followed = []

    def _wait(self, event: object = None) -> None:
        self._rest.start()

    def _layer_connections(self, layer: Labels) -> list[tuple[Any, Any]]:
        events = layer.events
        return [
            (events.paint, self._wait),
            (events.labels_update, self._wait),
            (events.data, self._wait),
            (events.set_data, self._wait),  # after an undo
            (events.selected_label, self._mark_class),
        ]

    def _connections(self) -> list[tuple[Any, Any]]:
        layers = self._viewer.layers
        return [
            (layers.events.inserted, self.refresh),
            (layers.events.removed, self.refresh),
            (layers.events.renamed, self.refresh),
            (layers.selection.events.active, self._active_changed),
        ]

    def close_down(self) -> None:
        """Let go of the viewer."""
        for emitter, callback in self._connections():
            emitter.disconnect(callback)
        self._let_go()
        self.where.close_down()

    # Building

    def _build(self) -> None:
        self.new_button, self.correct_button = QPushButton("New painted labels"), QPushButton("Correct this result")
        self.new_button.setToolTip("An empty layer to paint in, for the active image")
        self.correct_button.setToolTip("Paint in a result of Segment lungs: what you change in it is learned")
        self.new_button.clicked.connect(lambda: self.new_labels())
        self.correct_button.clicked.connect(lambda: self.correct_result())
        self.add_button, self.known_button = QPushButton("Add class"), QPushButton("Add known class")
        self.add_button.setToolTip("A further class, with a name of yours")
        self.known_button.setToolTip("A class that the model to start from knows already, by its name")
        self.add_button.clicked.connect(lambda: self.add_class())
        menu = QMenu(self)
        menu.aboutToShow.connect(lambda: self._fill_menu(menu))
        self.known_button.setMenu(menu)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addLayout(_row(self.new_button, self.correct_button))
        layout.addWidget(self.classes)
        layout.addLayout(_row(self.add_button, self.known_button))
        layout.addWidget(self.where)

    def _fill_menu(self, menu: QMenu) -> None:
        menu.clear()
        present = {row.name for row in self.classes.rows}
        for name, colour in self._known_classes().items():
            if name not in present:
                menu.addAction(name, lambda name=name, colour=colour: self.add_class(name, colour))
        if menu.isEmpty():
            nothing = menu.addAction("The model to start from knows no others")
            if nothing is not None:
                nothing.setEnabled(False)


def _row(*buttons: QPushButton) -> QHBoxLayout:
    row = QHBoxLayout()
    for button in buttons:
        row.addWidget(button, 1)
    return row


def _sum(amounts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pixels, slices = zip((0, 0), *amounts, strict=True)
    return sum(pixels), sum(slices)
