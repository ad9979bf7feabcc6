"""How far a result can be trusted, as one light: a colour, a shape and a word, so that no colour has to be seen."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from ..segmentation.confidence import WORDS, Confidence, Light

LIGHTS: dict[Light, tuple[str, str]] = {
    "green": ("#2ca02c", "●"),
    "amber": ("#ff9f0e", "▲"),
    "red": ("#e5383b", "■"),
    "grey": ("#8c8c8c", "○"),
}
"""Colour and shape of each."""


class TrafficLight(QLabel):
    """Shows a `Confidence`, and nothing where there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.confidence: Confidence | None = None
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setToolTip(
            "Dice of both lungs as predicted from how sure the network is and how its labels hold in other views of the image"
        )
        self.tell(None)

    def tell(self, confidence: Confidence | None) -> None:
        """Show another confidence, or hide."""
        self.confidence = confidence
        self.setVisible(confidence is not None)
        if confidence is None:
            return
        colour, shape = LIGHTS[confidence.light]
        word, figure = WORDS[confidence.light].capitalize(), confidence.figure
        self.setText(
            f'<span style="color: {colour}; font-size: 18pt">{shape}</span>&nbsp;<b>{word}</b><br/>'
            f"{escape(figure)}<br/>{escape(confidence.reason)}"
        )
        self.setAccessibleName(f"{word}. {figure}. {confidence.reason}")
