"""A stand-in for `iter_learn` that does what its ``start`` says; run as a script it is a training process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_lungseg.errors import TrainingDataError
from napari_lungseg.progress import Progress
from napari_lungseg.training.painted import Painted
from napari_lungseg.training.rounds import PaintSettings, Preview, Update
from napari_lungseg.volume import Geometry, LabelMap, Volume

MODEL = "model.safetensors"


def make_painted(shape: tuple[int, int, int] = (3, 16, 20)) -> Painted:
    """A CT, anisotropic and off centre, with a stroke of one class and one of background."""
    geometry = Geometry(shape, (2.5, 0.7, 0.9), (-120.5, 33.25, -81.0))
    labels = np.zeros(shape, np.uint8)
    labels[1, 2:6, 3:12], labels[1, 9:13, 3:12] = 1, 100
    array = np.random.default_rng(0).integers(-1000, 400, shape, np.int16)
    return Painted(Volume(array, geometry), LabelMap(labels, geometry, {1: "right lung"}))


def iter_fake(
    painted: Sequence[Painted], start: str, folder: Path, *, settings: PaintSettings, resume: bool = False
) -> Generator[Progress, Update | None, Path]:
    """Runs the function of this module that ``start`` names."""
    folder.mkdir(exist_ok=True)
    (folder / "begun").write_text(f"{resume} {settings.seed}", encoding="utf-8")
    try:
        yield from globals()[start](painted, folder)
    finally:
        (folder / "closed").touch()
    return folder / MODEL


def counting(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Counts until it is stopped; says what it heard."""
    step, heard = 0, None
    while heard is None or not heard.stop:
        step += 1
        told = heard and f"{[(s.image, s.slices, int(s.labels.sum())) for s in heard.strokes]} {heard.look}"
        heard = yield Progress(step, 0, told or "")
        time.sleep(0.005)
    (folder / MODEL).write_text("after a stop", encoding="utf-8")


def describing(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Says what it was given, and ends by itself."""
    for item in painted:
        total = int(item.volume.array.sum(dtype=np.int64)) + int(item.labels.array.sum())
        yield Progress(total, 0, f"{item.volume.array.shape} {item.volume.geometry.origin} {sorted(item.complete)}")
    (folder / MODEL).write_text("by itself", encoding="utf-8")


def previewing(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Shows one large picture after another, faster than anybody looks."""
    for number in range(10_000):
        picture = np.full((1024, 1024), number % 251, np.uint8)
        heard = yield Progress(number, 0, "", Preview(0, number, picture, picture))
        if heard is not None and heard.stop:
            break
    (folder / MODEL).touch()


def waiting_policy(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Says how threads wait for each other here."""
    yield Progress(0, 0, os.environ.get("OMP_WAIT_POLICY", ""))


def hanging(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Answers no more after its first step."""
    yield Progress(1, 0)
    time.sleep(600)


def learning_then_hanging(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Has a model, and answers no more."""
    (folder / MODEL).write_text("so far", encoding="utf-8")
    yield from hanging(painted, folder)


def lacking(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Fails in a way that was foreseen."""
    yield Progress(0, 0)
    raise TrainingDataError("Nothing is painted yet.")


def faulty(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Fails in a way that nobody thought of."""
    yield Progress(0, 0)
    raise ValueError("a bug")


def noisy(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Prints in every way there is, and reads what is not its own."""
    print("printed", flush=True)  # noqa: T201 (as libraries do)
    os.write(1, b"written to the descriptor\n")
    subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
    yield Progress(len(sys.stdin.read()) + len(os.read(0, 10)), 0)
    sys.stderr.write("last words\n")
    (folder / MODEL).touch()


def leaving(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Takes the whole process with it."""
    yield Progress(0, 0)
    sys.stderr.write("".join(f"line {n}\n" for n in range(50)))
    os._exit(3)


def killed(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Is ended by the system, as where memory runs out; there is a model by then."""
    (folder / MODEL).touch()
    yield Progress(0, 0)
    os.kill(os.getpid(), signal.SIGKILL)


def babbling(painted: Sequence[Painted], folder: Path) -> Generator[Progress, Update | None, None]:
    """Finds the pipe and prints into it, which is not possible by accident."""
    yield Progress(0, 0)
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, b"Epoch 1: loss 0.5, or some such thing\n")
        except OSError:
            continue
    time.sleep(600)


def slow_imports() -> Callable[..., Any]:
    """What takes as long to import as torch on a bad day."""
    time.sleep(float(os.environ.get("FAKE_IMPORT_S", "4")))
    return iter_fake


if __name__ == "__main__":
    from napari_lungseg.training.worker import main

    main(slow_imports if "slow" in sys.argv else lambda: iter_fake)
