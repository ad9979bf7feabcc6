"""The second part of *Train on painted labels*: how to learn, the buttons, and how it goes."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from ..progress import Progress
from ..training.rounds import PaintSettings, Round
from .curves import Curves
from .form import SettingsForm
from .shortcuts import KEYS
from .start_box import StartBox

_TOLD = 4


class TrainBox(QGroupBox):
    """Start, settings, buttons, figures and curves.

    Signals
    -------
    shown : (preview, uncertainty) whether these layers are wanted

    Parameters
    ----------
    parent : owner
    """

    shown = Signal(bool, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("2  Train", parent)
        self.start = StartBox()
        self.form = SettingsForm(PaintSettings)
        self.curves = Curves()
        self._told: list[str] = []
        self._build()

    def enable(self, *, running: bool, paused: bool, stopping: bool, ready: bool, resumable: bool) -> None:
        """Offer what can be done now."""
        self.train_button.setText("Training …" if running else "Train")
        self.train_button.setEnabled(ready and not running)
        resume = paused or (resumable and not running)
        self.pause_button.setText("Resume" if resume else "Pause")
        self.pause_button.setEnabled(resume or (running and not stopping))
        self.stop_button.setText("Stopping …" if stopping else "Stop")
        self.stop_button.setEnabled(running and not stopping)
        for widget in (self.start, self.form.plain.native, self.form.advanced.native):
            widget.setEnabled(not running)
        if not running:
            self._bar.setVisible(False)

    def begin(self) -> None:
        """Forget what the last training told."""
        self._told = []
        self._findings.setVisible(False)
        self._figures.setText("")

    def say(self, text: str) -> None:
        """Say what is going on."""
        self._message.setText(text)

    def show_step(self, step: Progress) -> None:
        """Show a step of the training."""
        self.say(step.message)
        self._bar.setVisible(step.total > 0)
        if step.total:
            self._bar.setMaximum(step.total)
            self._bar.setValue(min(step.done, step.total))

    def tell(self, text: str) -> None:
        """Keep a remark in sight; an old one gives way."""
        if text not in self._told:
            self._told = [*self._told, text][-_TOLD:]
            self._findings.setText("\n".join(f"• {each}" for each in self._told))
            self._findings.setVisible(True)

    def show_round(self, figures: Round, seconds: int) -> None:
        """Show the figures of a round.

        Parameters
        ----------
        figures : of the round
        seconds : after which it ends by itself; 0: never
        """
        self.curves.add(figures)
        self._figures.setText(describe(figures, seconds))

    def _show_layers(self) -> None:
        self.shown.emit(self.preview.isChecked(), self.uncertainty.isChecked())

    def _build(self) -> None:
        rows = QFormLayout()
        rows.addRow("Start from", self.start)
        more = QCollapsible("More settings")
        more.addWidget(self.form.advanced.native)
        self.form.plain.native.layout().setContentsMargins(0, 0, 0, 0)
        self._message, self._figures, self._findings = QLabel(""), QLabel(""), QLabel("")
        for label in (self._message, self._figures, self._findings):
            label.setWordWrap(True)
        self._findings.setVisible(False)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setVisible(False)
        layout = QVBoxLayout(self)
        layout.addLayout(rows)
        layout.addWidget(self.form.plain.native)
        layout.addWidget(more)
        layout.addLayout(self._build_buttons())
        for widget in (self._bar, self._message, self._figures, self._findings, self.curves):
            layout.addWidget(widget)
        layout.addLayout(self._build_layers())

    def _build_buttons(self) -> QHBoxLayout:
        self.train_button, self.pause_button = QPushButton("Train"), QPushButton("Pause")
        self.stop_button = QPushButton("Stop")
        self.train_button.setToolTip(f"Learn from what is painted; go on painting meanwhile ({KEYS['train']})")
        self.pause_button.setToolTip(f"Rest, or go on ({KEYS['train']})")
        self.stop_button.setToolTip(f"End, and keep the best model; Resume goes on from there ({KEYS['stop']})")
        row = QHBoxLayout()
        for button in (self.train_button, self.pause_button, self.stop_button):
            row.addWidget(button, 1)
        return row

    def _build_layers(self) -> QHBoxLayout:
        self.preview, self.uncertainty = QCheckBox("preview"), QCheckBox("uncertainty")
        self.preview.setToolTip("What the network says of the slice on screen, in a layer of its own")
        self.uncertainty.setToolTip("Where the network is unsure: the brighter, the less it knows")
        with QSignalBlocker(self.preview):
            self.preview.setChecked(True)
        row = QHBoxLayout()
        row.addWidget(QLabel("Show"))
        for box in (self.preview, self.uncertainty):
            box.toggled.connect(self._show_layers)
            row.addWidget(box)
        row.addStretch()
        return row


def describe(figures: Round, seconds: int) -> str:
    """Figures of a round in two short lines."""
    left = f", {max(0, round(seconds - figures.seconds))} s left" if seconds else ""
    where = f" on {figures.device}" if figures.device else ""
    memory = f" · {figures.memory_mb:,.0f} MB" if figures.memory_mb else ""
    first = f"Round {figures.number}{where} · {figures.seconds:.0f} s{left}{memory}"
    if figures.dice is None:
        return f"{first}\nToo little is painted to hold any of it out as a test."
    best = ""
    if figures.best is not None and figures.best_number != figures.number:
        which = f"round {figures.best_number}" if figures.best_number else "the start"
        best = f" · best {figures.best:.3f} ({which}), which is kept"
    return f"{first}\nDice on held-out paint {figures.dice:.3f}{best}"
