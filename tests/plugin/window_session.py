"""A napari window in which somebody paints without a pause, and may train meanwhile; run as a program to be killed.

Usage: ``python window_session.py LOG SEED MODEL WAY``; WAY: `PAINTING`, `LAUNCHING` or `TRAINING`.

Lines of the log, each with the seconds of the monotonic clock:

========== ==========================================================
``ready``  the widget stands in the window
``paint``  digest of the painted labels after an event of the mouse
``saving`` an autosave has begun
``saved``  digest of what an autosave that has ended left on the disk
``train``  number of the training process; Train was pressed
``round``  number of a round of the training
``notice`` what napari showed the person
========== ==========================================================
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

INTERVAL_MS = 1000
SHAPE = (12, 96, 96)
# No training; one that is wanted while its process is still starting; one in a process that was ready.
PAINTING, LAUNCHING, TRAINING = "painting", "launching", "training"
LUNG, BACKGROUND = 1, 100
# Between events of a stroke, and between strokes.
_EVENT_MS, _REST_MS = 30, 250
# Both classes are there by then.
_TRAIN_AFTER = 2


def digest(array: Any) -> str:
    """Short digest of the values of an array, whatever their type."""
    return hashlib.blake2b(np.ascontiguousarray(array, np.uint8).tobytes(), digest_size=12).hexdigest()


class Log:
    """Lines that are with the operating system, and so outlive a kill, once they are written."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, kind: str, what: object = "") -> None:
        self._file.write(f"{time.monotonic()} {kind} {what}\n")
        self._file.flush()


class Hand:
    """Moves the mouse over the canvas with events of Qt: strokes of either class, wide and narrow, in any slice."""

    def __init__(self, widget: Any, log: Log, seed: int) -> None:
        self.widget, self.log = widget, log
        self.viewer = widget.viewer
        self.canvas = widget.viewer.window._qt_viewer.canvas.native
        self.chance = random.Random(seed)
        self.strokes = 0
        self.left: list[tuple[float, float]] = []

    @property
    def layer(self) -> Any:
        return self.widget.paint.pairs[0].labels

    def move(self) -> None:
        """The next event; a stroke that is at its end is followed by the next one."""
        from qtpy.QtCore import QEvent

        if not self.left:
            self.choose()
            self.send(QEvent.Type.MouseButtonPress)
        elif len(self.left) > 1:
            self.left.pop(0)
            self.send(QEvent.Type.MouseMove)
        else:
            self.send(QEvent.Type.MouseButtonRelease)
            self.left.pop()
        self.log.write("paint", digest(self.layer.data))

    def choose(self) -> None:
        """Another slice, class, brush and course."""
        self.strokes += 1
        self.viewer.dims.set_current_step(0, self.chance.randrange(SHAPE[0]))
        self.widget.paint.classes.chosen.emit(LUNG if self.strokes % 2 else BACKGROUND)
        self.layer.brush_size = self.chance.randint(2, 6)
        width, height = self.canvas.width(), self.canvas.height()
        reach = 0.35 * min(width, height)
        course = range(self.chance.randint(3, 8))
        self.left = [
            (width / 2 + self.chance.uniform(-reach, reach), height / 2 + self.chance.uniform(-reach, reach))
            for _ in course
        ]

    def send(self, kind: Any) -> None:
        from qtpy.QtCore import QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        place, button = QPointF(*self.left[0]), Qt.MouseButton.LeftButton
        around = self.canvas.mapToGlobal(place)
        event = QMouseEvent(kind, place, around, button, button, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)


def open_window(model: Path, log: Log) -> Any:
    """The widget in napari's window, with a phantom and labels to paint on; saved every `INTERVAL_MS`."""
    import napari

    from napari_lungseg.phantom import thorax_ct
    from napari_lungseg.plugin import recovery
    from napari_lungseg.plugin.opening import add_item

    class Logged(recovery.Recovery):
        def _start(self) -> None:
            idle = not self.is_saving
            super()._start()
            if idle and self.is_saving:
                log.write("saving")

    viewer = napari.Viewer()
    viewer.window.resize(900, 600)
    recovery._OPEN.add(Logged(viewer, INTERVAL_MS))
    add_item(viewer, thorax_ct(shape=SHAPE)[0])
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Train on painted labels")
    widget.recovery.saved.connect(lambda: log_saved(log, widget.recovery._session.path))
    widget.paint.new_button.click()
    widget.paint.classes.renamed.emit(LUNG, "lung")
    widget.training.start.add_file(model)
    widget.training.form.update({"steps": 2, "batch_size": 2})
    return widget


def log_saved(log: Log, folder: Path) -> None:
    """Write down what lies on the disk; labels without any paint leave nothing there."""
    from napari_lungseg.training.work import open_work
    from napari_lungseg.training.work_record import RECORD

    if (folder / RECORD).exists():
        (item,) = open_work(folder).items
        log.write("saved", digest(item.labels.array))


def main(log_file: Path, seed: int, model: Path, way: str) -> None:
    import napari
    from napari.utils.notifications import notification_manager
    from qtpy.QtCore import QTimer

    with log_file.open("w", encoding="utf-8") as file:
        log = Log(file)
        notification_manager.notification_ready.connect(lambda notice: log.write("notice", notice.message))
        widget = open_window(model, log)
        widget.run.figures.connect(lambda figures: log.write("round", figures.number))
        hand = Hand(widget, log, seed)

        def go_on() -> None:
            hand.move()
            if way != PAINTING and hand.strokes > _TRAIN_AFTER and widget.run.plan is None:
                widget.training.train_button.click()
                log.write("train", widget.run.process.process_id)
            QTimer.singleShot(_EVENT_MS if hand.left else _REST_MS, go_on)

        if way == TRAINING:
            widget.run.process.ready.connect(go_on)
        else:
            QTimer.singleShot(0, go_on)
        log.write("ready")
        napari.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
