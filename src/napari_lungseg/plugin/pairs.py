"""Images and the layers that are painted on them: a list to tick."""

from __future__ import annotations

from typing import Any

from napari.layers import Image, Labels
from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QAbstractItemView, QComboBox, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from ..errors import LungSegError
from .jobs import report
from .layers import KEY
from .painting import begin_painting, image_id, painting_of
from .places import Pair, candidates, images_of

_IMAGE, _LABELS = range(2)
_MOST_ROWS = 4
_NONE = "not painted yet"


class PairsTable(QTableWidget):
    """One row for each image of a viewer: whether it takes part, and which Labels layer is painted on it.

    Signals
    -------
    changed : other pairs take part

    Parameters
    ----------
    viewer : napari viewer or viewer model
    parent : owner
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(0, 2, parent)
        self._viewer = viewer
        self._images: list[Image] = []
        self._ticked: dict[str, bool] = {}
        self._chosen: dict[str, Labels] = {}
        self.pairs: list[Pair] = []
        self.setHorizontalHeaderLabels(["image", "painted in"])
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setShowGrid(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        numbers, header = self.verticalHeader(), self.horizontalHeader()
        if numbers is not None and header is not None:
            numbers.setVisible(False)
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setToolTip("Ticked images are learned from. Paint in the layer named at the right.")
        self.itemChanged.connect(self._tick)
        self.refresh()

    def refresh(self, event: object = None) -> None:
        """Follow the viewer's layers."""
        self._images = images_of(self._viewer)
        with QSignalBlocker(self):
            self.setRowCount(len(self._images))
            for row, image in enumerate(self._images):
                self._show(row, image)
        self._fit()
        self._settle()

    def choose(self, image: Image, labels: Labels) -> None:
        """Let an image take part with this layer."""
        self._chosen[image_id(image)] = labels
        self._ticked[image_id(image)] = True
        self.refresh()

    def _show(self, row: int, image: Image) -> None:
        found = candidates(self._viewer, image)
        chosen = self._chosen.get(image_id(image))
        if found and chosen not in found:
            chosen = found[0]
        ticked = bool(found) and self._ticked.get(image_id(image), _is_made_to_paint(chosen))
        item = self.item(row, _IMAGE)
        if item is None:
            item = QTableWidgetItem()
            self.setItem(row, _IMAGE, item)
        item.setText(image.name)
        item.setToolTip(image.name)
        usable = Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled
        item.setFlags(usable if found else Qt.ItemFlag.ItemIsEnabled)
        item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        box = QComboBox()
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        box.setMinimumContentsLength(6)
        for layer in found:
            box.addItem(layer.name, layer)
        if not found:
            box.addItem(_NONE)
            box.setEnabled(False)
        else:
            box.setCurrentIndex(found.index(chosen))
        box.currentIndexChanged.connect(lambda index, box=box, image=image: self._choose(image, box.itemData(index)))
        self.setCellWidget(row, _LABELS, box)

    def _choose(self, image: Image, labels: Labels) -> None:
        self._chosen[image_id(image)] = labels
        self._settle()

    def _tick(self, item: QTableWidgetItem) -> None:
        if item.column() == _IMAGE and item.row() < len(self._images):
            self._ticked[image_id(self._images[item.row()])] = item.checkState() == Qt.CheckState.Checked
            self._settle()

    def _settle(self) -> None:
        """Find the pairs that take part; a layer that does so for the first time is made ready."""
        pairs = []
        for row, image in enumerate(self._images):
            item, box = self.item(row, _IMAGE), self.cellWidget(row, _LABELS)
            if item is None or not isinstance(box, QComboBox) or item.checkState() != Qt.CheckState.Checked:
                continue
            labels = box.currentData()
            if labels is not None and self._is_ready(image, labels):
                pairs.append(Pair(image, labels))
        same = [(pair.image, pair.labels) for pair in pairs] == [(pair.image, pair.labels) for pair in self.pairs]
        self.pairs = pairs
        if not same:
            self.changed.emit()

    def _is_ready(self, image: Image, labels: Labels) -> bool:
        if painting_of(labels) is not None:
            return True
        try:
            begin_painting(image, labels)
        except LungSegError as error:
            self._ticked[image_id(image)] = False
            report(error)
            return False
        return True

    def _fit(self) -> None:
        header = self.horizontalHeader()
        height = header.sizeHint().height() if header is not None else 0
        height += sum(self.rowHeight(row) for row in range(min(self.rowCount(), _MOST_ROWS)))
        self.setFixedHeight(height + 2 * self.frameWidth() + 2)


def _is_made_to_paint(layer: Labels | None) -> bool:
    """Whether a layer was made to be painted in: by this package, or with napari's *New Labels*; not read or computed."""
    return layer is not None and (painting_of(layer) is not None or KEY not in layer.metadata)
