"""The training loop: one generator, from images on disk to a model file.

Run it as `train` or `iter_train`. Started by ``torchrun`` or ``fabric run`` it trains on all their processes; in napari
and in a plain Python it stays on one device. Everything random is drawn from the seed and the number of the epoch, so a
run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader

from ..errors import TrainingDataError
from ..findings import Finding
from ..models.spec import ModelSpec
from ..models.weights import save_model
from ..progress import Progress, drain
from ..segmentation.predict import mirror_order
from .average import WeightAverage
from .batches import Changes, Order
from .datasets import DataSet, find_dataset
from .draw import seeded
from .losses import LOSSES, DeepSupervision
from .prepared import PreparedCase, Slices, default_cache, iter_prepare, kept_size
from .recipe import Recipe, TrainSettings, load_recipe
from .run import Epoch, RunFolder
from .schedules import SCHEDULES, Schedule, build_optimiser
from .snapshots import ensemble_of
from .splits import write_splits
from .start import TrainingData, build_network, iter_gather, make_fabric
from .unlabelled import Teacher
from .validate import Score, iter_validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DRAW_EVERY_S = 30.0
_TEACHER_DECAY = 0.99


def train(
    recipe: str | Path | Recipe,
    data: Sequence[DataSet | str | Path] | str | Path,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    settings: TrainSettings | None = None,
    split_file: str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    unlabelled: str | Path | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Path:
    """Train a model on data sets.

    Parameters
    ----------
    recipe : name of one that ships, a ``.toml`` file, or a `Recipe`
    data : folder of a data set, or several that are learned from together
    out : folder of the run; ``lungseg-<recipe>`` beside you if omitted
    device : ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``
    settings : instead of the recipe's
    split_file : CSV that says which case is in which part; else the data set's own, else 0.8/0.1/0.1 by patient
    cache : folder for prepared images; the user's cache if omitted
    resume : go on where the run in ``out`` stopped
    unlabelled : folder of images without masks to learn from too (`napari_lungseg.training.unlabelled`)
    progress : called after every batch; its payload is an `Epoch` after each epoch

    Returns
    -------
    The model file: the weights with the best validation Dice (the last where there are no validation cases).

    Raises
    ------
    TrainingDataError
        When the data cannot be learned from, or ``out`` holds another run.
    UnknownNameError
        When the recipe, or something that it names, is not known.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if settings is not None:
        chosen = chosen.changed(**dataclasses.asdict(settings))
    sets = [data] if isinstance(data, str | Path) else list(data)
    steps = iter_train(
        chosen, sets, out, device=device, split_file=split_file, cache=cache, resume=resume, unlabelled=unlabelled
    )
    return drain(steps, progress)


def iter_train(
    recipe: Recipe,
    data: Sequence[DataSet | str | Path],
    out: str | Path | None = None,
    *,
    device: str = "auto",
    split_file: str | Path | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    unlabelled: str | Path | None = None,
) -> Generator[Progress, None, Path]:
    """Train step by step: yields `Progress` after every batch and returns the model file (see `train`)."""
    folder = RunFolder(out or f"lungseg-{recipe.name}", recipe.name)
    fabric = make_fabric(device, recipe.settings.precision)
    gathered = yield from iter_gather(data, recipe, Path(split_file) if split_file else None)
    run = _Run.begin(recipe, gathered, folder, fabric, resume)
    yield from run.prepare(Path(cache) if cache else default_cache())
    if unlabelled is not None:
        yield from run.prepare_teacher(unlabelled, Path(cache) if cache else default_cache())
    run.restore()
    while run.epoch < recipe.settings.epochs and not run.is_done:
        yield from run.one_epoch()
    yield from run.finish()
    return folder.model


