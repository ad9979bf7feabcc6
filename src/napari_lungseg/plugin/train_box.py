"""The second part of *Train on painted labels*: how to learn, the buttons, and how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
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
from ..volume import Modality
from .curves import Curves
from .form import SettingsForm
from .layers import KINDS
from .shortcuts import KEYS
from .start_box import StartBox

_TOLD = 4
_LATE = "This round takes far longer than usual: the computer seems busy with something else."
_JUDGED = (
    "Only pixels that are painted can judge; what is wrong where nobody painted shows in the preview alone. – means that "
    "no paint of the class judges."
)


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
        self._found: list[str] = []
        self._build()

    @property
    def modality(self) -> Modality | None:
        """What the images are, where a person overrules what they say."""
        chosen: Modality | None = self.kind.currentData()
        return chosen

    def enable(self, *, running: bool, paused: bool, stopping: bool, ready: bool, resumable: bool) -> None:
        """Offer what can be done now."""
        self.train_button.setText("Paused" if paused else "Training …" if running else "Train")
        self.train_button.setEnabled(ready and not running)
        resume = paused or (resumable and not running)
        self.pause_button.setText("Resume" if resume else "Pause")
        self.pause_button.setEnabled(resume or (running and not stopping))
        self.stop_button.setText("Stopping …" if stopping else "Stop")
        self.stop_button.setEnabled(running and not stopping)
        for widget in (self.kind, self.start, self.form.plain.native, self.form.advanced.native):
            widget.setEnabled(not running)
        if not running:
            self._bar.setVisible(False)

    def begin(self) -> None:
        """Forget what the last training told."""
        self._told, self._found = [], []
        self._show_told()
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
            self._show_told()

    def tell_late(self, late: bool) -> None:
        """Say that a round takes long, or no more."""
        if late:
            self.tell(_LATE)
        elif _LATE in self._told:
            self._told.remove(_LATE)
            self._show_told()

    def tell_findings(self, texts: Sequence[str]) -> None:
        """Say what there is to tell of start and paint; what was told of them before goes."""
        self._found = list(texts)
        self._show_told()

    def _show_told(self) -> None:
        texts = [*self._found, *self._told]
        self._findings.setText("\n".join(f"• {each}" for each in texts))
        self._findings.setVisible(bool(texts))

    def say_of_preview(self, text: str) -> None:
        """Say what the preview of the slice on screen is of."""
        self._about_preview.setText(text)
        self._about_preview.setVisible(bool(text))

    def show_round(self, figures: Round, seconds: int, names: Mapping[int, str]) -> None:
        """Show the figures of a round.

        Parameters
        ----------
        figures : of the round
        seconds : after which it ends by itself; 0: never
        names : label → name of the classes
        """
        self.curves.add(figures)
        self._figures.setText(describe(figures, seconds, names))

    def _show_layers(self) -> None:
        self.shown.emit(self.preview.isChecked(), self.uncertainty.isChecked())

    def _build(self) -> None:
        rows = QFormLayout()
        self.kind = QComboBox()
        for name, modality in KINDS.items():
            self.kind.addItem(name, modality)
        self.kind.setToolTip("What the images are, where they do not say it themselves or say it wrongly")
        rows.addRow("Kind", self.kind)
        rows.addRow("Start from", self.start)
        more = QCollapsible("More settings")
        more.setContentsMargins(0, -8, 0, -8)  # its own are as high as a row
        more.addWidget(self.form.advanced.native)
        self.form.plain.native.layout().setContentsMargins(0, 0, 0, 0)
        self._message, self._figures, self._findings = QLabel(""), QLabel(""), QLabel("")
        self._about_preview = QLabel("")
        for label in (self._message, self._figures, self._findings, self._about_preview):
            label.setWordWrap(True)
        for label in (self._findings, self._about_preview):
            label.setVisible(False)
        self._figures.setToolTip(_JUDGED)
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
        layout.addWidget(self._about_preview)

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


def describe(figures: Round, seconds: int, names: Mapping[int, str]) -> str:
    """Figures of a round in a few short lines."""
    left = f", {max(0, round(seconds - figures.seconds))} s left" if seconds else ""
    where = f" on {figures.device}" if figures.device else ""
    memory = f" · {figures.memory_mb:,.0f} MB" if figures.memory_mb else ""
    first = f"Round {figures.number}{where} · {figures.seconds:.0f} s{left}{memory}"
    if figures.dice is None:
        return f"{first}\nNothing is painted that could judge it."
    kept = ""
    if figures.best is not None and figures.best_number != figures.number:
        which = f"round {figures.best_number}" if figures.best_number else "the start"
        kept = f" · best {figures.best:.3f}; {which} is kept"
    judged = "held-out paint" if figures.held_out else "paint it learned from (too little to hold any out)"
    told = f"Dice on {judged} {figures.dice:.3f}{kept} · what nobody painted shows in the preview alone"
    return f"{first}\n{told}\n{_each(figures.dices, names)}".strip()


def _each(dices: Mapping[int, float], names: Mapping[int, str]) -> str:
    """Dice of each class; – for one of which there is no paint to judge by."""
    if not dices:
        return ""
    shown = {**names, 0: "background"}
    return " · ".join(f"{name} {f'{dices[label]:.3f}' if label in dices else '–'}" for label, name in shown.items())
