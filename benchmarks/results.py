"""Train every recipe on real images, evaluate it on their test part, and write docs/results.md.

Usage: ``python benchmarks/results.py DATA -o FOLDER [--only NAME …] [--full] [--write docs/results.md]``

DATA holds ``ct/``, ``xray/``, ``xray-paediatric/`` and ``isic/``. Each run leaves its folder, and ``result.json`` in it,
under FOLDER; runs that are there already are not repeated, and one that was cut off goes on. Without ``--full`` the runs
are short enough for a processor core (the table says how long they were); with it they are as the recipes say.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_lungseg import __version__
from napari_lungseg.analysis.evaluation import evaluate_cases
from napari_lungseg.analysis.pairs import pairs_of_model
from napari_lungseg.models.catalog import load_model
from napari_lungseg.progress import Progress, drain
from napari_lungseg.training.datasets import DataSet, find_dataset
from napari_lungseg.training.loop import train
from napari_lungseg.training.losses import LOSSES
from napari_lungseg.training.prepared import Slices, iter_prepare
from napari_lungseg.training.recipe import load_recipe
from napari_lungseg.training.start import make_fabric
from napari_lungseg.training.validate import iter_validate

SLICES = 267  # as many as the published system had, where there are so many
FIGURES = ("dice", "iou", "mean_iou", "accuracy")


@dataclass(frozen=True)
class Run:
    """One row of the table: a recipe, its data, the figure to reach, and what is changed on a processor core."""

    recipe: str
    data: tuple[str, ...]
    figure: str
    goal: float | None
    note: str = ""
    short: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Folder of the run."""
        return f"{self.recipe}@{'+'.join(self.data)}"


SHORT_CT = {"epochs": 10, "schedule": "one-cycle", "learning_rate": 3e-3}
SHORT_XRAY = {"size": 128, "schedule": "one-cycle", "learning_rate": 1e-3}
APART = "patients apart: 001 and 002 train, 003 tests; no validation patient is left, so the last weights are kept"
LEAKY = "leaky: neighbouring slices of the same two patients are in train and test"
XRAYS = ("xray", "xray-paediatric")
RUNS = (
    Run("conv-unet", ("ct",), "iou", None, APART, SHORT_CT),
    Run("inception-unet", ("ct",), "iou", None, APART, SHORT_CT),
    Run("inception-snapshot", ("ct",), "iou", 0.977, APART, {"epochs": 12, "cycle": 4, "snapshots": 3, "learning_rate": 3e-3}),
    Run("conv-unet", ("ct-slices",), "iou", None, LEAKY, {**SHORT_CT, "epochs": 16}),
    Run("inception-unet", ("ct-slices",), "iou", None, LEAKY, {**SHORT_CT, "epochs": 16}),
    Run(
        "inception-snapshot", ("ct-slices",), "iou", 0.977, LEAKY,
        {"epochs": 48, "cycle": 16, "snapshots": 3, "learning_rate": 3e-3},
    ),
    Run("classic-unet", XRAYS, "accuracy", 0.97, "", {**SHORT_XRAY, "size": 256, "epochs": 4, "batch_size": 4}),
    Run("dropout-unet", XRAYS, "dice", None, "", {**SHORT_XRAY, "epochs": 3}),
    Run("improved-unet", ("isic",), "dice", 0.8285, "", {**SHORT_XRAY, "epochs": 10, "batch_size": 8, "learning_rate": 2e-3}),
    Run("basic-unet", ("isic",), "dice", None, "", {**SHORT_XRAY, "epochs": 6, "batch_size": 8, "learning_rate": 5e-4}),
    Run("vgg16-unet", XRAYS, "iou", 0.93, "", {**SHORT_XRAY, "epochs": 4, "batch_size": 8, "learning_rate": 5e-4}),
)  # fmt: skip
# The full width of these takes a processor core too long.
NARROW = {"classic-unet": {"base": 16, "padding": "valid"}}


INTRODUCTION = (
    "# Results of the recipes",
    "",
    "Made by `python benchmarks/results.py DATA -o FOLDER --write docs/results.md`; every figure is measured on the test part, "
    "on each image's own grid, the whole way from file to labels. In brackets the 95 % bootstrap interval over cases. "
    "*IoU on the network's grid* compares both at the network's size; *the reference at that size* is the IoU, on the image's "
    "own grid, of the reference itself, reduced to the network's size and enlarged again.",
    "",
)
COLUMNS = (
    "recipe", "data", "test cases", "figure", "reached", "published", "Dice", "IoU", "IoU on the network's grid",
    "the reference at that size", "mean IoU with background", "accuracy", "size", "epochs", "weights", "minutes",
)  # fmt: skip


