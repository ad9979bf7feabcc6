"""Work that must be done in the window's own thread, a moment at a time, so that the window stays alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from qtpy.QtCore import QTimer

from .jobs import window_is_running

MOMENT_S = 0.03


def paced(steps: Iterator[object], on_end: Callable[[], object]) -> None:
    """Go through all steps, then call ``on_end``; at once where no window waits for events."""
    at_once = not window_is_running()

    def go_on() -> None:
        until = time.perf_counter() + MOMENT_S
        for _ in steps:
            if not at_once and time.perf_counter() > until:
                QTimer.singleShot(0, go_on)
                return
        on_end()

    go_on()
