"""One training on paint as the window sees it: what goes to the training process, and what comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal  # type: ignore[attr-defined]

from ..findings import Finding
from ..progress import Progress
from ..training.painted import Painted, merged
from ..training.rounds import PaintSettings, Preview, Ranking, Remarks, Round, Update
from ..volume import Modality
from .jobs import Job
from .painting import Snapshot, snapshot
from .places import Pair, classes_of, images_in, layers_on
from .previews import Previews
from .rhythm import Rhythm
from .run_folders import new_run_folder
from .slice_bar import Place
from .watched import Watched

# Somebody who leafs through the slices is asked only where they stay.
_LOOK_MS = 150
_WATCH_MS = 5000


@dataclass(frozen=True, eq=False)
class Plan:
    """What is trained.

    Parameters
    ----------
    pairs : images and what is painted on them
    start : name or path of a model, or name of a recipe
    settings : how to learn
    folder : of the model and of what it takes to go on
    modality : of the images, where a person overrules what they say
    resume : go on from the folder's checkpoint
    """

    pairs: tuple[Pair, ...]
    start: str
    settings: PaintSettings
    folder: Path
    modality: Modality | None = None
    resume: bool = False

    @property
    def images(self) -> list[Any]:
        """Image layers, in the order in which they are numbered."""
        return images_in(self.pairs)


class PaintedRun(QObject):
    """Trainings on paint, one at a time, in a process of their own.

    Signals
    -------
    changed : began, paused, went on, is about to stop, or ended
    stepped : (`Progress`) what is going on
    told : (tuple of `Finding`) all there is to tell of start and paint as they are now
    late : (bool) whether the round at hand takes far longer than others did
    previewed : another slice was previewed, or is on screen
    figures : (`Round`) of a round
    ranked : (`Ranking`) where to paint next
    finished : (`Path`) the best model, after a stop or the end of the time
    failed : (`Exception`)

    Parameters
    ----------
    viewer : napari viewer or viewer model
    process : a `TrainingProcess`, or what stands for it in tests
    parent : owner
    """

    changed = Signal()
    stepped = Signal(object)
    told = Signal(object)
    late = Signal(bool)
    previewed = Signal()
    figures = Signal(object)
    ranked = Signal(object)
    finished = Signal(object)
    failed = Signal(object)

    def __init__(self, viewer: Any, process: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.process = process
        self.previews = Previews(viewer)
        self.plan: Plan | None = None
        self.rounds: list[Round] = []
        self.findings: tuple[Finding, ...] = ()
        self.error: Exception | None = None
        self.model: Path | None = None
        self._can_look = True
        self.is_running = self.is_paused = self.is_stopping = False
        self._job: Job | None = None
        self._watched: list[Watched] = []
        self._place: Place | None = None
        self._look_soon = QTimer(self)
        self._look_soon.setSingleShot(True)
        self._look_soon.setInterval(_LOOK_MS)
        self._look_soon.timeout.connect(self._send_place)
        self._rhythm = Rhythm()
        self._watch = QTimer(self)
        self._watch.setInterval(_WATCH_MS)
        self._watch.timeout.connect(lambda: self.late.emit(self._rhythm.is_late and not self.is_paused))
        process.progress.connect(self._take)
        process.finished.connect(self._finish)
        process.failed.connect(self._fail_with)
        process.ended.connect(self._end)

    @property
    def best(self) -> Round | None:
        """Figures of the round whose weights are kept."""
        if not self.rounds:
            return None
        number = self.rounds[-1].best_number
        return next((each for each in self.rounds if each.number == number), None)

    @property
    def kept(self) -> int | None:
        """Number of the round whose weights are kept."""
        return self.rounds[-1].best_number if self.rounds else None

    @property
    def about_preview(self) -> str:
        """Which round the preview of the slice on screen is of."""
        number = self.previews.round_of(self._place)
        if self.plan is None or not (self.is_running or self.rounds):
            return ""
        if not self.is_running:
            if number == self.kept:
                return f"This slice: the model that is kept (round {number})"
            # A process that did not answer Stop in time is gone.
            waits = (
                "the model that is kept is looking at it …"
                if self._can_look
                else "Segment shows what the kept model says"
            )
            return "" if self.model is None else f"This slice: {waits}"
        if number is None:
            return f"This slice: the preview comes with the next round{', after Resume' if self.is_paused else ''}"
        newest = self.rounds[-1].number if self.rounds else 0
        return f"This slice: round {number}" + ("" if number >= newest else ", renewed with the next one (faint)")

    @property
    def can_resume(self) -> bool:
        """Whether a training that was stopped can go on."""
        return not self.is_running and self.plan is not None and (self.plan.folder / "checkpoint.pt").is_file()

    # What the widget asks for

    def begin(
        self, pairs: Sequence[Pair], start: str, settings: PaintSettings, modality: Modality | None = None
    ) -> None:
        """Begin anew, in a folder of its own.

        Raises
        ------
        OSError
            When the folder cannot be made.
        LungSegError
            When a layer cannot be learned from.
        """
        self.rounds = []
        self._launch(Plan(tuple(pairs), start, settings, new_run_folder(), modality))

    def go_on(self, settings: PaintSettings) -> None:
        """After a stop: go on with the same images from where it was stopped, for as long again.

        Raises
        ------
        LungSegError
            When a layer cannot be learned from.
        """
        if self.plan is None:
            return
        if settings.seconds and self.rounds:
            settings = dataclasses.replace(settings, seconds=settings.seconds + round(self.rounds[-1].seconds))
        self._launch(dataclasses.replace(self.plan, settings=settings, resume=True))

    def pause(self) -> None:
        """Rest after the step at hand."""
        if self.is_running and not self.is_paused and not self.is_stopping:
            self.is_paused = True
            self.process.pause()
            self.changed.emit()

    def unpause(self) -> None:
        """Go on after a pause, with what was painted meanwhile."""
        if self.is_paused and not self.is_stopping:
            self.is_paused = False
            self._rhythm.rest()
            self._send_strokes()
            self.process.resume()
            self.changed.emit()

    def stop(self) -> None:
        """End within two seconds and keep the best model."""
        if not self.is_running or self.is_stopping:
            return
        self.is_stopping, self.is_paused = True, False
        self.changed.emit()
        if self._job is not None:
            self._job.detach()
            self._end()
        else:
            self.process.stop()

    def look(self, place: Place | None) -> None:
        """A person looks at another slice."""
        if place is not None and place != self._place:
            self._place = place
            self.previews.look_at(place)
            self.previewed.emit()
            self._look_soon.start()

    def close_down(self) -> None:
        """Kill the process and call nobody any more."""
        if self._job is not None:
            self._job.detach()
        self.is_running = False
        with suppress(RuntimeError):  # Qt has deleted them already
            self._watch.stop()
            self._look_soon.stop()
        self.previews.let_go()
        self.process.close_down()

    # Beginning

    def _launch(self, plan: Plan) -> None:
        images = list(enumerate(plan.images))
        shots = [[snapshot(image, layer) for layer in layers_on(plan.pairs, image)] for _, image in images]
        self._watched = [Watched(number, image, layers_on(plan.pairs, image)) for number, image in images]
        self.plan, self.error, self.model, self.findings = plan, None, None, ()
        self.is_running, self.is_paused, self.is_stopping = True, False, False
        names, colours = classes_of(plan.pairs)
        self.previews.begin(dict(images), names, colours)
        self.changed.emit()
        self.previewed.emit()
        self.stepped.emit(Progress(0, 0, "Getting the images ready …"))
        self._rhythm = Rhythm()
        self._watch.start()
        self.process.start()
        self._job = Job(
            lambda: _painted_steps(shots, plan.modality), on_result=self._begin, on_error=self._fail_to_begin
        )

    def _begin(self, painted: list[Painted]) -> None:
        plan, self._job = self.plan, None
        if plan is None:
            return
        self.stepped.emit(Progress(0, 0, "Waiting for the training process …"))
        self.process.begin(painted, plan.start, plan.folder, plan.settings, plan.resume)
        self._send_place()

    def _finish(self, model: Path) -> None:
        # Stopped before the first look at it, a network leaves nothing.
        if model.is_file():
            self.model = model
            self.finished.emit(model)

    def _fail_with(self, error: Exception) -> None:
        self.error = error
        self.failed.emit(error)

    def _fail_to_begin(self, error: Exception) -> None:
        self._fail_with(error)
        self._end()

    # What comes back

    def _take(self, step: Progress) -> None:
        if isinstance(step.payload, Preview):
            self.previews.update(step.payload)
            self.previewed.emit()
        elif isinstance(step.payload, Round):
            self.rounds.append(step.payload)
            self._rhythm.beat()
            self.late.emit(False)
            self.previews.follow_round(step.payload.number)
            self._send_strokes()
            self.figures.emit(step.payload)
        elif isinstance(step.payload, Ranking):
            self.ranked.emit(step.payload)
        elif isinstance(step.payload, Finding | Remarks):
            new = step.payload
            self.findings = new.findings if isinstance(new, Remarks) else (*self.findings, new)
            self.told.emit(self.findings)
        elif step.message and not (self.is_stopping or self.is_paused):
            self.stepped.emit(step)

    def _send_strokes(self) -> None:
        """Send what was painted since the last time."""
        if self.plan is None:
            return
        found = [strokes for strokes in (watched.strokes() for watched in self._watched) if strokes is not None]
        if found:
            if any(strokes.names is not None for strokes in found):
                self.previews.name_classes(*classes_of(self.plan.pairs))
            self.process.update(Update(strokes=tuple(found)))

    def _send_place(self) -> None:
        place, plan = self._place, self.plan
        if place is None or plan is None or self._job is not None or place[0] >= len(plan.images):
            return
        if self.is_running:
            self.process.update(Update(look=place))
        elif self.model is not None and self.previews.round_of(place) != self.kept:
            self._can_look = self.process.look(place)
            self.previewed.emit()

    def _end(self) -> None:
        self.is_running = self.is_paused = self.is_stopping = False
        self._job = None
        self._watch.stop()
        self.late.emit(False)
        if self.kept is None:
            self.previews.drop_old()
        elif self.model is not None:
            self.previews.follow_round(self.kept, is_kept=True)
            self._send_place()
        self.changed.emit()
        self.previewed.emit()


def _painted_steps(
    shots: Sequence[Sequence[Snapshot]], modality: Modality | None
) -> Generator[Progress, None, list[Painted]]:
    """What can be learned from, with images in memory; lazy ones may take a while."""
    painted = []
    for done, layers in enumerate(shots):
        yield Progress(done, len(shots), "Getting the images ready …")
        item = merged([layer.painted(modality) for layer in layers])
        painted.append(dataclasses.replace(item, volume=item.volume.load()))
    return painted
