"""A list of series as a table with a picture of each; patients are numbered, and named only where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QModelIndex, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import QHeaderView

from ..analysis.table import Table
from ..io.series_entry import SeriesEntry
from .table_view import SORT_ROLE, TableModel, TableView

# Pixels of a side.
PICTURE = 64
_GAP = 12
_COLUMNS = ("patient", "date", "modality", "description", "slices", "spacing")


class SeriesModel(TableModel):
    """Rows of series; their pictures stand before the patients.

    Parameters
    ----------
    entries : one for each row
    """

    def __init__(self, entries: Sequence[SeriesEntry]) -> None:
        super().__init__(Table(_COLUMNS, tuple(_row(each) for each in entries), {"spacing": "mm"}), {})
        self._entries = entries
        empty = QPixmap(PICTURE, PICTURE)
        empty.fill(Qt.GlobalColor.transparent)
        self._pictures = [QIcon(empty)] * len(entries)

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """As in any table; patients are sorted as they were listed, spacings by the distance of the slices."""
        entry, name = self._entries[index.row()], _COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DecorationRole and name == "patient":
            return self._pictures[index.row()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return " × ".join(map(str, entry.shape)) + " pixels" if entry.slices else None
        if role == Qt.ItemDataRole.TextAlignmentRole and name == "spacing":
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == SORT_ROLE and name == "patient":
            return index.row()
        if role == SORT_ROLE and name == "spacing":
            return entry.spacing[0] if entry.spacing else float("inf")
        return super().data(index, role)

    def show_picture(self, row: int, picture: QPixmap) -> None:
        """Put the picture of a series before its row."""
        self._pictures[row] = QIcon(picture)
        self._pictures[row].addPixmap(picture, QIcon.Mode.Selected)  # Qt would tint it
        place = self.index(row, 0)
        self.dataChanged.emit(place, place)


def _row(entry: SeriesEntry) -> tuple[Any, ...]:
    description = entry.name.removeprefix(entry.modality).lstrip(" ,")
    slices = entry.slices or None
    return entry.patient, entry.date, entry.modality, description, slices, entry.spacing_text


class SeriesTable(TableView):
    """Series to sort and to choose from, as high as there is room.

    Signals
    -------
    selection_changed : other rows are selected
    """

    selection_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("Click a heading to sort; Ctrl and Shift select several; Ctrl+C copies")
        self.setIconSize(QSize(PICTURE, PICTURE))
        self._entries: Sequence[SeriesEntry] = ()
        rows, header = self.verticalHeader(), self.horizontalHeader()
        if rows is not None and header is not None:
            rows.setDefaultSectionSize(PICTURE + 4)
            rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
            rows.hide()
            header.setHighlightSections(False)
        selection = self.selectionModel()
        if selection is not None:
            selection.selectionChanged.connect(lambda *_: self.selection_changed.emit())
        self.show_series(())

    def show_series(self, entries: Sequence[SeriesEntry]) -> None:
        """Show these, in this order."""
        self._entries = entries
        self._series = SeriesModel(entries)
        self.show_model(self._series)
        header = self.horizontalHeader()
        if header is not None:
            header.setSectionResizeMode(_COLUMNS.index("description"), QHeaderView.ResizeMode.Stretch)
        self._widen()

    def show_names(self, named: bool) -> None:
        """Call patients by name and ID, or by number."""
        for row, entry in enumerate(self._entries):
            self.change(row, "patient", entry.patient_key or entry.patient if named else entry.patient)
        self.resizeColumnsToContents()
        self._widen()

    def show_picture(self, row: int, picture: np.ndarray) -> None:
        """Show the picture of a series.

        Parameters
        ----------
        row : of the list, however it is sorted
        picture : (y, x) or (y, x, 3) array of uint8, at most `PICTURE` pixels a side
        """
        self._series.show_picture(row, _pixels(picture))

    def _widen(self) -> None:
        """Qt leaves columns of text no room between each other."""
        for column in range(len(_COLUMNS)):
            self.setColumnWidth(column, self.columnWidth(column) + _GAP)

    def _fit(self) -> None:
        """The window says how high."""


def _pixels(picture: np.ndarray) -> QPixmap:
    """The picture in the middle of a black square."""
    height, width = picture.shape[:2]
    grey = picture.ndim == 2
    kind = QImage.Format.Format_Grayscale8 if grey else QImage.Format.Format_RGB888
    image = QImage(np.ascontiguousarray(picture).tobytes(), width, height, width * (1 if grey else 3), kind)
    pixels = QPixmap(PICTURE, PICTURE)
    pixels.fill(Qt.GlobalColor.black)
    with QPainter(pixels) as painter:
        painter.drawImage((PICTURE - width) // 2, (PICTURE - height) // 2, image)
    return pixels
