"""Loss and held-out Dice while a network learns from paint."""

from __future__ import annotations

import sys
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ..training.rounds import Round
from .canvas import CANVAS, import_steps
from .jobs import Job

# Drawing takes some 30 ms of the window's time.
REDRAW_MS = 1000
_LOSS, _DICE = "#E69F00", "#56B4E9"
_HEIGHT = 130


class Curves(QWidget):
    """Two curves over seconds, drawn anew at most once a second and only while they are seen.

    Parameters
    ----------
    parent : owner
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rounds: list[Round] = []
        self.drawn = 0
        self._canvas: Any = None
        self._loss: Any = None
        self._dice: Any = None
        self._best: Any = None
        self._stale = False
        self._job: Job | None = None
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(REDRAW_MS)
        self._pause.timeout.connect(self._draw_if_stale)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.setToolTip("Loss (orange) and Dice on the paint that is held out (blue), over seconds of learning")
        self.setVisible(False)

    def warm(self) -> None:
        """Import matplotlib in the background, for which the window would have to wait most of a second."""
        if CANVAS not in sys.modules and self._job is None:
            self._job = Job(import_steps, on_end=self._draw_if_stale)

    def add(self, figures: Round) -> None:
        """Take in the figures of a round."""
        self.rounds.append(figures)
        self.setVisible(True)
        self._stale = True
        if not self._pause.isActive():
            self._draw_if_stale()

    def clear(self) -> None:
        """Forget all rounds."""
        self.rounds = []
        self._stale = False
        self.setVisible(False)

    def close_down(self) -> None:
        """Wait for nothing more."""
        if self._job is not None:
            self._job.detach()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Catch up with what was not drawn while nobody could see it."""
        super().showEvent(event)
        self._pause.start(0)

    def _draw_if_stale(self) -> None:
        if not self._stale or not self.isVisible():
            return
        if CANVAS not in sys.modules:
            self.warm()
            return
        self._stale = False
        self._draw()
        self._pause.start(REDRAW_MS)

    def _draw(self) -> None:
        if self._canvas is None:
            self._canvas = self._make_canvas()
            self._layout.addWidget(self._canvas)
        losses = [(each.seconds, each.loss) for each in self.rounds if each.loss is not None]
        judged = [each for each in self.rounds if each.dice is not None]
        dices = [(each.seconds, each.dice) for each in judged]
        best = [(each.seconds, each.dice) for each in judged if each.number == self.rounds[-1].best_number]
        for line, points in ((self._loss, losses), (self._dice, dices), (self._best, best)):
            line.set_data([seconds for seconds, _ in points], [value for _, value in points])
        left, right = self._axes
        left.set_xlim(0, max(1.0, self.rounds[-1].seconds))
        left.set_ylim(0, 1.1 * max((value for _, value in losses), default=1.0))
        right.set_ylim(min([0.5, *(each.dice for each in judged if each.dice is not None)]), 1.02)
        self._canvas.draw()
        self.drawn += 1

    def _make_canvas(self) -> Any:
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 1.5), dpi=self.logicalDpiX())
        figure.patch.set_alpha(0)
        canvas: Any = FigureCanvasQTAgg(figure)  # type: ignore[no-untyped-call]
        canvas.setFixedHeight(_HEIGHT)
        canvas.setStyleSheet("background: transparent")
        left = figure.add_axes((0.13, 0.24, 0.74, 0.62))
        right = left.twinx()
        self._axes = (left, right)
        (self._loss,) = left.plot([], [], ".-", color=_LOSS, linewidth=1.2, markersize=3)
        (self._dice,) = right.plot([], [], ".-", color=_DICE, linewidth=1.2, markersize=3)
        (self._best,) = right.plot([], [], "o", color=_DICE, markersize=5)
        plain = self.palette().windowText().color().name()
        for axes, colour, what in ((left, _LOSS, "loss"), (right, _DICE, "Dice")):
            axes.set_facecolor("none")
            axes.tick_params(colors=colour, labelsize=7, length=2, pad=2)
            axes.set_title(what, color=colour, fontsize=8, loc="left" if what == "loss" else "right", pad=3)
            axes.locator_params(axis="y", nbins=4)
            axes.spines[:].set_visible(False)
        left.tick_params(axis="x", colors=plain)
        left.set_xlabel("s", color=plain, fontsize=7, labelpad=0)
        return canvas
