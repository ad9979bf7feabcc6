"""Learning from paint with a simulated annotator: Dice on slices that nobody painted, against strokes and seconds.

Usage: ``python benchmarks/interactive.py DATA [--only TASK …] [--methods adapted scratch forest] [--strokes 20]
[--seeds 0 1 2] [--csv FILE] [--plot PNG] [--set NAME=VALUE …]``; with ``--from-csv FILE …`` instead of DATA it only draws.

Tasks: ``lungs-ct`` and ``lungs-xray`` (the test scans; the bundled models have never seen them), ``heart`` (contours of a
radiotherapy plan) and ``opacity`` (made up, pasted into a real CT). Every fifth slice (every second radiograph) is never
painted; Dice is over these, per class, pooled over slices, without postprocessing. The annotator paints `--per-turn`
strokes, then waits for `--turn` seconds of training, looks at some slices, and paints where they are wrong.

``adapted`` starts from the bundled model, ``scratch`` from random weights; ``forest`` is scikit-image's trainable
segmentation (multiscale features, a random forest) on the strokes that ``scratch`` was given.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import cases, load
from annotator import Annotator
from scipy.ndimage import zoom

from napari_lungseg import LabelMap, Volume, read
from napari_lungseg.models.catalog import DEFAULT_MODELS, load_model
from napari_lungseg.segmentation.predict import SegmentSettings, segment
from napari_lungseg.training.interactive import iter_learn
from napari_lungseg.training.painted import BACKGROUND, Painted, Strokes
from napari_lungseg.training.rounds import PaintSettings, Round, Update

LUNGS = {1: "right lung", 2: "left lung"}
RAW = SegmentSettings(postprocess=False, look_again=False)
LEAFED = 16
SCRATCH = "paint"
Place = tuple[int, int]


@dataclass(frozen=True)
class Task:
    """Images in the standard view, their true labels, and which slices are never painted."""

    name: str
    images: list[Volume]
    truth: list[np.ndarray]
    names: dict[int, str]
    judged: list[Place]

    @property
    def allowed(self) -> list[Place]:
        """Slices that may be painted."""
        judged = set(self.judged)
        places = [(i, z) for i, array in enumerate(self.truth) for z in range(len(array))]
        return [place for place in places if place not in judged]


def lungs_ct(data: Path, seed: int) -> Task:
    """The test CT with its lungs."""
    volume, labels = load(cases(data, "ct", "test")[0])
    image, truth = volume.reoriented()[0], labels.reoriented()[0].array
    return Task("lungs-ct", [image], [truth], LUNGS, [(0, z) for z in range(2, len(truth), 5)])


def lungs_xray(data: Path, seed: int) -> Task:
    """Thirty test radiographs with their lungs."""
    chosen = np.random.default_rng(seed).permutation(len(cases(data, "xray", "test")))[:30]
    loaded = [load(cases(data, "xray", "test")[i]) for i in chosen]
    images = [volume.reoriented()[0] for volume, _ in loaded]
    truth = [labels.reoriented()[0].array for _, labels in loaded]
    return Task("lungs-xray", images, truth, LUNGS, [(i, 0) for i in range(0, len(images), 2)])


def heart(data: Path, seed: int) -> Task:
    """The test CT with the heart of its radiotherapy plan."""
    folder = data / "ct"
    volume = read(folder / "dicom" / "LUNG1-003")[0].load().reoriented()[0]
    plan = read(folder / "rtstruct" / "LUNG1-003_RTSTRUCT.dcm", reference=folder / "dicom" / "LUNG1-003")
    drawn = next(labels for labels in plan if "Heart" in labels.names.values()).reoriented()[0]
    number = next(number for number, name in drawn.names.items() if name == "Heart")
    truth = (drawn.array == number).astype(np.uint8)
    return Task("heart", [volume], [truth], {1: "heart"}, [(0, z) for z in range(2, len(truth), 5)])


def opacity(data: Path, seed: int) -> Task:
    """The test CT with ground-glass opacities pasted into its lungs: ragged blobs, −450 HU on average, as in COVID-19."""
    base = lungs_ct(data, seed)
    image, lungs = base.images[0], base.truth[0] > 0
    rng = np.random.default_rng(seed)
    spacing = np.array(image.geometry.spacing, np.float32)
    voxels, truth = image.array.astype(np.float32), np.zeros(lungs.shape, np.uint8)
    inside = np.argwhere(lungs)
    for centre in inside[rng.choice(len(inside), 8, replace=False)]:
        radii = rng.uniform(18, 32, 3)
        reach = np.ceil(1.6 * radii / spacing).astype(int)
        low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, lungs.shape)
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        steps = [(np.arange(a, b) - c) * s / r for a, b, c, s, r in zip(low, high, centre, spacing, radii, strict=True)]
        distance = np.sqrt(sum(step**2 for step in np.meshgrid(*steps, indexing="ij")))
        wave = zoom(rng.normal(0, 1, (8, 8, 8)), np.array(distance.shape) / 8, order=3)
        blob = (distance + 0.15 * wave < 1) & lungs[part]
        haze = rng.normal(-450, 40, blob.shape) + 60 * wave
        voxels[part] = np.where(blob, np.maximum(voxels[part], haze), voxels[part])
        truth[part] |= blob.astype(np.uint8)
    changed = dataclasses.replace(image, array=voxels.round().astype(np.int16))
    return Task("opacity", [changed], [truth], {1: "opacity"}, base.judged)


TASKS = {"lungs-ct": lungs_ct, "lungs-xray": lungs_xray, "heart": heart, "opacity": opacity}


class Predictor:
    """A model's labels on some slices of a task, as napari would show them, without postprocessing."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def labels(self, model: str | Path, places: list[Place]) -> dict[Place, np.ndarray]:
        """Place → (y, x) labels."""
        found = {}
        known = {text: label for label, text in self.task.names.items()}
        spec = load_model(model).spec
        lookup = np.zeros(256, np.uint8)
        for label, text in spec.names.items():
            lookup[label] = known.get(text, 0)
        for image in sorted({i for i, _ in places}):
            volume = self.task.images[image]
            chosen = [z for i, z in places if i == image]
            if spec.smooth_mm:  # what is said of a slice hangs on its neighbours too
                chosen = list(range(len(volume.array)))
            part = dataclasses.replace(volume.geometry, shape=(len(chosen), *volume.geometry.shape[1:]))
            array = np.ascontiguousarray(np.asarray(volume.array)[chosen])
            out = segment(dataclasses.replace(volume, array=array, geometry=part), model, settings=RAW).array
            found |= {(image, z): lookup[labels] for z, labels in zip(chosen, out, strict=True)}
        return found


