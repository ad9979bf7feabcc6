"""Run ``lungseg`` inside the test's process, and models that need no training."""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_lungseg.cli import run
from napari_lungseg.findings import Finding
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.progress import Progress
from napari_lungseg.segmentation.calibration import Prediction
from napari_lungseg.segmentation.confidence import judge
from napari_lungseg.volume import LUNG_NAMES, LabelMap, Volume

SHAPE = (6, 40, 50)
"""Of a small CT."""


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def runner(capsys: Any) -> Callable[..., Outcome]:
    """A function that runs ``lungseg`` with arguments of any type."""

    def lungseg(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = run([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Outcome(code, *capsys.readouterr())

    return lungseg


def quick_runner(capsys: Any, monkeypatch: Any) -> Callable[..., Outcome]:
    """As `runner`, with a rule of thumb for a network."""
    monkeypatch.setattr("napari_lungseg.segmentation.predict.iter_segment", fake_iter_segment)
    return runner(capsys)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fake_iter_segment(
    volume: Volume, model: Any = None, *, device: str = "auto", settings: Any = None, uncertainty: Any = None
) -> Generator[Progress, None, LabelMap]:
    """Labels dark voxels by the side of the picture that they lie on; keeps the promises of the real one."""
    yield Progress(0, 1, "[loading]")
    array = np.asarray(volume.array)
    dark = array < (-300 if volume.unit == "HU" else np.median(array))
    labels = np.where(dark, np.where(np.arange(array.shape[2]) < array.shape[2] // 2, 1, 2), 0).astype(np.uint8)
    if uncertainty is not None:
        uncertainty[:] = np.where(labels > 0, 50, 0)
    yield Progress(1, 1, "done")
    told = (Finding("look-closely", "Made by a rule of thumb [not a network]."),)
    chosen = {} if settings is None else {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    record = {"model": model or "fake", "version": "1", "device": device, "seconds": 0.25, "settings": chosen}
    record["confidence"] = judge([Prediction(0.96, 0.94, 0.98)], told).as_record()
    return LabelMap(labels, volume.geometry, LUNG_NAMES, findings=told, source=volume.source, record=record)


def save_untrained(path: Path, modality: str) -> Path:
    """A small model with random weights: real in everything but its sense."""
    import torch

    from napari_lungseg.models.networks.unet import build_unet
    from napari_lungseg.models.weights import save_model

    options = {"encoder": "resnet18", "decoder_channels": [16, 8, 8, 8, 8]}
    torch.manual_seed(0)
    window = (-1024.0, 600.0) if modality == "ct" else None
    spec = ModelSpec(
        name=f"untrained-{modality}",
        architecture="unet",
        options=options,
        modality=modality,
        unit="HU" if modality == "ct" else "a.u.",
        preprocessing=Preprocessing(size=(64, 64), window=window),
        names=LUNG_NAMES,
        licence="BSD-3-Clause",
    )
    return save_model(path, spec, build_unet(1, 3, **options).state_dict())
