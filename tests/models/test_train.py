"""Training from images on disk to a model file: it learns, goes on where it was killed, and says what is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_set import make_training_set, tiny_recipe

from napari_lungseg import Volume, read, segment
from napari_lungseg.errors import LungSegError, TrainingDataError
from napari_lungseg.models.weights import read_spec, read_weights
from napari_lungseg.progress import Progress
from napari_lungseg.training.comparison import iter_train_with_unlabelled
from napari_lungseg.training.loop import iter_train, train
from napari_lungseg.training.recipe import Recipe
from napari_lungseg.training.run import Epoch


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_training_set(tmp_path / "data", 20)


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> list[str]:
    return [row["loss"] for row in history(folder)]


def test_it_learns_and_the_model_segments(tmp_path: Path, data: Path) -> None:
    seen: list[Progress] = []
    recipe = tiny_recipe(tmp_path, epochs=12)
    model = train(recipe, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache", progress=seen.append)
    rows = history(tmp_path / "run")
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])
    spec = read_spec(model)
    assert spec.training["validation"]["dice"] > 0.8
    assert sum(spec.training["cases"].values()) == 20 and min(spec.training["cases"].values()) >= 1
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert len(list((tmp_path / "run").rglob("events.out.tfevents.*"))) > 0
    epochs = [step.payload for step in seen if isinstance(step.payload, Epoch)]
    assert [epoch.epoch for epoch in epochs] == list(range(1, 13))
    assert seen[-1].done == seen[-1].total
    (image,) = read(data / "images" / "case000.png", modality="xray")
    assert isinstance(image, Volume)
    labels = np.asarray(segment(image, model, device="cpu").array)
    (truth,) = read(data / "masks" / "case000.png", labels=True)
    assert (labels == np.asarray(truth.array)).mean() > 0.9


def killed_after(recipe: Recipe, data: Path, out: Path, cache: Path, steps: int) -> None:
    """Run until so many batches of training are done, then drop the generator as a kill would."""
    run = iter_train(recipe, [data], out, device="cpu", cache=cache)
    for step in run:
        if "loss" in step.message and step.done >= steps:
            break
    run.close()


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine-restarts"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, data: Path, schedule: str) -> None:
    recipe = tiny_recipe(tmp_path, epochs=4, schedule=schedule, average=0.9)
    cache = tmp_path / "cache"
    whole = train(recipe, data, tmp_path / "whole", device="cpu", cache=cache)
    killed_after(recipe, data, tmp_path / "killed", cache, steps=10)
    assert 0 < len(history(tmp_path / "killed")) < 4
    again = train(recipe, data, tmp_path / "killed", device="cpu", cache=cache, resume=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    one, other = read_weights(whole), read_weights(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_not_overwritten_or_mixed_up(tmp_path: Path, data: Path) -> None:
    recipe = tiny_recipe(tmp_path, epochs=1)
    train(recipe, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    with pytest.raises(TrainingDataError, match="--resume"):
        train(recipe, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    other = recipe.changed(learning_rate=0.5)
    with pytest.raises(TrainingDataError, match="other settings"):
        train(other, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache", resume=True)


def test_a_damaged_checkpoint_is_told(tmp_path: Path, data: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingDataError, match="cannot be read"):
        train(tiny_recipe(tmp_path), data, tmp_path / "run", device="cpu", resume=True, cache=tmp_path / "cache")


def test_early_stopping(tmp_path: Path, data: Path) -> None:
    recipe = tiny_recipe(tmp_path, epochs=30, patience=2, learning_rate=1e-8)
    train(recipe, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    assert len(history(tmp_path / "run")) < 10


def test_snapshots_predict_together(tmp_path: Path, data: Path) -> None:
    recipe = tiny_recipe(tmp_path, epochs=4, schedule="cosine-restarts", cycle=2, snapshots=2)
    model = train(recipe, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    assert len(list((tmp_path / "run" / "snapshots").glob("*.safetensors"))) == 2
    spec = read_spec(model)
    if spec.architecture == "ensemble":
        assert spec.options["members"] == 2
        assert "snapshots" in json.dumps(spec.training["notes"])
    assert read_weights(model)


def test_gradients_add_up_to_a_larger_batch(tmp_path: Path, data: Path) -> None:
    options = {"epochs": 2, "optimiser": "sgd", "learning_rate": 1e-3, "schedule": "constant", "loss": "dice-ce"}
    for name, changes in {"small": {"batch_size": 4, "accumulate": 4}, "one": {"batch_size": 4}}.items():
        train(tiny_recipe(tmp_path, **options, **changes), data, tmp_path / name, device="cpu", cache=tmp_path / "c")
    first = [float(folder[0]) for folder in (losses(tmp_path / "small"), losses(tmp_path / "one"))]
    assert first[0] == pytest.approx(first[1], rel=0.1)
    assert losses(tmp_path / "small") != losses(tmp_path / "one")


def test_all_labels_as_one(tmp_path: Path, data: Path) -> None:
    model = train(
        tiny_recipe(tmp_path, epochs=1, merge=True), data, tmp_path / "run", device="cpu", cache=tmp_path / "c"
    )
    assert read_spec(model).names == {1: "lungs"}


def test_unlabelled_images_are_compared_with_none(tmp_path: Path, data: Path) -> None:
    extra = make_training_set(tmp_path / "extra", 6, first=100) / "images"
    recipe = tiny_recipe(tmp_path, epochs=2, average=0.5)
    steps = iter_train_with_unlabelled(recipe, [data], extra, tmp_path / "run", device="cpu", cache=tmp_path / "c")
    messages = []
    try:
        while True:
            messages.append(next(steps).message)
    except StopIteration as stop:
        model = stop.value
    told = json.loads((tmp_path / "run" / "unlabelled.json").read_text())
    assert set(told["validation_dice"]) == {"with", "without"}
    assert "helped" in read_spec(model).training["notes"][-1] or "did not help" in messages[-1]
    assert losses(tmp_path / "run" / "with") != losses(tmp_path / "run" / "without")


def test_prepared_images_are_made_once_and_anew_after_a_change(tmp_path: Path, data: Path) -> None:
    recipe, cache = tiny_recipe(tmp_path, epochs=1), tmp_path / "cache"
    train(recipe, data, tmp_path / "a", device="cpu", cache=cache)
    made = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    train(recipe, data, tmp_path / "b", device="cpu", cache=cache)
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == made
    train(recipe.changed(size=48), data, tmp_path / "c", device="cpu", cache=cache)
    assert len(list(cache.iterdir())) == 2 * len(made)


def test_a_window_for_pictures_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(TrainingDataError, match="Hounsfield"):
        train("lungs-ct", data, tmp_path / "run", device="cpu", cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["loss", "optimiser", "schedule"])
def test_an_unknown_name_is_told(tmp_path: Path, data: Path, name: str) -> None:
    with pytest.raises(LungSegError, match="nonsense"):
        train(tiny_recipe(tmp_path, **{name: "nonsense"}), data, tmp_path / "r", device="cpu", cache=tmp_path / "c")
