"""Labels layers that are painted on: how they say so, and what was painted.

A Labels layer takes part in learning once ``layer.metadata["napari_lungseg"]["painting"]`` holds a `Painting`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from napari.layers import Labels, Layer

from ..errors import TrainingDataError
from ..training.painted import BACKGROUND, LARGEST_LABEL, Painted, background_label
from ..volume import Geometry, LabelMap, Modality, label_colour, plain_name
from .appearance import features, label_colormap
from .layers import (
    KEY,
    LayerFacts,
    check_axes,
    labels_to_layer,
    layer_facts,
    layer_geometry,
    layer_to_labels,
    layer_to_volume,
    unsigned,
)

PAINTING, UNTOUCHED, MADE_BY = "painting", "untouched", "made_by"
# No colour of the palette, and seen on lung as on soft tissue.
BACKGROUND_COLOUR = "#FFFFFF"
BACKGROUND_NAME = "painted background"


@dataclass(eq=False)
class Painting:
    """What makes a Labels layer a painted one.

    Parameters
    ----------
    image_id : unique id of the Image layer, as text
    background : label that stands for painted background; 0 if none does
    complete : slices of the layer, of which all that is not painted is background
    untouched : the segmentation that the layer is a correction of, shaped like its data, or None
    """

    image_id: str
    background: int = BACKGROUND
    complete: set[int] = field(default_factory=set)
    untouched: np.ndarray | None = None


def painting_of(layer: Any) -> Painting | None:
    """What makes a layer a painted one, or None where it is not."""
    found = layer.metadata.get(KEY, {}).get(PAINTING) if isinstance(layer, Labels) else None
    return found if isinstance(found, Painting) else None


def image_id(image: Layer) -> str:
    """Unique id of a layer, as text."""
    return str(image.unique_id)


def image_of(viewer: Any, layer: Labels) -> Any:
    """The Image layer that a layer was painted on, or None where it is not in the viewer."""
    painting = painting_of(layer)
    found = (other for other in viewer.layers if painting is not None and image_id(other) == painting.image_id)
    return next(found, None)


def painted_layers(viewer: Any) -> list[Labels]:
    """Painted layers of a viewer, the lowest first."""
    return [layer for layer in viewer.layers if painting_of(layer) is not None]


def begin_painting(
    image: Layer,
    labels: Labels | None = None,
    *,
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
    correct: bool | None = None,
) -> Labels:
    """Make a layer to paint on an image, or make an existing one take part.

    Parameters
    ----------
    image : the Image layer
    labels : a Labels layer of the same size; None makes an empty one (which is not added to any viewer)
    names, colours : of the classes; those that an existing layer has where left out
    correct : whether ``labels`` is a segmentation to be corrected, so that only what differs from it counts as painted,
        rather than strokes; None takes a result of this package, or one that was begun as a correction, for the former

    Raises
    ------
    InvalidVolumeError
        For an image with axes beyond space.
    TrainingDataError
        When the layers are of different size, or the labels are none that can be learned.
    """
    facts = layer_facts(image)
    check_axes(facts)
    layer = _empty_layer(facts) if labels is None else labels
    _check_fits(image, layer)
    stored = layer.metadata.setdefault(KEY, {})
    names = dict(stored.get("names", {})) if names is None else dict(names)
    background = _background(layer, names)
    stored[PAINTING] = Painting(image_id(image), background, _complete(layer), _untouched(layer, correct))
    stored["edited"] = True  # so that no new result takes its place
    name_classes(layer, names, dict(stored.get("colours", {})) if colours is None else colours)
    return layer


def number_alike(layer: Labels, others: Iterable[Labels]) -> None:
    """Before a layer is painted on: give its classes the labels that the same classes have in other painted layers.

    Parameters
    ----------
    layer : changed, where one label stands for another class in one of the others
    others : painted, and numbered alike
    """
    taken: dict[int, str] = {}
    backgrounds = set()
    for other in others:
        painting = painting_of(other)
        if painting is not None:
            backgrounds.add(painting.background)
            names = other.metadata[KEY].get("names", {})
            taken |= {label: name for label, name in names.items() if label != painting.background}
    stored = layer.metadata.get(KEY, {})
    names = {label: name for label, name in stored.get("names", {}).items() if label}
    moves = _moves(names, taken, backgrounds)
    if all(label == moved for label, moved in moves.items()):
        return
    table = np.arange(int(np.iinfo(np.uint8).max) + 1, dtype=np.uint8)
    table[list(moves)] = list(moves.values())
    for array in (layer.data, stored.get(UNTOUCHED)):
        if array is not None:
            array[...] = table[array]
    layer._reset_history()  # it would bring back the old labels
    layer.refresh()
    for key in ("names", "colours"):
        stored[key] = {moves.get(label, label): text for label, text in stored.get(key, {}).items()}


def _moves(names: Mapping[int, str], taken: Mapping[int, str], backgrounds: set[int]) -> dict[int, int]:
    """Label → label: that of the same class where there is one, its own where that is free, or else a free one."""
    known = {plain_name(name): label for label, name in taken.items()}
    moves = {label: known[plain_name(name)] for label, name in names.items() if plain_name(name) in known}
    used = {*taken, *backgrounds}
    moves |= {label: label for label in names if label not in moves and label not in used}
    for label in names:
        if label not in moves:
            moves[label] = next(each for each in range(1, LARGEST_LABEL) if each not in used | {*moves.values()})
    return moves


def name_classes(layer: Labels, names: Mapping[int, str], colours: Mapping[int, str]) -> None:
    """Give a painted layer's classes their names and colours; the painted background has its own."""
    painting = painting_of(layer)
    stored = layer.metadata.setdefault(KEY, {})
    of_classes = {label: colour for label, colour in colours.items() if label in names}
    shown = {label: of_classes.get(label, label_colour(label)) for label in names}
    if painting is not None and painting.background:
        shown[painting.background] = BACKGROUND_COLOUR
        names = {**names, painting.background: BACKGROUND_NAME}
    stored |= {"names": dict(names), "colours": shown}
    is_correction = painting is not None and painting.untouched is not None
    layer.features = features(names, "background" if is_correction or painting is None else "not painted")
    layer.colormap = label_colormap(shown, layer.data.dtype)


