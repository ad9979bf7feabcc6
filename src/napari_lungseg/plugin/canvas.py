"""A plot in a widget: drawn when it is seen, clicked to go somewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from importlib import import_module
from typing import Any

from qtpy.QtCore import QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ..progress import Progress
from .jobs import Job

CANVAS = "matplotlib.backends.backend_qtagg"
# Marks follow a slider that may be dragged; drawing takes some 30 ms of the window's time.
_REDRAW_MS = 60
_HEIGHT = 190

Draw = Callable[[Any, str], object]


class Plot(QWidget):
    """One matplotlib figure, in the window's colours.

    Signals
    -------
    clicked : (x, y) in the data of the first axes

    Parameters
    ----------
    height : pixels
    parent : owner
    """

    clicked = Signal(float, float)

    def __init__(self, height: int = _HEIGHT, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.drawn = 0
        self.mark: float | None = None
        self._draw: Draw | None = None
        self._canvas: Any = None
        self._line: Any = None
        self._stale = False
        self._job: Job | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_REDRAW_MS)
        self._pause.timeout.connect(self._catch_up)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.setFixedHeight(height)

    def show_plot(self, draw: Draw | None) -> None:
        """Show what ``draw(figure, colour of text)`` draws into an empty figure; None for nothing."""
        self._draw, self._stale, self.mark = draw, True, None
        self._pause.start()

    def mark_at(self, x: float | None) -> None:
        """Move the upright line; None for none."""
        if x != self.mark:
            self.mark = x
            self._pause.start()

    def close_down(self) -> None:
        """Wait for nothing more. Touches no Qt object, which may be gone already."""
        if self._job is not None:
            self._job.detach()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Catch up with what was not drawn while nobody could see it."""
        super().showEvent(event)
        self._pause.start()

    def _catch_up(self) -> None:
        if not self.isVisible() or (self._draw is None and self._canvas is None):
            return
        if CANVAS not in sys.modules:
            # Importing it would stop the window for most of a second.
            self._job = self._job or Job(import_steps, on_end=self._pause.start)
            return
        if self._canvas is None:
            self._make_canvas()
        if self._stale:
            self._stale = False
            self._canvas.figure.clear()
            if self._draw is not None:
                self._draw(self._canvas.figure, self.palette().windowText().color().name())
            self._line = None
        self._place_mark()
        self._canvas.draw_idle()
        self.drawn += 1

    def _place_mark(self) -> None:
        if self._line is not None:
            self._line.remove()
            self._line = None
        if self.mark is not None and self._canvas.figure.axes:
            colour = self.palette().windowText().color().name()
            self._line = self._canvas.figure.axes[0].axvline(self.mark, color=colour, linewidth=1, alpha=0.7)

    def _make_canvas(self) -> None:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        figure = Figure(dpi=self.logicalDpiX(), layout="constrained")
        figure.patch.set_alpha(0)
        self._canvas = FigureCanvasQTAgg(figure)  # type: ignore[no-untyped-call]
        self._canvas.setStyleSheet("background: transparent")
        self._canvas.mpl_connect("button_press_event", self._click)
        self._layout.addWidget(self._canvas)

    def _click(self, event: Any) -> None:
        axes = self._canvas.figure.axes
        if axes and axes[0].bbox.contains(event.x, event.y):
            x, y = axes[0].transData.inverted().transform((event.x, event.y))
            self.clicked.emit(float(x), float(y))


def import_steps() -> Generator[Progress, None, None]:
    """Import matplotlib, for a thread."""
    yield Progress(0, 1, "Loading matplotlib …")
    import_module(CANVAS)