def slices_of_ct(data: Path, folder: Path) -> Path:
    """Slices of the two training series as single TIFF files, in the layout of "finding lungs in CT data"."""
    if (folder / "splits.csv").is_file():
        return folder
    for name in ("2d_images", "2d_masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    series = find_dataset(data / "ct")
    stems = []
    for case in series.part("train"):
        volume, labels = series.read(case)
        for z in range(len(labels)):
            stem = f"{case.name}_Z_{z:04}"
            image = (
                np.asarray(volume.array[z]).astype(np.int16) + 1024
            )  # as stored there: an offset, no negative values
            tifffile.imwrite(folder / "2d_images" / f"{stem}.tif", image.clip(0).astype(np.int16))
            tifffile.imwrite(folder / "2d_masks" / f"{stem}.tif", ((labels[z] > 0) * 255).astype(np.uint8))
            stems.append(stem)
    chosen = np.random.default_rng(0).permutation(stems)
    for stem in chosen[SLICES:]:
        (folder / "2d_images" / f"{stem}.tif").unlink()
        (folder / "2d_masks" / f"{stem}.tif").unlink()
    count = min(SLICES, len(chosen))
    parts = np.repeat(["train", "val", "test"], np.diff([0, int(0.8 * count), int(0.9 * count), count]))
    with (folder / "splits.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "mask", "split", "patient"])
        for stem, part in zip(chosen, parts, strict=False):
            lines.writerow([f"2d_images/{stem}.tif", f"2d_masks/{stem}.tif", part, stem])
    return folder


def dataset(name: str, data: Path, folder: Path) -> DataSet:
    """A data set by its short name."""
    if name != "ct-slices":
        return find_dataset(data / name)
    place = slices_of_ct(data, folder / "ct-slices")
    return find_dataset(place, split_file=place / "splits.csv")


def do(run: Run, data: Path, folder: Path, full: bool, device: str) -> dict[str, Any]:
    """Train and evaluate one recipe."""
    recipe = load_recipe(run.recipe)
    if not full:
        recipe = dataclasses.replace(recipe, start="", options={**recipe.options, **NARROW.get(run.recipe, {})})
        recipe = recipe.changed(**run.short, workers=0)
    sets = [dataset(name, data, folder) for name in run.data]
    place = folder / run.name
    model = train(recipe, sets, place, device=device, cache=folder / "cache", resume=True, progress=tell)
    spec = load_model(model).spec
    result: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in load_model(model).network("cpu").state_dict().values()),
        "training": dict(spec.training),
        "tests": {},
        "machine": machine(device),
        "date": time.strftime("%Y-%m-%d"),
        "version": __version__,
    }
    for name, found in zip(run.data, sets, strict=True):
        cases = found.part("test")
        evaluation = evaluate_cases(pairs_of_model(found, cases, model, device=device))
        result["tests"][name] = {"cases": len(cases), **dict(figures(evaluation.summary))}
        evaluation.cases.write(place / f"test-{name}.csv")
    return result


def iou_on_grid(run: Run, data: Path, folder: Path, device: str) -> dict[str, float]:
    """Data set → mean IoU of the test cases on the network's own grid, as the published systems were judged.

    Reference and prediction are both of the network's size; cases without any label are left out.
    """
    recipe, network = load_recipe(run.recipe), load_model(folder / run.name / f"{run.recipe}.safetensors")
    found = {}
    for name in run.data:
        part = dataset(name, data, folder)
        steps = network.spec.preprocessing
        cases = [
            case
            for case in drain(iter_prepare(part, part.part("test"), steps, folder / "cache"))
            if np.load(case.labels, mmap_mode="r").any()
        ]
        score = drain(
            iter_validate(
                make_fabric(device, recipe.settings.precision), network.network(), Slices(cases, recipe.settings.merge),
                LOSSES.resolve("dice-ce")(), labels_count=network.spec.classes - 1, size=steps.size, batch_size=8,
            )
        )  # fmt: skip
        found[name] = score.iou
    return found


