"""Choosing among the series of a folder, a ZIP file or a disc before anything of them is read but headers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..errors import LungSegError
from ..io.discover import is_container
from ..io.series_entry import SeriesEntry
from ..io.series_list import SeriesList, iter_list_series
from ..io.thumbnail import thumbnail
from ..progress import Progress
from .jobs import Job, report
from .opening import open_paths
from .series_table import PICTURE, SeriesTable

# Scans that open together without a question: a CT in two reconstructions and its overview image.
AT_ONCE = 3
# Of several scans in one study: more files than this are long to read.
MANY_FILES = 500
# What is listed sooner shows no window meanwhile.
PATIENCE_MS = 700


def open_or_choose(
    viewer: Any, paths: Sequence[Path], *, on_end: Callable[[], object] | None = None, **how: Any
) -> None:
    """Open paths in the background; of one that holds many series, let the person choose first.

    Parameters
    ----------
    viewer : that gets the layers; where it has no window, everything is opened
    paths : files, folders, ZIP files, DICOMDIRs
    on_end : called once, when all is opened or given up
    how : ``modality``, ``labels`` and ``straighten``, as `open_paths` takes them
    """
    window: Any = getattr(viewer, "window", None)
    containers = [path for path in paths if is_container(path)] if window is not None else []
    files = [path for path in paths if path not in containers]
    left = len(containers) + bool(files)

    def one_ended() -> None:
        nonlocal left
        left -= 1
        if left == 0 and on_end is not None:
            on_end()

    if files:
        open_paths(viewer, files, on_end=one_ended, **how)
    for path in containers:
        SeriesChooser(viewer, path, window.main_menu.window(), on_end=one_ended, **how)


def needs_choice(listed: SeriesList) -> bool:
    """Whether a person would hardly want all of these scans at once; labels open with theirs."""
    scans = listed.scans
    files = sum(len(entry.files) for entry in scans)
    return listed.studies > 1 or len(scans) > AT_ONCE or (len(scans) > 1 and files > MANY_FILES)


class SeriesChooser(QDialog):
    """The series of one container, as a table to choose from; what needs no choice opens at once.

    It shows itself when it has something to ask, or when listing takes a while.

    Parameters
    ----------
    viewer : that gets the layers
    path : a folder, a ZIP file or a DICOMDIR
    parent : the window
    on_end : called once, when the choice is opened or given up; not where the window goes
    how : see `open_or_choose`
    """

    def __init__(
        self,
        viewer: Any,
        path: Path,
        parent: QWidget | None = None,
        *,
        on_end: Callable[[], object] | None = None,
        **how: Any,
    ) -> None:
        super().__init__(parent)
        self.viewer, self.path, self.listed = viewer, path, SeriesList(())
        self._on_end, self._how = on_end, how
        self._build()
        self.destroyed.connect(lambda: self.close_down())
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self.show)
        self._patience.start(PATIENCE_MS)
        self.job = Job(
            lambda: iter_list_series(path), on_progress=self._tell, on_result=self._show, on_error=self._give_on
        )
        # Nobody else keeps it while it is not shown.
        _OPEN.add(self)

    def open_chosen(self) -> None:
        """Open the selected series."""
        self._open([self.listed.entries[row] for row in self.table.selected])

    def open_largest(self) -> None:
        """Open the CT series with the most slices."""
        largest = self.listed.largest_ct()
        self._open([largest] if largest else [])

    def close_down(self) -> None:
        """Stop what runs. Touches no Qt object, which may be gone already."""
        self.job.detach()
        _OPEN.discard(self)

    def done(self, result: int) -> None:
        """Stop what runs and go; where nothing was opened, say that it is over."""
        self._patience.stop()
        self.close_down()
        super().done(result)
        self._ended()
        self.deleteLater()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 (Qt's name)
        """Closed by its frame, it is given up as by Esc."""
        self.reject()

    def _open(self, sources: Sequence[Path | SeriesEntry]) -> None:
        if sources:
            open_paths(self.viewer, sources, on_end=self._on_end, **self._how)
            self._on_end = None
            self.accept()

    def _ended(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _tell(self, step: Progress) -> None:
        self.bar.setMaximum(step.total)
        self.bar.setValue(step.done)
        count = f" {step.done:,} of {step.total:,}" if step.total else ""
        self.message.setText(f"{step.message}{count}")

    def _give_on(self, error: Exception) -> None:
        """What holds no series may hold volumes and pictures; what is damaged is told by its reader."""
        if isinstance(error, LungSegError):
            self._open([self.path])
        else:
            report(error)
            self.reject()

    def _show(self, listed: SeriesList) -> None:
        self._patience.stop()
        self.listed = listed
        if not needs_choice(listed):
            self._open([self.path])
            return
        self.bar.hide()
        self.message.setText(_summary(listed))
        self.findings.setText("\n".join(finding.message for finding in listed.findings))
        self.findings.setVisible(bool(listed.findings))
        self.table.show_series(listed.entries)
        largest = listed.largest_ct()
        self.largest_button.setEnabled(largest is not None)
        self.names.setEnabled(True)
        self.table.mark(listed.entries.index(largest) if largest else 0)
        self.show()
        self.table.setFocus()
        self.job = Job(
            lambda: thumbnail_steps(listed.entries),
            on_progress=lambda step: self.table.show_picture(*step.payload) if step.payload else None,
        )

    def _enable(self) -> None:
        count = len(self.table.selected)
        self.open_button.setEnabled(count > 0)
        self.open_button.setText(f"Open {count} series" if count > 1 else "Open")

    def _build(self) -> None:
        # Not the path: folders are called after patients.
        self.setWindowTitle("Choose series")
        self.message, self.findings, self.bar = QLabel("Looking for files …"), QLabel(""), QProgressBar()
        self.bar.setMaximum(0)
        self.bar.setTextVisible(False)
        self.findings.setWordWrap(True)
        self.findings.hide()
        self.table = SeriesTable()
        self.table.doubleClicked.connect(lambda index: self.open_chosen())
        self.table.selection_changed.connect(self._enable)
        self.names = QCheckBox("Show patients' names")
        self.names.setToolTip("In this window only; layers, tables and reports never name patients")
        self.names.setEnabled(False)
        self.names.toggled.connect(self.table.show_names)
        self.largest_button, self.open_button = QPushButton("Largest CT"), QPushButton("Open")
        self.cancel_button = QPushButton("Cancel")
        self.largest_button.setToolTip("Open the CT series with the most slices, overview images aside")
        self.largest_button.setEnabled(False)
        self.open_button.setEnabled(False)
        self.largest_button.clicked.connect(lambda: self.open_largest())
        self.open_button.clicked.connect(lambda: self.open_chosen())
        self.cancel_button.clicked.connect(lambda: self.reject())
        # Enter in the table opens what is selected.
        self.open_button.setDefault(True)
        row = QHBoxLayout()
        row.addWidget(self.names, 1)
        for button in (self.largest_button, self.open_button, self.cancel_button):
            row.addWidget(button)
        layout = QVBoxLayout(self)
        for widget in (self.message, self.bar, self.table, self.findings):
            layout.addWidget(widget)
        layout.addLayout(row)
        self.resize(940, 560)


# Those that list or are shown.
_OPEN: set[SeriesChooser] = set()


def _summary(listed: SeriesList) -> str:
    patients = len({entry.patient for entry in listed.entries})
    whose = f"{patients} patients" if patients > 1 else "one patient"
    studies = f"{listed.studies} studies" if listed.studies > 1 else "one study"
    return f"{len(listed.entries)} series in {studies} of {whose}. Choose one, or several with Ctrl and Shift."


def thumbnail_steps(entries: Sequence[SeriesEntry]) -> Generator[Progress, None, None]:
    """Pictures of the scans, one after the other; each step's payload is a row and its picture. What fails has none."""
    for row, entry in enumerate(entries):
        picture: np.ndarray | None = None
        if not entry.is_labels:
            with contextlib.suppress(Exception):  # pydicom raises anything on damaged bytes; opening it will tell
                picture = thumbnail(entry, PICTURE)
        yield Progress(row + 1, len(entries), "Drawing …", None if picture is None else (row, picture))