def _check_fits(image: Layer, layer: Labels) -> None:
    facts = layer_facts(image)
    if tuple(layer.data.shape) != facts.shape:
        raise TrainingDataError(
            f"Layer {layer.name!r} has {_size(layer.data.shape)} voxels, but {image.name!r} {_size(facts.shape)}. Paint in a "
            "layer that was made for this image."
        )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _background(layer: Labels, names: dict[int, str]) -> int:
    """The label for painted background: the one that it has, or the first that is neither named nor painted."""
    before = painting_of(layer)
    if before is not None:
        names.pop(before.background, None)
        return before.background
    background = background_label(names)
    # A class may have been painted with it without having a name.
    if (np.asarray(layer.data) == background).any():
        background = background_label({*names, *np.unique(layer.data).tolist()})
    return background


def _complete(layer: Labels) -> set[int]:
    before = painting_of(layer)
    return set() if before is None else before.complete


def _untouched(layer: Labels, correct: bool | None) -> np.ndarray | None:
    """What a correction began from: kept when the result was shown, or what is there now."""
    before, stored = painting_of(layer), layer.metadata[KEY]
    if before is not None and (correct is None or (correct and before.untouched is not None)):
        return before.untouched
    if correct is False or (correct is None and "result_of" not in stored):
        return None
    kept = stored.get(UNTOUCHED)
    if kept is None or kept.shape != layer.data.shape:
        return np.array(unsigned(np.asarray(layer.data)))
    return np.asarray(kept)


def _empty_layer(facts: LayerFacts) -> Labels:
    geometry = image_geometry(facts)
    shape = (1,) * (3 - len(facts.shape)) + facts.shape
    array = geometry.reorientation().undo(np.zeros(shape, np.uint8))
    return painted_layer(LabelMap(array, geometry, name=f"{facts.name} – paint"), facts)


