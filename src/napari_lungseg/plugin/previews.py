"""Layers that show what the network says while it learns; nobody paints in them, and they overwrite nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ..training.rounds import Preview
from .appearance import features, label_colormap
from .layers import KEY, layer_facts

ROLE = "preview_of"
"""Key in ``layer.metadata["napari_lungseg"]``: unique id of the image that a preview belongs to."""

_OPACITY = 0.35


def is_preview(layer: Any) -> bool:
    """Whether a layer shows what a network says while it learns."""
    return ROLE in layer.metadata.get(KEY, {})


class Previews:
    """Previews of the images that take part in a training.

    A layer is made when it is first wanted, for napari takes a tenth of a second for each.

    Parameters
    ----------
    viewer : napari viewer or viewer model
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._images: dict[int, Any] = {}
        self._classes: tuple[Mapping[int, str], Mapping[int, str]] = ({}, {})
        self._labels: dict[int, Labels] = {}
        self._unsure: dict[int, Image] = {}
        self._levels: dict[int, np.ndarray] = {}
        self._shown = (True, False)

    def begin(self, images: Mapping[int, Any], names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        """Show empty previews, just above their images; those of an earlier training go.

        Parameters
        ----------
        images : number of the image → its layer
        names, colours : of the classes
        """
        self.remove()
        self._images, self._classes = dict(images), (names, colours)
        self._levels = {number: np.zeros(_shape(image), np.uint8) for number, image in images.items()}
        for image in self._images.values():
            image.events.visible.connect(self._follow)
        self.show(*self._shown)

    def show(self, labels: bool, uncertainty: bool) -> None:
        """Show or hide the layers."""
        self._shown = (labels, uncertainty)
        if labels and not self._labels:
            self._labels = {n: self._add(image, _labels_on(image, *self._classes)) for n, image in self._images.items()}
        if uncertainty and not self._unsure:
            self._unsure = {
                n: self._add(image, _unsure_on(image, self._levels[n])) for n, image in self._images.items()
            }
        self._follow()

    def _follow(self, event: object = None) -> None:
        """Show layers that are wanted, and only those of images that are shown."""
        for layers, wanted in zip((self._labels, self._unsure), self._shown, strict=True):
            for number, layer in layers.items():
                layer.visible = wanted and self._images[number].visible

    def name_classes(self, names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        """Take over names and colours of classes."""
        self._classes = (names, colours)
        for layer in self._labels.values():
            layer.colormap = label_colormap(colours, layer.data.dtype)
            layer.features = features(names)

    def update(self, preview: Preview) -> None:
        """Show what came back of one slice."""
        levels = self._levels.get(preview.image)
        if levels is None or levels.shape[-2:] != preview.labels.shape:
            return
        # In place: setting a layer's data anew would cost a large stack tens of milliseconds.
        _slice(levels, preview.index)[...] = preview.uncertainty
        labels, unsure = self._labels.get(preview.image), self._unsure.get(preview.image)
        if labels is not None:
            _slice(labels.data, preview.index)[...] = preview.labels
        for layer in (labels, unsure):
            if layer is not None and layer.visible:
                layer.refresh(extent=False, thumbnail=False)

    def remove(self) -> None:
        """Take all previews out of the viewer, those of a widget that was closed too."""
        for layer in [layer for layer in self._viewer.layers if is_preview(layer)]:
            self._viewer.layers.remove(layer)
        self.let_go()
        self._labels, self._unsure = {}, {}

    def let_go(self) -> None:
        """Follow the images no more."""
        for image in self._images.values():
            image.events.visible.disconnect(self._follow)
        self._images = {}

    def _add(self, image: Any, layer: Any) -> Any:
        """Add a layer just above its image, and leave the active layer what it is: somebody may paint in it."""
        layers = self._viewer.layers
        active = layers.selection.active
        layers.insert(layers.index(image) + 1 if image in layers else len(layers), layer)
        layers.selection.active = active
        return layer


def _slice(array: np.ndarray, index: int) -> np.ndarray:
    return array if array.ndim == 2 else array[index]


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


def _unsure_on(image: Any, levels: np.ndarray) -> Image:
    return Image(
        levels,
        contrast_limits=(0, 255),
        colormap="inferno",
        blending="additive",
        opacity=0.7,
        visible=False,
        **_placed(image, "uncertainty"),
    )


def _shape(image: Any) -> tuple[int, ...]:
    return layer_facts(image).shape
