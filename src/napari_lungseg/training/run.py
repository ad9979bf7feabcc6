"""What a training run leaves in its folder: a checkpoint, the best model, a log and its curves."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TrainingDataError
from ..io.atomic import replacing

if TYPE_CHECKING:
    from .validate import Score

_FORMAT = 1


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch.

    Parameters
    ----------
    epoch : counted from 1
    loss, val_loss : means over training batches (changed at random) and validation slices (as they are)
    dice, iou : mean over validation cases and labels at the network's size; None without validation cases
    learning_rate : at the end of the epoch
    seconds : since the run began, interruptions left out
    """

    epoch: int
    loss: float
    val_loss: float | None
    dice: float | None
    iou: float | None
    learning_rate: float
    seconds: float

    @classmethod
    def of(cls, epoch: int, loss: float, score: Score | None, learning_rate: float, seconds: float) -> Epoch:
        """Put an epoch's figures together; ``score`` is None where there are no validation cases."""
        if score is None:
            return cls(epoch, loss, None, None, None, learning_rate, seconds)
        return cls(epoch, loss, score.loss, score.dice, score.iou, learning_rate, seconds)


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path : made where it is missing
    name : of the model file in it
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.path / "checkpoint.pt"
        self.model = self.path / f"{name}.safetensors"
        self.splits = self.path / "splits.csv"

    def snapshot(self, number: int) -> Path:
        """File of the weights at the end of a cycle, counted from 0."""
        return self.path / "snapshots" / f"{number}.safetensors"

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write all that is needed to go on, in one step: killed at any moment, a whole checkpoint is there."""
        import torch

        with replacing(self.checkpoint) as partial:
            torch.save({"format": _FORMAT, **state}, partial)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None where there is none.

        Raises
        ------
        TrainingDataError
            When the file is damaged or was made by another version.
        """
        import torch

        if not self.checkpoint.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise TrainingDataError(
                f"{self.checkpoint.name} in {self.path.name} cannot be read ({error}). Train into another folder."
            ) from error
        if state.get("format") != _FORMAT:
            raise TrainingDataError(
                f"{self.checkpoint.name} in {self.path.name} was made by another version of napari-lungseg. "
                "Train into another folder."
            )
        return state

    def tidy(self) -> None:
        """Remove what a killed run left half-written."""
        for leftover in self.path.rglob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def log(self, history: Sequence[Epoch]) -> None:
        """Write every epoch's figures as ``log.csv``."""
        with replacing(self.path / "log.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
            lines = csv.DictWriter(file, list(Epoch.__dataclass_fields__))
            lines.writeheader()
            lines.writerows(asdict(epoch) for epoch in history)

    def log_tensorboard(self, epoch: Epoch) -> None:
        """Add an epoch's figures to what ``tensorboard --logdir`` shows."""
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        logger: Any = TensorBoardLogger(self.path, name="tensorboard", version="")
        values = {name: value for name, value in asdict(epoch).items() if value is not None and name != "epoch"}
        logger.log_metrics(values, step=epoch.epoch)
        logger.finalize("success")

    def draw(self, history: Sequence[Epoch]) -> None:
        """Draw loss and Dice over epochs as ``curves.png``."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        epochs = [epoch.epoch for epoch in history]
        left.plot(epochs, [epoch.loss for epoch in history], label="training")
        for axes, name, label in ((left, "val_loss", "validation"), (right, "dice", "Dice"), (right, "iou", "IoU")):
            values = [getattr(epoch, name) for epoch in history]
            if any(value is not None for value in values):
                axes.plot(epochs, values, label=label)
        left.set(xlabel="epoch", ylabel="loss")
        right.set(xlabel="epoch", ylabel="validation")
        for axes in (left, right):
            if axes.lines:
                axes.legend(frameon=False)
        with replacing(self.path / "curves.png") as partial:
            figure.savefig(partial, dpi=100)
