"""Images and the layers that are painted on them: a list to tick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.layers import Image, Labels
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from .layers import KEY
from .painting import image_id, painting_of
from .places import Pair, candidates, images_of

_LABELS, _IMAGE = range(2)
_MOST_ROWS = 4
_NONE = "not painted yet"

Row = tuple[Image, Labels | None]


class PairsTable(QTableWidget):
    """One row for each layer that is or could be painted on an image, and for each image without any.

    Signals
    -------
    changed : other pairs take part

    Parameters
    ----------
    viewer : napari viewer or viewer model
    begin : makes a layer take part that never did; returns whether it can
    parent : owner
    """

    changed = Signal()

    def __init__(self, viewer: Any, begin: Callable[[Image, Labels], bool], parent: QWidget | None = None) -> None:
        super().__init__(0, 2, parent)
        self._viewer, self._begin = viewer, begin
        self._rows: list[Row] = []
        self._ticked: dict[tuple[str, str], bool] = {}
        self.pairs: list[Pair] = []
        self.setHorizontalHeaderLabels(["painted layer", "on image"])
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setShowGrid(False)
        # The end of a name says more than its middle: paint, lungs, [1].
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setWordWrap(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        numbers, header = self.verticalHeader(), self.horizontalHeader()
        if numbers is not None and header is not None:
            numbers.setVisible(False)
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setToolTip("Ticked layers are learned from; several on one image count as one.")
        self.itemChanged.connect(self._tick)

    def refresh(self, event: object = None) -> None:
        """Follow the viewer's layers."""
        self._rows = [
            (image, layer) for image in images_of(self._viewer) for layer in candidates(self._viewer, image) or [None]
        ]
        with QSignalBlocker(self):
            self.setRowCount(len(self._rows))
            for number, row in enumerate(self._rows):
                self._show(number, *row)
        # With one image all the room is for the names of layers.
        self.setColumnHidden(_IMAGE, len({id(image) for image, _ in self._rows}) < 2)
        self._fit()
        self._settle()

    def choose(self, image: Image, labels: Labels, taking_part: bool = True) -> None:
        """Let a layer take part, or not."""
        self._ticked[_key(image, labels)] = taking_part
        self.refresh()

    def _show(self, number: int, image: Image, labels: Labels | None) -> None:
        tickable = Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled
        for column, layer in ((_LABELS, labels), (_IMAGE, image)):
            item = self.item(number, column)
            if item is None:
                item = QTableWidgetItem()
                self.setItem(number, column, item)
            item.setText(_NONE if layer is None else layer.name)
            item.setToolTip(f"No layer is painted on {image.name} yet" if layer is None else layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled if labels is None else tickable)
            if column == _LABELS:
                ticked = labels is not None and self._is_ticked(image, labels)
                item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)

    def _is_ticked(self, image: Image, labels: Labels) -> bool:
        return self._ticked.get(_key(image, labels), _is_made_to_paint(labels))

    def _tick(self, item: QTableWidgetItem) -> None:
        image, labels = self._rows[item.row()]
        if item.column() == _LABELS and labels is not None:
            self._ticked[_key(image, labels)] = item.checkState() == Qt.CheckState.Checked
            self._settle()

    def _settle(self) -> None:
        """Find the pairs that take part; a layer that does so for the first time is made ready."""
        pairs, refused = [], False
        for image, labels in list(self._rows):
            if labels is None or not self._is_ticked(image, labels):
                continue
            if painting_of(labels) is None and not self._begin(image, labels):
                self._ticked[_key(image, labels)], refused = False, True
            elif _is_painted_on(image, labels):
                pairs.append(Pair(image, labels))
        # The topmost last: what it says counts.
        pairs.sort(key=lambda pair: [self._viewer.layers.index(layer) for layer in (pair.image, pair.labels)])
        same = [(pair.image, pair.labels) for pair in pairs] == [(pair.image, pair.labels) for pair in self.pairs]
        self.pairs = pairs
        if refused:
            self.refresh()
        elif not same:
            self.changed.emit()

    def _fit(self) -> None:
        header = self.horizontalHeader()
        height = header.sizeHint().height() if header is not None else 0
        height += sum(self.rowHeight(row) for row in range(min(self.rowCount(), _MOST_ROWS)))
        self.setFixedHeight(height + 2 * self.frameWidth() + 2)


def _key(image: Image, labels: Labels) -> tuple[str, str]:
    return image_id(image), image_id(labels)


def _is_made_to_paint(layer: Labels) -> bool:
    """Whether a layer was made to be painted in: by this package, or with napari's *New Labels*; not read or computed."""
    return painting_of(layer) is not None or KEY not in layer.metadata


def _is_painted_on(image: Image, labels: Labels) -> bool:
    """Whether a layer is painted on this image, and not on another of the same grid."""
    painting = painting_of(labels)
    return painting is not None and painting.image_id == image_id(image)
