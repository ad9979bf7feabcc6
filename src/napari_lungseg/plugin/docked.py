"""What every widget that napari docks has in common: it scrolls where the window is low, and lets go of the viewer once."""

from __future__ import annotations

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLayout, QScrollArea, QWidget


class DockedWidget(QScrollArea):
    """A widget that calls nothing back once napari has taken it out of its window, or Qt has deleted it."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.destroyed.connect(lambda: self.close_down())

    def let_go(self) -> None:
        """Stop what runs and disconnect from the viewer. Touches no Qt object, which may be gone already."""
        raise NotImplementedError

    def close_down(self) -> None:
        """Let go of the viewer, once."""
        if not self._closed:
            self._closed = True
            self.let_go()

    def show_content(self, layout: QLayout, width: int) -> None:
        """Show a layout, at least so many pixels wide, and never so narrow that it is cut off."""
        content = QWidget()
        content.setLayout(layout)
        self.setWidget(content)
        bar = self.verticalScrollBar()
        needed = max(width, content.minimumSizeHint().width())
        self.setMinimumWidth(needed + (bar.sizeHint().width() if bar else 0))

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Let go when napari takes the widget out of its window."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.close_down()
