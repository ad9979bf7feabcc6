"""Dice, IoU and HD95 of the bundled models on labelled scans, and what the findings said about each.

Usage: ``python benchmarks/accuracy.py DATA [--split test|val|train] [--only ct xray xray-paediatric] [--model FILE …]
[--csv FILE] [--json]``

DATA holds ``ct/``, ``xray/`` and ``xray-paediatric/``, each with a ``split.csv`` (image, mask, split …). Paediatric
pictures are stored squashed to a square; they are stretched to their true shape (column ``aspect``) before the model sees
them, and its labels squashed again to be compared. HD95 is in mm where the image has a spacing, else in pixels.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_lungseg import LabelMap, Volume, evaluate, load_model, read, segment
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.segmentation.quality import DOUBTS

DATASETS = ("ct", "xray", "xray-paediatric")
PARTS = ("right", "left", "both")
METRICS = ("dice", "iou", "hd95")
POOR = 0.90


@dataclass(frozen=True)
class Case:
    """A labelled scan of one dataset; ``aspect`` is the width over the height that it should have, or None."""

    dataset: str
    image: Path
    mask: Path
    aspect: float | None


def cases(data: Path, dataset: str, split: str) -> list[Case]:
    """Cases of a dataset that belong to a split."""
    folder = data / dataset
    with (folder / "split.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    aspects = [float(row["aspect"]) if row.get("aspect") else None for row in rows]
    return [Case(dataset, folder / r["image"], folder / r["mask"], a) for r, a in zip(rows, aspects, strict=True)]


def load(case: Case) -> tuple[Volume, LabelMap]:
    """The scan, and its reference in the scan's voxel order."""
    volume = next(item for item in read(case.image) if isinstance(item, Volume)).load()
    reference = next(item for item in read(case.mask, labels=True) if isinstance(item, LabelMap))
    straight, _ = reference.reoriented()
    turn = volume.geometry.reorientation()
    return volume, dataclasses.replace(straight, array=turn.undo(straight.array), geometry=volume.geometry)


def stretched(volume: Volume, aspect: float) -> Volume:
    """The picture with its true width over height, by linear interpolation."""
    from skimage.transform import resize

    rows, columns = volume.geometry.shape[1:]
    shape = (1, rows, round(rows * aspect)) if aspect >= 1 else (1, round(columns / aspect), columns)
    array = resize(volume.array.astype(np.float32), shape, order=1, anti_aliasing=False, preserve_range=True)
    return dataclasses.replace(volume, array=array, geometry=dataclasses.replace(volume.geometry, shape=shape))


def squashed(labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Labels on a grid of another shape over the same field, by the nearest voxel."""
    index = [((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(labels.shape, shape, strict=True)]
    return labels[np.ix_(*index)]


def result_of(case: Case, model: Any, settings: SegmentSettings, device: str) -> dict[str, Any]:
    """One row: metrics per part, findings, whether the sides are swapped, and the statistics that findings rest on."""
    volume, reference = load(case)
    seen = volume if case.aspect is None else stretched(volume, case.aspect)
    found = segment(seen, model, settings=settings, device=device)
    labels = found.array if seen is volume else squashed(found.array, volume.geometry.shape)
    predicted = dataclasses.replace(found, array=labels, geometry=volume.geometry)
    codes = [finding.code for finding in found.findings]
    row: dict[str, Any] = {"dataset": case.dataset, "case": case.image.stem}
    for record in evaluate(predicted, reference):
        part = record["name"].removesuffix(" lung")
        row |= {f"{metric}_{part}": float(record[metric]) for metric in METRICS}
    row["swapped"] = swapped(np.asarray(predicted.array), np.asarray(reference.array))
    row |= {"doubted": any(code in DOUBTS for code in codes), "findings": " ".join(codes)}
    row["seconds"] = found.record["seconds"]
    return row | found.record["quality"][0]


def swapped(predicted: np.ndarray, reference: np.ndarray) -> bool:
    """Whether right and left fit the reference better when exchanged."""
    counts = [[np.count_nonzero((predicted == p) & (reference == r)) for r in (1, 2)] for p in (1, 2)]
    return bool(counts[0][1] + counts[1][0] > counts[0][0] + counts[1][1])


def run(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows, one case after the other."""
    models = {spec.spec.modality: spec for spec in map(load_model, arguments.model)}
    settings = SegmentSettings(precision=arguments.precision, mirror=arguments.mirror)
    for dataset in arguments.only:
        for case in cases(arguments.data, dataset, arguments.split)[: arguments.limit]:
            modality = "ct" if dataset == "ct" else "xray"
            yield result_of(case, models.get(modality), settings, arguments.device)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the cases, and how well the findings told the poor ones."""
    means = {f"{m}_{p}": float(np.mean([row[f"{m}_{p}"] for row in rows])) for p in PARTS for m in METRICS}
    poor = [row for row in rows if row["dice_both"] < POOR]
    poor_lung = [row for row in rows if min(row["dice_right"], row["dice_left"]) < POOR]
    good = [row for row in rows if row["dice_both"] >= POOR]
    return {
        "cases": len(rows),
        **means,
        "lowest_dice_both": min(row["dice_both"] for row in rows),
        "sides_swapped": sum(row["swapped"] for row in rows),
        "poor": len(poor),
        "poor_without_finding": [row["case"] for row in poor if not row["doubted"]],
        "poor_lung": len(poor_lung),
        "poor_lung_without_finding": [row["case"] for row in poor_lung if not row["doubted"]],
        "good_but_doubted": sum(row["doubted"] for row in good) / max(1, len(good)),
    }


def line(row: dict[str, Any]) -> str:
    """One case as a line of text."""
    parts = [f"{row[f'dice_{p}']:.4f} {row[f'iou_{p}']:.4f} {row[f'hd95_{p}']:6.1f}" for p in PARTS]
    return (
        f"{row['dataset']:16} {row['case'][:32]:32} {'  '.join(parts)}  {'SWAPPED ' * row['swapped']}{row['findings']}"
    )


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """All rows with all their columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("LUNGSEG_TEST_DATA"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--model", nargs="+", default=[], help="model files to use instead of the bundled ones")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--limit", type=int, help="at most so many cases per dataset")
    parser.add_argument("--csv", type=Path, help="write every case with its statistics")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the folder with the labelled scans, or set LUNGSEG_TEST_DATA")
    arguments.data = Path(arguments.data)
    return arguments


def main() -> None:
    """Measure, print, write."""
    arguments = parsed()
    if not arguments.json:
        print(f"{'':49} {'  '.join(f'{p:>6} Dice IoU HD95 ' for p in PARTS)}")
    rows = []
    for row in run(arguments):
        rows.append(row)
        if not arguments.json:
            print(line(row), flush=True)
    if not rows:
        sys.exit(f"No case of {arguments.data} is marked {arguments.split!r} in {', '.join(arguments.only)}.")
    summaries = {
        name: summary([row for row in rows if row["dataset"] == name]) for name in {r["dataset"]: 0 for r in rows}
    }
    if arguments.csv:
        write_csv(rows, arguments.csv)
    if arguments.json:
        print(json.dumps({"split": arguments.split, "summary": summaries, "cases": rows}, indent=1))
        return
    for name, values in summaries.items():
        print(f"\n{name} ({arguments.split})")
        for key, value in values.items():
            print(f"  {key:28} {value:.4f}" if isinstance(value, float) else f"  {key:28} {value}")


if __name__ == "__main__":
    main()
