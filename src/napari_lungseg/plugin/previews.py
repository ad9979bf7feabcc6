"""Layers that show what the network says while it learns; nobody paints in them, and they overwrite nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ..training.rounds import Preview
from .appearance import features, label_colormap
from .layers import KEY, layer_facts
from .slice_bar import Place

ROLE = "preview_of"
"""Key in ``layer.metadata["napari_lungseg"]``: unique id of the image that a preview belongs to."""

FULL = "opacity"
"""Key beside it: opacity of a layer that is shown faintly for now."""

_OPACITY = 0.35
_FAINT = 0.4


def is_preview(layer: Any) -> bool:
    """Whether a layer shows what a network says while it learns."""
    return ROLE in layer.metadata.get(KEY, {})


class Previews:
    """Previews of the images that take part in a training, slice by slice.

    A layer is made when there is something to show in it: napari takes a tenth of a second for each, and an empty one says
    that nothing was found. A slice whose preview is of an earlier round is shown faintly.

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
        # Of each slice, the round that its preview is of.
        self._rounds: dict[int, np.ndarray] = {}
        self._newest, self._over = 0, False
        self._place: Place | None = None
        self._shown = (True, False)

    def begin(self, images: Mapping[int, Any], names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        """Await previews; those of an earlier training stay, faintly, until the first comes.

        Parameters
        ----------
        images : number of the image → its layer
        names, colours : of the classes
        """
        self.let_go()
        self._images, self._classes = dict(images), (names, colours)
        self._rounds, self._levels, self._newest, self._over = {}, {}, 0, False
        for image in self._images.values():
            image.events.visible.connect(self._follow)
        self._fade()

    def show(self, labels: bool, uncertainty: bool) -> None:
        """Show or hide the layers."""
        self._shown = (labels, uncertainty)
        for number in self._rounds:
            self._make(number)
        self._follow()

    def _make(self, number: int) -> None:
        """Make the layers of an image that are wanted; one that somebody removed is not made again."""
        image = self._images[number]
        if self._shown[0] and number not in self._labels:
            self._labels[number] = self._add(image, _labels_on(image, *self._classes))
        if self._shown[1] and number not in self._unsure:
            self._unsure[number] = self._add(image, _unsure_on(image, self._levels[number]))

    def _follow(self, event: object = None) -> None:
        """Show layers that are wanted, and only those of images that are shown."""
        for layers, wanted in zip((self._labels, self._unsure), self._shown, strict=True):
            for number, layer in layers.items():
                if number in self._images:
                    layer.visible = wanted and self._images[number].visible

    def look_at(self, place: Place | None) -> None:
        """Another slice is on screen."""
        self._place = place
        self._fade()

    def follow_round(self, number: int, is_kept: bool = False) -> None:
        """What is of earlier rounds is out of date; once the training is over, what is not of the one that was kept."""
        self._newest, self._over = number, is_kept
        self._fade()

    def round_of(self, place: Place | None) -> int | None:
        """The round that the preview of a slice is of; None where there is none."""
        rounds = None if place is None else self._rounds.get(place[0])
        return None if place is None or rounds is None or rounds[place[1]] < 0 else int(rounds[place[1]])

    def _fade(self) -> None:
        for number, layer in [*self._labels.items(), *self._unsure.items()]:
            here = self._place is not None and self._place[0] == number
            of = self.round_of(self._place)
            fresh = of is not None and (of == self._newest if self._over else of >= self._newest)
            stored = layer.metadata[KEY]
            if here and fresh and FULL in stored:
                layer.opacity = stored.pop(FULL)
            elif here and not fresh and FULL not in stored:
                stored[FULL] = layer.opacity
                layer.opacity *= _FAINT

    def name_classes(self, names: Mapping[int, str], colours: Mapping[int, str]) -> None:
        """Take over names and colours of classes."""
        self._classes = (names, colours)
        for layer in self._labels.values():
            layer.colormap = label_colormap(colours, layer.data.dtype)
            layer.features = features(names)

    def update(self, preview: Preview) -> None:
        """Show what came back of one slice."""
        image = self._images.get(preview.image)
        if image is None or _shape(image)[-2:] != preview.labels.shape:
            return
        if not self._rounds:
            self._remove()
        if preview.image not in self._rounds:
            self._levels[preview.image] = np.zeros(_shape(image), np.uint8)
            self._rounds[preview.image] = np.full(
                self._levels[preview.image].reshape(-1, *_shape(image)[-2:]).shape[0], -1
            )
            self._make(preview.image)
        levels = self._levels[preview.image]
        self._rounds[preview.image][preview.index] = preview.number
        # In place: setting a layer's data anew would cost a large stack tens of milliseconds.
        _slice(levels, preview.index)[...] = preview.uncertainty
        labels, unsure = self._labels.get(preview.image), self._unsure.get(preview.image)
        if labels is not None:
            _slice(labels.data, preview.index)[...] = preview.labels
        for layer in (labels, unsure):
            if layer is not None and layer.visible:
                layer.refresh(extent=False, thumbnail=False)
        self._follow()
        self._fade()

    def drop_old(self) -> None:
        """A training came to nothing: what an earlier one said goes."""
        if not self._rounds:
            self._remove()

    def _remove(self) -> None:
        """Take all previews out of the viewer, those of a widget that was closed too."""
        for layer in [layer for layer in self._viewer.layers if is_preview(layer)]:
            self._viewer.layers.remove(layer)
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
