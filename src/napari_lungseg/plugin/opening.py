"""Opening scans in the viewer without stopping it.

napari calls readers in the window's thread and hands over dropped files one by one. While the window's event loop
runs, paths are therefore collected until napari is done, and read together in the background: many files of one
series make one layer. In a script, where nobody waits at a window, a reader reads at once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari import current_viewer
from napari.layers import Image, Layer
from napari.utils.notifications import Notification, NotificationSeverity, notification_manager, show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from ..errors import LungSegError, ReadError
from ..findings import has_finding
from ..io import READERS, read, suffix_of
from ..io.dicom_header import is_dicom
from ..io.discover import is_container
from ..io.series_entry import SeriesEntry
from ..progress import Progress
from ..volume import LabelMap, Modality, Volume
from .actions import convert_layer
from .appearance import contrast_range
from .jobs import Job, report
from .layers import KEY, LayerTuple, labels_to_layer, layer_to_volume, volume_to_layer
from .overlay import check_overlay
from .window import letters_of

Item = Volume | LabelMap
# What can be opened: a path, or one series of a list of what a path holds.
Source = Path | SeriesEntry
# More layers than this at once help nobody; the largest series are opened, and the rest is told.
MOST_SERIES = 12
_MANY_FILES = 5000


def is_ours(path: Path) -> bool:
    """Whether the reader takes this path: a folder, a ZIP file, a known suffix, or DICOM by its content."""
    return is_container(path) or bool(suffix_of(path)) or (path.is_file() and is_dicom(path))


def to_layer(item: Item) -> LayerTuple:
    """The layer data tuple of a volume or a label map."""
    return labels_to_layer(item) if isinstance(item, LabelMap) else volume_to_layer(item)


def make_layer(item: Item) -> Layer:
    """The layer of a volume or a label map; its window can be widened from the start (napari would end at what is shown)."""
    layer = Layer.create(*to_layer(item))
    if isinstance(item, Volume) and item.unit != "rgb":
        layer.contrast_limits_range = contrast_range(item)
    return layer


def add_item(viewer: Any, item: Item, layer: Layer | None = None) -> Layer:
    """Add a volume or a label map as a layer (made already, or now); a lazy volume is then filled in the background."""
    layer = layer or make_layer(item)
    viewer.add_layer(layer)
    check_overlay(viewer, layer)
    if isinstance(item, Volume) and item.is_lazy:
        fill(layer, item)
    return layer


def open_paths(
    viewer: Any,
    sources: Sequence[Source],
    *,
    modality: Modality | None = None,
    labels: bool | None = None,
    straighten: bool = False,
    on_end: Callable[[], object] | None = None,
) -> Job:
    """Read in the background and add what is there; what was noticed is shown."""
    added: list[tuple[Item, Layer]] = []

    def add(step: Progress) -> None:
        added.extend((item, add_item(viewer, item, layer)) for item, layer in step.payload or ())

    def done(errors: list[LungSegError]) -> None:
        inferred = [layer for item, layer in added if has_finding(item.findings, "labels-inferred")]
        actions = (
            [("Show as image", lambda *_: [convert_layer(viewer, layer) for layer in inferred])] if inferred else []
        )
        tell_findings([item for item, _ in added], actions)
        letters_of(viewer).update()
        for error in errors:
            report(error)
        if len(sources) == len(added) == 1 and isinstance(sources[0], Path) and is_dicom(sources[0]):
            offer_series(viewer, sources[0])

    scans = open_scans(viewer)
    return Job(
        lambda: layer_steps(sources, modality, labels, scans, straighten=straighten),
        on_progress=add,
        on_result=done,
        on_end=on_end,
    )


def open_scans(viewer: Any) -> list[Volume]:
    """The scans that are open, on whose grids DICOM labels are put; their voxels are not touched."""
    images = [layer for layer in viewer.layers if isinstance(layer, Image) and KEY in layer.metadata]
    return [layer_to_volume(layer) for layer in images]


def layer_steps(
    sources: Sequence[Source],
    modality: Modality | None = None,
    labels: bool | None = None,
    scans: Sequence[Volume] = (),
    *,
    straighten: bool = False,
) -> Generator[Progress, None, list[LungSegError]]:
    """`read_steps`, each payload as pairs of item and layer: making a layer takes napari longer than adding it."""
    steps = read_steps(sources, modality, labels, scans, straighten=straighten)
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            errors: list[LungSegError] = stop.value
            return errors
        for item in step.payload:
            yield dataclasses.replace(step, payload=[(item, make_layer(item))])


def read_steps(
    sources: Sequence[Source],
    modality: Modality | None = None,
    labels: bool | None = None,
    scans: Sequence[Volume] = (),
    *,
    straighten: bool = False,
) -> Generator[Progress, None, list[LungSegError]]:
    """Read what was opened together; each step's payload is what one of the sources held. Returns what failed.

    Labels that were chosen with scans of their study lie on those, any others on the scans that are open.
    """
    entries = sorted((each for each in sources if isinstance(each, SeriesEntry)), key=lambda each: each.is_labels)
    groups: list[list[Path] | SeriesEntry] = [*together([each for each in sources if isinstance(each, Path)]), *entries]
    errors: list[LungSegError] = []
    studies: defaultdict[str, list[Volume]] = defaultdict(list)
    for done, group in enumerate(groups):
        how: dict[str, Any] = {"modality": modality, "labels": labels}
        try:
            if isinstance(group, SeriesEntry):
                study = studies[group.study]
                items = read(group.files, series=group, reference=study or scans, **how)
                study += [item for item in items if isinstance(item, Volume)]
            else:
                items = read(group if len(group) > 1 else group[0], reference=scans, **how)
        except LungSegError as error:
            errors.append(error)
            continue
        items = largest(items)
        yield Progress(done + 1, len(groups), "Reading …", [_straight(i) for i in items] if straighten else items)
    return errors


def _straight(item: Item) -> Item:
    from ..analysis.straighten import straightened

    return straightened(item) if isinstance(item, Volume) else item


def together(paths: Sequence[Path]) -> list[list[Path]]:
    """Paths that belong into one call of the reader: all DICOM files, all pictures; each container and volume alone."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        suffix = "" if is_container(path) else suffix_of(path) or ".dcm"
        alone = not suffix or READERS[suffix].endswith(":read_itk")
        groups.setdefault(str(path) if alone else READERS[suffix], []).append(path)
    return list(groups.values())


