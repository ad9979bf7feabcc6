"""What a network that learns from paint starts from: a model, with the classes that it shares, or a recipe from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import IncompatibleModelError
from ..findings import Finding
from ..models.building import build_network
from ..models.catalog import DEFAULT_MODELS, load_model
from ..models.spec import ModelSpec, Preprocessing
from ..models.weights import read_weights
from ..segmentation.predict import check_compatible
from ..volume import Volume, label_colour, plain_name
from .augment import Augmentation
from .recipe import Recipe, load_recipe, recipe_files

# Of a class that the start does not know: rare at first, so that what is known is not drowned.
_NEW_CLASS_LOGIT = -2.0


@dataclass(frozen=True)
class Start:
    """A network and what is known of it.

    Parameters
    ----------
    network : on the CPU
    spec : of the model it will become
    augmentation : random changes of what it sees
    shared : labels whose classes it knows already; empty from scratch
    findings : what there is to tell
    scratch : whether it began with random weights
    per_class : names of the weights that have one row for each class; empty from scratch
    """

    network: nn.Module
    spec: ModelSpec
    augmentation: Augmentation
    shared: frozenset[int] = frozenset()
    findings: tuple[Finding, ...] = ()
    scratch: bool = False
    per_class: frozenset[str] = frozenset()


def start_from(name: str, volume: Volume, names: Mapping[int, str], colours: Mapping[int, str], seed: int = 0) -> Start:
    """Build the network that will learn.

    Parameters
    ----------
    name : of a recipe, whose network begins with random weights; or name or path of a model, whose classes of the same
        name are kept
    volume : one of the images
    names, colours : of the classes that are learned
    seed : of random weights

    Raises
    ------
    UnknownNameError
        When it is neither.
    IncompatibleModelError
        When the model is for other images or cannot be trained.
    """
    torch.manual_seed(seed)
    spec = ModelSpec(
        name="painted", architecture="", modality=volume.modality, unit=volume.unit, names=names,
        colours={label: colours.get(label, label_colour(label)) for label in names}, licence="yours",
    )  # fmt: skip
    if name in recipe_files() or name.endswith(".toml"):
        return _scratch(load_recipe(name), spec)
    return _adapted(name, volume, spec)


def _scratch(recipe: Recipe, spec: ModelSpec) -> Start:
    spec = dataclasses.replace(
        spec,
        architecture=recipe.architecture,
        options=dict(recipe.options),
        preprocessing=_suited(recipe.preprocessing, spec),
        training={"recipe": recipe.name},
    )
    return Start(build_network(spec, None), spec, _changes(recipe, spec), scratch=True)


def _suited(steps: Preprocessing, spec: ModelSpec) -> Preprocessing:
    """A recipe's preprocessing where it is for such images, else that of the bundled model at the recipe's size."""
    if (steps.window is not None) == (spec.unit == "HU") or spec.modality not in DEFAULT_MODELS:
        return steps
    bundled = load_model(DEFAULT_MODELS[spec.modality]).spec.preprocessing
    return dataclasses.replace(bundled, size=steps.size)


def _adapted(name: str, volume: Volume, spec: ModelSpec) -> Start:
    model = load_model(name)
    if model.path is None:
        raise IncompatibleModelError(
            f"The model {name} belongs to another package and has no file to start from. Start from a bundled model or "
            "from scratch."
        )
    findings = check_compatible(volume, model.spec)
    spec = dataclasses.replace(spec, names=spelled_alike(spec.names, model.spec.names.values()))
    known = {text: label for label, text in model.spec.names.items()}
    rows = {label: known[text] for label, text in spec.names.items() if text in known}
    spec = dataclasses.replace(
        spec,
        architecture=model.spec.architecture,
        options=dict(model.spec.options),
        preprocessing=model.spec.preprocessing,
        mirror=model.spec.mirror,
        smooth_mm=model.spec.smooth_mm,
        follow_edges=model.spec.follow_edges,
        licence=model.spec.licence,
        training={"started_from": model.spec.name},
    )
    network = build_network(spec, None)
    per_class = _class_tensors(spec)
    network.load_state_dict(_fitted(network, per_class, read_weights(model.path), {0: 0, **rows}, name))
    changes = _changes(load_recipe("interactive"), spec)
    return Start(network, spec, changes, frozenset(rows), tuple(findings), per_class=per_class)


def spelled_alike(names: Mapping[int, str], known: Iterable[str]) -> dict[int, str]:
    """Label → name, where names of classes that are known are spelled as there: Right_Lung is right lung."""
    spelling = {plain_name(text): text for text in known}
    return {label: spelling.get(plain_name(text), text) for label, text in names.items()}


def _fitted(
    network: nn.Module,
    per_class: frozenset[str],
    learned: Mapping[str, torch.Tensor],
    rows: Mapping[int, int],
    name: str,
) -> dict[str, torch.Tensor]:
    """Learned weights for a network with other classes.

    Parameters
    ----------
    network : with random weights
    per_class : names of its weights that have one row for each class
    learned : of the model
    rows : class of the network → class of the model
    """
    fitted = {}
    for key, tensor in network.state_dict().items():
        if key not in learned or (learned[key].shape != tensor.shape and key not in per_class):
            raise IncompatibleModelError(
                f"The weights of {name} do not fit its own architecture ({key}). Start from another model."
            )
        fitted[key] = _by_class(tensor, learned[key], rows) if key in per_class else learned[key]
    return fitted


def _class_tensors(spec: ModelSpec) -> frozenset[str]:
    """Names of the weights that have one row for each class: those that grow with their number."""
    more = {**spec.names, spec.classes: "one more"}
    with torch.device("meta"):
        fewer_rows = build_network(spec, None).state_dict()
        more_rows = build_network(dataclasses.replace(spec, names=more), None).state_dict()
    return frozenset(key for key, tensor in fewer_rows.items() if tensor.shape != more_rows[key].shape)


def _by_class(own: torch.Tensor, learned: torch.Tensor, rows: Mapping[int, int]) -> torch.Tensor:
    # Not at random: what the seed draws may be what the model's own classes grew from, and find the same.
    made = torch.zeros_like(own) if own.ndim > 1 else torch.full_like(own, _NEW_CLASS_LOGIT)
    for label, row in rows.items():
        made[label] = learned[row]
    return made


def _changes(recipe: Recipe, spec: ModelSpec) -> Augmentation:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in recipe.augmentation.items()}
    return dataclasses.replace(Augmentation(**values), size=spec.preprocessing.size)
