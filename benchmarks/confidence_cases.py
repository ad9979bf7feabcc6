"""Segment sound and damaged scans, and write down what the model said of each result beside its true Dice.

Usage: ``python benchmarks/confidence_cases.py calibrate|test xray|ct DATA -o CASES.jsonl``; a run that was broken off goes on
where it stopped. ``benchmarks/confidence.py`` makes the calibration out of the rows, and judges it.

``calibrate`` takes radiographs of the validation split, and slabs of six slices of the two CT series of the training split
(CT has no validation split) and of phantoms; ``test`` the test split. Kinds of damage: `damage.CALIBRATE`, `damage.TEST`.
The Dice is of both lungs together, where a pixel counts only under the right lung's name.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import damage
import numpy as np
from accuracy import Case, cases, load, squashed, stretched

from napari_lungseg import Volume, load_model, segment
from napari_lungseg.models.catalog import Model, default_model
from napari_lungseg.volume import FRONTAL, Geometry

GRADES = range(1, 6)
EACH = {"calibrate": 8, "test": 8}  # radiographs for each kind and grade
SLAB = 6


@dataclass(frozen=True)
class Damaged(Model):
    """A model whose network was changed."""

    changed: Any = None

    def network(self, device: Any = "cpu") -> Any:
        """The changed one."""
        return self.changed


@dataclass(frozen=True)
class Item:
    """One row to be: a scan or slab by name, and what is done to it."""

    dataset: str
    case: str
    kind: str = "none"
    grade: int = 0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What a row is found by."""
        return self.dataset, self.case, self.kind, self.grade


def dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Of all labels together; 1 where both are empty."""
    same = np.count_nonzero((predicted == reference) & (reference > 0))
    total = np.count_nonzero(predicted) + np.count_nonzero(reference)
    return 2 * same / total if total else 1.0


def plan_xray(data: Path, part: str) -> tuple[dict[str, Case], list[Item]]:
    """Every radiograph as it is, and for each kind and grade some that are damaged, adults and children in turn."""
    split = "val" if part == "calibrate" else "test"
    adults, children = (cases(data, name, split) for name in ("xray", "xray-paediatric"))
    items = [Item(c.dataset, c.image.stem) for c in (*adults, *children)]
    kinds = [*damage.CALIBRATE, "lamed"] if part == "calibrate" else [*damage.TEST, "jolted"]
    for kind in kinds:
        for grade in GRADES:
            rng = damage.rng_of(part, kind, grade)
            for number in range(EACH[part]):
                among = adults if number % 2 else children
                case = among[int(rng.integers(len(among)))]
                items.append(Item(case.dataset, case.image.stem, kind, grade))
    known = {c.image.stem: c for c in (*adults, *children)}
    return known, list(dict.fromkeys(items))


def plan_ct(series: dict[str, tuple[Volume, np.ndarray]], part: str) -> list[Item]:
    """Slabs of every series from end to end, and for each kind and grade some that are damaged."""
    slabs = [
        (name, start)
        for name, (_, reference) in series.items()
        for start in range(0, len(reference) - SLAB + 1, SLAB)
        if reference[start : start + SLAB].any(axis=(1, 2)).all()
    ]
    items = [Item("ct", f"{name}@{start}") for name, start in slabs] + [Item("ct", name) for name in series]
    kinds = [*damage.CALIBRATE, "lamed"] if part == "calibrate" else [*damage.TEST, "jolted"]
    for kind in kinds:
        for grade in GRADES:
            rng = damage.rng_of("ct", part, kind, grade)
            for number in rng.choice(len(slabs), 3, replace=False):
                items.append(Item("ct", "{}@{}".format(*slabs[number]), kind, grade))
    return items


def ct_series(data: Path, part: str) -> dict[str, tuple[Volume, np.ndarray]]:
    """Series by name with their references, in the standard view."""
    from napari_lungseg.phantom import thorax_ct

    found = {}
    for case in cases(data, "ct", "train" if part == "calibrate" else "test"):
        volume, reference = load(case)
        found[case.image.name] = volume.reoriented()[0], np.asarray(reference.reoriented()[0].array)
    if part == "calibrate":
        volume, labels = thorax_ct(seed=11)
        found["phantom"] = volume.reoriented()[0], np.asarray(labels.reoriented()[0].array)
    return found


def slab_of(volume: Volume, reference: np.ndarray, start: int) -> tuple[Volume, np.ndarray]:
    """Some slices as a volume of their own."""
    part = slice(start, start + SLAB)
    geometry = dataclasses.replace(volume.geometry, shape=(SLAB, *volume.geometry.shape[1:]), slice_positions=None)
    return dataclasses.replace(volume, array=np.asarray(volume.array[part]), geometry=geometry), reference[part]


def spoilt(volume: Volume, reference: np.ndarray, item: Item) -> tuple[Volume, np.ndarray]:
    """The scan with its damage done."""
    work = {**damage.CALIBRATE, **damage.TEST}.get(item.kind)
    if work is None:
        return volume, reference
    image, labels = work(np.asarray(volume.array, np.float32), reference, item.grade, damage.rng_of(*item.key))
    geometry = dataclasses.replace(volume.geometry, shape=image.shape)
    return dataclasses.replace(volume, array=image.astype(np.float32), geometry=geometry), labels


def model_for(model: Model, item: Item) -> Model:
    """The model, damaged where that is the kind."""
    work = {"lamed": damage.lamed, "jolted": damage.jolted}.get(item.kind)
    if work is None:
        return model
    network = work(model.network("cpu"), item.grade, damage.rng_of(*item.key))
    return Damaged(model.spec, model.path, changed=network)


def row(item: Item, model: Model, volume: Volume, reference: np.ndarray, aspect: float | None = None) -> dict[str, Any]:
    """Segment and compare."""
    volume, reference = spoilt(volume, reference, item)
    seen = volume if aspect is None else stretched(volume, aspect)
    found = segment(seen, model_for(model, item), device="cpu")
    labels = np.asarray(found.array) if seen is volume else squashed(np.asarray(found.array), volume.geometry.shape)
    codes = [finding.code for finding in found.findings]
    values = found.record["quality"][0]
    return dataclasses.asdict(item) | {"dice": round(dice(labels, reference), 5), "findings": codes, **values}


def wrong_model(ct: Model, xray: Model, data: Path) -> Iterator[tuple[Item, Model, Volume, np.ndarray]]:
    """CT slices as if they were radiographs, and radiographs as if their grey values were HU."""
    volume, reference = ct_series(data, "test")["LUNG1-003"]
    rng = damage.rng_of("wrong model")
    for z in sorted(rng.choice(np.flatnonzero(reference.any(axis=(1, 2))), 10, replace=False)):
        geometry = Geometry((1, *reference.shape[1:]), (1.0, 1.0, 1.0), direction=FRONTAL)
        picture = Volume(np.asarray(volume.array[z : z + 1], np.float32), geometry, "xray", "a.u.")
        yield Item("ct", f"LUNG1-003@{z}", "xray-model", 5), xray, picture, reference[z : z + 1]
    for case in cases(data, "xray", "test")[:10]:
        radiograph, labels = load(case)
        hu = np.asarray(radiograph.array, np.float32) / 255 * 1400 - 1000
        plane = Geometry(hu.shape, (3.0, 0.5, 0.5))
        yield Item("xray", case.image.stem, "ct-model", 5), ct, Volume(hu, plane, "ct", "HU"), np.asarray(labels.array)


def rows(part: str, modality: str, data: Path, done: set[Any]) -> Iterator[dict[str, Any]]:
    """Rows that are not there yet."""
    model = load_model(default_model(modality))
    if modality == "xray":
        known, items = plan_xray(data, part)
        for item in items:
            if item.key not in done:
                volume, reference = load(known[item.case])
                yield row(item, model, volume, np.asarray(reference.array), known[item.case].aspect)
        if part == "test":
            for item, other, volume, labels in wrong_model(load_model(default_model("ct")), model, data):
                if item.key not in done:
                    yield row(item, other, volume, labels)
        return
    series = ct_series(data, part)
    for item in plan_ct(series, part):
        if item.key not in done:
            name, _, start = item.case.partition("@")
            yield row(item, model, *(slab_of(*series[name], int(start)) if start else series[name]))


def main() -> None:
    """Go through the cases; append to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("calibrate", "test"))
    parser.add_argument("modality", choices=("xray", "ct"))
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {Item(*(json.loads(line)[name] for name in ("dataset", "case", "kind", "grade"))).key for line in lines}
    with arguments.out.open("a") as file:
        for values in rows(arguments.part, arguments.modality, arguments.data, done):
            file.write(json.dumps(values) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
