"""How much of the time training really trains: the whole loop against forward, backward and step alone.

Usage: ``python benchmarks/training.py DATA… [--recipe lungs-xray] [--workers 1] [--rounds 1]``

Images per second of one whole epoch of `napari_lungseg.train` (reading prepared images in worker processes, random changes,
network, loss, step, running mean, then validation, checkpoint and curves) over those of the bare forward–backward–step on
the same network with one batch that stays on the device. The epoch is the second, for the first starts workers and imports
what draws; the bare step is timed before and after it, for machines drift. DATA are the folders that the recipe is for: of
a small set the validation is a larger part. The limit is 0.85.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch

from napari_lungseg.training.datasets import find_dataset
from napari_lungseg.training.loop import iter_train
from napari_lungseg.training.losses import LOSSES
from napari_lungseg.training.recipe import Recipe, load_recipe
from napari_lungseg.training.schedules import build_optimiser
from napari_lungseg.training.start import TrainingData, build_network, make_fabric

LIMIT = 0.85


def whole(recipe: Recipe, data: list[Path], folder: Path, cache: Path, device: str) -> float:
    """Images per second of the second epoch of the loop."""
    datasets = [find_dataset(each) for each in data]
    run = iter_train(recipe, datasets, folder, device=device, cache=cache)
    started, batches = 0.0, 0
    for step in run:
        batches += "loss" in step.message and step.payload is None
        if step.payload is None:
            continue
        if started:  # the figures of the second epoch: it is validated and kept
            break
        started, batches = time.perf_counter(), 0
    rate = batches * recipe.settings.batch_size / (time.perf_counter() - started)
    run.close()
    return rate


def bare(recipe: Recipe, data: list[Path], steps: int, device: str) -> float:
    """Images per second of forward, backward and step."""
    dataset = find_dataset(data[0])
    fabric = make_fabric(device, recipe.settings.precision)
    network, _, _ = build_network(recipe, TrainingData((dataset,), dataset.names))
    settings = recipe.settings
    optimiser = build_optimiser(settings.optimiser, network.parameters(), settings.learning_rate, settings.weight_decay)
    model, optimiser = fabric.setup(network.to(memory_format=torch.channels_last), optimiser)
    size = (settings.batch_size, 1, *recipe.preprocessing.size)
    images = torch.rand(size, device=fabric.device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, len(dataset.names) + 1, (size[0], *size[2:]), device=fabric.device)
    loss = LOSSES.resolve(settings.loss)()
    model.train()
    started = 0.0
    for number in range(steps + 2):
        if number == 2:
            started = time.perf_counter()
        value = loss(model(images), labels)
        fabric.backward(value)
        optimiser.step()
        optimiser.zero_grad()
        value.item()
    return steps * settings.batch_size / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="folders of data sets, e.g. DATA/xray DATA/xray-paediatric")
    parser.add_argument("--recipe", default="lungs-xray")
    parser.add_argument("--steps", type=int, default=20, help="of the bare network, before and after")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe).changed(workers=arguments.workers, epochs=1000)
    recipe = dataclasses.replace(recipe, start="")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            before = bare(recipe, arguments.data, arguments.steps, arguments.device)
            run, cache = Path(folder) / f"run-{number}", Path(folder) / "prepared"
            loop = whole(recipe, arguments.data, run, cache, arguments.device)
            alone = (before + bare(recipe, arguments.data, arguments.steps, arguments.device)) / 2
            ratios.append(loop / alone)
            print(f"loop {loop:.2f} images/s, bare {alone:.2f} images/s, ratio {ratios[-1]:.3f}", flush=True)
    middle = sorted(ratios)[len(ratios) // 2]
    print(
        f"median ratio {middle:.3f} (limit {LIMIT}), {torch.get_num_threads()} threads: {'met' if middle >= LIMIT else 'missed'}"
    )


if __name__ == "__main__":
    main()
