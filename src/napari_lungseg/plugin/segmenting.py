"""Segmenting a layer: from its facts to a label map, on the whole stack or one slice, and its layer in the viewer."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from typing import Any
from weakref import ref

import numpy as np
from napari.layers import Image, Labels, Layer

from ..progress import Progress
from ..volume import Geometry, LabelMap, Modality, Volume
from .appearance import called
from .fetching import fetch_steps
from .layers import KEY, LayerFacts, labels_to_layer, layer_to_volume
from .painting import MADE_BY, UNTOUCHED
from .uncertainty import show_uncertainty, uncertainty_layer
from .warm import load_torch


@dataclasses.dataclass(frozen=True)
class Request:
    """What a person asked for.

    Parameters
    ----------
    facts : of the Image layer
    image_id : unique id of that layer
    model : name or path, None for the bundled model of the modality
    device : as in `napari_lungseg.segment`
    settings : a `SegmentSettings`
    modality : overrides what the layer says
    index : of the only slice to segment, along the layer's first axis; None for all
    fetch : whether weights that are not on this computer may be fetched
    uncertainty : whether to make a layer of the network's entropy
    """

    facts: LayerFacts
    image_id: Any
    model: str | None = None
    device: str = "auto"
    settings: Any = None
    modality: Modality | None = None
    index: int | None = None
    fetch: bool = False
    uncertainty: bool = False

    @property
    def target(self) -> tuple[str, str]:
        """What a result stands for: a second run replaces the result with the same one."""
        return str(self.image_id), "stack" if self.index is None else "slice"


def segment_steps(request: Request) -> Generator[Progress, None, tuple[LabelMap, Labels, Image | None]]:
    """Segment what was asked for; the same generator as on the command line runs inside.

    Returns
    -------
    Labels, their layer, and the layer of the uncertainty where it was asked for
    """
    yield Progress(0, 0, "Loading PyTorch (the first time takes some seconds) …")
    from ..segmentation.predict import iter_segment

    load_torch()
    if request.fetch:
        yield from fetch_steps(request.model)
    yield Progress(0, 0, "Reading the image …")
    volume = layer_to_volume(request.facts, request.modality)
    part = volume if request.index is None else one_slice(volume, request.index)
    entropy = np.zeros(volume.geometry.shape, np.uint8) if request.uncertainty else None
    options = {} if entropy is None else {"uncertainty": part_of(entropy, volume, request.index)}
    labels = yield from iter_segment(part, request.model, device=request.device, settings=request.settings, **options)
    if request.index is not None:
        labels = spread(labels, volume, request.index)
    # Here rather than in the window's thread: making a layer takes napari longer than adding it.
    doubt = None if entropy is None else uncertainty_layer(request.facts, request.image_id, volume, entropy)
    return labels, result_layer(request, labels), doubt


def one_slice(volume: Volume, index: int) -> Volume:
    """One slice of the standard view, as a volume of its own in the same place."""
    standard, _ = volume.reoriented()
    geometry = dataclasses.replace(
        standard.geometry,
        shape=(1, *standard.geometry.shape[1:]),
        origin=tuple(standard.geometry.position((index, 0, 0)).tolist()),
        slice_positions=None,
    )
    return dataclasses.replace(standard, array=standard.array[index : index + 1], geometry=geometry)


def part_of(array: np.ndarray, volume: Volume, index: int | None) -> np.ndarray:
    """What `one_slice` is of the volume, of an array on its grid: a view."""
    if index is None:
        return array
    part: np.ndarray = volume.geometry.reorientation().apply(array)[index : index + 1]
    return part


def spread(labels: LabelMap, volume: Volume, index: int) -> LabelMap:
    """The labels of one slice on the whole grid of the volume; elsewhere is background."""
    turn = volume.geometry.reorientation()
    whole = np.zeros(volume.geometry.reoriented(turn).shape, labels.array.dtype)
    whole[index] = np.asarray(labels.array)[0]
    record = {**labels.record, "slice": index}
    return dataclasses.replace(
        labels, array=np.ascontiguousarray(turn.undo(whole)), geometry=volume.geometry, record=record
    )


def result_layer(request: Request, labels: LabelMap) -> Labels:
    """The Labels layer of a result, on its image's grid; it notices when a hand touches it."""
    data, attributes, kind = labels_to_layer(labels)
    facts = request.facts
    attributes |= {"scale": facts.scale, "translate": facts.translate, "units": facts.units}
    if len(facts.axis_labels) == data.ndim:
        attributes["axis_labels"] = facts.axis_labels
    attributes["name"] = f"{facts.name} – {called(labels.names.values())}"
    stored = attributes["metadata"][KEY]
    # To learn on from; the record, which is saved with the labels, names no files.
    stored[MADE_BY] = request.model or stored["record"].get("model", "")
    stored |= {"result_of": request.target, "edited": False, "record": {**stored["record"], "image": facts.name}}
    # What a person changes before saying that it is a correction counts, too.
    stored[UNTOUCHED] = data.copy()
    layer = Layer.create(data, attributes, kind)
    # What a correction of it is compared with; napari announces a stroke only when it is too late to copy.
    stored["untouched"] = np.array(layer.data)
    watch_edits(layer)
    return layer


def show_result(viewer: Any, layer: Labels, unsure: Image | None = None) -> None:
    """Add a result to the viewer, above its uncertainty where there is one.

    An earlier result of the same image is replaced, unless a hand has touched it; no other layer is changed.
    """
    if unsure is not None:
        show_uncertainty(viewer, unsure)
    stored = layer.metadata[KEY]
    earlier = untouched_result(viewer, stored["result_of"], stored["names"])
    if earlier is None:
        viewer.add_layer(layer)
        return
    layer.name, layer.opacity, layer.visible = earlier.name, earlier.opacity, earlier.visible
    index = viewer.layers.index(earlier)
    viewer.layers.remove(earlier)
    viewer.layers.insert(index, layer)


def untouched_result(viewer: Any, target: tuple[str, str], names: Mapping[int, str]) -> Layer | None:
    """An earlier result that stands for the same thing, has the same classes, and was never edited."""
    for layer in viewer.layers:
        stored = layer.metadata.get(KEY, {})
        stands_for = stored.get("result_of"), stored.get("names")
        if isinstance(layer, Labels) and stands_for == (target, names) and not stored.get("edited", True):
            return layer
    return None


def watch_edits(layer: Labels) -> None:
    """Mark a result as edited at the first stroke, fill or new data."""
    watched = ref(layer)

    def mark(event: object = None) -> None:
        alive = watched()
        if alive is not None:
            alive.metadata[KEY]["edited"] = True

    layer.events.paint.connect(mark)
    layer.events.data.connect(mark)


def geometry_of(layer: Layer) -> Geometry | None:
    """The geometry a layer carries, or None."""
    stored = layer.metadata.get(KEY, {}).get("geometry")
    return stored if isinstance(stored, Geometry) else None