def largest(items: Sequence[Item]) -> list[Item]:
    """The items, or where there are too many, those with the most slices; and say so."""
    if len(items) <= MOST_SERIES:
        return list(items)
    kept = sorted(items, key=lambda item: -item.geometry.shape[0])[:MOST_SERIES]
    show_info(f"{len(items)} series were found; the {MOST_SERIES} largest are opened. Open a subfolder for the others.")
    return [item for item in items if any(item is other for other in kept)]


def tell_findings(items: Sequence[Item], actions: Sequence[tuple[str, Callable[..., object]]] = ()) -> None:
    """One notification with all that the readers noticed, and buttons for what can be done about it."""
    lines = [f"{item.name}: {finding.message}" for item in items for finding in item.findings]
    if lines:
        notification_manager.dispatch(Notification("\n".join(lines), NotificationSeverity.WARNING, actions=actions))


def fill(layer: Layer, volume: Volume) -> Job:
    """Read a lazy volume's voxels in the background, then give them to its layer."""
    shown = layer.data
    turn = volume.geometry.reorientation()

    def give(array: np.ndarray) -> None:
        turned = turn.apply(array)
        # Whoever replaced the data meanwhile knows better.
        if layer.data is shown:
            layer.data = turned[0] if turned.shape[0] == 1 else turned

    return Job(lambda: load_steps(volume.array), on_result=give)


