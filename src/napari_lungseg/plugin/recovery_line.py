"""A line that offers what was painted in a session that ended without saving it."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from .jobs import Job
from .layers import layer_facts
from .leftovers import Leftover, discard_for
from .recovery import Recovery
from .work_layers import hash_steps


class RecoveryLine(QFrame):
    """One offer after the other, each with two buttons; hidden while there is none.

    Parameters
    ----------
    recovery : of the viewer
    parent : owner
    """

    def __init__(self, recovery: Recovery, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._recovery = recovery
        self._offers: list[tuple[Image, Leftover]] = []
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self._text = QLabel("")
        self._text.setWordWrap(True)
        self.restore_button, self.discard_button = QPushButton("Restore"), QPushButton("Discard")
        self.restore_button.setToolTip("Add the painted layers again, as they were last saved")
        self.discard_button.setToolTip("Throw away what was painted then")
        self.restore_button.clicked.connect(lambda: self.restore())
        self.discard_button.clicked.connect(lambda: self.discard())
        buttons = QHBoxLayout()
        buttons.addWidget(self.restore_button, 1)
        buttons.addWidget(self.discard_button, 1)
        layout = QVBoxLayout(self)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        recovery.found.connect(self.offer)
        for image, found in recovery.offers():
            self.offer(image, found)
        self._show()

    def offer(self, image: Image, found: list[Leftover]) -> None:
        """Offer what was painted on an image."""
        known = {(offered.name, leftover.folder) for offered, leftover in self._offers}
        self._offers += [(image, leftover) for leftover in found if (image.name, leftover.folder) not in known]
        self._show()

    def restore(self) -> None:
        """Add the painted layers of the offer that is shown."""
        image, leftover = self._offers.pop(0)
        self._recovery.take_back(image, leftover)
        self._show()

    def discard(self) -> None:
        """Throw away what the offer that is shown holds of its image."""
        image, leftover = self._offers.pop(0)
        facts = layer_facts(image)
        Job(lambda: hash_steps(facts), on_result=lambda content: discard_for(leftover, content))
        self._show()

    def forget(self, image: Any) -> None:
        """Offer no more for an image that was closed; what was painted on it stays on the disk."""
        self._offers = [offer for offer in self._offers if offer[0] is not image]
        self._show()

    def _show(self) -> None:
        self.setVisible(bool(self._offers))
        if self._offers:
            image, leftover = self._offers[0]
            when = leftover.record.saved.astimezone()
            self._text.setText(f"What was painted on {image.name} on {when:%d %B at %H:%M} was never saved.")

    def close_down(self) -> None:
        """Let go of the recovery."""
        self._recovery.found.disconnect(self.offer)
