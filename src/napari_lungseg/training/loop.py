"""The training loop: one generator, from images on disk to a model file.

Run it as `train` or `iter_train`. Started by ``torchrun`` or ``fabric run`` it trains on all their processes; in napari
and in a plain Python it stays on one device. Everything random is drawn from the seed and the number of the epoch, so a
run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..findings import Finding
from ..progress import Progress, drain
from .datasets import DataSet
from .draw import seeded
from .prepared import default_cache
from .recipe import Recipe, TrainSettings, load_recipe
from .run import Epoch, RunFolder
from .session import Session
from .snapshots import ensemble_of
from .start import iter_gather, make_fabric
from .validate import Score, iter_validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric


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
    run = Session.begin(recipe, gathered, folder, fabric, resume)
    yield from run.prepare(Path(cache) if cache else default_cache())
    if unlabelled is not None:
        yield from run.prepare_teacher(unlabelled, Path(cache) if cache else default_cache())
    run.restore()
    while run.epoch < recipe.settings.epochs and not run.is_done:
        yield from _epoch(run)
    yield from _finish(run)
    return folder.model


def _epoch(run: Session) -> Generator[Progress, None, None]:
    """Learn from every training slice once, validate, and keep what there is to keep."""
    began, settings = time.monotonic(), run.recipe.settings
    losses = yield from _learn(run)
    score = (yield from _validate(run, run.evaluated)) if len(run.val) else None
    run.epoch += 1
    run.seconds += time.monotonic() - began
    run.schedule.after_epoch(score.dice if score else -losses)
    rate = float(run.optimiser.param_groups[0]["lr"])
    figures = Epoch.of(run.epoch, losses, score, rate, round(run.seconds, 3))
    run.history.append(figures)
    if score is None or score.dice > run.best:
        run.best, run.best_epoch = score.dice if score else run.best, run.epoch
        run.save_model(run.folder.model, run.evaluated.state_dict())
    if run.schedule.cycle_ended and settings.snapshots:
        run.save_model(run.folder.snapshot(run.snapshots), run.evaluated.state_dict())
        run.snapshots += 1
    run.keep()
    total = settings.epochs * len(run.loader)
    yield Progress(run.epoch * len(run.loader), total, _sentence(figures), figures)


def _validate(run: Session, network: nn.Module) -> Generator[Progress, None, Score]:
    """Compare a network's labels with the reference on the validation cases."""
    score = yield from iter_validate(
        run.fabric,
        network,
        run.val,
        run.criterion,
        labels_count=run.spec.classes - 1,
        size=run.recipe.preprocessing.size,
        batch_size=run.recipe.settings.batch_size,
    )
    return score


def _learn(run: Session) -> Generator[Progress, None, float]:
    """Show the network every training slice once; returns the mean loss."""
    settings, done = run.recipe.settings, run.epoch * len(run.loader)
    total = settings.epochs * len(run.loader)
    run.order.epoch = run.epoch
    rank = run.fabric.global_rank
    torch.manual_seed(seeded(settings.seed, run.epoch, rank).initial_seed())  # for dropout
    generator = seeded(settings.seed, run.epoch, rank, device=run.fabric.device)
    run.network.train()
    if run.teacher is not None:
        run.teacher.begin_epoch()
    losses = 0.0
    for number, (images, labels, _) in enumerate(run.loader, 1):
        images, labels = run.changes.apply(images.float(), labels, generator)
        is_step = number % settings.accumulate == 0 or number == len(run.loader)
        with run.fabric.no_backward_sync(run.network, enabled=not is_step):
            scores = run.network(images.to(memory_format=torch.channels_last))
            loss = run.criterion(scores, labels)
            if run.teacher is not None and run.average is not None:
                share = (done + number) / total
                loss = loss + run.teacher.loss(run.network, run.average.network, run.criterion, share, generator)
            run.fabric.backward(loss / settings.accumulate)
        if is_step:
            _step(run)
        losses += loss.item()
        yield Progress(done + number, total, f"epoch {run.epoch + 1} of {settings.epochs}, loss {loss.item():.4f}")
    return mean_of_all(run.fabric, losses / len(run.loader))


def mean_of_all(fabric: Fabric, value: float) -> float:
    """Mean of a number over all processes."""
    # GPUs exchange nothing that does not lie on them.
    mean: Any = fabric.all_reduce(torch.tensor(value, device=fabric.device), reduce_op="mean")
    return float(mean)


def _step(run: Session) -> None:
    if run.recipe.settings.clip:
        run.fabric.clip_gradients(
            run.network, run.optimiser, max_norm=run.recipe.settings.clip, error_if_nonfinite=False
        )
    run.optimiser.step()
    run.optimiser.zero_grad()
    run.schedule.after_step()
    if run.average is not None:
        run.average.update(run.network.module)


def _finish(run: Session) -> Generator[Progress, None, None]:
    """Let the snapshots predict together where the recipe wants that and they are better; draw the curves."""
    run.fabric.barrier()  # until the first process has written the snapshots
    kept = min(run.snapshots, run.recipe.settings.snapshots)
    if kept > 1:
        files = [run.folder.snapshot(number) for number in range(run.snapshots - kept, run.snapshots)]
        network, spec = ensemble_of(files, run.data.channels)
        told = f"{kept} snapshots predict together."
        if len(run.val):
            score = yield from _validate(run, network.to(run.fabric.device))
            told = f"Dice of {kept} snapshots together {score.dice:.4f}, of the best single weights {run.best:.4f}."
        run.notes.append(Finding("snapshots", told))
        if not len(run.val) or score.dice > run.best:
            run.best = max(run.best, score.dice) if len(run.val) else run.best
            run.save_model(run.folder.model, network.state_dict(), spec)
        else:
            run.note_in_model(told)
        yield Progress(0, 0, told)
    if run.fabric.is_global_zero:
        run.folder.draw(run.history)
    run.fabric.barrier()  # no process hands out a model that is not yet there


def _sentence(figures: Epoch) -> str:
    dice = f", validation Dice {figures.dice:.4f}" if figures.dice is not None else ""
    return f"epoch {figures.epoch}: loss {figures.loss:.4f}{dice}"
