"""``lungseg train``, ``recipes`` and ``data prepare``: what is typed is what is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import runner
from training_set import RECIPE, make_training_set

from napari_lungseg.models.weights import read_spec


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return make_training_set(tmp_path / "data", 10), path


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = runner(capsys)("recipes")
    assert outcome.code == 0
    assert "vgg16-unet" in outcome.out and "0.8285" in outcome.out
    names = [recipe["name"] for recipe in json.loads(runner(capsys)("recipes", "--json").out)]
    assert "inception-snapshot" in names


def test_what_is_typed_overrules_the_recipe(
    tmp_path: Path, tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lungseg = runner(capsys)
    common = ("--recipe", tiny[1], "-o", tmp_path / "run", "--cache", tmp_path / "cache", "--device", "cpu")
    prepared = lungseg("data", "prepare", tiny[0], "--recipe", tiny[1], "--cache", tmp_path / "cache")
    assert prepared.code == 0 and "10 cases, 10 slices" in prepared.out
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    outcome = lungseg("train", tiny[0], *common, "--epochs", 1, "--learning-rate", 0.002, "--merge")
    assert outcome.code == 0, outcome.err
    assert "validation Dice" in outcome.out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == made
    settings = read_spec(tmp_path / "run" / "tiny.safetensors").training["recipe"]["settings"]
    assert (settings["epochs"], settings["learning_rate"], settings["merge"]) == (1, 0.002, True)
    assert settings["batch_size"] == 4
    again = lungseg("train", tiny[0], *common)
    assert again.code == 2 and "--resume" in again.err


def test_only_the_first_of_several_processes_tells(
    tmp_path: Path, tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("napari_lungseg.cli.show.drained", lambda steps, title: pytest.fail("shows a progress bar"))
    common = ("--recipe", tiny[1], "-o", tmp_path / "run", "--cache", tmp_path / "cache", "--device", "cpu")
    outcome = runner(capsys)("train", tiny[0], *common, "--epochs", 1)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "run" / "tiny.safetensors").is_file()


def test_bad_input_is_one_line(tmp_path: Path, tiny: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lungseg = runner(capsys)
    for arguments in (
        ("train", tmp_path / "nowhere", "--recipe", tiny[1]),
        ("train", tiny[0], "--recipe", "nonsense"),
        ("train", tiny[0], "--recipe", tiny[1], "--epochs", 0),
        ("train", tiny[0], "--recipe", tiny[1], "--start-from", "nonsense", "-o", tmp_path / "run"),
    ):
        outcome = lungseg(*arguments)
        assert outcome.code == 2
        assert len(outcome.err.strip().splitlines()) == 1 and "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("*.safetensors"))
