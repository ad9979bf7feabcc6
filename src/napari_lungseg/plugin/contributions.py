"""What `napari.yaml` names: reader, writers, sample data and commands."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari import current_viewer
from napari.layers import Image
from napari.utils.notifications import show_warning

from ..errors import LungSegError, WriteError
from ..io import write
from ..progress import Progress
from ..volume import Geometry, LabelMap
from . import opening
from .jobs import waited_for, window_is_running
from .layers import (
    LayerFacts,
    LayerTuple,
    facts_of,
    labels_to_layer,
    layer_facts,
    layer_to_labels,
    layer_to_volume,
    same_grid,
    volume_to_layer,
)
from .series_chooser import open_or_choose

Reader = Callable[[str | Sequence[str]], list[Any]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """A reader for what the manifest claims, or None for a file without suffix that is not DICOM."""
    return _read if all(opening.is_ours(each) for each in _paths(path)) else None


def _read(path: str | Sequence[str]) -> list[Any]:
    viewer = current_viewer()
    if viewer is None or not window_is_running():
        return list(opening.read_now(_paths(path), [] if viewer is None else opening.open_scans(viewer)))
    for each in _paths(path):
        opening.collect(each, partial(open_or_choose, viewer))
    return [(None,)]  # napari's word for "opened, but no layer": they are added when they are read


def _paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(path)] if isinstance(path, str) else [Path(each) for each in path]


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an Image layer with its geometry."""
    facts = facts_of(data, meta)
    return [str(write(layer_to_volume(facts), path))]


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer with its own geometry, or with that of the image it was painted on."""
    facts = facts_of(data, meta)
    geometry = None if isinstance(facts.stored.get("geometry"), Geometry) else painted_geometry(facts, current_viewer())
    labels = layer_to_labels(facts, geometry)
    return [str(write(labels, path, reference=source_under(labels, current_viewer())))]


def source_under(labels: LabelMap, viewer: Any) -> str | None:
    """The file or folder of the open scan on whose grid labels lie: what DICOM labels refer to."""
    for volume in [] if viewer is None else opening.open_scans(viewer):
        if volume.source and volume.geometry.same_grid(labels.geometry):
            return volume.source
    return None


def painted_geometry(
    facts: LayerFacts, viewer: Any, ask: Callable[[list[str]], str | None] | None = None
) -> Geometry | None:
    """Geometry of the image that labels without metadata were painted on (napari's *New Labels* copies none).

    Parameters
    ----------
    facts : of the Labels layer
    viewer : whose images are looked at
    ask : chooses among names of images that lie on this grid but differ in direction

    Raises
    ------
    WriteError
        When nobody chooses.
    """
    images = [] if viewer is None else [layer for layer in viewer.layers if isinstance(layer, Image)]
    found: dict[str, Geometry] = {}
    for layer in images:
        there = layer_facts(layer)
        stored = there.stored.get("geometry")
        if isinstance(stored, Geometry) and same_grid(facts, there):
            found[layer.name] = stored
    if not found:
        show_warning(
            f"No open scan lies on the grid of {facts.name!r}: it is written as an axial image with the layer's own scale "
            "and position. Keep the scan open while you save what you painted on it."
        )
        return None
    first = next(iter(found.values()))
    if all(geometry.same_grid(first) for geometry in found.values()):
        return first
    chosen = (ask or _ask)(list(found))
    if chosen is None:
        raise WriteError(
            f"{', '.join(found)} lie on the grid of {facts.name!r} but differ in direction; nothing was written."
        )
    return found[chosen]


def _ask(names: list[str]) -> str | None:
    from qtpy.QtWidgets import QApplication, QInputDialog

    if QApplication.instance() is None:
        return None
    question = "Several scans lie on this grid but differ in direction. Which one was painted on?"
    name, answered = QInputDialog.getItem(None, "Save labels", question, names, 0, False)
    return name if answered else None


def sample_ct() -> list[LayerTuple]:
    """The phantom's CT and its true lungs."""
    layers: list[LayerTuple] = waited_for(lambda: _sample_steps("thorax_ct"))
    return layers


def sample_xray() -> list[LayerTuple]:
    """The phantom's radiograph and its true lungs."""
    layers: list[LayerTuple] = waited_for(lambda: _sample_steps("thorax_xray"))
    return layers


def _sample_steps(name: str) -> Generator[Progress, None, list[LayerTuple]]:
    yield Progress(0, 1, "Building the phantom …")
    from .. import phantom

    volume, labels = getattr(phantom, name)()
    return [volume_to_layer(volume), labels_to_layer(labels)]


def open_scan(viewer: Any = None) -> None:
    """Ask for files and open them: also pictures, which napari's own reader takes when they are dropped."""
    from qtpy.QtWidgets import QFileDialog

    from .open_widget import FILE_FILTER

    viewer = viewer or current_viewer()
    names, _ = QFileDialog.getOpenFileNames(None, "Open chest scan", "", FILE_FILTER)
    if names and viewer is not None:
        open_or_choose(viewer, [Path(name) for name in names])


def convert_active_layer() -> None:
    """Turn the active Image layer into a Labels layer, or back."""
    from .actions import convert_layer
    from .jobs import report

    viewer = current_viewer()
    if viewer is None or viewer.layers.selection.active is None:
        show_warning("Select the layer to convert first.")
        return
    try:
        convert_layer(viewer, viewer.layers.selection.active)
    except LungSegError as error:
        report(error)