def load_steps(array: Any) -> Generator[Progress, None, np.ndarray]:
    """Read a Dask array slab by slab."""
    loaded = np.empty(array.shape, array.dtype)
    done = 0
    for size in array.chunks[0]:
        loaded[done : done + size] = np.asarray(array[done : done + size])
        done += size
        yield Progress(done, array.shape[0], "Reading slices …")
    return loaded


def offer_series(viewer: Any, path: Path) -> None:
    """After one DICOM file was opened: offer the series that its folder holds."""

    def offer(files: list[Path]) -> None:
        if len(files) < 2:
            return
        action = ("Open the whole series", lambda *_: open_paths(viewer, files))
        text = f"This is one slice of a series; {len(files)} of its slices are in the folder."
        notification_manager.dispatch(Notification(text, NotificationSeverity.INFO, actions=(action,)))

    Job(lambda: series_steps(path), on_result=offer, on_error=lambda error: None)


def series_steps(path: Path) -> Generator[Progress, None, list[Path]]:
    """Files in the same folder that belong to the same series."""
    wanted, files = _series_of(path), []
    siblings = [sibling for sibling in sorted(path.parent.iterdir())[:_MANY_FILES] if sibling.is_file()]
    for done, sibling in enumerate(siblings):
        if wanted and is_dicom(sibling) and _series_of(sibling) == wanted:
            files.append(sibling)
        yield Progress(done + 1, len(siblings), "Looking for the series …")
    return files


def _series_of(path: Path) -> str:
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"], force=True)
    except (pydicom.errors.InvalidDicomError, OSError, ValueError):
        return ""
    return str(header.get("SeriesInstanceUID", ""))


def read_now(paths: Sequence[Path], scans: Sequence[Volume] = ()) -> list[LayerTuple]:
    """Read paths at once, for scripts; DICOM labels on the grids of the scans that are open.

    Raises
    ------
    ReadError
        Where nothing can be read.
    """
    steps, items, errors = read_steps(paths, scans=scans), [], []
    while True:
        try:
            items += next(steps).payload
        except StopIteration as stop:
            errors = stop.value
            break
    if errors and not items:
        raise errors[0]
    if not items:
        raise ReadError(f"{paths[0].name} holds no image that can be opened.")
    tell_findings(items)
    layers = [to_layer(item) for item in items]
    if QApplication.instance() is not None:
        QTimer.singleShot(0, lambda: _fill_shown(list(zip(items, layers, strict=True))))
    return layers


def _fill_shown(read: Sequence[tuple[Item, LayerTuple]]) -> None:
    """Once the window runs: fill the lazy layers that it shows."""
    viewer = current_viewer()
    for item, (data, _, _) in read if viewer is not None else ():
        layer = next((layer for layer in viewer.layers if layer.data is data), None)
        if layer is not None and isinstance(item, Volume) and item.is_lazy:
            fill(layer, item)


_COLLECTED: list[Path] = []
# Between two looks at whether napari is done handing over what was dropped.
_SETTLE_MS = 50


def collect(path: Path, open_together: Callable[[list[Path]], object]) -> None:
    """Keep a path until napari has handed over all that were dropped with it, then open them together."""
    if not _COLLECTED:
        QTimer.singleShot(_SETTLE_MS, lambda: _open_collected(open_together))
    _COLLECTED.append(path)


def _open_collected(open_together: Callable[[list[Path]], object]) -> None:
    if _napari_is_opening():
        QTimer.singleShot(_SETTLE_MS, lambda: _open_collected(open_together))
        return
    paths = list(_COLLECTED)
    _COLLECTED.clear()
    open_together(paths)


def _napari_is_opening() -> bool:
    """Whether napari's loop over the dropped files called us: its progress bar runs pending events in between."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "open" and str(frame.f_globals.get("__name__")).startswith("napari.components."):
            return True
    return False
