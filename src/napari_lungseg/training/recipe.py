"""Recipes: all that makes a model out of a data set, as TOML files beside this module or anywhere else."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LungSegError, TrainingDataError, UnknownNameError
from ..models.spec import Preprocessing
from ..segmentation.devices import PRECISIONS
from ..settings import setting, validate

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class TrainSettings:
    """How to train; a recipe sets what its source says.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """

    epochs: int = setting(100, "Passes over the training images.", min=1, max=100_000)
    batch_size: int = setting(8, "Images sent to the network at once.", min=1, max=1024)
    accumulate: int = setting(1, "Batches whose gradients are added before one step.", min=1, max=1024, advanced=True)
    size: int = setting(0, "Rows and columns of the network's input; 0: the recipe's.", unit="pixels", min=0, max=4096)
    loss: str = setting("dice-ce", "What is minimised (docs/reference/losses.md).")
    optimiser: str = setting("adamw", "How weights follow gradients.")
    learning_rate: float = setting(1e-3, "Largest step size.", min=1e-8, max=10)
    weight_decay: float = setting(1e-2, "Pull of the weights towards zero.", min=0, max=1, advanced=True)
    schedule: str = setting("one-cycle", "How the step size changes.")
    cycle: int = setting(
        0, "Epochs of one cycle of cosine restarts; 0: all of them.", min=0, max=100_000, advanced=True
    )
    snapshots: int = setting(
        0, "Keep the weights of so many last cycles and let them predict together.", min=0, max=50, advanced=True
    )
    average: float = setting(
        0.0, "Share of the old weights in their running mean, which then is the model; 0: no mean.", min=0, max=0.99999
    )
    patience: int = setting(
        0, "Stop after so many epochs without a better validation Dice; 0: never.", min=0, max=100_000
    )
    clip: float = setting(0.0, "Largest norm of the gradient; 0: any.", min=0, max=1e6, advanced=True)
    canvas: float = setting(
        1.0, "How much finer than the network's input images are kept, so that zooming in shows more.", min=1, max=4
    )
    merge: bool = setting(False, "Learn all labels as one.")
    seed: int = setting(0, "Of everything random.", min=0, max=2**31 - 1)
    precision: str = setting("auto", "Number format of the network.", choices=PRECISIONS, advanced=True)
    workers: int = setting(
        -1, "Processes that read images; -1: one per processor core but one, at most 4.", min=-1, max=256, advanced=True
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Recipe:
    """A named way to train.

    Parameters
    ----------
    name : of its file
    title, source, published : what it is, where it comes from and which figure was published
    architecture, options : of the network
    start : ``"imagenet"`` for an encoder trained on ImageNet, the name or file of a model, or "" for random weights
    preprocessing : from physical units to the network's input
    augmentation : fields of `napari_lungseg.training.augment.Augmentation`; empty: images are not changed
    pasted : name in `napari_lungseg.training.paste.CHANGES` → probability
    settings : see `TrainSettings`
    """

    name: str
    architecture: str
    title: str = ""
    source: str = ""
    published: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    pasted: Mapping[str, float] = field(default_factory=dict)
    settings: TrainSettings = field(default_factory=TrainSettings)

    def changed(self, **values: Any) -> Recipe:
        """The recipe with other settings; a ``size`` becomes the preprocessing's."""
        settings = dataclasses.replace(self.settings, **values)
        steps = self.preprocessing
        if settings.size:
            steps = dataclasses.replace(steps, size=(settings.size, settings.size))
        return dataclasses.replace(self, settings=settings, preprocessing=steps)

    def as_record(self) -> dict[str, Any]:
        """JSON-ready: what it takes to do the same again."""
        return dataclasses.asdict(self)


def recipe_files() -> dict[str, Path]:
    """Name → file of every recipe that ships."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Find a recipe by its name, or read a ``.toml`` file.

    Raises
    ------
    UnknownNameError
        When it is neither.
    TrainingDataError
        When the file is no recipe; the message says which entry is wrong.
    """
    files = recipe_files()
    path = files.get(str(name_or_path), Path(name_or_path))
    if path.suffix != ".toml" or not path.is_file():
        raise UnknownNameError(
            f"There is no recipe {str(name_or_path)!r}. Known: {', '.join(files)}; or give the path of a .toml file."
        )
    try:
        return _parse(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, LungSegError) as error:
        raise TrainingDataError(
            f"{path.name} is not a recipe: {error}. Compare it with one that ships (`lungseg recipes`)."
        ) from error


def _parse(name: str, values: dict[str, Any]) -> Recipe:
    model = values.pop("model", {})
    if "architecture" not in model:
        raise TrainingDataError("it names no architecture under [model]")
    steps: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in values.pop("preprocessing", {}).items()
    }
    recipe = Recipe(
        name=name,
        architecture=model.pop("architecture"),
        options=model.pop("options", {}),
        start=model.pop("start", ""),
        preprocessing=Preprocessing(**steps),
        settings=TrainSettings(**values.pop("training", {})),
        **{key: values.pop(key) for key in ("title", "source", "published", "augmentation", "pasted") if key in values},
    )
    unknown = sorted({*values, *model})
    if unknown:
        raise TrainingDataError(f"unknown entries {', '.join(unknown)}")
    return recipe.changed()
