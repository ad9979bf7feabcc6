"""What a run starts with: the data sets, the network and the hardware."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import IncompatibleModelError, TrainingDataError
from ..findings import Finding
from ..models import ARCHITECTURES
from ..models.catalog import load_model
from ..models.spec import ModelSpec
from ..models.weights import read_weights
from ..progress import Progress
from ..segmentation.devices import KEPT_FOR_TRAINING, keep_freed_memory, resolve_device, resolve_precision
from .cases import Case
from .checking import check_dataset
from .datasets import DataSet, find_dataset
from .recipe import Recipe
from .splits import left_out_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_LEFT_OUT = ("unusable", "leak-left-out")
_TOLD = 5
_FABRIC_PRECISIONS = {torch.float32: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed"}


@dataclass(frozen=True)
class TrainingData:
    """Data sets that are learned from together.

    Parameters
    ----------
    sets : split into parts
    names : label → name, as learned
    unused : cases that were found but are in no part
    """

    sets: tuple[DataSet, ...]
    names: Mapping[int, str]
    unused: tuple[Case, ...] = ()

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 3 if self.sets[0].unit == "rgb" else 1

    @property
    def left_out(self) -> list[Finding]:
        """Cases that are not learned from or judged by, and why; after the first few only their number."""
        told = [told for dataset in self.sets for told in dataset.problems if told.code in _LEFT_OUT]
        more = len(told) - _TOLD
        return told[:_TOLD] + ([Finding("left-out", f"{more} more cases are left out.")] if more > 0 else [])


def iter_gather(
    data: Sequence[DataSet | str | Path], recipe: Recipe, split_file: Path | None = None
) -> Generator[Progress, None, TrainingData]:
    """Find data sets, look at every case, split them, and hold them against each other and the recipe.

    Cases that cannot be used are left out, and so are patients with a copy in a part that is judged by.

    Parameters
    ----------
    data : data sets, or folders in a layout of `napari_lungseg.training.datasets.LAYOUTS`
    recipe : its ``merge`` makes one label of all; its ``seed`` splits what is not split yet
    split_file : says which case is in which part

    Yields
    ------
    Progress

    Raises
    ------
    TrainingDataError
        When there is nothing to learn from, or the data sets do not go together.
    """
    sets: list[DataSet] = []
    unused: list[Case] = []
    for item in data:
        dataset = item if isinstance(item, DataSet) else find_dataset(item, split_file=split_file)
        checked = yield from check_dataset(dataset)
        was_split = any(case.split for case in dataset.cases)
        sets.append(checked.apart() if was_split else checked.divided(seed=recipe.settings.seed))
        unused += left_out_of(dataset.cases, sets[-1].cases)
    if not sets:
        raise TrainingDataError("No data set was named; name at least one folder of images and masks.")
    for dataset in sets:
        _check_together(sets[0], dataset, recipe)
    names = dict(sets[0].names)
    if recipe.settings.merge:
        names = {1: names.popitem()[1] if len(names) == 1 else "lungs"}
    return TrainingData(tuple(sets), names, tuple(unused))


def _check_together(first: DataSet, other: DataSet, recipe: Recipe) -> None:
    if not [case for case in other.part("train") if case.masks]:
        reasons = " ".join(str(problem) for problem in other.problems[:3])
        raise TrainingDataError(
            f"{other.path.name} has no training image with a mask; look at it with `lungseg data`. {reasons}".strip()
        )
    if (other.modality, other.unit) != (first.modality, first.unit):
        raise TrainingDataError(
            f"{other.path.name} holds {other.modality} in {other.unit}, but {first.path.name} {first.modality} in "
            f"{first.unit}. Train one model for each."
        )
    if not recipe.settings.merge and dict(other.names) != dict(first.names):
        raise TrainingDataError(
            f"{other.path.name} has the labels {dict(other.names)}, but {first.path.name} {dict(first.names)}. "
            "Use data sets with the same labels, or learn all labels as one (merge)."
        )
    if (recipe.preprocessing.window is not None) != (first.unit == "HU"):
        wants = "Hounsfield units" if recipe.preprocessing.window is not None else "pictures"
        raise TrainingDataError(
            f"The recipe {recipe.name} is for images in {wants}, but {first.path.name} is in {first.unit}. "
            "Choose another recipe (`lungseg recipes`)."
        )


def build_network(recipe: Recipe, data: TrainingData) -> tuple[nn.Module, ModelSpec, list[Finding]]:
    """Build a recipe's network with the weights that it starts from.

    Returns
    -------
    The network on the CPU, what its model file will say of it, and what there is to tell about the start.
    """
    first = data.sets[0]
    spec = ModelSpec(
        name=recipe.name,
        architecture=recipe.architecture,
        options=dict(recipe.options),
        modality=first.modality,
        unit=first.unit,
        preprocessing=recipe.preprocessing,
        names=data.names,
    )
    torch.manual_seed(recipe.settings.seed)
    network: nn.Module = ARCHITECTURES.resolve(recipe.architecture)(
        in_channels=data.channels, classes=spec.classes, **recipe.options
    )
    if not recipe.start:
        return network, spec, []
    if recipe.start == "imagenet":
        from ..models.networks.imagenet import load_imagenet_weights

        return network, spec, [load_imagenet_weights(network, str(recipe.options.get("encoder", "")))]
    return network, spec, [load_fitting_weights(network, recipe.start)]


def load_fitting_weights(network: nn.Module, name_or_path: str) -> Finding:
    """Load what fits of a model's weights; a last layer for other labels keeps its random start.

    Raises
    ------
    IncompatibleModelError
        When the model has another architecture, so that next to nothing fits.
    """
    path = load_model(name_or_path).path
    if path is None:
        raise IncompatibleModelError(
            f"The model {name_or_path} belongs to another package and has no file to start from."
        )
    learned, own = read_weights(path), network.state_dict()
    fitting = {name: value for name, value in learned.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < 0.9 * len(own):
        raise IncompatibleModelError(
            f"The model {name_or_path} does not fit the recipe's network: {len(fitting)} of {len(own)} weights have the "
            "same name and shape. Start from a model of the same architecture, options and image kind."
        )
    network.load_state_dict({**own, **fitting})
    new = len(own) - len(fitting)
    return Finding("started-from", f"Started from {name_or_path}" + (f"; {new} weights are new." if new else "."))


def make_fabric(device: str, precision: str) -> Fabric:
    """The hardware to train on: one device, or all processes that ``torchrun`` started.

    Raises
    ------
    DeviceError
        When the machine has no such device, or it cannot compute in the precision asked for.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells the precision on the error stream
    target = resolve_device(device)
    if target.type == "cpu":
        keep_freed_memory(KEPT_FOR_TRAINING)
    plugin: Any = _FABRIC_PRECISIONS[resolve_precision(precision, target)]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        one: Any = [target.index] if ":" in str(target) else 1
        return Fabric(accelerator=target.type, devices=one, precision=plugin)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator=target.type, devices=local, num_nodes=max(1, world // local), strategy="ddp", precision=plugin
    )
    fabric.launch()
    return fabric
