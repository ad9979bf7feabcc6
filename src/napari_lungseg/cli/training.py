"""``lungseg train``, ``lungseg recipes`` and ``lungseg data prepare``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from ..progress import Progress, drain
from ..training.recipe import TrainSettings
from . import show
from .flags import flags_of, given

if TYPE_CHECKING:
    TrainFlags = TrainSettings
else:
    TrainFlags = flags_of(TrainSettings, given_only=True)

Switch: TypeAlias = Annotated[bool, Parameter(negative=())]
_SETTINGS = Group("Settings (the recipe's where omitted)", sort_key=2)


def train(
    data: Path,
    /,
    *more: Path,
    recipe: str,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    device: str = "auto",
    layout: str = "auto",
    split_file: Path | None = None,
    unlabelled: Path | None = None,
    start_from: str | None = None,
    cache: Path | None = None,
    resume: Switch = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")] = False,
    settings: Annotated[TrainFlags | None, Parameter(name="*", group=_SETTINGS)] = None,
) -> int:
    """Train a model on data sets of images and masks.

    Started by torchrun it trains on all its processes. Stop it with Ctrl-C and go on with --resume.

    Parameters
    ----------
    data : Path
        Folder of a data set (see `lungseg data`).
    more : Path
        Further data sets; an epoch shows as many images of each.
    recipe : str
        A name of `lungseg recipes`, or a .toml file.
    out : Path
        Folder for the model, its log and curves; lungseg-RECIPE if omitted.
    device : str
        auto, cpu, cuda, cuda:1 … or mps.
    layout : str
        How the folders are laid out; found out if omitted.
    split_file : Path
        CSV file that says which case trains, chooses and tests; else the data set's own, else 80, 10 and 10 % by patient.
    unlabelled : Path
        Folder of images without masks to learn from too; a second training without them says whether they helped.
    start_from : str
        Name or file of a model whose weights are the start; imagenet for the encoder's; none for random weights.
    cache : Path
        Folder for prepared images; the user's cache if omitted.
    resume : bool
        Go on where the run in the folder stopped.
    """
    from ..training.comparison import iter_train_with_unlabelled
    from ..training.datasets import find_dataset
    from ..training.loop import iter_train
    from ..training.recipe import load_recipe

    chosen = load_recipe(recipe).changed(**given(settings) if settings is not None else {})
    if start_from is not None:
        chosen = dataclasses.replace(chosen, start="" if start_from == "none" else start_from)
    sets = [find_dataset(path, layout, split_file) for path in (data, *more)]
    options: dict[str, Any] = {"device": device, "cache": cache, "resume": resume}
    steps: Generator[Progress, None, Path]
    if unlabelled is None:
        steps = iter_train(chosen, sets, out, **options)
    else:
        steps = iter_train_with_unlabelled(chosen, sets, unlabelled, out, **options)
    if _is_first_process():
        _tell(show.drained(steps, f"training {chosen.name}"), as_json)
    else:
        drain(steps)
    return 0


def _is_first_process() -> bool:
    """Whether this one speaks for all that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def _tell(model: Path, as_json: bool) -> None:
    from ..models.weights import read_spec

    record = dict(read_spec(model).training)
    if as_json:
        show.for_machines({"model": str(model), **record})
        return
    dice = record.get("validation", {}).get("dice")
    told = f"validation Dice {dice:.4f}" if dice is not None else "no validation cases"
    show.line(f"{model}: {told} after epoch {record['epoch']} ({record['seconds'] / 60:.1f} min)")
    for note in record.get("notes", []):
        show.line(f"  ! {note}")


def recipes(
    *, as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")] = False
) -> int:
    """List the recipes: what they train, where they come from and which figure was published."""
    from ..training.recipe import load_recipe, recipe_files

    found = [load_recipe(name) for name in recipe_files()]
    if as_json:
        show.for_machines([recipe.as_record() for recipe in found])
        return 0
    lines = [[recipe.name, recipe.architecture, recipe.title, recipe.published or "–"] for recipe in found]
    show.rows(("name", "architecture", "title", "published"), lines)
    return 0


def prepare(
    data: Path,
    /,
    *more: Path,
    recipe: str,
    layout: str = "auto",
    cache: Path | None = None,
    size: int | None = None,
) -> int:
    """Crop, scale and resize the images of data sets once, so that training with a recipe only reads them.

    Parameters
    ----------
    data : Path
        Folder of a data set.
    more : Path
        Further ones.
    recipe : str
        A name of `lungseg recipes`, or a .toml file.
    layout : str
        How the folders are laid out; found out if omitted.
    cache : Path
        Folder for the prepared images; the user's cache if omitted.
    size : int
        Rows and columns of the network's input, as for `lungseg train --size`.
    """
    from ..training.datasets import find_dataset
    from ..training.prepared import default_cache, iter_prepare, kept_size
    from ..training.recipe import load_recipe

    chosen = load_recipe(recipe).changed(**({"size": size} if size else {}))
    folder = cache or default_cache()
    for path in (data, *more):
        dataset = find_dataset(path, layout)
        done = show.drained(iter_prepare(dataset, dataset.cases, kept_size(chosen), folder), f"preparing {path.name}")
        show.line(f"{path}: {len(done)} cases, {sum(case.slices for case in done)} slices in {folder}")
    return 0