def reference_on_grid(run: Run, data: Path, folder: Path) -> dict[str, float]:
    """Data set → mean IoU, on the image's grid, of the reference itself once it has been on the network's grid.

    Over at most sixty test cases, slice by slice, all labels as one, slices without any left out.
    """
    import torch
    from torch.nn.functional import interpolate

    found = {}
    for name in run.data:
        part = dataset(name, data, folder)
        size = load_model(folder / run.name / f"{run.recipe}.safetensors").spec.preprocessing.size
        shares = []
        for case in part.part("test")[:60]:
            labels = np.asarray(part.read(case)[1])
            for true in labels.reshape(-1, 1, 1, *labels.shape[-2:]) > 0:
                if true.any():
                    coarse = (
                        interpolate(torch.from_numpy(true).float(), size=size, mode="bilinear", antialias=True) > 0.5
                    )
                    back = interpolate(coarse.float(), size=true.shape[-2:], mode="bilinear").numpy() > 0.5
                    shares.append((back & true).sum() / (back | true).sum())
        found[name] = float(np.mean(shares))
    return found


def figures(summary: Any) -> Iterator[tuple[str, list[float]]]:
    """Mean and interval of the figures over all labels together."""
    for row in summary:
        whole = row["label"] is None or row["name"] in ("lungs", "lesion")
        if whole and row["metric"] in FIGURES:
            yield row["metric"], [row["mean"], row["low"], row["high"]]


def machine(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name())
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), platform.processor()
    )
    return f"{torch.get_num_threads()} thread(s) of {model}"


def tell(step: Progress) -> None:
    if step.payload is not None:
        print(" ", step.message, flush=True)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The page."""
    lines = [*INTRODUCTION, "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for run in RUNS:
        result = results.get(run.name)
        if result is None:
            continue
        record = result["training"]
        settings, steps = record["recipe"]["settings"], record["recipe"]["preprocessing"]
        for name, test in result["tests"].items():
            cells = [
                run.recipe, name, test["cases"], run.figure, shown(test.get(run.figure)), run.goal or "–",
                *(shown(test.get(figure)) for figure in FIGURES[:2]),
                *(f"{result[which][name]:.4f}" for which in ("iou_on_grid", "reference_on_grid")),
                *(shown(test.get(figure)) for figure in FIGURES[2:]),
                "×".join(map(str, steps["size"])), settings["epochs"], f"{result['parameters'] / 1e6:.1f} M",
                f"{record['seconds'] / 60:.1f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    missing = [f"{run.recipe} on {' + '.join(run.data)}" for run in RUNS if run.name not in results]
    if missing:
        lines += ["", f"Not run yet: {'; '.join(missing)}."]
    lines += [
        "",
        "Sizes, epochs, schedules and widths below those of the recipes (`lungseg recipes`) are what a processor core could do; "
        "such figures are lower bounds of the recipe's. `--full` runs them as published, which wants a GPU.",
        "",
        "[Why a published figure is not reached](explanation/recipes.md) has a page of its own.",
        "",
        "## How each was trained",
        "",
    ]
    for run in RUNS:
        if run.name in results:
            lines.append(f"- **{run.recipe}** on {' + '.join(run.data)}: {described(run, results[run.name])}")
    return "\n".join(lines) + "\n"


def described(run: Run, result: dict[str, Any]) -> str:
    record = result["training"]
    settings = record["recipe"]["settings"]
    names = ("loss", "optimiser", "learning_rate", "schedule", "batch_size", "seed")
    counts = ", ".join(f"{count} {part}" for part, count in record["cases"].items())
    said = [
        f"cases {counts}",
        ", ".join(f"{name.replace('_', ' ')} {settings[name]}" for name in names),
        f"{result['machine']}, {result['date']}",
        *([run.note] if run.note else []),
        *record["notes"][:3],
    ]
    return "; ".join(text.rstrip(".") for text in said) + "."


def shown(values: list[float] | None) -> str:
    if values is None:
        return "–"
    mean, low, high = values
    return f"{mean:.4f}" + (f" ({low:.3f}–{high:.3f})" if low is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="recipe, or recipe@data")
    parser.add_argument("--full", action="store_true", help="as the recipes say; wants a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    results = {}
    for run in RUNS:
        file = arguments.out / run.name / "result.json"
        wanted = not arguments.only or {run.recipe, run.name} & set(arguments.only)
        if wanted and not file.is_file():
            print(run.name, flush=True)
            result = do(run, arguments.data, arguments.out, arguments.full, arguments.device)
            file.write_text(json.dumps(result, indent=2))
        if file.is_file():
            results[run.name] = result = json.loads(file.read_text())
            if "reference_on_grid" not in result:
                result["iou_on_grid"] = iou_on_grid(run, arguments.data, arguments.out, arguments.device)
                result["reference_on_grid"] = reference_on_grid(run, arguments.data, arguments.out)
                file.write_text(json.dumps(result, indent=2))
    print(text := table(results))
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
