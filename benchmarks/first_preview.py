"""From pressing Train to the first updated preview, and how much of a minute's gain is there by then.

Usage: ``python benchmarks/first_preview.py DATA [--only TASK …] [--seconds 60]``

The test CT is made 512 × 512 × 150 by mirroring its ends; three slices are painted whole, as closed outlines filled. The
training process is started as the window starts it, ahead of time (warm) or not (cold); the clock starts when the order
to train is sent. Dice is over every fifth of the unpainted slices, without postprocessing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from interactive import Predictor, Task, dice, heart, lungs_ct

from napari_lungseg import LabelMap
from napari_lungseg.training.painted import BACKGROUND, Painted
from napari_lungseg.training.pipe import Message, read, write
from napari_lungseg.training.rounds import PaintSettings, Round

SLICES = 150
CASES = {
    "lungs, adapted": (lungs_ct, "ct-lungs"),
    "lungs, scratch": (lungs_ct, "paint"),
    "heart, adapted": (heart, "ct-lungs"),
}


def longer(task: Task) -> Task:
    """The task's scan with its ends mirrored, so that it has `SLICES` slices; judged on slices of the scan itself."""
    volume, truth = task.images[0], task.truth[0]
    extra = SLICES - len(truth)
    pad = ((extra // 2, extra - extra // 2), (0, 0), (0, 0))
    array, labels = (np.pad(one, pad, mode="symmetric") for one in (np.asarray(volume.array), truth))
    geometry = dataclasses.replace(volume.geometry, shape=array.shape)
    judged = [(0, z + extra // 2) for _, z in task.judged]
    return Task(task.name, [dataclasses.replace(volume, array=array, geometry=geometry)], [labels], task.names, judged)


def painted_slices(task: Task) -> Painted:
    """Three slices in which all classes are, painted whole."""
    truth, judged = task.truth[0], {z for _, z in task.judged}
    full = [z for z in range(len(truth)) if z not in judged and all((truth[z] == c).any() for c in task.names)]
    labels = np.zeros(truth.shape, np.uint8)
    for z in (full[len(full) // 6], full[len(full) // 2], full[5 * len(full) // 6]):
        labels[z] = np.where(truth[z] > 0, truth[z], BACKGROUND)
    return Painted(task.images[0], LabelMap(labels, task.images[0].geometry, names=task.names))


def run(name: str, data: Path, seconds: float, warm: bool) -> dict[str, Any]:
    """One training; seconds to the first updated preview, and Dice then and at the end."""
    make, start = CASES[name]
    task = longer(make(data, 0))
    painted, predictor = painted_slices(task), Predictor(task)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "napari_lungseg.training.worker"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        orders, answers = cast("Any", process.stdin), cast("Any", process.stdout)
        if warm:
            read(answers)
        began = time.monotonic()
        order = {"training": 1, "painted": [painted], "start": start, "folder": folder, "settings": PaintSettings()}
        write(orders, Message("begin", {**order, "resume": False}))
        first, at_first = 0.0, b""
        model = Path(folder) / "model.safetensors"
        while time.monotonic() - began < seconds:
            answer = read(answers)
            if answer is None or answer.kind == "error":
                raise RuntimeError(answer)
            payload = getattr(answer.content.get("progress"), "payload", None)
            if isinstance(payload, Round) and payload.number == 1 and not first:
                first, at_first = time.monotonic() - began, model.read_bytes()
        process.kill()
        process.wait()
        before = Path(folder) / "first.safetensors"
        before.write_bytes(at_first)
        began_at = dice(task, predictor.labels(start, task.judged)) if name == "lungs, adapted" else 0.0
        early, late = (dice(task, predictor.labels(file, task.judged)) for file in (before, model))
    figures = {"first_preview_s": round(first, 1), "dice_before": began_at, "dice_first": early, "dice_end": late}
    return {"case": name, "warm": warm, **figures, "share": (early - began_at) / max(late - began_at, 1e-9)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=60.0)
    how = parser.parse_args()
    for name in how.only:
        for warm in (True, False) if name == "lungs, adapted" else (True,):
            print(json.dumps(run(name, how.data, how.seconds, warm)), flush=True)


if __name__ == "__main__":
    main()
