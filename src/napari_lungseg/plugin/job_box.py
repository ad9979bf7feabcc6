"""A button that starts long work, one that cancels it, a bar and a line that say how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from ..progress import Progress
from .jobs import Job, Steps, report

_CANCELLING = "Cancelling …"


class JobBox(QWidget):
    """One job at a time.

    Signals
    -------
    changed : a job has begun or ended

    Parameters
    ----------
    text : on the button
    run : what the button does
    parent : owner
    """

    changed = Signal()

    def __init__(self, text: str, run: Callable[[], object], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.job: Job | None = None
        self._text = text
        self.run_button, self.cancel_button = QPushButton(text), QPushButton("Cancel")
        self.run_button.clicked.connect(lambda: run())
        self.cancel_button.clicked.connect(lambda: self.cancel())
        self.cancel_button.setEnabled(False)
        self.bar, self.message = QProgressBar(), QLabel("")
        self.bar.setMaximum(1)
        self.bar.setTextVisible(False)
        self.message.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.run_button, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.message)

    @property
    def is_running(self) -> bool:
        """Whether a job is under way."""
        return self.job is not None

    def start(
        self,
        make: Callable[[], Steps],
        on_result: Callable[[Any], object],
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        """Run a generator in the background; nothing where one is under way. By default errors are shown."""
        if self.job is not None:
            return
        self.message.setText("")
        failed = on_error or self._failed
        self.job = Job(make, on_progress=self._progress, on_result=on_result, on_error=failed, on_end=self._ended)
        self.run_button.setText("Running …")
        self.cancel_button.setEnabled(True)
        self.changed.emit()

    def cancel(self) -> None:
        """Stop at the next step; nothing is changed."""
        if self.job is not None:
            self.job.cancel()
            self.message.setText(_CANCELLING)

    def tell(self, text: str) -> None:
        """Show a line."""
        self.message.setText(text)

    def close_down(self) -> None:
        """Stop, and call nobody. Touches no Qt object, which may be gone already."""
        if self.job is not None:
            self.job.detach()

    def _progress(self, step: Progress) -> None:
        self.bar.setMaximum(step.total)
        self.bar.setValue(step.done)
        self.message.setText(step.message)

    def _failed(self, error: Exception) -> None:
        self.message.setText(str(error))
        report(error)

    def _ended(self) -> None:
        if self.message.text() == _CANCELLING:
            self.message.setText("Cancelled; nothing was changed.")
        self.job = None
        self.bar.setMaximum(1)
        self.bar.setValue(0)
        self.run_button.setText(self._text)
        self.cancel_button.setEnabled(False)
        self.changed.emit()
