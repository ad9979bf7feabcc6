"""A list of the viewer's layers of one kind to choose from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QSignalBlocker, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QComboBox, QWidget

from .layers import KEY

_COUNTER = re.compile(r" \[\d+\]$")


class LayerChoice(QComboBox):
    """Follows the viewer's layers; keeps what was chosen while it is open.

    Signals
    -------
    chosen : another layer is chosen, or none is left

    Parameters
    ----------
    viewer : napari viewer or viewer model
    wanted : whether a layer is offered
    parent : owner
    """

    chosen = Signal()

    def __init__(self, viewer: Any, wanted: Callable[[Layer], bool], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._wanted = viewer, wanted
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(14)
        self.currentIndexChanged.connect(lambda index: self.chosen.emit())
        for emitter in self._followed():
            emitter.connect(self.refresh)
        self.refresh()

    @property
    def layer(self) -> Any:
        """The layer that is chosen, or None."""
        return self.currentData()

    @layer.setter
    def layer(self, layer: Layer | None) -> None:
        if layer is not None and layer in self.layers:
            self.setCurrentIndex(self.layers.index(layer))

    @property
    def layers(self) -> list[Any]:
        """The layers that are offered, the lowest first."""
        return [self.itemData(index) for index in range(self.count())]

    def refresh(self, event: object = None) -> None:
        """Offer what is open now."""
        before = self.layer
        wanted = [layer for layer in self._viewer.layers if self._wanted(layer)]
        names = [_COUNTER.sub("", layer.name) for layer in wanted]
        with QSignalBlocker(self):
            self.clear()
            for layer, name in zip(wanted, names, strict=True):
                file = Path(layer.metadata.get(KEY, {}).get("source") or layer.source.path or "").name
                # Files tell apart what napari only numbers; they may name patients, and are shown where there is need.
                self.addItem(f"{layer.name} ({file})" if file and names.count(name) > 1 else layer.name, layer)
            self.layer = before
        if self.layer is not before:
            self.chosen.emit()

    def close_down(self) -> None:
        """Let go of the viewer. Touches no Qt object, which may be gone already."""
        for emitter in self._followed():
            emitter.disconnect(self.refresh)

    def _followed(self) -> list[Any]:
        events = self._viewer.layers.events
        return [events.inserted, events.removed, events.renamed]
