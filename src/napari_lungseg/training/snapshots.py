"""Weights of several moments of one training that predict together (Huang et al. 2017, arXiv 1704.00109)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..models import ARCHITECTURES
from ..models.spec import ModelSpec
from ..models.weights import read_spec, read_weights


def ensemble_of(files: Sequence[Path], channels: int) -> tuple[nn.Module, ModelSpec]:
    """Build an ensemble of model files with one architecture.

    Parameters
    ----------
    files : of the snapshots
    channels : of the network's input

    Returns
    -------
    The network, which averages the soft-max of its members, and the spec of its model file.
    """
    single = read_spec(files[0])
    options = {"architecture": single.architecture, "options": dict(single.options), "members": len(files)}
    spec = dataclasses.replace(single, architecture="ensemble", options=options)
    network: nn.Module = ARCHITECTURES.resolve("ensemble")(in_channels=channels, classes=spec.classes, **options)
    for number, file in enumerate(files):
        network.get_submodule(f"members.{number}").load_state_dict(read_weights(file))
    return network, spec
