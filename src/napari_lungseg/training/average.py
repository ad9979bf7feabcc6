"""The mean of a network's weights over its last steps, which predicts better than the last weights alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of weights and buffers (Polyak and Juditsky 1992, doi 10.1137/0330046).

    While there have been few steps, n, the newest weights count 9 / (9 + n): the first weights, which know nothing, are
    soon forgotten, and the mean is over about a tenth of the steps.

    Parameters
    ----------
    network : what is averaged; it is copied
    decay : share of the old mean in the new one, in the long run; 0.995 is a mean over about 200 steps
    """

    def __init__(self, network: nn.Module, decay: float = 0.995) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        """The mean, in evaluation mode."""

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        share = max(1 - self.decay, 9 / (9 + self.updates))
        new = network.state_dict()
        floats: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for name, mean in self.network.state_dict().items():
            if mean.is_floating_point():
                floats[0].append(mean)
                floats[1].append(new[name].to(mean))
            else:
                mean.copy_(new[name])  # a count of batches has no mean
        torch._foreach_lerp_(*floats, share)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs: tensors and a number."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another average of the same network stopped."""
        self.updates = state["updates"]
        self.network.load_state_dict(state["network"])
