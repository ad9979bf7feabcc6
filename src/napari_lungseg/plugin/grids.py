"""Labels of layers that somebody else made, on the grid of the layer they lie on."""

from __future__ import annotations

from ..volume import Geometry, LabelMap
from .layers import LayerFacts, layer_geometry, layer_to_labels, same_grid


def labels_beside(facts: LayerFacts, other: LayerFacts) -> LabelMap:
    """The label map of a layer; one that does not say where it lies takes that from another layer in the same place.

    Parameters
    ----------
    facts : of the Labels layer
    other : the image it was painted on, or labels it is compared with

    Raises
    ------
    InvalidVolumeError
        For axes beyond space, or negative labels.
    """
    knows = isinstance(facts.stored.get("geometry"), Geometry)
    borrowed = not knows and isinstance(other.stored.get("geometry"), Geometry) and same_grid(facts, other)
    return layer_to_labels(facts, layer_geometry(other) if borrowed else None)
