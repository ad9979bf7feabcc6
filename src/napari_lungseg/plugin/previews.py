"""Layers that show what the network says while it learns; nobody paints in them, and they overwrite nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ..training.rounds import Preview
from .appearance import features, label_colormap
from .layers import KEY

ROLE = "preview_of"
"""Key in ``layer.metadata["napari_lungseg"]``: unique id of the image that a preview belongs to."""

_OPACITY = 0.35


def is_preview(layer: Any) -> bool:
    """Whether a layer shows what a network says while it learns."""
    return ROLE in layer.metadata.get(KEY, {})


class Previews:
    """Previews of the images that take part in a training.

    Parameters
    ----------
    viewer : napari viewer or viewer model
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._labels: dict[int, Labels] = {}
        self._unsure: dict[int, Image] = {}
        self._shown = (True, False)

    def begin(self, images: Mapping[int, Any], names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        """Show empty previews, just above their images; those of an earlier training go.

        Parameters
        ----------
        images : number of the image → its layer
        names, colours : of the classes
        """
        self.remove()
        active = self._viewer.layers.selection.active
        for number, image in images.items():
            self._labels[number] = _labels_on(image, names, colours)
            self._unsure[number] = _unsure_on(image)
            for layer in (self._unsure[number], self._labels[number]):
                self._viewer.layers.insert(self._viewer.layers.index(image) + 1, layer)
        self.show(*self._shown)
        # A new layer becomes the active one, and whoever paints would paint there.
        self._viewer.layers.selection.active = active

    def show(self, labels: bool, uncertainty: bool) -> None:
        """Show or hide the layers."""
        self._shown = (labels, uncertainty)
        for layers, visible in ((self._labels, labels), (self._unsure, uncertainty)):
            for layer in layers.values():
                layer.visible = visible

    def name_classes(self, names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        """Take over names and colours of classes."""
        for layer in self._labels.values():
            layer.colormap = label_colormap(colours, layer.data.dtype)
            layer.features = features(names)

    def update(self, preview: Preview) -> None:
        """Show what came back of one slice."""
        pairs = ((self._labels, preview.labels), (self._unsure, preview.uncertainty))
        for layers, array in pairs:
            layer = layers.get(preview.image)
            if layer is None or layer.data.shape[-2:] != array.shape:
                continue
            # In place: setting a layer's data anew would cost a large stack tens of milliseconds.
            shown = layer.data if layer.ndim == 2 else layer.data[preview.index]
            shown[...] = array
            if layer.visible:
                layer.refresh(extent=False, thumbnail=False)

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        for layer in (*self._labels.values(), *self._unsure.values()):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._labels, self._unsure = {}, {}


def _placed(image: Any, what: str) -> dict[str, Any]:
    stored = {name: value for name, value in image.metadata.get(KEY, {}).items() if name == "geometry"}
    return {
        "scale": image.scale,
        "translate": image.translate,
        "units": image.units,
        "axis_labels": image.axis_labels,
        "name": f"{image.name} – {what}",
        "metadata": {KEY: {**stored, ROLE: str(image.unique_id)}},
    }


def _labels_on(image: Any, names: Mapping[int, str], colours: Mapping[int, str]) -> Labels:
    empty = np.zeros(_shape(image), np.uint8)
    layer = Labels(
        empty,
        colormap=label_colormap(colours, empty.dtype),
        features=features(names),
        opacity=_OPACITY,
        blending="translucent_no_depth",
        **_placed(image, "preview"),
    )
    layer.editable = False
    return layer


def _unsure_on(image: Any) -> Image:
    return Image(
        np.zeros(_shape(image), np.uint8),
        contrast_limits=(0, 255),
        colormap="inferno",
        blending="additive",
        opacity=0.7,
        visible=False,
        **_placed(image, "uncertainty"),
    )


def _shape(image: Any) -> tuple[int, ...]:
    return tuple(image.data.shape[: image.ndim])
