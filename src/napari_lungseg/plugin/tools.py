"""Buttons for looking at a scan and correcting its labels."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QCheckBox, QGridLayout, QGroupBox, QPushButton, QWidget

from ..errors import LungSegError
from . import actions
from .jobs import report
from .pacing import paced
from .shortcuts import KEYS, Shortcuts
from .window import WINDOWS_HU, apply_window, face_the_patient, knows, letters_of, show_from_the_front


class ViewTools(QGroupBox):
    """Window presets, 3-D view, letters, labelled slices, swap and convert.

    Parameters
    ----------
    viewer : napari viewer or viewer model
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("View and correct", parent)
        self._viewer = viewer
        self._swapping: Generator[int, None, None] | None = None
        commands: dict[str, Callable[[], object]] = {
            **{name: partial(self.show_window, name) for name in WINDOWS_HU},
            "front": lambda: show_from_the_front(viewer),
            "previous": lambda: self.step(-1),
            "next": lambda: self.step(1),
            "swap": self.swap,
        }
        self._shortcuts = Shortcuts(viewer, commands)
        layout = QGridLayout(self)
        for column, name in enumerate(WINDOWS_HU):
            low, high = WINDOWS_HU[name]
            told = f"Show {low:g} to {high:g} HU ({KEYS[name]})"
            layout.addWidget(_button(name.capitalize(), told, commands[name]), 0, column)
        rows = (
            ("◀ labelled", "Go to the previous slice with a label", "previous", (1, 0)),
            ("labelled ▶", "Go to the next slice with a label", "next", (1, 1)),
            ("3-D", "Feet down, seen from the front", "front", (1, 2)),
            ("Swap right/left", "Exchange right and left lung; undo takes it back", "swap", (2, 0)),
        )
        for text, told, name, place in rows:
            layout.addWidget(_button(text, f"{told} ({KEYS[name]})", commands[name]), *place)
        told = "Turn the active Image layer into Labels, or back"
        layout.addWidget(_button("Image ⇄ Labels", told, self.convert), 2, 1)
        self.letters = QCheckBox("letters")
        self.letters.setToolTip("R, L, A, P, H and F at the sides of the canvas")
        self.letters.setChecked(letters_of(viewer).visible)
        self.letters.toggled.connect(self._show_letters)
        layout.addWidget(self.letters, 2, 2)
        viewer.dims.events.ndisplay.connect(self._face)

    def show_window(self, name: str) -> None:
        """Show the active (or the topmost) CT in a window preset."""
        images = [self._viewer.layers.selection.active, *reversed(self._viewer.layers)]
        if not any(isinstance(layer, Image) and apply_window(layer, name) for layer in images):
            show_info("No CT in Hounsfield units is open: window presets have nothing to show.")

    def step(self, step: int) -> None:
        """Go to the next or previous labelled slice."""
        if not actions.next_labelled_slice(self._viewer, step):
            show_info("No labelled slice lies further that way.")

    def swap(self) -> None:
        """Swap right and left in the active Labels layer."""
        layer = actions.active_labels(self._viewer)
        if layer is None:
            show_info("No Labels layer is open.")
        elif self._swapping is None or getgeneratorstate(self._swapping) == GEN_CLOSED:
            self._swapping = actions.swapping_lungs(layer)
            changed: list[int] = []
            paced(map(changed.append, self._swapping), lambda: _tell_swapped(layer, sum(changed)))

    def convert(self) -> None:
        """Turn the active layer into the other kind."""
        layer = self._viewer.layers.selection.active
        if not isinstance(layer, (Image, Labels)):
            show_info("Select one Image or Labels layer first.")
            return
        try:
            actions.convert_layer(self._viewer, layer)
        except LungSegError as error:
            report(error)

    def _show_letters(self, shown: bool) -> None:
        letters_of(self._viewer).visible = shown

    def _face(self, event: object = None) -> None:
        """Napari's own 3-D button mirrors a patient: show one as its button would."""
        if self._viewer.dims.ndisplay == 3 and any(knows(layer) for layer in self._viewer.layers):
            face_the_patient(self._viewer)

    def close_down(self) -> None:
        """Let go of the viewer."""
        self._shortcuts.remove()
        self._viewer.dims.events.ndisplay.disconnect(self._face)


def _tell_swapped(layer: Labels, changed: int) -> None:
    if not changed:
        show_info(f"{layer.name} holds neither right (1) nor left (2) lung.")


def _button(text: str, told: str, command: Callable[[], object]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(told)
    button.clicked.connect(lambda: command())
    return button
