"""The *Segment lungs* widget."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from time import perf_counter
from typing import Any

import napari.layers
import napari.viewer
from napari.utils.notifications import show_warning
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QProgressBar,
    QPushButton,
    QToolButton,
    QVBoxLayout,
)
from superqt import QCollapsible

from ..errors import LungSegError
from ..findings import Finding
from ..models.catalog import entries, load_model
from ..progress import Progress
from ..segmentation.confidence import confidence_of
from ..segmentation.devices import DEVICES
from ..segmentation.predict import SegmentSettings
from ..volume import LabelMap, Modality
from . import segmenting
from .docked import DockedWidget
from .fetching import agreed, offer_to_fetch
from .form import SettingsForm
from .jobs import Job, report
from .layers import KEY, KINDS, check_axes, layer_facts
from .memory import recall, remember
from .previews import is_preview
from .run_folders import title_of
from .segmenting import Request
from .shortcuts import KEYS, Shortcuts
from .tools import ViewTools
from .traffic_light import TrafficLight
from .uncertainty import uncertainty_box
from .warm import Warmer
from .window import letters_of

_AUTOMATIC_MODEL = "bundled model for this kind of image"
_NAME = "segment"


class SegmentWidget(DockedWidget):
    """Segment the lungs of an Image layer into a Labels layer.

    Parameters
    ----------
    napari_viewer : the viewer it works on
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.job: Job | None = None
        self.result: napari.layers.Layer | None = None
        self._started = 0.0
        self._told_of: Any = None
        self._build()
        self._restore()
        for emitter, callback in self._followed():
            emitter.connect(callback)
        self.shortcuts = Shortcuts(self.viewer, {"segment": self.run, "cancel": self.cancel})
        self.warmer = Warmer(self)
        letters_of(self.viewer)
        self._refresh_images()

    # What is chosen

    @property
    def image(self) -> napari.layers.Image | None:
        """The Image layer that will be segmented."""
        layer: napari.layers.Image | None = self._images.currentData()
        return layer

    @image.setter
    def image(self, layer: napari.layers.Image) -> None:
        self._images.setCurrentIndex(self._images.findText(layer.name))

    @property
    def model(self) -> str | None:
        """Name or path of the model, None for the bundled one of the modality."""
        value: str | None = self._models.currentData()
        return value

    @property
    def modality(self) -> Modality | None:
        """What the image is, where the user overrules what it says."""
        return KINDS[self._kind.currentText()]

    def request(self) -> Request:
        """What Run will do.

        Raises
        ------
        LungSegError
            When no image is open, or it has axes that are not space.
        """
        layer = self.image
        if layer is None:
            raise LungSegError("No image is open. Drop a DICOM folder, a NIfTI or an X-ray on the window first.")
        facts = layer_facts(layer)
        check_axes(facts)
        return Request(
            facts=facts,
            image_id=layer.unique_id,
            model=self.model,
            device=self._device.currentText(),
            settings=self.form.settings,
            modality=self.modality,
            index=self._index(layer) if self._one_slice.isChecked() and layer.ndim == 3 else None,
            uncertainty=self._unsure.isChecked(),
        )

    def _index(self, layer: napari.layers.Image) -> int:
        dims = self.viewer.dims
        first = dims.ndim - layer.ndim
        if dims.ndisplay != 2 or first in dims.displayed:
            raise LungSegError(
                "No single slice is on screen: show the axial slices in 2-D, or segment the whole stack."
            )
        index = round(float(layer.world_to_data(dims.point)[0]))
        if not 0 <= index < layer.data.shape[0]:
            raise LungSegError(f"The viewer stands outside of {layer.name!r}. Move the slider to one of its slices.")
        return index

    # Running

    def run(self) -> None:
        """Start segmenting, in the background."""
        if self.job is not None:
            return
        try:
            request = self.request()
        except LungSegError as error:
            report(error)
            return
        offer = offer_to_fetch(request.model)
        if offer is not None:
            if not agreed(self, offer):
                return
            request = dataclasses.replace(request, fetch=True)
        self._remember()
        self._started = perf_counter()
        self._show_findings(())
        self._time.setText("")
        self.job = Job(
            lambda: segmenting.segment_steps(request),
            on_progress=self._progress,
            on_result=lambda result: self._finished(request, *result),
            on_error=self._failed,
            on_end=self._ended,
        )
        self._enable()

    def cancel(self) -> None:
        """Stop the run at its next step."""
        if self.job is not None:
            self.job.cancel()
            self._message.setText("Cancelling …")

    def _progress(self, step: Progress) -> None:
        self._bar.setMaximum(step.total)
        self._bar.setValue(step.done)
        self._message.setText(step.message)

    def _finished(
        self, request: Request, labels: LabelMap, layer: napari.layers.Labels, unsure: napari.layers.Image | None
    ) -> None:
        segmenting.show_result(self.viewer, layer, unsure)
        self.result = layer
        seconds = perf_counter() - self._started
        device = labels.record.get("device", "")
        self._time.setText(f"Took {seconds:.1f} s" + (f" on {device}" if device else ""))
        confidence = confidence_of(labels)
        # The light gives its reason itself.
        told = "" if confidence is None else confidence.reason
        findings = (*request.facts.stored.get("findings", ()), *labels.findings)
        self._show_findings(tuple(finding for finding in findings if finding.message != told))
        self.light.tell(confidence)
        if labels.findings:
            show_warning("\n".join(finding.message for finding in labels.findings))

    def _failed(self, error: Exception) -> None:
        self._show_findings((Finding("failed", str(error)),))
        report(error)

    def _ended(self) -> None:
        cancelled = self._message.text().startswith("Cancelling")
        self.job = None
        self._bar.setMaximum(1)
        self._bar.setValue(0)
        self._message.setText("Cancelled; nothing was changed." if cancelled else "")
        self._enable()

    def _show_findings(self, findings: tuple[Finding, ...]) -> None:
        self._findings.clear()
        self._findings.addItems([finding.message for finding in findings])
        self._findings.setVisible(bool(findings))
        self.light.tell(None)

    # Building

    def _build(self) -> None:
        layout = QVBoxLayout()
        layout.addLayout(self._build_choices())
        layout.addWidget(self._build_options())
        layout.addLayout(self._build_buttons())
        self._bar = QProgressBar()
        self._bar.setMaximum(1)
        self._bar.setTextVisible(False)
        self._message, self._time = QLabel(""), QLabel("")
        self._message.setWordWrap(True)
        self._findings = QListWidget()
        self._findings.setWordWrap(True)
        self._findings.setMaximumHeight(110)
        self._findings.setToolTip("What was noticed in this scan or its result")
        self._findings.setVisible(False)
        self.light = TrafficLight()
        for widget in (self._bar, self._message, self._time, self.light, self._findings):
            layout.addWidget(widget)
        self.tools = ViewTools(self.viewer)
        layout.addWidget(self.tools)
        layout.addStretch()
        self.show_content(layout, 320)

    def _build_choices(self) -> QFormLayout:
        self._images, self._models = QComboBox(), QComboBox()
        self._kind, self._device = QComboBox(), QComboBox()
        for box in (self._images, self._models):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(14)
        self._images.currentIndexChanged.connect(self._enable)
        self._images.setToolTip("Any image layer; follows the active layer")
        self._models.addItem(_AUTOMATIC_MODEL, None)
        for entry in entries():
            if not entry.problem:
                missing = ", fetched when first used" if entry.model is None else ""
                self._models.addItem(f"{entry.spec.name} ({entry.spec.version}{missing})", entry.spec.name)
        pick = QToolButton()
        pick.setText("…")
        pick.setToolTip("Choose a model file (.safetensors)")
        pick.clicked.connect(self._pick_model)
        models = QHBoxLayout()
        models.addWidget(self._models, 1)
        models.addWidget(pick)
        self._kind.addItems(list(KINDS))
        self._kind.setToolTip("What the image is, where it does not say it itself or says it wrongly")
        self._device.addItems(list(DEVICES))
        self._device.setToolTip("auto takes the graphics card where there is one")
        self._one_slice, self._unsure = QCheckBox("only the slice on screen"), uncertainty_box()
        form = QFormLayout()
        rows = (("Image", self._images), ("Model", models), ("Kind", self._kind), ("Device", self._device))
        for label, row in rows:
            form.addRow(label, row)
        for check in (self._one_slice, self._unsure):
            form.addRow("", check)
        return form

    def _build_buttons(self) -> QHBoxLayout:
        self.run_button, self.cancel_button = QPushButton("Segment"), QPushButton("Cancel")
        self.run_button.setToolTip(f"Segment the lungs ({KEYS['segment']})")
        self.cancel_button.setToolTip(f"Stop at the next step ({KEYS['cancel']})")
        self.run_button.clicked.connect(lambda: self.run())
        self.cancel_button.clicked.connect(lambda: self.cancel())
        row = QHBoxLayout()
        row.addWidget(self.run_button, 1)
        row.addWidget(self.cancel_button)
        return row

    def _build_options(self) -> QCollapsible:
        self.form = SettingsForm(SegmentSettings)
        folded = QCollapsible("Options")
        for rows in (self.form.plain, self.form.advanced):
            if len(rows):
                folded.addWidget(rows.native)
        return folded

    def _pick_model(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Choose a model file", "", "Models (*.safetensors)")
        if name:
            self.add_model(Path(name))

    def add_model(self, path: Path, told: str = "") -> None:
        """Offer a model file beside the bundled ones, and choose it; a file that is no model is told.

        Parameters
        ----------
        path : of the model file
        told : what it is called in the list; empty for what `title_of` says
        """
        try:
            load_model(path)
            title = told or title_of(path)
        except LungSegError as error:
            report(error)
            return
        if self._models.findData(str(path)) < 0:
            self._models.addItem(title, str(path))
        self._models.setCurrentIndex(self._models.findData(str(path)))

    # Following the viewer

    def _refresh_images(self, event: object = None) -> None:
        chosen = self.image
        with QSignalBlocker(self._images):
            self._images.clear()
            for layer in self.viewer.layers:
                if isinstance(layer, napari.layers.Image) and not is_preview(layer):
                    self._images.addItem(layer.name, layer)
            if chosen is not None and chosen in self.viewer.layers:
                self.image = chosen
        self._follow_active()

    def _follow_active(self, event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if isinstance(active, napari.layers.Image) and self._images.findText(active.name) >= 0:
            self.image = active
        self._enable()

    def _enable(self, *_: object) -> None:
        running, image = self.job is not None, self.image
        self.run_button.setText("Running …" if running else f"Segment {image.name}" if image is not None else "Segment")
        self.run_button.setEnabled(not running and image is not None)
        self.cancel_button.setEnabled(running)
        self._one_slice.setEnabled(image is not None and image.ndim == 3)
        if not running and image is not self._told_of:
            self._told_of = image
            self._time.setText("")
            self._show_findings(tuple(image.metadata.get(KEY, {}).get("findings", ())) if image is not None else ())

    # Remembering

    def _restore(self) -> None:
        kept = recall(_NAME)
        path = kept.get("model")
        if path and self._models.findData(path) < 0 and Path(path).is_file():
            self.add_model(Path(path))
        for box, value in ((self._device, kept.get("device")), (self._kind, kept.get("kind"))):
            if value and box.findText(value) >= 0:
                box.setCurrentText(value)
        if path and self._models.findData(path) >= 0:
            self._models.setCurrentIndex(self._models.findData(path))
        self.form.update(kept.get("settings", {}))

    def _remember(self) -> None:
        kept = {
            "model": self.model,
            "device": self._device.currentText(),
            "kind": self._kind.currentText(),
            "settings": self.form.values,
        }
        remember(_NAME, kept)

    # Leaving

    def let_go(self) -> None:
        """Stop the run and call nothing back."""
        if self.job is not None:
            self.job.detach()
        self.shortcuts.remove()
        self.tools.close_down()
        for emitter, callback in self._followed():
            emitter.disconnect(callback)

    def _followed(self) -> list[tuple[Any, Any]]:
        layers = self.viewer.layers
        return [
            (layers.events.inserted, self._refresh_images),
            (layers.events.removed, self._refresh_images),
            (layers.events.renamed, self._refresh_images),
            (layers.selection.events.active, self._follow_active),
        ]
