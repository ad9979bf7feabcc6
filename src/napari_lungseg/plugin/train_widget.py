"""The *Train on painted labels* widget: a network that learns from a few strokes while painting goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import napari.viewer
from napari.layers import Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout

from ..errors import LungSegError, TrainingDataError
from ..models.catalog import load_model
from ..training.rounds import Ranking, Round
from ..training.work import Work
from ..volume import label_colour
from .docked import DockedWidget
from .jobs import report
from .keep_box import KeepBox, ask_for_image
from .layers import KEY
from .memory import recall, remember
from .paint_box import PaintBox
from .painted_run import PaintedRun
from .painting import MADE_BY, image_of
from .places import Pair, classes_of, images_in, images_of
from .recovery import recovery_of
from .recovery_line import RecoveryLine
from .shortcuts import Shortcuts
from .train_box import TrainBox
from .training_process import TrainingProcess
from .window import letters_of
from .work_files import Opening, save_work

_NAME = "train"
# The process is launched once the window has come to rest with something to learn from.
_QUIET_MS = 1500
_WIDTH = 340
# Of a Dice that is told with three digits.
_VISIBLE = 0.0005


class TrainWidget(DockedWidget):
    """Train a network on painted labels, while they are painted.

    Parameters
    ----------
    napari_viewer : the viewer it works on
    process : a `TrainingProcess`, or what stands for it in tests
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, process: Any = None) -> None:
        super().__init__()
        # napari hands over a stand-in that lives only as long as this widget; paint is kept safe for longer.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.run = PaintedRun(self.viewer, TrainingProcess() if process is None else process)
        self.training = TrainBox()
        self.paint = PaintBox(self.viewer, self._known_classes)
        self.keeping = KeepBox(self.viewer)
        self.recovery = recovery_of(self.viewer)
        self.recovery.describe = self._about
        self.offers = RecoveryLine(self.recovery)
        self._build()
        self._connect()
        self._restore()
        for emitter, callback in self._followed():
            emitter.connect(callback)
        commands = {
            "train": self.train_or_pause,
            "stop": self.run.stop,
            "complete": self.paint.where.toggle_complete,
            "next slice": self.paint.where.next_slice,
        }
        self.shortcuts = Shortcuts(self.viewer, commands)
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(_QUIET_MS)
        self._quiet.timeout.connect(self.run.process.start)
        self._quiet.timeout.connect(self.training.curves.warm)
        letters_of(self.viewer)
        self._pairs_changed()
        self._advise()

    # Training

    def train(self) -> None:
        """Begin a training on all images that take part."""
        if self.run.is_running:
            return
        self.paint.classes.finish_typing()
        self.paint.count()
        if not self.paint.is_painted:
            self._refuse(
                TrainingDataError(
                    "Nothing is painted yet. Choose a class, paint a few strokes of it and of the background, and try again."
                )
            )
            return
        self._remember()
        self.recovery.save_now()
        self.training.begin()
        self.training.curves.clear()
        self.paint.where.show_scores(())
        self.keeping.show_model(None, None)
        self.run.look(self.paint.where.place)
        try:
            self.run.begin(
                self.paint.pairs, self.training.start.start, self.training.form.settings, self.training.modality
            )
        except (LungSegError, OSError) as error:
            report(error)

    def pause_or_resume(self) -> None:
        """Rest; or go on, after a pause or a stop."""
        if not self.run.is_running:
            self._go_on()
        elif self.run.is_paused:
            self.run.unpause()
        else:
            self.run.pause()

    def train_or_pause(self) -> None:
        """What the key does: begin, rest, or go on."""
        if self.run.is_running or self._is_resumable:
            self.pause_or_resume()
        else:
            self.train()

    def _go_on(self) -> None:
        if not self._is_resumable:
            return
        self.training.begin()
        try:
            self.run.go_on(self.training.form.settings)
        except (LungSegError, OSError) as error:
            self._refuse(error)

    @property
    def _is_resumable(self) -> bool:
        """Whether the last training was stopped, and its layers are still there."""
        plan = self.run.plan
        return (
            self.run.can_resume
            and plan is not None
            and all(pair.image in self.viewer.layers and pair.labels in self.viewer.layers for pair in plan.pairs)
        )

    def _show_round(self, figures: Round) -> None:
        plan = self.run.plan
        names = {} if plan is None else classes_of(plan.pairs)[0]
        self.training.show_round(figures, 0 if plan is None else plan.settings.seconds, names)
        self.paint.count()
        if plan is not None:
            self.keeping.show_model(plan.folder / "model.safetensors", self.run.best)

    def _show_ranking(self, ranking: Ranking) -> None:
        self.paint.where.show_scores(ranking.scores)

    def _finished(self, model: Path) -> None:
        best = self.run.best
        self.keeping.show_model(model, best)
        self.training.start.add_file(model, choose=False)
        self.training.say(_told_of(self.run.rounds, best))

    def _failed(self, error: Exception) -> None:
        self.training.say("Training has failed. What was painted is safe.")
        self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Tell in the widget, too: a notification shows one line of it, and is soon gone."""
        self.training.tell(str(error))
        report(error)

    def _run_changed(self) -> None:
        if self.run.is_paused:
            self.training.say("Paused. Paint on; Resume takes up what was painted.")
        elif not self.run.is_running and not self.run.rounds and self.run.error is None:
            self.training.say("Stopped before anything was learned.")
        self._enable()

    def _layer_removed(self, event: Any) -> None:
        """Stop a training whose image or paint is gone."""
        plan = self.run.plan
        if self.run.is_running and plan is not None:
            gone = [pair for pair in plan.pairs if event.value in (pair.image, pair.labels)]
            if gone:
                self.run.stop()
                self.training.tell(f"{event.value.name} was closed, so training has stopped.")
        self.offers.forget(event.value)
        self._enable()

    def _layer_inserted(self, event: object = None) -> None:
        self._advise()

    # Work

    def save_work(self, folder: Path) -> None:
        """Save painted layers, classes and model in a folder."""
        try:
            save_work(self.viewer, folder, dataclasses.replace(self._about(), model=self.keeping.model))
        except LungSegError as error:
            report(error)

    def open_work(self, folder: Path) -> None:
        """Open what `save_work` saved."""
        Opening(self.viewer, folder, self._ask_for_image, lambda work, added: self._opened(folder, work, added))

    def _opened(self, folder: Path, work: Work, added: list[Pair]) -> None:
        for pair in added:
            self.paint.table.choose(pair.image, pair.labels)
        self.training.form.update(dataclasses.asdict(work.settings))
        if work.model is not None:
            self.training.start.add_file(work.model, "the model of this work")
            self.keeping.show_model(work.model, None)
        elif work.start:
            self.training.start.choose(work.start)
        if not added:  # given up
            return
        self.keeping.folder = folder
        if not self.run.is_running:
            # What stood there was of another training.
            self.training.begin()
            self.training.curves.clear()
            self.training.say("The saved work is open. Paint on, and press Train.")

    def _ask_for_image(self, question: str) -> Path | Literal["leave out", "cancel"]:
        return ask_for_image(self, question)

    def _about(self) -> Work:
        names, colours = classes_of(self.paint.pairs)
        return Work((), names, colours, None, self.training.start.start, self.training.form.settings)

    # What the parts tell each other

    def _pairs_changed(self) -> None:
        pairs = self.paint.pairs
        if pairs:
            self.training.start.show_for(self.training.modality or self._modality_of(pairs[0].image))
            self._quiet.start()
        plan = self.run.plan
        if self.run.is_running and plan is not None:
            known = [pair.labels for pair in plan.pairs]
            for name in [pair.labels.name for pair in pairs if pair.labels not in known]:
                self.training.tell(f"{name} is learned from at the next Train; this one began without it.")
        self._enable()

    def _moved(self) -> None:
        plan = self.run.plan
        place = self.paint.where.place
        if place is None or plan is None:
            return
        image = images_in(self.paint.pairs)[place[0]]
        if image in plan.images:
            self.run.look((plan.images.index(image), place[1]))

    def _known_classes(self) -> dict[str, str]:
        """Name → colour of the classes that the model to start from knows."""
        if self.training.start.is_scratch:
            return {}
        try:
            spec = load_model(self.training.start.start).spec
        except LungSegError:
            return {}
        return {name: spec.colours.get(label, label_colour(label)) for label, name in spec.names.items()}

    def _start_from_maker(self, result: Labels) -> None:
        """What a result was made by is what its correction starts from."""
        stored = result.metadata[KEY]
        made_by = str(stored.get(MADE_BY) or stored.get("record", {}).get("model", ""))
        start = self.training.start
        # Its own kind of image may not be the one that models are listed for yet.
        start.show_for(self._modality_of(image_of(self.viewer, result)))
        start.choose(made_by)
        if made_by and start.start != made_by:
            self.training.tell(
                f"The model that made {result.name} is not there any more, so training starts from what is chosen."
            )

    @staticmethod
    def _modality_of(image: Any) -> str:
        return "" if image is None else str(image.metadata.get(KEY, {}).get("modality", ""))

    def _enable(self) -> None:
        self.training.enable(
            running=self.run.is_running,
            paused=self.run.is_paused,
            stopping=self.run.is_stopping,
            ready=bool(self.paint.pairs),
            resumable=self._is_resumable,
        )
        self.paint.table.setEnabled(not self.run.is_running)
        self.keeping.is_training = self.run.is_running

    def _advise(self) -> None:
        """Say what to do next, until a training was begun."""
        if self.run.plan is not None:
            return
        if not images_of(self.viewer):
            advice = "Open a scan first."
        elif not self.paint.pairs:
            advice = "Press New painted labels, or segment the scan and press Correct this result."
        elif not self.paint.is_painted:
            advice = "Paint a few strokes of every class, and of the background beside them, in some slices."
        else:
            advice = "Press Train, and go on painting while it learns."
        self.training.say(advice)

    # Building

    def _build(self) -> None:
        layout = QVBoxLayout()
        for part in (self.offers, self.paint, self.training, self.keeping):
            layout.addWidget(part)
        layout.addStretch()
        self.show_content(layout, _WIDTH)

    def _connect(self) -> None:
        run, training = self.run, self.training
        run.changed.connect(self._run_changed)
        run.stepped.connect(training.show_step)
        run.told.connect(lambda findings: training.tell_findings([finding.message for finding in findings]))
        run.previewed.connect(lambda: training.say_of_preview(run.about_preview))
        run.late.connect(training.tell_late)
        run.figures.connect(self._show_round)
        run.ranked.connect(self._show_ranking)
        run.finished.connect(self._finished)
        run.failed.connect(self._failed)
        training.train_button.clicked.connect(lambda: self.train())
        training.pause_button.clicked.connect(lambda: self.pause_or_resume())
        training.stop_button.clicked.connect(lambda: run.stop())
        training.shown.connect(run.previews.show)
        training.kind.currentIndexChanged.connect(self._pairs_changed)
        self.paint.pairs_changed.connect(self._pairs_changed)
        self.paint.counted.connect(self._advise)
        self.paint.corrected.connect(self._start_from_maker)
        self.paint.where.moved.connect(self._moved)
        self.keeping.save_wanted.connect(self.save_work)
        self.keeping.open_wanted.connect(self.open_work)

    # Remembering

    def _restore(self) -> None:
        kept = recall(_NAME)
        self.training.form.update(kept.get("settings", {}))
        self.training.start.choose(str(kept.get("start", "")))

    def _remember(self) -> None:
        remember(_NAME, {"start": self.training.start.start, "settings": self.training.form.values})

    # Leaving

    def let_go(self) -> None:
        """End the training and call nothing back."""
        self.run.close_down()
        self.shortcuts.remove()
        self.paint.close_down()
        self.training.curves.close_down()
        self.offers.close_down()
        self.recovery.describe = Work
        for emitter, callback in self._followed():
            emitter.disconnect(callback)

    def _followed(self) -> list[tuple[Any, Any]]:
        events = self.viewer.layers.events
        return [(events.removed, self._layer_removed), (events.inserted, self._layer_inserted)]


def _told_of(rounds: Sequence[Round], best: Round | None) -> str:
    """What is kept of a training that has ended, and why where another round had a higher Dice."""
    if best is None:
        return "Ended. The best model is kept."
    judged = "held-out paint" if best.held_out else "the paint it learned from"
    if best.number == 0:
        return f"Ended. No round was better than the start on {judged}, so the start is what is kept."
    if best.dice is None:
        return f"Ended. Round {best.number} is kept."
    # Judged again on the paint as it is now, where it is not the last round.
    now = best.dice if rounds[-1].number == best.number else rounds[-1].best or best.dice
    told = f"Ended. Round {best.number} is kept, Dice {now:.3f} on {judged}."
    higher = max((each for each in rounds if each.dice is not None), key=lambda each: each.dice or 0.0)
    if (higher.dice or 0.0) - best.dice < _VISIBLE:
        return told
    which = f"round {higher.number}" if higher.number else "the start"
    if higher.pixels != best.pixels:
        return f"{told} That {which} had {higher.dice:.3f} was on other paint: the two cannot be compared."
    return f"{told} That {which} had {higher.dice:.3f} is within its error, and the newer has seen more paint."
