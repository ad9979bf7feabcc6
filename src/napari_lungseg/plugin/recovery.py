"""Nothing painted is lost: painted layers are saved beside the settings while they change, and offered after a crash.

Every `INTERVAL_MS`, at each `save_now`, and when a layer is taken out of the viewer, layers that changed are copied (some
10 ms for 512 × 512 × 150 labels) and written in the background. What is written is a work folder (`training/work.py`): killed
at any moment, the last save is whole. A layer that was removed stays in it until the session ends or its work is saved.

A session that ends with everything saved by *Save work* leaves nothing; any other leaves its folder, to be offered when the
image that was painted on is opened again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any
from weakref import ref

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal  # type: ignore[attr-defined]

from ..errors import LungSegError
from ..progress import Progress, drain
from ..training.work import Work, WorkItem, iter_open_work, iter_save_work
from ..training.work_record import ItemRecord
from .edits import Seen, look_at
from .jobs import Job, report
from .layers import LayerFacts, layer_facts
from .leftovers import Leftover, SessionFolder, discard_for, leftovers, offered_for, prune
from .painting import image_id, painted_layers
from .work_layers import Captured, Identity, capture, hash_steps, identify, item_of, layer_of

INTERVAL_MS = 25_000
"""Between saves: with the time that one takes, at most 30 s of strokes are lost."""

Mark = Mapping[str, Seen]


class Recovery(QObject):
    """Saves what is painted in a viewer, and offers what an earlier session left; see `recovery_of`.

    Signals
    -------
    saved : () what was painted is on the disk
    found : (Image layer, list of `Leftover`) something was painted on this image in a session that is over

    Parameters
    ----------
    viewer : napari viewer or viewer model
    interval_ms : between saves
    """

    saved = Signal()
    found = Signal(object, object)

    def __init__(self, viewer: Any, interval_ms: int = INTERVAL_MS) -> None:
        super().__init__()
        self.describe: Callable[[], Work] = Work
        """Returns classes, start and settings to be saved beside the layers; its items do not count."""
        self._viewer = ref(viewer)
        self._session = SessionFolder()
        self._job: Job | None = None
        self._closed = self._told = False
        # What is known of layers, by their ids: as last captured, as last saved by the person, as it lies on the disk.
        self._captured: dict[str, Seen] = {}
        self._marked: dict[str, Seen] = {}
        self._stored: dict[str, ItemRecord] = {}
        self._images: dict[str, Identity] = {}
        # Images that were not looked at yet: theirs may be gone from the viewer when their labels are written.
        self._unknown: dict[str, LayerFacts] = {}
        self._taken: list[tuple[Leftover, str, frozenset[str]]] = []
        # Captured, to be written by whichever thread comes first.
        self._waiting: dict[str, Captured] = {}
        self._about = Work()
        self._mutex, self._saving = threading.Lock(), threading.Lock()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.save_now)
        self._timer.start(interval_ms)
        viewer.layers.events.removing.connect(self._on_removing)
        viewer.layers.events.inserted.connect(self._on_inserted)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close)
        prune()
        for layer in viewer.layers:
            self._look_for_leftovers(layer)

    @property
    def viewer(self) -> Any:
        """The viewer, or None once it is gone."""
        return self._viewer()

    @property
    def is_saving(self) -> bool:
        """Whether something is being written."""
        return self._job is not None

    # Saving

    def save_now(self) -> None:
        """Save in the background what changed since the last time; quick where nothing did."""
        if self._closed:
            return
        if self.viewer is None:
            self.close()
            return
        self._capture_changed()
        self._start()

    def _start(self) -> None:
        if self._waiting and self._job is None and not self._closed:
            self._job = Job(self._save_steps, on_result=self._on_saved, on_error=self._on_error, on_end=self._on_end)

    def mark(self) -> Mark:
        """How painted layers are now; hand it to `note_saved` when they were saved like that."""
        return {image_id(layer): look_at(layer) for layer in painted_layers(self.viewer)}

    def note_saved(self, mark: Mark) -> None:
        """Take note that *Save work* saved everything as it was at a `mark`: that needs no recovery."""
        self._marked = dict(mark)
        # Layers that were removed and not missed when the rest was saved.
        self._captured = {layer_id: seen for layer_id, seen in self._captured.items() if layer_id in mark}

    def _capture_changed(self) -> None:
        viewer = self.viewer
        for layer in painted_layers(viewer):
            seen = look_at(layer)
            if not seen.same_as(self._captured.get(image_id(layer))):
                captured = capture(viewer, layer)
                self._captured[captured.layer_id] = seen
                if captured.has_image and captured.image_id not in self._images:
                    self._unknown[captured.image_id] = captured.shown.image
                with self._mutex:
                    self._waiting[captured.layer_id] = captured
        self._about = self.describe()

    def _save_steps(self) -> Generator[Progress, None, list[LungSegError]]:
        yield Progress(0, 0, "Saving what was painted …")
        return self._save()

    def _save(self) -> list[LungSegError]:
        """Write what waits, in whichever thread; returns what is wrong with layers that could not be saved.

        Without a pause in between: a generator that napari aborts would keep the lock.
        """
        with self._saving:
            with self._mutex:
                batch, self._waiting = self._waiting, {}
            try:
                return self._write(batch)
            except BaseException:
                with self._mutex:
                    self._waiting = {**batch, **self._waiting}
                raise

    def _write(self, batch: Mapping[str, Captured]) -> list[LungSegError]:
        items: dict[str, WorkItem] = {}
        errors = []
        for layer_id, captured in batch.items():
            if layer_id in self._stored or captured.shown.has_paint():
                try:
                    items[layer_id] = self._item(captured)
                except LungSegError as error:  # of this layer: the others are saved all the same
                    errors.append(error)
        if items:
            kept = {key: item for key, item in self._stored.items() if key in self._captured and key not in items}
            about = dataclasses.replace(self._about, items=tuple(items.values()))
            record = drain(iter_save_work(self._session.path, about, tuple(kept.values())))
            self._stored = dict(zip([*kept, *items], record.items, strict=True))
        return errors

    def _item(self, captured: Captured) -> WorkItem:
        image, facts = self._images.get(captured.image_id), self._unknown.get(captured.image_id)
        if image is None and facts is not None:
            image = self._images[captured.image_id] = identify(facts)
        self._unknown.pop(captured.image_id, None)
        return item_of(captured, image or captured.identified(), private=True)

    def _on_saved(self, errors: list[LungSegError]) -> None:
        for error in errors:
            self._on_error(error)
        self._told = bool(errors)
        self._forget_taken()
        self.saved.emit()
        # What was painted while this was written; after an error the next round tries again.
        QTimer.singleShot(0, self._start)

    def _on_error(self, error: Exception) -> None:
        # Once, not at every try: it is told again after a save that went well.
        if not self._told:
            self._told = True
            report(error)

    def _on_end(self) -> None:
        self._job = None

    def _on_removing(self, event: Any) -> None:
        self.save_now()

    # Offering

    def _on_inserted(self, event: Any) -> None:
        self._look_for_leftovers(event.value)

    def _look_for_leftovers(self, layer: Layer) -> None:
        if self._closed or not isinstance(layer, Image):
            return
        facts = layer_facts(layer)
        if not any(leftover.may_fit(facts.shape) for leftover in leftovers()):
            return
        if not isinstance(facts.data, np.ndarray):
            # Still on disk: it is looked at when it has been read.
            layer.events.data.connect(self._on_read)
            return
        Job(
            lambda: hash_steps(facts),
            on_result=lambda content: self._offer(layer, content),
            on_error=lambda error: None,
        )

    def _on_read(self, event: Any) -> None:
        event.source.events.data.disconnect(self._on_read)
        self._look_for_leftovers(event.source)

    def _offer(self, image: Layer, content: str) -> None:
        if self._closed or self.viewer is None or image not in self.viewer.layers:
            return
        self._images[image_id(image)] = identify(layer_facts(image), content)
        found = offered_for(content)
        if found:
            self.found.emit(image, found)

    def offers(self) -> list[tuple[Image, list[Leftover]]]:
        """What is offered now for the images that are open, for whoever was not there when they were `found`."""
        taken = {leftover.folder for leftover, *_ in self._taken}
        offers = []
        for image in self.viewer.layers:
            known = self._images.get(image_id(image))
            found = offered_for(known.content) if known is not None else []
            if any(leftover.folder not in taken for leftover in found):
                offers.append((image, [leftover for leftover in found if leftover.folder not in taken]))
        return offers

    def take_back(self, image: Layer, leftover: Leftover, on_end: Callable[[], object] | None = None) -> Job:
        """Add the layers of a leftover that were painted on an image, in the background.

        The leftover is removed when this session has saved them itself.

        Parameters
        ----------
        image : Image layer, as in `found`
        leftover : as in `found`
        on_end : called last
        """
        facts = layer_facts(image)

        def steps() -> Generator[Progress, None, tuple[Identity, Work]]:
            known = self._images.get(image_id(image)) or identify(facts)
            return known, (yield from iter_open_work(leftover.folder))

        def add(result: tuple[Identity, Work]) -> None:
            known, work = result
            if self.viewer is None or image not in self.viewer.layers:
                return
            self._images[image_id(image)] = known
            when = f"restored from {leftover.record.saved.astimezone():%d %b %H:%M}"
            layers = [layer_of(item, image, when) for item in work.items if item.image_hash == known.content]
            for layer in layers:
                self.viewer.add_layer(layer)
            self._taken.append((leftover, known.content, frozenset(map(image_id, layers))))
            self.save_now()

        return Job(steps, on_result=add, on_end=on_end)

    def _forget_taken(self) -> None:
        """Remove leftovers of which this session has saved all it took."""
        for taken in list(self._taken):
            leftover, content, layers = taken
            if layers <= set(self._stored):
                self._taken.remove(taken)
                discard_for(leftover, content)

    # Leaving

    @property
    def has_unsaved(self) -> bool:
        """Whether anything was painted that *Save work* has not saved."""
        painted = {layer_id: seen for layer_id, seen in self._captured.items() if layer_id in self._stored}
        return any(not seen.same_as(self._marked.get(layer_id)) for layer_id, seen in painted.items())

    def close(self) -> None:
        """Save a last time, and let go; what *Save work* has not saved stays on the disk for the next session."""
        if self._closed:
            return
        if self.viewer is not None:
            self._capture_changed()
            for emitter, callback in (
                (self.viewer.layers.events.removing, self._on_removing),
                (self.viewer.layers.events.inserted, self._on_inserted),
            ):
                emitter.disconnect(callback)
        self._closed = True
        self._timer.stop()
        keep = True
        try:
            for error in self._save():
                self._on_error(error)
            self._forget_taken()
            keep = self.has_unsaved
        except LungSegError as error:
            self._on_error(error)
        self._session.leave(keep=keep)
        _OPEN.discard(self)


_OPEN: set[Recovery] = set()


def recovery_of(viewer: Any) -> Recovery:
    """The `Recovery` of a viewer, made when first asked for; it lives as long as the viewer."""
    for recovery in _OPEN:
        if recovery.viewer is viewer:
            return recovery
    recovery = Recovery(viewer)
    _OPEN.add(recovery)
    return recovery