def dice(task: Task, predicted: dict[Place, np.ndarray]) -> float:
    """Mean over classes, pooled over the slices that nobody paints."""
    return float(np.mean([_overlap(task, predicted, lambda array, k=label: array == k) for label in task.names]))


def figures(task: Task, predicted: dict[Place, np.ndarray]) -> dict[str, float]:
    """Dice as above, and of all classes as one (a forest knows no sides)."""
    return {"dice": dice(task, predicted), "as_one": _overlap(task, predicted, lambda array: array > 0)}


def _overlap(task: Task, predicted: dict[Place, np.ndarray], choose: Callable[[np.ndarray], np.ndarray]) -> float:
    both = one = other = 0
    for image, z in task.judged:
        found, true = choose(predicted[image, z]), choose(task.truth[image][z])
        both, one, other = both + (found & true).sum(), one + found.sum(), other + true.sum()
    return float(2 * both / max(one + other, 1))


def learn(task: Task, method: str, seed: int, how: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Paint and train in turns; yields one row after each turn, and the strokes with it."""
    predictor = Predictor(task)
    annotator = Annotator(task.truth, task.allowed, BACKGROUND, seed)
    start = DEFAULT_MODELS[task.images[0].modality] if method == "adapted" else how.scratch
    knows = method == "adapted" and set(task.names.values()) <= set(load_model(start).spec.names.values())
    began = figures(task, predictor.labels(start, task.judged)) if knows else {"dice": 0.0, "as_one": 0.0}
    yield {"strokes": 0, "seconds": 0.0, **began}
    if knows:
        seen = predictor.labels(start, annotator.some_places(LEAFED))
        annotator.correct(seen, how.per_turn)
    else:
        annotator.begin([0, *task.names])
    settings = dataclasses.replace(PaintSettings(seed=seed), **dict(how.set))
    painted = [
        Painted(volume, LabelMap(labels.copy(), volume.geometry, names=task.names))
        for volume, labels in zip(task.images, annotator.labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        steps = iter_learn(painted, start, Path(folder), settings=settings)
        model, deadline, update = Path(folder) / "model.safetensors", float(how.turn), None
        step = next(steps)
        while True:
            step, update = steps.send(update), None
            if not isinstance(step.payload, Round) or step.payload.seconds < deadline:
                continue
            row = {"strokes": annotator.strokes, "seconds": step.payload.seconds, "held": step.payload.dice}
            yield row | figures(task, predictor.labels(model, task.judged)) | {"labels": annotator.labels}
            if annotator.strokes >= how.strokes and step.payload.seconds >= how.seconds:
                break
            deadline = step.payload.seconds + how.turn
            if annotator.strokes < how.strokes:
                wanted = min(how.per_turn, how.strokes - annotator.strokes)
                touched = annotator.correct(predictor.labels(model, annotator.some_places(LEAFED)), wanted)
                update = Update(strokes=tuple(strokes_of(annotator, touched)))
        steps.close()


def strokes_of(annotator: Annotator, touched: set[Place]) -> Iterator[Strokes]:
    """What was painted, as the window would send it."""
    for image in {i for i, _ in touched}:
        slices = tuple(sorted(z for i, z in touched if i == image))
        yield Strokes(image, slices, annotator.labels[image][list(slices)].copy())


def forest(task: Task, labels: list[np.ndarray], seed: int) -> dict[str, float]:
    """Figures of a random forest on the same strokes (scikit-image's example, its settings)."""
    from functools import partial

    from skimage.feature import multiscale_basic_features
    from skimage.future import TrainableSegmenter
    from sklearn.ensemble import RandomForestClassifier

    began = time.monotonic()
    features = partial(multiscale_basic_features, intensity=True, edges=False, texture=True, sigma_min=1, sigma_max=16)
    classifier = RandomForestClassifier(n_estimators=50, n_jobs=-1, max_depth=10, max_samples=0.05, random_state=seed)
    rows, known = [], []
    for image, array in enumerate(labels):
        for z in np.flatnonzero(array.reshape(len(array), -1).any(1)):
            found = features(np.asarray(task.images[image].array[z], np.float32))
            rows.append(found[array[z] > 0])
            known.append(np.where(array[z] == BACKGROUND, 0, array[z])[array[z] > 0])
    classifier.set_params(max_samples=min(1.0, max(0.05, 500 / sum(map(len, known)))))
    classifier.fit(np.concatenate(rows), np.concatenate(known))
    segmenter = TrainableSegmenter(classifier, features)
    found = {
        (i, z): segmenter.predict(np.asarray(task.images[i].array[z], np.float32)).astype(np.uint8)
        for i, z in task.judged
    }
    return {"seconds": round(time.monotonic() - began, 1), **figures(task, found)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--from-csv", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=["adapted", "scratch", "forest"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--strokes", type=int, default=20)
    parser.add_argument("--per-turn", type=int, default=2)
    parser.add_argument("--turn", type=float, default=6.0)
    parser.add_argument("--seconds", type=float, default=0.0, help="train on after the last stroke until then")
    parser.add_argument("--scratch", default=SCRATCH)
    parser.add_argument("--set", nargs="*", default=[], type=lambda text: _setting(text))
    parser.add_argument("--csv", type=Path)
    how = parser.parse_args()
    rows = read_rows(how.from_csv) if how.from_csv else list(measured(how))
    if how.plot:
        draw(rows, how.plot)
    if how.csv:
        with how.csv.open("w", newline="") as file:
            lines = csv.DictWriter(file, ["task", "seed", "method", "strokes", "seconds", "dice", "as_one", "held"])
            lines.writeheader()
            lines.writerows(rows)


def measured(how: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every row, printed as it comes."""
    for name, seed in ((name, seed) for name in how.only for seed in how.seeds):
        task = TASKS[name](how.data, seed)
        for method in (m for m in how.methods if m != "forest"):
            for row in learn(task, method, seed, how):
                labels = row.pop("labels", None)
                yield told({"task": name, "seed": seed, "method": method, **row})
                if method == "scratch" and "forest" in how.methods and labels and row["strokes"] in (10, how.strokes):
                    facts = {"strokes": row["strokes"], **forest(task, labels, seed)}
                    yield told({"task": name, "seed": seed, "method": "forest", **facts})


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The row, printed."""
    print(json.dumps(row), flush=True)
    return row


def read_rows(files: list[Path]) -> list[dict[str, Any]]:
    """Rows of earlier runs."""
    rows = []
    for path in files:
        with path.open(newline="") as file:
            rows += [
                {**row, "strokes": int(row["strokes"]), "dice": float(row["dice"])} for row in csv.DictReader(file)
            ]
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Dice against strokes, one panel a task."""
    from matplotlib.figure import Figure

    names = [name for name in TASKS if any(row["task"] == name for row in rows)]
    figure = Figure(figsize=(3.6 * len(names), 3.4), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for method in ("adapted", "scratch", "forest"):
            for seed in sorted({str(row["seed"]) for row in rows}):
                line = [r for r in rows if (r["task"], r["method"], str(r["seed"])) == (name, method, seed)]
                if line:
                    colour = {"adapted": "#0072B2", "scratch": "#D55E00", "forest": "#009E73"}[method]
                    axes.plot([r["strokes"] for r in line], [r["dice"] for r in line], ".-", color=colour, label=method)
        axes.set(title=name, xlabel="strokes", ylabel="Dice, slices not painted")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=100)


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


if __name__ == "__main__":
    main()
