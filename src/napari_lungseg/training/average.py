"""The running mean of a network's weights, which generalises better than the last ones (Polyak & Juditsky 1992)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of weights and of the statistics of batch norm.

    Parameters
    ----------
    network : that is trained; its copy starts the mean
    decay : share of the old mean that stays at each step, 0…1

    The first steps weigh more: after n steps the mean reaches back over a ninth of them at most, so that it soon
    forgets the random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network: nn.Module = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        share = max(1 - self.decay, 9 / (10 + self.steps))
        self.steps += 1
        news = network.state_dict()
        for name, mean in self.network.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(news[name].to(mean.dtype), min(1.0, share))
            else:
                mean.copy_(news[name])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers, for a checkpoint."""
        return {"network": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.steps = int(state["steps"])
