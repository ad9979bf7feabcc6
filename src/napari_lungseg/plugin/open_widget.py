"""The *Open chest scan…* widget: files and folders, with a say in what they are."""

from __future__ import annotations

from pathlib import Path

import napari.viewer
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout

from ..io import READERS
from ..volume import Modality
from .docked import DockedWidget
from .series_chooser import open_or_choose

FILE_FILTER = f"Scans ({' '.join(f'*{suffix}' for suffix in READERS)} *.zip DICOMDIR);;All files (*)"
_READING = "Reading …"
_KINDS: dict[str, Modality | None] = {"automatic": None, "CT": "ct", "X-ray": "xray"}
_AS: dict[str, bool | None] = {"automatic": None, "image": False, "label map": True}
_SLICES = {"as scanned": False, "straight and even": True}


class OpenWidget(DockedWidget):
    """Open DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG and TIFF with geometry and intensity as the file states them.

    Parameters
    ----------
    napari_viewer : the viewer that gets the layers
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.kind, self.shown_as, self.slices = QComboBox(), QComboBox(), QComboBox()
        self.kind.addItems(list(_KINDS))
        self.shown_as.addItems(list(_AS))
        self.slices.addItems(list(_SLICES))
        self.slices.setToolTip(
            "Slices of a tilted gantry, or at uneven distances, can be resampled to a straight and even grid"
        )
        files, folder = QPushButton("Files…"), QPushButton("Folder…")
        files.setToolTip("Files of one series make one layer; pictures of one size make a stack")
        folder.setToolTip("Every series in a folder and its subfolders; of many you choose")
        files.clicked.connect(self._pick_files)
        folder.clicked.connect(self._pick_folder)
        self.buttons = (files, folder)
        row = QHBoxLayout()
        row.addWidget(files)
        row.addWidget(folder)
        form = QFormLayout()
        form.addRow("Kind", self.kind)
        form.addRow("Open as", self.shown_as)
        form.addRow("Slices", self.slices)
        self.message = QLabel("")
        self.message.setWordWrap(True)
        layout = QVBoxLayout()
        layout.addLayout(form)
        layout.addLayout(row)
        layout.addWidget(self.message)
        layout.addStretch()
        self.show_content(layout, 240)

    def open(self, paths: list[Path]) -> None:
        """Open paths in the background, as the form says."""
        self.message.setText(_READING)
        open_or_choose(
            self.viewer,
            paths,
            modality=_KINDS[self.kind.currentText()],
            labels=_AS[self.shown_as.currentText()],
            straighten=_SLICES[self.slices.currentText()],
            on_end=self._ended,
        )

    @property
    def is_reading(self) -> bool:
        """Whether something is being opened or chosen."""
        return self.message.text() == _READING

    def _ended(self) -> None:
        if not self._closed:
            self.message.setText("")

    def let_go(self) -> None:
        """What is being read is still wanted in the viewer; nothing is told here any more."""

    def _pick_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open chest scan", "", FILE_FILTER)
        if names:
            self.open([Path(name) for name in names])

    def _pick_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open the scans in a folder")
        if name:
            self.open([Path(name)])
