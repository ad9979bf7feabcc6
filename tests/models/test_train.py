"""Training from images on disk to a model file: it learns, goes on where it was killed, and says what is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_set import NORMED, make_training_set, tiny_recipe

from napari_lungseg import Volume, read, segment
from napari_lungseg.errors import LungSegError, TrainingDataError
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.models.weights import read_spec, read_weights, save_model
from napari_lungseg.progress import Progress, drain
from napari_lungseg.training.cases import PARTS
from napari_lungseg.training.comparison import iter_train_with_unlabelled
from napari_lungseg.training.datasets import find_dataset
from napari_lungseg.training.loop import iter_train, train
from napari_lungseg.training.recipe import Recipe, load_recipe
from napari_lungseg.training.run import Epoch
from napari_lungseg.training.snapshots import ensemble_of
from napari_lungseg.training.splits import read_splits


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


def test_the_split_file_of_a_run_names_every_case(tmp_path: Path, data: Path) -> None:
    (data / "masks" / "case003.png").write_bytes(b"no picture")
    recipe, cache = tiny_recipe(tmp_path, epochs=1), tmp_path / "cache"
    train(recipe, data, tmp_path / "run", device="cpu", cache=cache)
    written = tmp_path / "run" / "splits.csv"
    parts = {case.name: case.split for case in read_splits(written)}
    assert len(parts) == 20
    assert [name for name, part in parts.items() if part not in PARTS] == ["case003"]
    assert parts["case003"] == "left out"
    again = find_dataset(data, split_file=written)
    assert "not-in-split" not in {problem.code for problem in again.problems}
    assert {case.name: case.split for case in again.cases} == parts
    train(recipe, data, tmp_path / "again", device="cpu", cache=cache, split_file=written)
    assert {case.name: case.split for case in read_splits(tmp_path / "again" / "splits.csv")} == parts
    assert losses(tmp_path / "again") == losses(tmp_path / "run")


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


def without_validation(data: Path) -> Path:
    """Of a data set, a split file that has every case train."""
    rows = [f"{image},{data / 'masks' / image.name},train," for image in sorted((data / "images").iterdir())]
    (data / "all-train.csv").write_text("\n".join(["image,mask,split,patient", *rows]) + "\n")
    return data / "all-train.csv"


def test_snapshots_predict_together(tmp_path: Path, data: Path) -> None:
    recipe = tiny_recipe(tmp_path, epochs=10, schedule="cosine-restarts", cycle=5, snapshots=2)
    parts = without_validation(data)
    model = train(recipe, data, tmp_path / "run", device="cpu", cache=tmp_path / "cache", split_file=parts)
    assert len(list((tmp_path / "run" / "snapshots").glob("*.safetensors"))) == 2
    spec = read_spec(model)
    assert (spec.architecture, spec.options["members"]) == ("ensemble", 2)
    assert spec.training["notes"][-1] == "2 snapshots predict together."
    (image,) = read(data / "images" / "case000.png", modality="xray")
    assert isinstance(image, Volume)
    labels = np.asarray(segment(image, model, device="cpu").array)
    (truth,) = read(data / "masks" / "case000.png", labels=True)
    assert (labels == np.asarray(truth.array)).mean() > 0.9


def test_snapshots_that_are_no_better_are_told(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe(tmp_path, epochs=2, schedule="cosine-restarts", cycle=1, snapshots=2)
    options: dict[str, Any] = {"device": "cpu", "cache": tmp_path / "cache"}
    monkeypatch.setattr("napari_lungseg.training.loop.ensemble_of", untrained_ensemble)
    model = train(recipe, data, tmp_path / "run", **options)
    spec, weights = read_spec(model), read_weights(model)
    assert spec.architecture == "unet"
    (told,) = (note for note in spec.training["notes"] if "snapshots" in note)
    assert f"of the best single weights {spec.training['validation']['dice']:.4f}" in told
    again = train(recipe, data, tmp_path / "run", **options, resume=True)
    assert read_spec(again).training == spec.training
    assert all(torch.equal(weights[name], value) for name, value in read_weights(again).items())


def untrained_ensemble(files: Sequence[Path], channels: int) -> tuple[torch.nn.Module, ModelSpec]:
    network, spec = ensemble_of(files, channels)
    for value in network.parameters():
        torch.nn.init.zeros_(value)
    return network, spec


def test_gradients_add_up_to_a_larger_batch(tmp_path: Path, data: Path) -> None:
    recipe = tmp_path / "normed.toml"
    recipe.write_text(NORMED)
    # what of an image does not depend on those beside it: instance norm, a mean over pixels, no random changes
    plain = load_recipe(recipe).changed(loss="focal", optimiser="sgd", schedule="constant", learning_rate=0.1, epochs=2)
    weights, parts = {}, without_validation(data)
    for name, changes in {
        "added up": {"batch_size": 2, "accumulate": 2},
        "large": {"batch_size": 4},
        "small": {"batch_size": 2},
    }.items():
        folder, changed = tmp_path / name, plain.changed(**changes)
        train(changed, data, folder, device="cpu", cache=tmp_path / "c", split_file=parts)
        saved = torch.load(folder / "checkpoint.pt", weights_only=True)["network"]
        weights[name] = torch.cat([value.flatten() for value in saved.values()])
    added, large, small = weights.values()
    assert torch.allclose(added, large, atol=1e-5)
    assert (small - large).abs().max() > 1e-3


def test_all_labels_as_one(tmp_path: Path, data: Path) -> None:
    model = train(
        tiny_recipe(tmp_path, epochs=1, merge=True), data, tmp_path / "run", device="cpu", cache=tmp_path / "c"
    )
    assert read_spec(model).names == {1: "lungs"}


def test_unlabelled_images_are_compared_with_none(tmp_path: Path, data: Path) -> None:
    extra = make_training_set(tmp_path / "extra", 6, first=100) / "images"
    recipe = tiny_recipe(tmp_path, epochs=2, average=0.5)
    steps = iter_train_with_unlabelled(recipe, [data], extra, tmp_path / "run", device="cpu", cache=tmp_path / "c")
    messages: list[str] = []
    model = drain(steps, lambda step: messages.append(step.message))
    told = json.loads((tmp_path / "run" / "unlabelled.json").read_text())
    dice = {
        name: read_spec(tmp_path / "run" / name / model.name).training["validation"]["dice"] for name in HELP.values()
    }
    assert told["validation_dice"] == dice == read_spec(model).training["unlabelled"]
    assert told["helped"] is (dice["with"] > dice["without"])
    verdict = "helped" if told["helped"] else "did not help"
    assert messages[-1] == read_spec(model).training["notes"][-1]
    assert messages[-1].startswith(f"Unlabelled images {verdict}: validation Dice {dice['with']} with them")
    kept, better = read_weights(model), read_weights(tmp_path / "run" / HELP[told["helped"]] / model.name)
    assert all(torch.equal(kept[name], value) for name, value in better.items())
    assert losses(tmp_path / "run" / "with") != losses(tmp_path / "run" / "without")


@pytest.mark.parametrize(("dice", "helped"), [((0.7, 0.6), True), ((0.6, 0.7), False), ((0.7, 0.7), False)])
def test_unlabelled_images_helped_if_the_dice_rose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dice: tuple[float, float], helped: bool
) -> None:
    assert verdict_of(tmp_path, monkeypatch, dice) == (helped, HELP[helped])


def test_without_validation_cases_nothing_is_said_of_unlabelled_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verdict_of(tmp_path, monkeypatch, (None, None)) == (None, "without")
    (note,) = read_spec(tmp_path / "run" / "tiny.safetensors").training["notes"]
    assert "cannot be judged" in note and "None" not in note


HELP = {False: "without", True: "with"}


def verdict_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dice: tuple[float | None, float | None]
) -> tuple[bool | None, str]:
    """What is said of two trainings with these figures, and which of them is kept."""

    def trained(
        recipe: Recipe, data: Any, out: Path, unlabelled: Any = None, **options: Any
    ) -> Generator[Progress, None, Path]:
        yield Progress(1, 1)
        figure = dice[0] if unlabelled else dice[1]
        record = {"validation": {} if figure is None else {"dice": figure}, "notes": []}
        return save_model(out / "tiny.safetensors", bare_spec(record, out.name), {"weight": torch.zeros(1)})

    monkeypatch.setattr("napari_lungseg.training.comparison.iter_train", trained)
    recipe = tiny_recipe(tmp_path)
    model = drain(iter_train_with_unlabelled(recipe, [], "extra", tmp_path / "run", device="cpu"))
    told = json.loads((tmp_path / "run" / "unlabelled.json").read_text())
    return told["helped"], read_spec(model).name


def bare_spec(record: dict[str, Any], name: str) -> ModelSpec:
    preprocessing = Preprocessing(size=(32, 32))
    return ModelSpec(name, "unet", {}, "xray", "a.u.", preprocessing, {1: "lungs"}, training=record)


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
