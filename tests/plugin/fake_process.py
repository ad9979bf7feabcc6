"""A stand-in for the training process: it notes what it is told, and tells what a test says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from safetensors.numpy import save_file
from tiny_model import TINY

from napari_lungseg.models.weights import HEADER_KEY
from napari_lungseg.progress import Progress
from napari_lungseg.training.painted import Painted
from napari_lungseg.training.rounds import PaintSettings, Preview, Ranking, Round, Update


class FakeProcess(QObject):
    """Has the signals and methods of `TrainingProcess`."""

    progress = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    ended = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.begun: list[dict[str, Any]] = []
        self.updates: list[Update] = []
        self.can_look = True

    def start(self) -> None:
        self.calls.append("start")

    def begin(
        self, painted: Sequence[Painted], start: str, folder: Path, settings: PaintSettings, resume: bool = False
    ) -> None:
        self.calls.append("begin")
        self.begun.append(
            {"painted": list(painted), "start": start, "folder": folder, "settings": settings, "resume": resume}
        )

    def update(self, update: Update) -> None:
        self.updates.append(update)

    def look(self, place: tuple[int, int]) -> bool:
        self.calls.append(f"look {place}")
        return self.can_look

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def stop(self) -> None:
        self.calls.append("stop")

    def close_down(self) -> None:
        self.calls.append("close_down")

    # What a test lets it tell

    def tell(self, payload: Any, message: str = "") -> None:
        self.progress.emit(Progress(1, 0, message, payload))

    def tell_round(
        self, number: int, dice: float | None = 0.9, best_number: int | None = None, pixels: int = 100, **more: Any
    ) -> None:
        best = number if best_number is None else best_number
        loss = 0.5 / (number + 1) if number else None
        self.tell(Round(number, 2.0 * number, loss, dice, dice, best, pixels, 512.0, "cpu", **more))

    def tell_preview(self, image: int, index: int, labels: np.ndarray, number: int = 0) -> None:
        self.tell(Preview(image, index, labels, np.full(labels.shape, 128, np.uint8), number))

    def tell_ranking(self, *scores: Sequence[float]) -> None:
        self.tell(Ranking(tuple(np.array(each, np.float32) for each in scores)))

    def finish(self, *, checkpoint: bool = True) -> Path:
        """End as after a stop."""
        folder: Path = self.begun[-1]["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        if checkpoint:
            (folder / "checkpoint.pt").touch()
        model = folder / "model.safetensors"
        save_file({"weight": np.zeros(1)}, model, metadata={HEADER_KEY: TINY.to_json()})
        self.finished.emit(model)
        self.ended.emit()
        return model
