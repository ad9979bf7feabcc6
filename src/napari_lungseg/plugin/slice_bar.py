"""A slim bar with a column for every slice: painted, complete, uncertain, and which is on screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QEvent, QRect, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QHelpEvent, QImage, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

Place = tuple[int, int]
"""(number of the image, slice of its standard view)."""

PAINTED, COMPLETE, UNCERTAIN = "#56B4E9", "#009E73", "#E69F00"
_EMPTY, _CURRENT = "#5a626c", "#ffffff"
_HEIGHT = 22
# Empty columns between two images; a few slices are drawn several columns wide, so that the gap stays narrow.
_GAP = 2
_COLUMNS = 100


@dataclass(frozen=True, eq=False)
class ImageSlices:
    """What there is to say of the slices of one image.

    Parameters
    ----------
    name : of the image
    painted, complete : (z,) bool
    scores : (z,) what painting the slice is expected to teach; NaN where the network has not looked
    """

    name: str
    painted: np.ndarray
    complete: np.ndarray
    scores: np.ndarray


def next_place(images: Sequence[ImageSlices], skipped: frozenset[Place] = frozenset()) -> Place | None:
    """The slice with the highest score of those that are not complete nor skipped; one that is painted only if all are."""
    found = [
        (not image.painted[z], float(score), (number, z))
        for number, image in enumerate(images)
        for z, score in enumerate(image.scores)
        if not image.complete[z] and (number, z) not in skipped and not np.isnan(score)
    ]
    return max(found, key=lambda entry: entry[:2])[-1] if found else None


class SliceBar(QWidget):
    """The slices of all images that take part, side by side.

    Signals
    -------
    jumped : (image, slice) that was clicked

    Parameters
    ----------
    parent : owner
    """

    jumped = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._images: tuple[ImageSlices, ...] = ()
        self._places: list[Place | None] = []
        self._wide = 1
        self._current: Place | None = None
        self._picture: QImage | None = None
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    @property
    def images(self) -> tuple[ImageSlices, ...]:
        """What is shown."""
        return self._images

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """As wide as there is room."""
        return QSize(200, _HEIGHT)

    def show_images(self, images: Sequence[ImageSlices]) -> None:
        """Show what holds now."""
        self._images = tuple(images)
        self._places = []
        self._wide = max(1, _COLUMNS // max(1, sum(len(image.painted) for image in images)))
        for number, image in enumerate(images):
            gap: list[Place | None] = [None] * _GAP if number else []
            self._places += [*gap, *((number, z) for z in range(len(image.painted)) for _ in range(self._wide))]
        self._picture = None
        self.update()

    def show_current(self, place: Place | None) -> None:
        """Mark the slice on screen."""
        if place != self._current:
            self._current = place
            self.update()

    def place_at(self, x: int) -> Place | None:
        """The slice drawn at a column of pixels."""
        if not self._places or not 0 <= x < self.width():
            return None
        return self._places[x * len(self._places) // self.width()]

    def describe(self, place: Place) -> str:
        """One line about a slice."""
        number, z = place
        image = self._images[number]
        facts = [f"slice {z}"] if len(image.painted) > 1 else []
        facts += ["complete"] if image.complete[z] else ["painted"] if image.painted[z] else []
        if not np.isnan(image.scores[z]):
            facts.append(f"worth {image.scores[z]:.0f} uncertain pixels")
        return f"{image.name}: {', '.join(facts)}" if facts else image.name

    # Drawing

    def columns(self) -> np.ndarray:
        """(2, width, 4) uint8 colours: above what was painted, below how uncertain it is."""
        width, count = max(1, self.width()), len(self._places)
        # Where slices are narrower than a pixel the most telling one is drawn; `reduceat` repeats wider ones.
        first = np.arange(width) * count // width
        state, worth = self._states()
        above = np.array([np.zeros(4), _rgba(_EMPTY), _rgba(PAINTED), _rgba(COMPLETE)])
        top = above[np.maximum.reduceat(state, first)]
        share = np.maximum.reduceat(worth, first)[:, None]
        bottom = (1 - share) * above[np.minimum(np.maximum.reduceat(state, first), 1)] + share * _rgba(UNCERTAIN)
        return np.stack([top, bottom]).round().astype(np.uint8)

    def _states(self) -> tuple[np.ndarray, np.ndarray]:
        """Per place: 0 gap, 1 empty, 2 painted, 3 complete; and its score as a share of the highest."""
        state, worth = np.zeros(len(self._places), int), np.zeros(len(self._places))
        for index, place in enumerate(self._places):
            if place is not None:
                image, z = self._images[place[0]], place[1]
                state[index] = 3 if image.complete[z] else 2 if image.painted[z] else 1
                worth[index] = np.nan_to_num(image.scores[z])
        highest = worth.max(initial=0)
        return state, worth / highest if highest > 0 else worth

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Draw the columns, and a frame around the slice on screen."""
        if not self._places:
            return
        if self._picture is None or self._picture.width() != self.width():
            pixels = np.ascontiguousarray(self.columns())
            height, width, _ = pixels.shape
            self._picture = QImage(pixels.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()
        painter = QPainter(self)
        painter.drawImage(self.rect().adjusted(0, 3, 0, -3), self._picture)
        if self._current in self._places:
            painter.setPen(QColor(_CURRENT))
            painter.drawRect(self._frame(self._places.index(self._current)))
        painter.end()

    def _frame(self, index: int) -> QRect:
        left = index * self.width() // len(self._places)
        right = max(left + 3, (index + self._wide) * self.width() // len(self._places))
        return QRect(min(left, self.width() - 3), 0, right - left - 1, self.height() - 1)

    # The mouse

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Go to the slice that was clicked."""
        self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Leaf through the slices while the button is held."""
        self._go(event)

    def _go(self, event: QMouseEvent | None) -> None:
        place = None if event is None else self.place_at(round(event.position().x()))
        if place is not None and place != self._current:
            self.jumped.emit(*place)

    def event(self, event: QEvent | None) -> bool:
        """Tell what is under the mouse."""
        if isinstance(event, QHelpEvent):
            place = self.place_at(event.pos().x())
            if place is not None:
                QToolTip.showText(event.globalPos(), self.describe(place), self)
                return True
        return super().event(event)


def _rgba(colour: str) -> np.ndarray:
    return np.array(QColor(colour).getRgb(), float)
