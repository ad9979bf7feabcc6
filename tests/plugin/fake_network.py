"""A stand-in for the network: known labels at a pace that a test sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np

from napari_lungseg.findings import Finding
from napari_lungseg.progress import Progress
from napari_lungseg.volume import LabelMap, Volume


class FakeNetwork:
    """Stands for `iter_segment`: known labels, known findings, and a pace that a test sets."""

    def __init__(self) -> None:
        self.steps, self.pause = 3, 0.0
        self.calls: list[dict[str, Any]] = []
        self.started, self.closed = threading.Event(), threading.Event()
        self.finished = 0
        self.error: Exception | None = None
        self.value = 1
        self.record: dict[str, Any] = {}

    def __call__(
        self, volume: Volume, model: Any = None, *, device: str = "auto", settings: Any = None, uncertainty: Any = None
    ) -> Generator[Progress, None, LabelMap]:
        self.calls.append({"volume": volume, "model": model, "device": device, "settings": settings})
        self.started.set()
        try:
            for step in range(self.steps):
                if self.pause:
                    time.sleep(self.pause)
                if self.error is not None:
                    raise self.error
                yield Progress(step + 1, self.steps, f"slice {step + 1}")
            array = np.zeros(volume.geometry.shape, np.uint8)
            array[:, 2:20, 3:9] = self.value
            if uncertainty is not None:
                uncertainty[:] = np.where(array > 0, 50, 0)
            self.finished += 1
            return LabelMap(
                array,
                volume.geometry,
                names={1: "right lung", 2: "left lung"},
                findings=(Finding("small-lung", "The left lung is small."),),
                record={"model": "fake", "device": "cpu", "seconds": 0.1, **self.record},
            )
        finally:
            self.closed.set()
