"""Optimisers, and how their step size changes over a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch.optim import lr_scheduler

from ..registry import Table

OPTIMISERS = Table(
    "optimiser",
    {
        "adam": f"{__name__}:build_adam",
        "adamw": f"{__name__}:build_adamw",
        "sgd": f"{__name__}:build_sgd",
    },
)
"""Name → function from parameters, learning rate and weight decay to a `torch.optim.Optimizer`."""

SCHEDULES = Table(
    "schedule",
    {
        "constant": f"{__name__}:Constant",
        "cosine-restarts": f"{__name__}:CosineRestarts",
        "one-cycle": f"{__name__}:OneCycle",
        "plateau": f"{__name__}:Plateau",
    },
)
"""Name → class of a `Schedule`."""


def build_adam(parameters: Iterable[torch.Tensor], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980)."""
    return torch.optim.Adam(parameters, learning_rate, weight_decay=weight_decay)


def build_adamw(parameters: Iterable[torch.Tensor], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam with weight decay apart from the gradient (Loshchilov & Hutter 2017, arXiv 1711.05101)."""
    return torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay)


def build_sgd(parameters: Iterable[torch.Tensor], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum, 0.9."""
    return torch.optim.SGD(parameters, learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)


class Schedule(Protocol):
    """Changes the step size of an optimiser, called by the loop after every step and every epoch."""

    cycle_ended: bool  # whether the epoch that just ended was the last of a cycle: the moment for a snapshot

    def after_step(self) -> None:
        """An optimiser's step was made."""

    def after_epoch(self, metric: float) -> None:
        """An epoch was made; ``metric`` is the better the higher."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""


class Constant:
    """The same step size all along.

    Parameters
    ----------
    optimiser : whose step size changes
    epochs : of the whole run
    steps_per_epoch : of the optimiser
    """

    cycle_ended = False

    def __init__(self, optimiser: torch.optim.Optimizer, epochs: int, steps_per_epoch: int) -> None:
        self.epochs, self.done = epochs, 0
        self._inner: Any = None  # torch's own scheduler, where one does the work

    def after_step(self) -> None:
        """Change nothing."""

    def after_epoch(self, metric: float) -> None:
        """Count; the run is one cycle."""
        self.done += 1
        self.cycle_ended = self.done == self.epochs

    def state_dict(self) -> dict[str, Any]:
        """See `Schedule`."""
        return {"done": self.done, "inner": self._inner and self._inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Schedule`."""
        self.done = state["done"]
        if self._inner is not None:
            self._inner.load_state_dict(state["inner"])


class Plateau(Constant):
    """A tenth of the step size whenever ten epochs brought nothing better.

    Parameters
    ----------
    optimiser, epochs, steps_per_epoch : see `Constant`
    patience : epochs without a better metric
    factor : of the step size
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        epochs: int,
        steps_per_epoch: int,
        patience: int = 10,
        factor: float = 0.1,
    ) -> None:
        super().__init__(optimiser, epochs, steps_per_epoch)
        self._inner = lr_scheduler.ReduceLROnPlateau(optimiser, "max", factor, patience)

    def after_epoch(self, metric: float) -> None:
        """Reduce the step size where the metric stands still."""
        super().after_epoch(metric)
        self._inner.step(metric)


class CosineRestarts(Constant):
    """Cosine annealing to zero, again and again (Loshchilov & Hutter 2016, arXiv 1608.03983).

    Parameters
    ----------
    optimiser, epochs, steps_per_epoch : see `Constant`
    cycle : epochs until the step size jumps back; 0: one cycle
    """

    def __init__(self, optimiser: torch.optim.Optimizer, epochs: int, steps_per_epoch: int, cycle: int = 0) -> None:
        super().__init__(optimiser, epochs, steps_per_epoch)
        self.cycle = cycle or epochs
        self._inner = lr_scheduler.CosineAnnealingWarmRestarts(optimiser, self.cycle * steps_per_epoch)

    def after_step(self) -> None:
        """Go one step down the cosine, or jump back."""
        self._inner.step()

    def after_epoch(self, metric: float) -> None:
        """Tell whether a cycle is over."""
        super().after_epoch(metric)
        self.cycle_ended = self.done % self.cycle == 0


class OneCycle(Constant):
    """Up to the largest step size in the first tenth of the run, then down to nothing (Smith 2018, arXiv 1803.09820).

    Parameters
    ----------
    optimiser, epochs, steps_per_epoch : see `Constant`
    """

    def __init__(self, optimiser: torch.optim.Optimizer, epochs: int, steps_per_epoch: int) -> None:
        super().__init__(optimiser, epochs, steps_per_epoch)
        largest = [group["lr"] for group in optimiser.param_groups]
        # One more than there are: the last call sets the size of a step that is never made.
        self._inner = lr_scheduler.OneCycleLR(optimiser, largest, epochs * steps_per_epoch + 1, pct_start=0.1)

    def after_step(self) -> None:
        """Go one step along the cycle."""
        self._inner.step()
