"""From a description to a network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import ModelFileError
from . import ARCHITECTURES
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch


def resolve(reference: str) -> Any:
    """Import what ``"package.module:attribute"`` names: references of installed code only, never out of a file."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def build_network(
    spec: ModelSpec, weights: Mapping[str, torch.Tensor] | None, build: str = "", where: str = "the model"
) -> torch.nn.Module:
    """Build the network of a model.

    Parameters
    ----------
    spec : of the model
    weights : its ``state_dict``; None where ``build`` gives them to it
    build : ``"package.module:function"`` that builds it; "" takes the spec's architecture from the table
    where : what the weights come from, for messages

    Raises
    ------
    ModelFileError
        When the weights do not fit.
    """
    make = resolve(build) if build else ARCHITECTURES.resolve(spec.architecture)
    network: torch.nn.Module = make(in_channels=3 if spec.unit == "rgb" else 1, classes=spec.classes, **spec.options)
    if weights is None:
        return network
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"The weights in {where} do not fit the architecture {spec.architecture!r} that it names. "
            "The file was damaged or made by another version; train or download it again."
        ) from error
    return network
