"""A napari session that paints a stroke every few milliseconds and saves itself; run as a program to be killed."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

INTERVAL_MS = 300
SHAPE = (6, 40, 48)


def strokes(number: int) -> np.ndarray:
    """What is painted after this many strokes."""
    array = np.zeros(SHAPE, np.uint8)
    for stroke in range(1, number + 1):
        stroke_on(array, stroke)
    return array


def stroke_on(array: Any, number: int) -> None:
    """A stroke of its own value in a place of its own."""
    where = number * 7 % array.size
    array.reshape(-1)[where] = number % 90 + 1


def main() -> None:
    from napari.components import ViewerModel
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from napari_lungseg.plugin.layers import volume_to_layer
    from napari_lungseg.plugin.painting import begin_painting
    from napari_lungseg.plugin.recovery import Recovery
    from napari_lungseg.volume import Geometry, Volume

    application = QApplication([])
    viewer = ViewerModel()
    volume = Volume(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 1000, Geometry(SHAPE), name="CT 3")
    data, attributes, _ = volume_to_layer(volume)
    image = viewer.add_image(data, **attributes)
    layer = viewer.add_layer(begin_painting(image, names={1: "nodule"}))
    recovery = Recovery(viewer, INTERVAL_MS)
    recovery.saved.connect(lambda: tell("saved"))
    painted = 0

    def paint() -> None:
        nonlocal painted
        painted += 1
        stroke_on(layer.data, painted)
        tell(f"{painted} {time.monotonic()}")

    timer = QTimer()
    timer.timeout.connect(paint)
    timer.start(5)
    application.exec()


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
