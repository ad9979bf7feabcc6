"""The layer that shows where a network was torn: entropy of its soft-max, per cent."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtWidgets import QCheckBox

from ..volume import Volume
from .layers import KEY, LayerFacts, volume_to_layer
from .previews import ROLE


def uncertainty_box() -> QCheckBox:
    """Where the layer is asked for."""
    box = QCheckBox("show where it is unsure")
    box.setToolTip("Adds a layer with the entropy of the network's soft-max, per cent of the largest there can be")
    return box


def uncertainty_layer(facts: LayerFacts, image_id: Any, volume: Volume, entropy: np.ndarray) -> Image:
    """The layer of an image's uncertainty, on that image's grid.

    Parameters
    ----------
    facts, image_id : of the Image layer
    volume : what it holds
    entropy : (z, y, x) uint8 on the volume's grid, per cent; 0 stays transparent
    """
    shown = Volume(entropy, volume.geometry, volume.modality, "a.u.", name=f"{facts.name} – uncertainty")
    data, attributes, kind = volume_to_layer(shown)
    attributes |= {"scale": facts.scale, "translate": facts.translate, "units": facts.units}
    if len(facts.axis_labels) == data.ndim:
        attributes["axis_labels"] = facts.axis_labels
    attributes |= {"colormap": "inferno", "contrast_limits": (0, 100), "blending": "additive"}
    attributes["metadata"][KEY][ROLE] = image_id
    return Layer.create(data, attributes, kind)


def show_uncertainty(viewer: Any, layer: Image) -> None:
    """Add it, in the place of the one of an earlier run on the same image."""
    owner = layer.metadata[KEY][ROLE]
    for index, earlier in enumerate(viewer.layers):
        if earlier.name == layer.name and earlier.metadata.get(KEY, {}).get(ROLE) == owner:
            viewer.layers.remove(earlier)
            viewer.layers.insert(index, layer)
            return
    viewer.add_layer(layer)
