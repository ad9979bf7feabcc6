"""Several networks of one architecture that decide together, such as snapshots (Huang et al. 2017, arXiv 1704.00109)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import ARCHITECTURES


def build_ensemble(
    in_channels: int, classes: int, architecture: str, members: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build an ensemble whose members have random weights.

    Parameters
    ----------
    in_channels, classes : of each member
    architecture : of the members; a name in `napari_lungseg.models.ARCHITECTURES`
    members : how many
    options : of that architecture
    """
    build = ARCHITECTURES.resolve(architecture)
    return Ensemble([build(in_channels=in_channels, classes=classes, **(options or {})) for _ in range(members)])


class Ensemble(nn.Module):
    """The mean of the members' soft-max, as logits: its logarithm. Weights are named ``members.0.…``.

    Parameters
    ----------
    members : networks with the same classes
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, y, x) to logits (n, classes, y, x)."""
        chances = torch.stack([_scores(member, images).float().log_softmax(dim=1) for member in self.members])
        return chances.logsumexp(dim=0) - math.log(len(self.members))


def _scores(member: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The main scores of a network that may give auxiliary ones too."""
    given = member(images)
    main: torch.Tensor = given[0] if isinstance(given, tuple) else given
    return main
