"""What a training run consists of, and how it is kept on disk so that it can be gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader

from ..errors import TrainingDataError
from ..findings import Finding
from ..models.spec import ModelSpec
from ..models.weights import read_spec, read_weights, save_model
from ..progress import Progress
from ..segmentation.predict import mirror_order
from .average import WeightAverage
from .batches import Changes, Order
from .datasets import DataSet, find_dataset
from .losses import LOSSES, DeepSupervision
from .prepared import PreparedCase, Slices, iter_prepare, kept_size
from .recipe import Recipe
from .run import Epoch, RunFolder
from .schedules import SCHEDULES, Schedule, build_optimiser
from .splits import write_splits
from .start import TrainingData, build_network
from .unlabelled import Teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DRAW_EVERY_S = 30.0
_TEACHER_DECAY = 0.99


@dataclass
class Session:
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
    def begin(cls, recipe: Recipe, data: TrainingData, folder: RunFolder, fabric: Fabric, resume: bool) -> Session:
        """Build the network and its optimiser, and look for a checkpoint.

        Raises
        ------
        TrainingDataError
            When the folder holds a run that is not to be gone on with, or another one.
        """
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
            used = [case for dataset in self.data.sets for case in dataset.cases]
            write_splits(self.folder.splits, [*used, *self.data.unused])
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

    def keep(self) -> None:
        """Write log and checkpoint, and now and then the curves."""
        if not self.fabric.is_global_zero:
            return
        self.folder.log(self.history)
        self.folder.log_tensorboard(self.history[-1])
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

    def save_model(self, path: Path, weights: Any, spec: ModelSpec | None = None) -> None:
        """Write a model file with the record of this run."""
        if self.fabric.is_global_zero:
            save_model(path, dataclasses.replace(spec or self.spec, training=self.record()), weights)

    def note_in_model(self, note: str) -> None:
        """Add what was seen after the model was written to its record, once."""
        path = self.folder.model
        if not self.fabric.is_global_zero:
            return
        spec = read_spec(path)
        notes = [*(told for told in spec.training["notes"] if told != note), note]
        save_model(path, dataclasses.replace(spec, training={**spec.training, "notes": notes}), read_weights(path))

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
