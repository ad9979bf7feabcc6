"""A `Table` in a widget: sorted by a click on a heading, copied, saved, a row clicked to go somewhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import (  # type: ignore[attr-defined]
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QGuiApplication, QKeyEvent, QKeySequence, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QTableView, QWidget

from ..analysis.table import Table, text_of
from ..errors import LungSegError
from .jobs import report

FILE_FILTER = "Tables (*.csv *.json *.parquet)"
_HIDDEN = ("label", "name")
_MOST_ROWS = 7
_SWATCH = 12
_DECIMALS = 3  # the tooltip has them all
SORT_ROLE = int(Qt.ItemDataRole.UserRole)


class TableModel(QAbstractTableModel):
    """A `Table` for Qt; the colour of its label stands beside each row's name.

    Parameters
    ----------
    table : what is shown
    colours : label → ``"#rrggbb"``
    """

    def __init__(self, table: Table, colours: Mapping[int, str]) -> None:
        super().__init__()
        self.table, self._colours = table, colours
        self._columns = [name for name in table.columns if name not in _HIDDEN]

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """How many rows there are."""
        return len(self.table)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """How many columns are shown."""
        return len(self._columns)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802 (Qt's name)
        """Headings with their units; at the left, where they stay on screen, the rows' names and colours."""
        if orientation == Qt.Orientation.Horizontal:
            return self.table.title(self._columns[section]) if role == Qt.ItemDataRole.DisplayRole else None
        if role == Qt.ItemDataRole.DisplayRole:
            return str(self._value(section, "name") or section)
        if role == Qt.ItemDataRole.DecorationRole:
            colour = self._colours.get(self._value(section, "label"))
            return _swatch(colour) if colour else None
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Text, sort key, alignment or colour of a cell."""
        value = self._value(index.row(), self._columns[index.column()])
        if role == Qt.ItemDataRole.DisplayRole:
            return text_of(value, _DECIMALS)
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(value)
        if role == SORT_ROLE:
            return _key(value)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignLeft if isinstance(value, str) else Qt.AlignmentFlag.AlignRight
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def change(self, row: int, name: str, value: Any) -> None:
        """Put another value into a cell."""
        rows = list(self.table.rows)
        cells = zip(self.table.columns, rows[row], strict=True)
        rows[row] = tuple(value if column == name else cell for column, cell in cells)
        self.table = dataclasses.replace(self.table, rows=tuple(rows))
        place = self.index(row, self._columns.index(name))
        self.dataChanged.emit(place, place)

    def _value(self, row: int, name: str) -> Any:
        return self.table.rows[row][self.table.columns.index(name)] if name in self.table.columns else None


def _swatch(colour: str) -> QPixmap:
    pixels = QPixmap(_SWATCH, _SWATCH)
    pixels.fill(QColor(colour))
    return pixels


def _key(value: Any) -> Any:
    """What a cell is sorted by: None and NaN stand behind every number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.inf
    return value


class TableView(QTableView):
    """Rows to sort, to copy (Ctrl+C) and to click.

    Signals
    -------
    chosen : (row) of the table that was clicked, however it is sorted

    Parameters
    ----------
    parent : owner
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = TableModel(Table((), ()), {})
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSortRole(SORT_ROLE)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setToolTip("Click a heading to sort, a row to go there; Ctrl+C copies")
        names = self.verticalHeader()
        if names is not None:
            names.sectionClicked.connect(lambda row: self.clicked.emit(self._sorted.index(row, 0)))
        self.clicked.connect(lambda index: self.chosen.emit(self._sorted.mapToSource(index).row()))

    @property
    def table(self) -> Table:
        """What is shown, unsorted."""
        return self._model.table

    def show_table(self, table: Table, colours: Mapping[int, str] | None = None) -> None:
        """Show a table in its own order.

        Parameters
        ----------
        table : what to show
        colours : label → ``"#rrggbb"``, shown beside the names
        """
        self.show_model(TableModel(table, colours or {}))

    def show_model(self, model: TableModel) -> None:
        """Show what a model makes of its table, in its own order."""
        self._model = model
        self._sorted.setSourceModel(self._model)
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.resizeColumnsToContents()
        self._fit()

    @property
    def selected(self) -> list[int]:
        """Rows of the table that are selected, as they are sorted."""
        model = self.selectionModel()
        shown = sorted(index.row() for index in model.selectedRows()) if model is not None else []
        return [self._sorted.mapToSource(self._sorted.index(row, 0)).row() for row in shown]

    def choose(self, row: int) -> None:
        """What a click on a row of the table does."""
        self.mark(row)
        self.chosen.emit(row)

    def mark(self, row: int) -> None:
        """Select this row of the table alone, whatever keys are held, and go nowhere."""
        model, flags = self.selectionModel(), QItemSelectionModel.SelectionFlag
        if model is not None:
            place = self._sorted.mapFromSource(self._model.index(row, 0))
            model.setCurrentIndex(place, flags.ClearAndSelect | flags.Rows)

    def change(self, row: int, name: str, value: Any) -> None:
        """Put another value into a cell; the rows stay sorted as they are chosen to be."""
        self._model.change(row, name, value)

    def copy_text(self) -> str:
        """Rows as they are sorted (of several selected, those), tab-separated, all digits; onto the clipboard, too."""
        every = [self._sorted.mapToSource(self._sorted.index(row, 0)).row() for row in range(self._sorted.rowCount())]
        rows = self.selected if len(self.selected) > 1 else every
        lines = [self.table.headings, *(self.table.rows[row] for row in rows)]
        text = "\n".join("\t".join("" if value is None else str(value) for value in line) for line in lines) + "\n"
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
        return text

    def ask_and_save(self, name: str) -> None:
        """Ask for a file and save the table there; what goes wrong is told."""
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", name, FILE_FILTER)
        if not path:
            return
        try:
            self.table.write(Path(path))
        except (LungSegError, OSError) as error:
            report(error)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Ctrl+C copies rows with their headings, not one cell."""
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            self.copy_text()
            return
        super().keyPressEvent(event)

    def _fit(self) -> None:
        """As high as its rows, up to a few."""
        header, bar = self.horizontalHeader(), self.horizontalScrollBar()
        height = header.sizeHint().height() if header is not None else 0
        height += sum(self.rowHeight(number) for number in range(min(len(self.table), _MOST_ROWS)))
        height += bar.sizeHint().height() if bar is not None else 0
        self.setFixedHeight(height + 2 * self.frameWidth() + 2)
