"""Where to paint next: the bar of slices, the mark for complete ones, and the way to the slice that is worth most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from .painting import painting_of
from .places import Pair, active_pair, go_to, images_in, layers_on, place_on_screen
from .shortcuts import KEYS
from .slice_bar import COMPLETE, PAINTED, UNCERTAIN, ImageSlices, Place, SliceBar, next_place
from .tally import Tallies, both


class WherePanel(QWidget):
    """The slices of the images that take part.

    Signals
    -------
    count_wanted : a slice was marked as complete, or it matters which are painted
    moved : another slice may be on screen

    Parameters
    ----------
    viewer : napari viewer or viewer model
    pairs : returns the images that take part
    tallies : of what is painted
    parent : owner
    """

    count_wanted = Signal()
    moved = Signal()

    def __init__(
        self, viewer: Any, pairs: Callable[[], list[Pair]], tallies: Tallies, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._pairs, self._tallies = viewer, pairs, tallies
        self._scores: tuple[np.ndarray, ...] = ()
        self._offered: set[Place] = set()
        self.bar = SliceBar()
        self.bar.jumped.connect(lambda image, index: go_to(viewer, pairs(), (image, index)))
        self.complete = QCheckBox("this slice is complete")
        self.complete.setToolTip(f"Whatever is not painted in it is background ({KEYS['complete']})")
        self.complete.clicked.connect(lambda: self.toggle_complete())
        self.next_button = QPushButton("Next ▶")
        self.next_button.setToolTip(f"Go to the slice where painting helps most ({KEYS['next slice']})")
        self.next_button.clicked.connect(lambda: self.next_slice())
        row = QHBoxLayout()
        row.addWidget(self.complete, 1)
        row.addWidget(self.next_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(QLabel(_legend()))
        for emitter, callback in self._connections():
            emitter.connect(callback)

    @property
    def place(self) -> Place | None:
        """The (image, slice) on screen."""
        return place_on_screen(self._viewer, self._pairs())

    def toggle_complete(self) -> None:
        """Say of the slice on screen that all that is not painted in it is background, or take that back."""
        place, pair = self.place, active_pair(self._viewer, self._pairs())
        painting = None if pair is None else painting_of(pair.labels)
        if place is None or painting is None:
            show_info("No single slice of a painted image is on screen.")
            return
        painting.complete ^= {place[1]}
        self.count_wanted.emit()

    def next_slice(self) -> None:
        """Go to the slice that is worth painting most, of those that were not offered yet."""
        if not any(np.isfinite(scores).any() for scores in self._scores):
            show_info("Where to paint next is known once the network has looked at some slices: press Train.")
            return
        self.count_wanted.emit()
        place = next_place(self.bar.images, frozenset(self._offered))
        if place is None:
            self._offered.clear()
            place = next_place(self.bar.images)
        if place is None:
            show_info("Every slice that the network has looked at is complete.")
            return
        self._offered.add(place)
        go_to(self._viewer, self._pairs(), place)

    def show_scores(self, scores: Sequence[np.ndarray]) -> None:
        """Show where painting is worth most; an empty sequence forgets it."""
        self._scores = tuple(scores)
        if not self._scores:
            self._offered.clear()
        self.show_slices()

    def show_slices(self) -> None:
        """Show what is painted, as it was last counted."""
        slices = []
        pairs = self._pairs()
        for number, image in enumerate(images_in(pairs)):
            tally = both(self._tallies.known(layer) for layer in layers_on(pairs, image))
            fits = number < len(self._scores) and len(self._scores[number]) == len(tally.complete)
            scores = self._scores[number] if fits else np.full(len(tally.complete), np.nan)
            slices.append(ImageSlices(image.name, tally.painted, tally.complete, scores))
        self.bar.show_images(slices)
        self.setVisible(bool(slices))
        self.follow()

    def follow(self, event: object = None) -> None:
        """Show which slice is on screen."""
        place, pair = self.place, active_pair(self._viewer, self._pairs())
        self.bar.show_current(place)
        painting = None if pair is None or place is None else painting_of(pair.labels)
        with QSignalBlocker(self.complete):
            self.complete.setChecked(painting is not None and place is not None and place[1] in painting.complete)
        self.complete.setEnabled(painting is not None)
        self.moved.emit()

    def _connections(self) -> list[tuple[Any, Any]]:
        dims = self._viewer.dims.events
        return [(emitter, self.follow) for emitter in (dims.point, dims.order, dims.ndisplay)]

    def close_down(self) -> None:
        """Let go of the viewer."""
        for emitter, callback in self._connections():
            emitter.disconnect(callback)


def _legend() -> str:
    marks = ((PAINTED, "painted"), (COMPLETE, "complete"), (UNCERTAIN, "worth painting"))
    return " ".join(f'<span style="color:{colour}">■</span>&nbsp;{text}' for colour, text in marks)
