"""Painted layers to work that is saved, and back.

An autosave holds neither the image's path nor the names of layers: either may hold a patient's name. What it keeps instead is
the image's hash, and a neutral name made of what the scan says of itself or of its size. *Save work* keeps path and names, for
there a person chose where it goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer

from ..progress import Progress
from ..training.work import Work, WorkItem, image_hash, iter_save_work
from ..training.work_record import WorkRecord
from ..volume import Geometry
from .layers import KEY, LayerFacts, layer_facts, layer_to_volume
from .painting import (
    PAINTING,
    UNTOUCHED,
    Painting,
    Snapshot,
    image_geometry,
    image_id,
    image_of,
    labelled,
    name_classes,
    painted_layer,
    snapshot,
)


@dataclass(frozen=True, eq=False)
class Captured:
    """A painted layer at one moment, to be saved by another thread.

    Parameters
    ----------
    layer_id, image_id : unique ids of the painted layer and of the Image layer
    shown : the painted layer, with its own facts in place of the image's where that is no longer in the viewer
    has_image : whether the image is in the viewer
    path : of the image's file, or None
    """

    layer_id: str
    image_id: str
    shown: Snapshot
    has_image: bool
    path: Path | None = None

    def identified(self) -> Identity:
        """Which image it was painted on; without a hash where the image is not in the viewer."""
        image = self.shown.image
        return identify(image) if self.has_image else Identity("", neutral_name(image))


def capture(viewer: Any, layer: Labels) -> Captured:
    """A painted layer as it is now; its voxels are copied."""
    image = image_of(viewer, layer)
    shown = snapshot(layer if image is None else image, layer)
    return Captured(image_id(layer), shown.painting.image_id, shown, image is not None, image_path(image))


def image_path(image: Layer | None) -> Path | None:
    """The file or folder that an Image layer was read from, or None."""
    if image is None:
        return None
    path = image.metadata.get(KEY, {}).get("source") or image.source.path
    return Path(path) if path else None


def hash_of(image: LayerFacts) -> str:
    """Hash of the image that a layer shows, as its file has it: where the layer was moved since does not count."""
    volume = layer_to_volume(image)
    stored = image.stored.get("geometry")
    if isinstance(stored, Geometry) and stored.shape == volume.geometry.shape:
        volume = dataclasses.replace(volume, geometry=stored)
    return image_hash(volume)


def hash_steps(image: LayerFacts) -> Generator[Progress, None, str]:
    """`hash_of` as a background job."""
    yield Progress(0, 1, "Looking at the image …")
    return hash_of(image)


@dataclass(frozen=True)
class Identity:
    """Which image is meant, without its path.

    Parameters
    ----------
    content : hash of the image; "" where it is not known
    name : neutral
    """

    content: str
    name: str


def identify(image: LayerFacts, content: str = "") -> Identity:
    """Which image a layer shows; its hash is made where it is not known yet."""
    return Identity(content or hash_of(image), neutral_name(image))


def item_of(captured: Captured, image: Identity, *, private: bool = False) -> WorkItem:
    """What is saved of a painted layer.

    Parameters
    ----------
    captured : the layer
    image : which it was painted on
    private : leave out paths and names of layers, which may hold a patient's name

    Raises
    ------
    InvalidVolumeError, TrainingDataError
        When the layer and its image do not fit each other.
    """
    painting = captured.shown.painting
    labels, untouched = labelled(captured.shown.labels, painting, image_geometry(captured.shown.image))
    if private:
        record = {key: value for key, value in labels.record.items() if key != "image"}
        labels = dataclasses.replace(labels, name=f"{image.name} – paint", source="", record=record)
    return WorkItem(
        labels,
        painting.background,
        frozenset(painting.complete),
        untouched,
        image.name,
        image.content,
        None if private else captured.path,
    )


def neutral_name(image: LayerFacts) -> str:
    """What the scan itself says (modality, number of the series), or how large the image is; never what a person typed."""
    return str(image.stored.get("name") or f"image of {' × '.join(map(str, image.shape))}")


def save_steps(folder: Path, layers: Sequence[Captured], about: Work) -> Generator[Progress, None, WorkRecord]:
    """*Save work*.

    Parameters
    ----------
    folder : to save into
    layers : all painted layers
    about : classes, model, start and settings; its items do not count
    """
    items: list[WorkItem] = []
    images: dict[str, Identity] = {}
    for captured in layers:
        yield Progress(len(items), len(layers), "Looking at the image …")
        if captured.image_id not in images:
            images[captured.image_id] = captured.identified()
        items.append(item_of(captured, images[captured.image_id]))
    return (yield from iter_save_work(folder, dataclasses.replace(about, items=tuple(items))))


def layer_of(item: WorkItem, image: Layer, told: str = "") -> Labels:
    """The painted layer of an item, on its image's layer; it is not added to any viewer.

    Parameters
    ----------
    item : what was painted
    image : the Image layer
    told : to be said in the layer's name, which is then made of the image's

    Raises
    ------
    TrainingDataError
        When the image has another number of voxels than the one that was painted on.
    """
    facts = layer_facts(image)
    placed = item.on_grid(image_geometry(facts))
    # The layer is painted on, and what was read from a file may be read-only.
    labels = dataclasses.replace(placed.labels, array=np.array(placed.labels.array))
    layer = painted_layer(labels, facts)
    if told:
        layer.name = f"{facts.name} – paint, {told}"
    stored = layer.metadata[KEY]
    untouched = None
    if placed.edited_from is not None:
        turn = labels.geometry.reorientation()
        untouched = np.ascontiguousarray(turn.apply(placed.edited_from)).reshape(layer.data.shape)
        stored |= {UNTOUCHED: untouched, "edited": True}
    stored[PAINTING] = Painting(image_id(image), item.background, set(item.complete), untouched)
    names = {label: name for label, name in labels.names.items() if label != item.background}
    name_classes(layer, names, labels.colours)
    return layer
