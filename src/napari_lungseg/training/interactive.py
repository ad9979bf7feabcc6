"""A network that learns while somebody paints: one generator, from strokes to a model file.

It runs until it is told to stop. What was painted meanwhile is sent into it (`Update`) and taken up at the next round;
after every round it yields its figures (`Round`), a `Preview` of the slice on screen and a `Ranking` of the slices.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import TrainingDataError
from ..findings import Finding
from ..models.spec import ModelSpec
from ..models.weights import save_model
from ..progress import Progress, drain
from ..segmentation.devices import memory_mb
from ..volume import LabelMap, Volume
from .best import Best, mean_of
from .examples import Examples, spread
from .learner import Learner
from .losses import IGNORE
from .painted import Painted, Strokes, check_painted, class_names, count_painted, lacking_paint
from .painted_pairs import bundled_start, painted_pair
from .rounds import UNATTENDED_S, PaintSettings, Preview, Ranking, Remarks, Round, Update
from .run import RunFolder
from .start import make_fabric
from .transfer import Start, spelled_alike, start_from

MODEL_NAME = "model"
# Slices of the whole stack that are looked at after each round, to rank them.
_LOOKED_AT = 6
_CHECKPOINT_EVERY_S = 30.0

Steps = Generator[Progress, "Update | None", Path]


def train_painted(
    painted: Sequence[Painted | tuple[Volume, LabelMap]],
    start: str | Path | None = None,
    out: str | Path = "lungseg-painted",
    *,
    settings: PaintSettings | None = None,
    resume: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Path:
    """Learn from paint for as long as the settings say.

    Parameters
    ----------
    painted : images and what was painted on them: `Painted`, or an image and its labels, of which 0 is not painted and
        100 (`BACKGROUND`) is painted background
    start : name or path of a model; or name of a recipe, whose network begins with random weights; None: the bundled model
        of the images' modality
    out : folder of the model file and of what it takes to go on
    settings : with ``seconds`` above 0; a minute with the usual ones if omitted
    resume : go on from the checkpoint in ``out``, for what is left of the seconds
    progress : called after every step; its payload is a `Round` after each round

    Returns
    -------
    The model file: the weights that judged the held-out paint best.

    Raises
    ------
    TrainingDataError
        When nothing can be learned from what is painted, or it would never end.
    """
    how = settings or PaintSettings(seconds=UNATTENDED_S)
    if not how.seconds:
        raise TrainingDataError("With 0 seconds this would never end; say how long to learn (seconds=60).")
    items = [item if isinstance(item, Painted) else painted_pair(*item) for item in painted]
    return drain(
        iter_learn(items, str(start or bundled_start(items)), Path(out), settings=how, resume=resume), progress
    )


def iter_learn(
    painted: Sequence[Painted], start: str, folder: Path, *, settings: PaintSettings, resume: bool = False
) -> Steps:
    """Learn from paint until told to stop; see the head of this module and `train_painted`.

    Parameters
    ----------
    resume : go on from the checkpoint in ``folder``
    """
    heard = yield Progress(0, 0, "Looking at what is painted …")
    run = _Run.begin(painted, start, folder, settings)
    run.hear(heard)
    if resume:
        run.restore()
    for finding in run.findings:
        run.hear((yield run.progress(finding.message, finding)))
    if run.number == 0 and not run.stopped:
        yield from _judge(run, None)
    while not run.is_over:
        loss = yield from _learn(run)
        yield from _judge(run, loss)
    run.save_checkpoint()
    return run.folder.model


def _learn(run: _Run) -> Generator[Progress, Update | None, float]:
    """One round of steps; returns their mean loss."""
    if run.take_up_paint():
        run.hear((yield run.progress("", Remarks((*lacking_paint(run.learner.examples.painted), *run.begun)))))
    losses: list[float] = []
    while len(losses) < run.settings.steps and not (losses and run.is_over):
        with run.timed():
            losses.append(run.learner.step())
        run.hear((yield run.progress(f"round {run.number + 1}: loss {losses[-1]:.3f}")))
    return float(np.mean(losses))


def _judge(run: _Run, loss: float | None) -> Generator[Progress, Update | None, None]:
    """Show what the network says now, how good that is, and where it is unsure; keep it if it is not worse."""
    with run.timed():
        if loss is not None:
            run.number += 1
        better = run.is_best()
    if better:
        # One after another, so that somebody who wants to stop waits for none of them.
        for choose in (run.learner.choose_view, run.learner.choose_smoothing):
            run.hear((yield run.progress("")))
            if not run.stopped:
                with run.timed():
                    choose()
        run.keep()
    run.hear((yield run.progress("")))
    with run.timed():
        preview = None if run.stopped else run.preview()
    if preview is not None:
        run.hear((yield run.progress("", preview)))
    run.history.append(run.figures(loss))
    run.hear((yield run.progress("", run.history[-1])))
    if not run.stopped:
        with run.timed():
            run.look_around()
        run.hear((yield run.progress("", Ranking(tuple(scores.copy() for scores in run.scores)))))
    run.save_checkpoint_now_and_then()


class _Run:
    """One training on paint, and where it stands."""

    def __init__(
        self,
        learner: Learner,
        folder: RunFolder,
        settings: PaintSettings,
        findings: Sequence[Finding],
        begun: Sequence[Finding],
    ) -> None:
        # All there is to tell, and what of it concerns the start and not the paint.
        self.findings, self.begun = findings, begun
        self.learner, self.folder, self.settings = learner, folder, settings
        self.dices: dict[int, float] = {}
        self.number, self.best = 0, Best()
        self.seconds = 0.0
        self.dice: float | None = None
        self.stopped = False
        self.history: list[Round] = []
        self._waiting: list[Strokes] = []
        self._saved = time.monotonic()
        self._look_at_images()

    @classmethod
    def begin(cls, painted: Sequence[Painted], start: str, folder: Path, settings: PaintSettings) -> _Run:
        """Build everything.

        Raises
        ------
        TrainingDataError
            When nothing can be learned from what is painted.
        """
        images = [item.standard() for item in painted]
        begun = _start(images, start, settings)
        told = check_painted(images, begun.scratch)
        learner = _learner(images, begun, settings)
        return cls(learner, RunFolder(folder, MODEL_NAME), settings, [*told, *begun.findings], begun.findings)

    def _look_at_images(self) -> None:
        images = self.learner.examples.painted
        self.scores = [np.full(len(item.labels.array), np.nan, np.float32) for item in images]
        self.look = next(iter(sorted(self.learner.examples.labels)), None)
        self._tour = itertools.cycle(spread(self.learner.examples.places))

    @property
    def is_over(self) -> bool:
        """Whether somebody stopped it, or its time is over."""
        return self.stopped or 0 < self.settings.seconds <= self.seconds

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count this time as learning; while a caller keeps us waiting, nothing is counted."""
        began = time.monotonic()
        yield
        self.seconds += time.monotonic() - began

    def progress(self, message: str, payload: Any = None) -> Progress:
        """A step, with the share of the time that is over."""
        return Progress(round(self.seconds), self.settings.seconds, message, payload)

    # What a person does meanwhile

    def hear(self, update: Update | None) -> None:
        """Take in what a person did; paint waits for the next round."""
        if update is None:
            return
        self._waiting += update.strokes
        self.look = update.look or self.look
        self.stopped = self.stopped or update.stop

    def take_up_paint(self) -> bool:
        """Learn from what was painted since the last round; returns whether anything was."""
        strokes, self._waiting = self._waiting, []
        if not strokes:
            return False
        self.learner.take_up(strokes)
        known = self.learner.start.spec.names
        if spelled_alike(class_names(self.learner.examples.painted), known.values()) != dict(known):
            self._begin_anew()
        for stroke in strokes:
            for z in stroke.slices:
                self.scores[stroke.image][z] = np.nan
        with self.timed():
            self.best.judge_anew(self.learner)
        return True

    def _begin_anew(self) -> None:
        """With other classes: from the weights so far, which keep the classes that they know."""
        scratch, images = self.learner.start.scratch, self.learner.examples.painted
        file = save_model(self.folder.path / "classes-before.safetensors", self._spec(), self._weights(), half=False)
        start = dataclasses.replace(_start(images, str(file), self.settings), scratch=scratch)
        file.unlink()
        self.learner = _learner(images, start, self.settings)
        self.best.weights = {}

    # What comes of it

    def is_best(self) -> bool:
        """Whether the newest weights take the place of the best so far."""
        self.learner.settle()
        self.dices = self.learner.dices()
        self.dice = mean_of(self.dices)
        if self.best.holds_against(self.dices, self.learner):
            return False
        self.best.give_way(self._weights(), self.number, self.dices, self.learner.pixels)
        return True

    def keep(self) -> None:
        """Write the model of the best weights."""
        save_model(self.folder.model, self._spec(), self.best.weights)

    def preview(self) -> Preview | None:
        """What the network says of the slice on screen; nothing where it does not know all classes yet."""
        if self.look is None or (self.number == 0 and self.learner.new):
            return None
        preview, self.scores[self.look[0]][self.look[1]] = self.learner.preview(self.look)
        return dataclasses.replace(preview, number=self.number)

    def look_around(self) -> None:
        """See how unsure the network is of some other slices."""
        places = list(itertools.islice(self._tour, min(_LOOKED_AT, len(self.learner.examples.places))))
        for place, uncertain in zip(places, self.learner.uncertainty(places), strict=True):
            self.scores[place[0]][place[1]] = self.learner.gain(place, uncertain)

    def figures(self, loss: float | None) -> Round:
        """The figures of this round."""
        return Round(
            number=self.number,
            seconds=round(self.seconds, 2),
            loss=loss,
            dice=self.dice,
            best=self.best.dice,
            best_number=self.best.number,
            pixels=self.learner.pixels,
            memory_mb=memory_mb(),
            device=str(self.learner.fabric.device),
            dices=self.dices,
            held_out=bool(self.learner.held),
        )

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.learner.mean.state_dict().items()}

    def _spec(self) -> ModelSpec:
        spec, learner = self.learner.start.spec, self.learner
        counts = count_painted(learner.examples.painted)
        before = self.history[0].dice if self.history else self.dice
        record = {
            "painted": {str(label): {"pixels": n, "slices": slices} for label, (n, slices) in counts.items()},
            "images": len(learner.examples.painted),
            "rounds": self.number,
            "seconds": round(self.seconds, 1),
            "settings": dataclasses.asdict(self.settings),
            "held_out": {
                "dice": self.dice and round(self.dice, 4),
                "dice_before": before and round(before, 4),
                "pixels": sum(int((labels != IGNORE).sum()) for labels in learner.held.values()),
            },
        }
        training = {**spec.training, **record}
        return dataclasses.replace(spec, **learner.views, training=training)

    # Going on another day

    def save_checkpoint_now_and_then(self) -> None:
        """Write a checkpoint if the last one is old."""
        if time.monotonic() - self._saved > _CHECKPOINT_EVERY_S:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write all that it takes to go on."""
        learner, self._saved = self.learner, time.monotonic()
        self.folder.save_checkpoint(
            {
                "classes": {str(label): name for label, name in learner.start.spec.names.items()},
                "architecture": learner.start.spec.architecture,
                "number": self.number,
                "seconds": self.seconds,
                "steps": learner.steps,
                "best_number": self.best.number,
                **learner.views,
                "history": [dataclasses.asdict(figures) for figures in self.history],
                "network": learner.network.module.state_dict(),
                "average": learner.average.state_dict(),
                "optimiser": learner.optimiser.state_dict(),
                "best": self.best.weights,
            }
        )

    def restore(self) -> None:
        """Go on from the checkpoint.

        Raises
        ------
        TrainingDataError
            When there is none, or it is of a network for other classes.
        """
        saved, learner = self.folder.load_checkpoint(), self.learner
        if saved is None:
            raise TrainingDataError("There is nothing to resume here: this training was never stopped. Begin it anew.")
        classes = {str(label): name for label, name in learner.start.spec.names.items()}
        if saved["classes"] != classes or saved["architecture"] != learner.start.spec.architecture:
            raise TrainingDataError(
                f"What was stopped here learned {', '.join(saved['classes'].values())}, but now "
                f"{', '.join(classes.values())} is painted. Train anew, starting from its model."
            )
        learner.network.module.load_state_dict(saved["network"])
        learner.average.load_state_dict(saved["average"])
        learner.load_optimiser(saved["optimiser"])
        learner.steps, self.number, self.seconds = saved["steps"], saved["number"], saved["seconds"]
        self.best.number, self.best.weights = saved["best_number"], saved["best"]
        for name, value in learner.views.items():
            setattr(learner, name, saved.get(name, value))  # older checkpoints do not say
        self.history = [Round(**figures) for figures in saved["history"]]
        self.best.judge_anew(learner)


def _start(images: Sequence[Painted], start: str, settings: PaintSettings) -> Start:
    colours = {label: colour for item in images for label, colour in item.labels.colours.items()}
    return start_from(start, images[0].volume, class_names(images), colours, settings.seed)


def _learner(images: Sequence[Painted], start: Start, settings: PaintSettings) -> Learner:
    fabric = make_fabric(settings.device, settings.precision)
    examples = Examples(images, start.spec.preprocessing, settings.hold_out, settings.seed)
    return Learner(fabric, start, examples, settings)