def image_geometry(facts: LayerFacts) -> Geometry:
    """Geometry of an image layer; of one that says nothing, that of a radiograph if it is flat and of a CT if not."""
    return layer_geometry(facts, facts.stored.get("modality", "ct" if len(facts.shape) == 3 else "xray"))


def painted_layer(labels: LabelMap, image: LayerFacts) -> Labels:
    """A Labels layer that lies exactly on its image's layer."""
    data, attributes, kind = labels_to_layer(labels)
    attributes |= {"scale": image.scale, "translate": image.translate, "units": image.units}
    if len(image.axis_labels) == data.ndim:
        attributes["axis_labels"] = image.axis_labels
    return Layer.create(data, attributes, kind)


# What was painted


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A painted layer and its image as they are at one moment, for work in another thread.

    Parameters
    ----------
    image, labels : what the layers say of themselves; the voxels of ``labels`` are a copy
    painting : a copy, too
    """

    image: LayerFacts
    labels: LayerFacts
    painting: Painting

    def painted(self, modality: Modality | None = None) -> Painted:
        """What can be learned from, in the voxel order of the image's file.

        Parameters
        ----------
        modality : of the image, where a person overrules what it says

        Raises
        ------
        InvalidVolumeError
            For an image with axes beyond space, or negative labels.
        TrainingDataError
            When the layers are of different size, or a label is too large.
        """
        volume = layer_to_volume(self.image, modality)
        labels, untouched = labelled(self.labels, self.painting, volume.geometry)
        return Painted(volume, labels, self.painting.background, untouched, frozenset(self.painting.complete))

    def has_paint(self) -> bool:
        """Whether anything was painted, or a slice marked as complete."""
        array, untouched = np.asarray(self.labels.data), self.painting.untouched
        if self.painting.complete:
            return True
        return bool(array.any()) if untouched is None else not np.array_equal(array, untouched)


def snapshot(image: Layer | LayerFacts, labels: Labels) -> Snapshot:
    """A painted layer and its image as they are now; some 5 ms for 512 × 512 × 150 labels.

    Raises
    ------
    TrainingDataError
        When the layer is not painted on.
    """
    painting = painting_of(labels)
    if painting is None:
        raise TrainingDataError(f"Nothing is painted in layer {labels.name!r}. Choose it for painting first.")
    facts = layer_facts(labels)
    stored = {key: dict(value) if isinstance(value, dict) else value for key, value in facts.stored.items()}
    return Snapshot(
        image if isinstance(image, LayerFacts) else layer_facts(image),
        dataclasses.replace(facts, data=np.array(facts.data), stored=stored),
        dataclasses.replace(painting, complete=set(painting.complete)),
    )


def labelled(labels: LayerFacts, painting: Painting, geometry: Geometry) -> tuple[LabelMap, np.ndarray | None]:
    """Painted labels and what they are a correction of, in the voxel order of the image's file.

    Parameters
    ----------
    labels, painting : of the painted layer
    geometry : of the image

    Raises
    ------
    InvalidVolumeError
        For negative labels.
    TrainingDataError
        When layer and image are of different size.
    """
    turn = geometry.reorientation()
    shape = geometry.reoriented(turn).shape
    if (1,) * (3 - len(labels.shape)) + labels.shape != shape:
        raise TrainingDataError(
            f"Layer {labels.name!r} has {_size(labels.shape)} voxels, but its image {_size(shape)}. Paint in a layer that "
            "was made for this image."
        )
    untouched = painting.untouched
    if untouched is not None:
        untouched = np.ascontiguousarray(turn.undo(untouched.reshape(shape)))
    return layer_to_labels(labels, geometry), untouched


def to_painted(image: Layer, labels: Labels) -> Painted:
    """What can be learned from a painted layer as it is now; raises as `snapshot` and `Snapshot.painted` do."""
    return snapshot(image, labels).painted()
