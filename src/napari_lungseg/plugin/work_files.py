"""*Save work* and *Open work*: painted layers, classes and model in a folder, and back onto their images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari.layers import Image
from napari.utils.notifications import show_info, show_warning

from ..errors import LungSegError, TrainingDataError
from ..findings import Finding
from ..io import read
from ..progress import Progress
from ..training.work import Work, WorkItem, check_image, image_hash, iter_open_work
from ..volume import Volume
from .jobs import Job, report
from .layers import LayerFacts, layer_facts
from .opening import add_item
from .painting import painted_layers
from .places import Pair, images_of
from .recovery import recovery_of
from .work_layers import capture, hash_of, layer_of, save_steps

Ask = Callable[[str], "Path | Literal['leave out', 'cancel']"]
"""Asks where an image is now, given a sentence that names it."""


def save_work(viewer: Any, folder: Path, about: Work) -> Job:
    """Save all painted layers of a viewer, in the background.

    Parameters
    ----------
    viewer : napari viewer or viewer model
    folder : to save into
    about : classes, model, start and settings
    """
    layers = [capture(viewer, layer) for layer in painted_layers(viewer)]
    recovery = recovery_of(viewer)
    mark = recovery.mark()

    def saved(_: object) -> None:
        recovery.note_saved(mark)
        show_info(f"Saved {len(layers)} painted layer{'s' if len(layers) != 1 else ''} in {folder.name}.")

    return Job(lambda: save_steps(folder, layers, about), on_result=saved)


_QUESTION = "Where is {}? It is not where it was when this work was saved."


@dataclass(eq=False)
class _Found:
    """An item of a work, and its image: a layer that is open, or a volume that was read."""

    item: WorkItem
    layer: Image | None = None
    volume: Volume | None = None
    findings: tuple[Finding, ...] = ()


class Opening:
    """Opens work in the background; images that are not where they were are asked for, one after the other.

    Parameters
    ----------
    viewer : napari viewer or viewer model
    folder : that *Save work* made
    ask : see `Ask`
    on_result : gets the work, and the layers that were added on their images
    """

    def __init__(self, viewer: Any, folder: Path, ask: Ask, on_result: Callable[[Work, list[Pair]], object]) -> None:
        self._viewer, self._ask, self._on_result = viewer, ask, on_result
        self._work = Work()
        self._waiting: list[_Found] = []
        self._images: dict[str, Image] = {}
        self._added: list[Pair] = []
        images = [(image, layer_facts(image)) for image in images_of(viewer)]
        Job(lambda: _open_steps(folder, images), on_result=lambda result: self._opened(*result))

    def _opened(self, work: Work, found: list[_Found]) -> None:
        self._work, self._waiting = work, found
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting:
            found = self._waiting.pop(0)
            image = self._images.get(_key(found.item)) or found.layer
            if image is None and found.volume is not None:
                image = add_item(self._viewer, found.volume)
            if image is not None:
                self._add(found, image)
            elif (where := self._ask(_QUESTION.format(found.item.image_name))) == "cancel":
                break
            elif isinstance(where, Path):
                self._look_in(where, found.item)
                return
            else:
                show_warning(
                    f"What was painted on {found.item.image_name} was not opened, because its image is missing."
                )
        if self._work.findings:
            show_warning("\n".join(finding.message for finding in self._work.findings))
        self._on_result(self._work, self._added)

    def _add(self, found: _Found, image: Image) -> None:
        self._images[_key(found.item)] = image
        layer = layer_of(found.item, image)
        self._viewer.add_layer(layer)
        self._added.append(Pair(image, layer))
        if found.findings:
            show_warning("\n".join(finding.message for finding in found.findings))

    def _look_in(self, path: Path, item: WorkItem) -> None:
        Job(
            lambda: _fitting_steps(item, path),
            on_result=self._is_found,
            on_error=lambda error: self._refused(item, error),
        )

    def _is_found(self, found: _Found) -> None:
        self._waiting.insert(0, found)
        self._go_on()

    def _refused(self, item: WorkItem, error: Exception) -> None:
        report(error)
        self._waiting.insert(0, _Found(item))  # asked for again
        self._go_on()


def _key(item: WorkItem) -> str:
    return item.image_hash or item.image_name


def _open_steps(
    folder: Path, images: Sequence[tuple[Image, LayerFacts]]
) -> Generator[Progress, None, tuple[Work, list[_Found]]]:
    work = yield from iter_open_work(folder)
    hashes = {}
    for image, facts in images:
        yield Progress(0, 0, "Looking at the images …")
        hashes[hash_of(facts)] = image
    found: list[_Found] = []
    for item in work.items:
        yield Progress(len(found), len(work.items), "Looking for the images …")
        layer = hashes.get(item.image_hash) if item.image_hash else None
        volume = None
        if layer is None and item.image_path is not None and item.image_path.exists():
            volume = _matching(item, item.image_path)
        found.append(_Found(item, layer, volume))
    return work, found


def _matching(item: WorkItem, path: Path) -> Volume | None:
    """The image in a file or folder that was painted on, by its content."""
    try:
        volumes = [each for each in read(path) if isinstance(each, Volume)]
    except LungSegError:
        return None
    return next((volume for volume in volumes if image_hash(volume) == item.image_hash), None)


def _fitting_steps(item: WorkItem, path: Path) -> Generator[Progress, None, _Found]:
    """The image in a file or folder that was painted on, or else one that the labels fit on, with a finding.

    Raises
    ------
    LungSegError
        When it holds none.
    """
    yield Progress(0, 1, "Reading the image …")
    problem: LungSegError | None = None
    best: _Found | None = None
    for volume in read(path):
        if not isinstance(volume, Volume):
            continue
        try:
            found = _Found(item, volume=volume, findings=tuple(check_image(item, volume)))
        except LungSegError as error:
            problem = error
            continue
        if not found.findings:
            return found
        best = best or found
    if best is None:
        raise problem or TrainingDataError(
            f"{path.name} holds no image. Choose the file or folder of {item.image_name}."
        )
    return best
