"""The classes that are painted: colour, label, name, and how much there is of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QSignalBlocker, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QBrush, QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemDelegate,
    QAbstractItemView,
    QColorDialog,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from ..training.painted import ENOUGH_PIXELS

_COLOUR, _LABEL, _NAME, _PAINTED = range(4)
_TITLES = ("", "label", "class", "painted")
_FEW = "#E69F00"
_MOST_ROWS = 7
_SWATCH = 16


@dataclass(frozen=True)
class ClassRow:
    """A line of the table.

    Parameters
    ----------
    label : to paint with
    name : of the class
    colour : ``"#rrggbb"``
    pixels, slices : known of it, where complete slices count for the background
    background : whether this is what the background is painted with
    """

    label: int
    name: str
    colour: str
    pixels: int = 0
    slices: int = 0
    background: bool = False

    @property
    def is_lacking(self) -> bool:
        """Whether there is too little of it to be learned."""
        return self.pixels < ENOUGH_PIXELS

    @property
    def amount(self) -> str:
        """How much there is, in words."""
        if not self.pixels:
            return "nothing yet"
        return f"{self.pixels:,} px · {self.slices} slice{'s' if self.slices != 1 else ''}"

    @property
    def told(self) -> str:
        """What a tooltip says."""
        lines = ["Click to paint with it; double-click its name or colour to change it."]
        if self.background:
            lines = [
                f"Background has label {self.label}: paint it where none of the classes is. What is not painted at all is "
                "unknown, not background."
            ]
        if self.is_lacking:
            lines.append(f"{self.pixels} pixels are painted; at least {ENOUGH_PIXELS} are needed to learn it.")
        return " ".join(lines)


class ClassesTable(QTableWidget):
    """Classes to choose from; a click chooses what the brush paints.

    Signals
    -------
    chosen : (label) that was clicked
    renamed : (label, name) that was typed
    recoloured : (label, ``"#rrggbb"``) that was picked

    Parameters
    ----------
    parent : owner
    """

    chosen = Signal(int)
    renamed = Signal(int, str)
    recoloured = Signal(int, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(_TITLES), parent)
        self.rows: tuple[ClassRow, ...] = ()
        self.setHorizontalHeaderLabels(list(_TITLES))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        numbers, header = self.verticalHeader(), self.horizontalHeader()
        if numbers is not None and header is not None:
            numbers.setVisible(False)
            header.setHighlightSections(False)
            header.setMinimumSectionSize(22)
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        self.cellClicked.connect(lambda row, column: self._choose(row))
        self.cellDoubleClicked.connect(self._pick_colour)
        self.itemChanged.connect(self._rename)

    def show_rows(self, rows: Sequence[ClassRow]) -> None:
        """Show these classes; a name that is just being typed is left alone unless there are other classes."""
        if tuple(rows) == self.rows:
            return
        if [row.label for row in rows] != [row.label for row in self.rows]:
            self.finish_typing()
        self.rows = tuple(rows)
        with QSignalBlocker(self):
            self.setRowCount(len(rows))
            for number, row in enumerate(rows):
                self._show(number, row)
        self._fit()

    def finish_typing(self) -> None:
        """Take over a name that is just being typed."""
        # Earlier editors wait for their deletion.
        for editor in self.findChildren(QLineEdit)[-1:] if self._is_typed_in else ():
            self.commitData(editor)
            self.closeEditor(editor, QAbstractItemDelegate.EndEditHint.NoHint)

    def mark(self, label: int) -> None:
        """Mark what the brush paints now; nothing for a label that no class has."""
        number = next((number for number, row in enumerate(self.rows) if row.label == label), None)
        with QSignalBlocker(self):
            if number is None:
                self.clearSelection()
            elif number != self.currentRow() or not self.selectedItems():
                self.selectRow(number)

    def edit_name(self, label: int) -> None:
        """Let the name of a class be typed."""
        self.finish_typing()
        number = next(number for number, row in enumerate(self.rows) if row.label == label)
        self.setCurrentCell(number, _NAME)
        self.editItem(self.item(number, _NAME))

    @property
    def _is_typed_in(self) -> bool:
        return bool(self.state() == QAbstractItemView.State.EditingState)

    def _show(self, number: int, row: ClassRow) -> None:
        texts = ("", str(row.label), row.name, row.amount)
        fixed = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        for column, text in enumerate(texts):
            item = self.item(number, column)
            if item is None:
                item = QTableWidgetItem()
                self.setItem(number, column, item)
            if column == _NAME and self._is_typed_in and number == self.currentRow():
                continue  # whatever is changed of the item, Qt would put its old name into the editor
            item.setText(text)
            item.setToolTip(row.told)
            editable = column == _NAME and not row.background
            item.setFlags(fixed | Qt.ItemFlag.ItemIsEditable if editable else fixed)
            if column == _COLOUR:
                swatch = QPixmap(_SWATCH, _SWATCH)
                swatch.fill(QColor(row.colour))
                # As an icon, and for selected rows as it is: the mark of a selected row would hide or tint it.
                icon = QIcon(swatch)
                icon.addPixmap(swatch, QIcon.Mode.Selected)
                item.setIcon(icon)
            elif column == _PAINTED:
                item.setForeground(QBrush(QColor(_FEW)) if row.is_lacking else self.palette().text())

    def _fit(self) -> None:
        """As high as its rows, up to a few."""
        header = self.horizontalHeader()
        height = header.sizeHint().height() if header is not None else 0
        height += sum(self.rowHeight(number) for number in range(min(self.rowCount(), _MOST_ROWS)))
        self.setFixedHeight(height + 2 * self.frameWidth() + 2)

    def _choose(self, number: int) -> None:
        self.chosen.emit(self.rows[number].label)

    def _rename(self, item: QTableWidgetItem) -> None:
        row = self.rows[item.row()]
        if item.column() != _NAME or row.background:
            return
        name = item.text().strip()
        if not name:
            with QSignalBlocker(self):
                item.setText(row.name)
        elif name != row.name:
            self.renamed.emit(row.label, name)

    def _pick_colour(self, number: int, column: int) -> None:
        row = self.rows[number]
        if column == _COLOUR:
            colour = QColorDialog.getColor(QColor(row.colour), self, f"Colour of {row.name}")
            if colour.isValid():
                self.recoloured.emit(row.label, colour.name())
