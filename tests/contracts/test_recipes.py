"""Every recipe that ships can be begun, and names only what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_lungseg.errors import LungSegError, TrainingDataError, UnknownNameError
from napari_lungseg.models import ARCHITECTURES
from napari_lungseg.models.catalog import bundled_files
from napari_lungseg.training.batches import Changes
from napari_lungseg.training.draw import seeded
from napari_lungseg.training.losses import LOSSES
from napari_lungseg.training.recipe import Recipe, load_recipe, recipe_files
from napari_lungseg.training.schedules import OPTIMISERS, SCHEDULES

RECIPES = {name: load_recipe(name) for name in recipe_files()}
PUBLISHED = {
    "vgg16-unet", "improved-unet", "basic-unet", "classic-unet", "dropout-unet", "conv-unet", "inception-unet",
    "inception-snapshot",
}  # fmt: skip


def test_the_published_systems_and_ours_are_there() -> None:
    assert {*PUBLISHED, "lungs-ct", "lungs-xray", "interactive", "paint"} == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_names_only_what_is_there(recipe: Recipe) -> None:
    settings = recipe.settings
    assert settings.loss in LOSSES and settings.optimiser in OPTIMISERS and settings.schedule in SCHEDULES
    assert recipe.title and recipe.source
    assert recipe.start in {"", "imagenet", *bundled_files()}
    assert bool(recipe.published) == (recipe.name in PUBLISHED)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_its_network_and_its_changes_can_be_made(recipe: Recipe) -> None:
    with torch.device("meta"):  # no memory, no time: only that the options fit
        assert ARCHITECTURES.resolve(recipe.architecture)(in_channels=1, classes=3, **recipe.options)
    small = recipe.changed(size=48)
    images, labels = torch.rand(3, 1, 48, 48), torch.randint(0, 3, (3, 48, 48))
    changed, kept = Changes(small, (0, 2, 1)).apply(images, labels, seeded(1))
    assert changed.shape == images.shape and kept.shape == labels.shape
    assert changed.isfinite().all() and set(kept.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[model]", "architecture"),
        ('[model]\narchitecture = "unet"\n[training]\nepochs = 0', "epochs"),
        ('[model]\narchitecture = "unet"\n[training]\nepoch = 3', "epoch"),
        ('[model]\narchitecture = "unet"\ncolour = 1', "colour"),
        ("not toml", "recipe"),
    ],
)
def test_a_wrong_recipe_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TrainingDataError, match=told):
        load_recipe(path)


def test_an_unknown_recipe_is_told() -> None:
    with pytest.raises(UnknownNameError, match="lungs-xray"):
        load_recipe("lungs-yray")


def test_a_setting_out_of_bounds_is_told() -> None:
    with pytest.raises(LungSegError, match="batch_size"):
        RECIPES["lungs-ct"].changed(batch_size=0)
