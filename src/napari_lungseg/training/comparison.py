"""Train with and without unlabelled images, and say whether they helped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.atomic import replacing
from ..models.weights import read_spec, read_weights, save_model
from ..progress import Progress
from .datasets import DataSet
from .loop import iter_train
from .recipe import Recipe
from .start import make_fabric


def iter_train_with_unlabelled(
    recipe: Recipe,
    data: Sequence[DataSet | str | Path],
    unlabelled: str | Path,
    out: str | Path | None = None,
    **options: Any,
) -> Generator[Progress, None, Path]:
    """Train twice with the same seed and number of steps; keep the model with the better validation Dice.

    Parameters
    ----------
    recipe, data, out, options : see `napari_lungseg.training.loop.iter_train`
    unlabelled : folder of images

    Returns
    -------
    The model file in ``out``; its record, and ``unlabelled.json`` beside it, hold both figures and whether the images
    helped (None without validation cases). The two runs stay in ``out/without`` and ``out/with``.
    """
    folder = Path(out or f"lungseg-{recipe.name}")
    plain = yield from iter_train(recipe, data, folder / "without", **options)
    taught = yield from iter_train(recipe, data, folder / "with", unlabelled=unlabelled, **options)
    figures = {
        name: read_spec(path).training["validation"].get("dice")
        for name, path in (("without", plain), ("with", taught))
    }
    helped = None if None in figures.values() else figures["with"] > figures["without"]
    chosen = taught if helped else plain
    spec = read_spec(chosen)
    told = _sentence(helped, figures)
    record = {**spec.training, "unlabelled": figures, "notes": [*spec.training["notes"], told]}
    model = folder / plain.name
    fabric = make_fabric(options.get("device", "auto"), recipe.settings.precision)
    if fabric.is_global_zero:
        save_model(model, dataclasses.replace(spec, training=record), read_weights(chosen))
        with replacing(folder / "unlabelled.json") as partial:
            partial.write_text(json.dumps({"validation_dice": figures, "helped": helped}, indent=2), encoding="utf-8")
    fabric.barrier()
    yield Progress(0, 0, told)
    return model


def _sentence(helped: bool | None, figures: Mapping[str, float | None]) -> str:
    if helped is None:
        return (
            "Whether unlabelled images help cannot be judged without validation cases; the model that learned without "
            "them is kept."
        )
    verdict = "helped" if helped else "did not help"
    return (
        f"Unlabelled images {verdict}: validation Dice {figures['with']} with them, {figures['without']} without them."
    )
