"""Labels that were changed in a review and not saved yet: kept on the disk, and shown again when the case is opened."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
from qtpy.QtCore import QObject, QTimer

from ..cohort.folder import CohortFolder
from ..cohort.review import discard_draft, keep_draft
from ..errors import LungSegError
from ..progress import Progress, drain
from ..volume import LabelMap
from .jobs import Job, report
from .recovery import INTERVAL_MS
from .review_case import ShownCase


class Draft:
    """Keeps changes of the case on screen, every 25 s in the background and when the window closes.

    Parameters
    ----------
    parent : ends the clock with itself
    """

    def __init__(self, parent: QObject) -> None:
        self._folder: CohortFolder | None = None
        self._shown: ShownCase | None = None
        self._stored: np.ndarray | None = None
        self._writing = threading.Lock()
        timer = QTimer(parent)
        timer.timeout.connect(self.keep)
        timer.start(INTERVAL_MS)

    def follow(self, folder: CohortFolder, shown: ShownCase) -> None:
        """Look after a case from now on."""
        self._folder, self._shown = folder, shown
        self._stored = np.array(shown.labels.data) if shown.opened.draft is not None else None

    def keep(self) -> None:
        """Keep what changed since the last time, in the background."""
        if steps := self._steps():
            Job(lambda: steps)

    def close(self) -> None:
        """Keep what changed, at once: the window closes."""
        try:
            if steps := self._steps():
                drain(steps)
        except LungSegError as error:
            report(error)
        self._shown = None

    def leave(self) -> None:
        """The case is left with its changes saved or discarded."""
        if self._shown is not None and self._folder is not None:
            with self._writing:
                shown, self._shown = self._shown, None
                discard_draft(self._folder, shown.opened.case)

    def _steps(self) -> Generator[Progress, None, None] | None:
        """What writes the changes, if there are any that are not on the disk."""
        folder, shown = self._folder, self._shown
        if folder is None or shown is None:
            return None
        if not shown.is_edited:
            with self._writing:  # one that is just being written would be taken for kept afterwards
                self._stored = None
                discard_draft(folder, shown.opened.case)
            return None
        if self._stored is not None and np.array_equal(self._stored, shown.labels.data):
            return None
        return self._write(folder, shown, np.array(shown.labels.data), shown.snapshot())

    def _write(
        self, folder: CohortFolder, shown: ShownCase, data: np.ndarray, labels: LabelMap
    ) -> Generator[Progress, None, None]:
        yield Progress(0, 1, "Keeping changed labels …")
        with self._writing:
            if self._shown is shown:  # not left meanwhile
                keep_draft(folder, shown.opened.case, labels)
                self._stored = data