@dataclass
class _Run:
    """One run on one process."""

    recipe: Recipe
    data: TrainingData
    folder: RunFolder
    fabric: Fabric
    network: Any  # as Fabric wraps it
    spec: ModelSpec
    optimiser: Any
    notes: list[Finding]
    saved: dict[str, Any] | None
    epoch: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    snapshots: int = 0
    history: list[Epoch] = field(default_factory=list)
    drawn: float = 0.0
    teacher: Teacher | None = None

    @classmethod
    def begin(cls, recipe: Recipe, data: TrainingData, folder: RunFolder, fabric: Fabric, resume: bool) -> _Run:
        saved = folder.load_checkpoint()
        if saved is not None and not resume:
            raise TrainingDataError(
                f"{folder.path.name} holds a run that reached epoch {saved['epoch']}. Go on with it (--resume), or name "
                "another folder."
            )
        if saved is not None and saved["recipe"] != _plain(recipe.as_record() | {"settings": _lasting(recipe)}):
            raise TrainingDataError(
                f"{folder.path.name} holds a run with another recipe or other settings, which cannot be gone on with. "
                "Use the same ones, or name another folder."
            )
        network, spec, notes = build_network(recipe, data)
        settings = recipe.settings
        optimiser = build_optimiser(
            settings.optimiser, network.parameters(), settings.learning_rate, settings.weight_decay
        )
        wrapped, optimiser = fabric.setup(network.to(memory_format=torch.channels_last), optimiser)
        return cls(recipe, data, folder, fabric, wrapped, spec, optimiser, notes + data.left_out, saved)

    def prepare(self, cache: Path) -> Generator[Progress, None, None]:
        """Prepare images, then everything that depends on how many there are; go on from the checkpoint."""
        settings = self.recipe.settings
        train: list[tuple[PreparedCase, ...]] = []
        val: list[PreparedCase] = []
        with self.fabric.rank_zero_first():
            for dataset in self.data.sets:
                train.append((yield from self._prepared(dataset, "train", cache)))
                val += yield from self._prepared(dataset, "val", cache)
        if self.fabric.is_global_zero:
            self.folder.tidy()
            write_splits(self.folder.splits, [case for dataset in self.data.sets for case in dataset.cases])
        parts = [Slices(cases, settings.merge) for cases in train]
        self.order = Order(
            [len(part) for part in parts], settings.seed, self.fabric.global_rank, self.fabric.world_size
        )
        self.loader = self._loader(ConcatDataset(parts), settings.batch_size, self.order)
        self.val = Slices(val, settings.merge)
        self.changes = Changes(self.recipe, mirror_order(self.spec.names))
        self.steps = -(-len(self.loader) // settings.accumulate)
        schedule: Callable[..., Schedule] = SCHEDULES.resolve(settings.schedule)
        options = {"cycle": settings.cycle} if settings.cycle else {}
        self.schedule = schedule(self.optimiser, epochs=settings.epochs, steps_per_epoch=self.steps, **options)
        self.criterion = DeepSupervision(LOSSES.resolve(settings.loss)())
        self.average = WeightAverage(self.network.module, settings.average) if settings.average else None
        if not val:
            self.notes.append(Finding("no-validation", "There are no validation cases; the last weights are kept."))

    def prepare_teacher(self, unlabelled: str | Path, cache: Path) -> Generator[Progress, None, None]:
        """Prepare images without masks, and the teacher who labels them."""
        first = self.data.sets[0]
        dataset = find_dataset(unlabelled, "unlabelled", modality=first.modality)
        with self.fabric.rank_zero_first():
            cases = yield from iter_prepare(dataset, dataset.cases, kept_size(self.recipe), cache)
        slices = Slices(cases)
        order = Order([len(slices)], self.recipe.settings.seed + 1, self.fabric.global_rank, self.fabric.world_size)
        loader = self._loader(slices, self.recipe.settings.batch_size, order)
        self.teacher = Teacher(self.fabric, loader, self.changes, self.recipe.preprocessing.size)
        if self.average is None:
            self.average = WeightAverage(self.network.module, _TEACHER_DECAY)

    def _prepared(
        self, dataset: DataSet, part: str, cache: Path
    ) -> Generator[Progress, None, tuple[PreparedCase, ...]]:
        cases = [case for case in dataset.part(part) if case.masks]
        return (yield from iter_prepare(dataset, cases, kept_size(self.recipe), cache))

    def _loader(self, slices: Any, batch_size: int, order: Any = None) -> Any:
        workers = self.recipe.settings.workers
        if workers < 0:
            workers = min(4, max(0, (os.cpu_count() or 1) - 1))
        loader = DataLoader(
            slices,
            batch_size,
            sampler=order,
            num_workers=workers,
            persistent_workers=workers > 0,
            drop_last=order is not None and len(order) > batch_size,
            pin_memory=self.fabric.device.type == "cuda",
        )
        return self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    def one_epoch(self) -> Generator[Progress, None, None]:
        """Learn from every training slice once, validate, and keep what there is to keep."""
        began, settings = time.monotonic(), self.recipe.settings
        losses = yield from self._learn()
        score = (yield from self.validate(self.evaluated)) if len(self.val) else None
        self.epoch += 1
        self.seconds += time.monotonic() - began
        self.schedule.after_epoch(score.dice if score else -losses)
        rate = float(self.optimiser.param_groups[0]["lr"])
        figures = Epoch.of(self.epoch, losses, score, rate, round(self.seconds, 3))
        self.history.append(figures)
        if score is None or score.dice > self.best:
            self.best, self.best_epoch = score.dice if score else self.best, self.epoch
            self._save_model(self.folder.model, self.evaluated.state_dict())
        if self.schedule.cycle_ended and settings.snapshots:
            self._save_model(self.folder.snapshot(self.snapshots), self.evaluated.state_dict())
            self.snapshots += 1
        self._keep()
        total = settings.epochs * len(self.loader)
        yield Progress(self.epoch * len(self.loader), total, _sentence(figures), figures)

    def validate(self, network: nn.Module) -> Generator[Progress, None, Score]:
        """Compare a network's labels with the reference on the validation cases."""
        score = yield from iter_validate(
            self.fabric,
            network,
            self.val,
            self.criterion,
            labels_count=self.spec.classes - 1,
            size=self.recipe.preprocessing.size,
            batch_size=self.recipe.settings.batch_size,
        )
        return score

    def _learn(self) -> Generator[Progress, None, float]:
        settings, done = self.recipe.settings, self.epoch * len(self.loader)
        total = settings.epochs * len(self.loader)
        self.order.epoch = self.epoch
        rank = self.fabric.global_rank
        torch.manual_seed(seeded(settings.seed, self.epoch, rank).initial_seed())  # for dropout
        generator = seeded(settings.seed, self.epoch, rank, device=self.fabric.device)
        self.network.train()
        if self.teacher is not None:
            self.teacher.begin_epoch()
        losses = 0.0
        for number, (images, labels, _) in enumerate(self.loader, 1):
            images, labels = self.changes.apply(images.float(), labels, generator)
            is_step = number % settings.accumulate == 0 or number == len(self.loader)
            with self.fabric.no_backward_sync(self.network, enabled=not is_step):
                scores = self.network(images.to(memory_format=torch.channels_last))
                loss = self.criterion(scores, labels)
                if self.teacher is not None and self.average is not None:
                    share = (done + number) / total
                    loss = loss + self.teacher.loss(
                        self.network, self.average.network, self.criterion, share, generator
                    )
                self.fabric.backward(loss / settings.accumulate)
            if is_step:
                self._step()
            losses += loss.item()
            yield Progress(done + number, total, f"epoch {self.epoch + 1} of {settings.epochs}, loss {loss.item():.4f}")
        mean: Any = self.fabric.all_reduce(torch.tensor(losses / len(self.loader)), reduce_op="mean")
        return float(mean)

    def _step(self) -> None:
        if self.recipe.settings.clip:
            self.fabric.clip_gradients(
                self.network, self.optimiser, max_norm=self.recipe.settings.clip, error_if_nonfinite=False
            )
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.schedule.after_step()
        if self.average is not None:
            self.average.update(self.network.module)

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and kept: the mean of the weights where the recipe wants it, else the network."""
        module: nn.Module = self.average.network if self.average is not None else self.network.module
        return module

    @property
    def is_done(self) -> bool:
        """Whether nothing has become better for too long."""
        patience = self.recipe.settings.patience
        return bool(patience) and self.best >= 0 and self.epoch - self.best_epoch >= patience

    def _keep(self) -> None:
        if not self.fabric.is_global_zero:
            return
        self.folder.log(self.history)
        if time.monotonic() - self.drawn > _DRAW_EVERY_S:
            self.folder.draw(self.history)
            self.drawn = time.monotonic()
        counts = ("epoch", "seconds", "best", "best_epoch", "snapshots")
        self.folder.save_checkpoint(
            {name: getattr(self, name) for name in counts}
            | {
                "recipe": _plain(self.recipe.as_record() | {"settings": _lasting(self.recipe)}),
                "history": [dataclasses.asdict(epoch) for epoch in self.history],
                "network": self.network.module.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "average": self.average.state_dict() if self.average is not None else None,
            }
        )

    def restore(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if self.saved is None:
            return
        saved, self.saved = self.saved, None
        for name in ("epoch", "seconds", "best", "best_epoch", "snapshots"):
            setattr(self, name, saved[name])
        self.history = [Epoch(**epoch) for epoch in saved["history"]]
        self.network.module.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])

    def _save_model(self, path: Path, weights: Any, spec: ModelSpec | None = None) -> None:
        if self.fabric.is_global_zero:
            save_model(path, dataclasses.replace(spec or self.spec, training=self.record()), weights)

    def finish(self) -> Generator[Progress, None, None]:
        """Let the snapshots predict together where the recipe wants that and they are better; draw the curves."""
        kept = min(self.snapshots, self.recipe.settings.snapshots)
        if kept > 1:
            files = [self.folder.snapshot(number) for number in range(self.snapshots - kept, self.snapshots)]
            network, spec = ensemble_of(files, self.data.channels)
            told = f"{kept} snapshots predict together."
            if len(self.val):
                score = yield from self.validate(network.to(self.fabric.device))
                told = (
                    f"Dice of {kept} snapshots together {score.dice:.4f}, of the best single weights {self.best:.4f}."
                )
            self.notes.append(Finding("snapshots", told))
            if not len(self.val) or score.dice > self.best:
                self.best = max(self.best, score.dice) if len(self.val) else self.best
                self._save_model(self.folder.model, network.state_dict(), spec)
            yield Progress(0, 0, told)
        if self.fabric.is_global_zero:
            self.folder.draw(self.history)

    def record(self) -> dict[str, Any]:
        """How the weights came to be, JSON-ready."""
        counts = {part: sum(len(dataset.part(part)) for dataset in self.data.sets) for part in ("train", "val", "test")}
        return {
            "recipe": _plain(self.recipe.as_record()),
            "data": [dataset.path.name for dataset in self.data.sets],
            "cases": counts,
            "epoch": self.epoch,
            "seconds": round(self.seconds, 1),
            "validation": {"dice": round(self.best, 4)} if self.best >= 0 else {},
            "notes": [str(note) for note in self.notes],
        }


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """What JSON would make of a record: lists for tuples, so that a stored one equals a new one."""
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain


def _lasting(recipe: Recipe) -> dict[str, Any]:
    """Settings that a run must keep when it is gone on with."""
    return {name: value for name, value in dataclasses.asdict(recipe.settings).items() if name != "workers"}


def _sentence(figures: Epoch) -> str:
    dice = f", validation Dice {figures.dice:.4f}" if figures.dice is not None else ""
    return f"epoch {figures.epoch}: loss {figures.loss:.4f}{dice}"
