"""The *PACS* widget: query a DICOMweb server, open a series, send a segmentation back."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path

import napari.viewer
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout

from ..analysis.table import Table
from ..io import write
from ..io.dicomweb import RemoteSeries, query, retrieve, store
from ..io.pacs_session import Credentials
from ..progress import Progress
from ..volume import Geometry, LabelMap
from . import opening
from .compare_widget import is_comparable
from .contributions import painted_geometry, source_under
from .docked import DockedWidget
from .job_box import JobBox
from .jobs import Steps
from .layer_choice import LayerChoice
from .layers import layer_facts, layer_to_labels
from .memory import recall, remember
from .table_view import TableView

_NAME = "pacs"
_COLUMNS = ("patient", "date", "series", "description", "images")


class PacsWidget(DockedWidget):
    """Find a series on a server, open it, and send a segmentation of it back.

    Parameters
    ----------
    napari_viewer : the viewer that gets the layers

    Notes
    -----
    User and password are kept in their fields alone; the address of a server that answered is remembered.
    Retrieved files lie in a temporary folder that ends with the widget.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.found: list[RemoteSeries] = []
        self.chosen: RemoteSeries | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="lungseg-", ignore_cleanup_errors=True)
        self._build()

    def search(self) -> None:
        """List the series that match, in the background."""
        filters = {name: field.text().strip() for name, field in self.filters.items()}
        modality = self.modality.text().strip().upper()
        steps = partial(query, self.url.text().strip(), filters, modality=modality, credentials=self._credentials())
        self.box.start(steps, self._listed)

    def open_chosen(self) -> None:
        """Retrieve the chosen series and open it."""
        if self.chosen is None:
            return
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        steps = partial(retrieve, self.url.text().strip(), self.chosen, folder, credentials=self._credentials())
        self.box.start(steps, lambda path: opening.open_paths(self.viewer, [path]))

    def send(self) -> None:
        """Write the chosen labels as a DICOM segmentation and store it."""
        layer = self.labels.layer
        if layer is not None:
            facts = layer_facts(layer)
            known = isinstance(facts.stored.get("geometry"), Geometry)
            labels = layer_to_labels(facts, None if known else painted_geometry(facts, self.viewer))
            source = source_under(labels, self.viewer)
            steps = partial(send_steps, labels, source, self.url.text().strip(), self._credentials())
            self.box.start(steps, lambda count: self.box.tell("The segmentation is stored."))

    def _credentials(self) -> Credentials | None:
        user, password = self.user.text(), self.password.text()
        return Credentials(user=user, password=password) if user else None

    def _listed(self, found: list[RemoteSeries]) -> None:
        self.found, self.chosen = found, None
        remember(_NAME, {"server": self.url.text().strip()})  # it has answered, so there is no password in it
        self.table.show_table(Table(_COLUMNS, tuple(_row(series) for series in found)), {})
        self.box.tell(f"{len(found)} series. Choose one, then Open." if found else "Nothing on the server matches.")
        self._enable()

    def _choose(self, row: int) -> None:
        self.chosen = self.found[row]
        self._enable()

    def _build(self) -> None:
        self.url, self.user, self.password = QLineEdit(), QLineEdit(), QLineEdit()
        self.url.setText(str(recall(_NAME).get("server", "")))
        self.url.setPlaceholderText("https://pacs.example.org/dicom-web")
        self.user.setPlaceholderText("from the environment or netrc where empty")
        self.password.setEchoMode(QLineEdit.EchoMode.Password)
        self.filters = {"patient_id": QLineEdit(), "patient_name": QLineEdit(), "date": QLineEdit()}
        self.modality = QLineEdit("CT")
        form = QFormLayout()
        form.addRow("Server", self.url)
        form.addRow("User", self.user)
        form.addRow("Password", self.password)
        for title, field in zip(("Patient's number", "Patient's name", "Date"), self.filters.values(), strict=True):
            field.setPlaceholderText("2024-01-01-2024-12-31" if title == "Date" else "* matches anything")
            form.addRow(title, field)
        form.addRow("Modality", self.modality)
        for field in (self.url, self.user, self.password, *self.filters.values(), self.modality):
            field.returnPressed.connect(self.search)
        self.url.editingFinished.connect(lambda: self.url.home(False))
        self.box, self.table = JobBox("Search", self.search), TableView()
        self.table.setToolTip("Click a series to choose it, twice to open it; click a heading to sort")
        self.table.doubleClicked.connect(lambda _: self.open_chosen())
        if (numbers := self.table.verticalHeader()) is not None:
            numbers.hide()
        self.box.changed.connect(self._enable)
        self.table.chosen.connect(self._choose)
        self.open_button, self.send_button = QPushButton("Open"), QPushButton("Send segmentation")
        self.open_button.clicked.connect(lambda: self.open_chosen())
        self.send_button.setToolTip("Store these labels on the server as a DICOM segmentation of their series")
        self.send_button.clicked.connect(lambda: self.send())
        self.labels = LayerChoice(self.viewer, is_comparable)
        self.labels.chosen.connect(self._enable)
        row = QHBoxLayout()
        row.addWidget(self.labels, 1)
        row.addWidget(self.send_button)
        layout = QVBoxLayout()
        layout.addLayout(form)
        for widget in (self.box, self.table, self.open_button):
            layout.addWidget(widget)
        layout.addLayout(row)
        layout.addStretch()
        self.show_content(layout, 340)
        self._enable()

    def _enable(self) -> None:
        self.open_button.setEnabled(self.chosen is not None and not self.box.is_running)
        self.send_button.setEnabled(self.labels.layer is not None and not self.box.is_running)

    def let_go(self) -> None:
        """Stop what runs, and take retrieved files away."""
        self.box.close_down()
        self.labels.close_down()
        self._folder.cleanup()


def _row(series: RemoteSeries) -> tuple[object, ...]:
    date = re.sub(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", series.date)
    kind = f"{series.modality} {'' if series.number is None else series.number}".strip()
    return series.alias, date, kind, series.neutral_description, series.instances


def send_steps(labels: LabelMap, source: str | None, url: str, signed: Credentials | None) -> Steps:
    """Write labels as a DICOM segmentation of the scan they lie on and store it; nothing is left on the disk."""
    yield Progress(0, 0, "Writing the segmentation …")
    with tempfile.TemporaryDirectory(prefix="lungseg-") as folder:
        path = write(labels, Path(folder) / "labels.seg.dcm", reference=source)
        return (yield from store(url, [path], credentials=signed))
