"""How weights follow gradients, and how the step size changes while they do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch.optim import Optimizer, lr_scheduler

from ..registry import Table

OPTIMISERS = Table(
    "optimiser",
    {
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "sgd": "napari_lungseg.training.schedules:nesterov",
    },
)
"""Name → class or function that builds a `torch.optim.Optimizer` from parameters, ``lr`` and ``weight_decay``."""

SCHEDULES = Table(
    "schedule",
    {
        "constant": "napari_lungseg.training.schedules:Constant",
        "cosine-restarts": "napari_lungseg.training.schedules:CosineRestarts",
        "one-cycle": "napari_lungseg.training.schedules:OneCycle",
        "plateau": "napari_lungseg.training.schedules:Plateau",
    },
)
"""Name → `Schedule`, built from an optimiser, ``epochs``, ``steps_per_epoch`` and the options of its own."""


def build_optimiser(
    name: str, parameters: Iterable[torch.nn.Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """Build an optimiser.

    Parameters
    ----------
    name : in `OPTIMISERS`
    parameters : of the network
    learning_rate : the largest; a schedule lowers it
    weight_decay : decoupled from the gradient in "adamw", added to it in the others

    Raises
    ------
    UnknownNameError
        When there is no such optimiser.
    """
    built: Optimizer = OPTIMISERS.resolve(name)(parameters, lr=learning_rate, weight_decay=weight_decay)
    return built


def nesterov(parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    """Stochastic gradient descent with Nesterov's momentum of 0.9."""
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9, nesterov=True)


class Schedule(Protocol):
    """What a training loop tells a schedule, and asks it.

    To go on with an interrupted training: build optimiser and schedule as at its start, then load the states of both. A
    state holds numbers, strings and lists of these.
    """

    def after_step(self) -> None:
        """The optimiser has made a step."""

    def after_epoch(self, metric: float) -> None:
        """An epoch has ended with this validation metric; more is better."""

    @property
    def cycle_ended(self) -> bool:
        """Whether the last step was the last of a cycle, so that the weights are worth keeping."""

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another schedule of the same kind stopped."""


class Constant:
    """The step size stays as it is; the other schedules begin with what this one has.

    Parameters
    ----------
    optimiser : whose step size it is
    epochs, steps_per_epoch : how long training takes at most
    """

    def __init__(self, optimiser: Optimizer, *, epochs: int, steps_per_epoch: int) -> None:
        self.optimiser, self.steps, self.steps_per_epoch = optimiser, epochs * steps_per_epoch, steps_per_epoch
        self.inner: Any = None

    def after_step(self) -> None:
        """See `Schedule`."""

    def after_epoch(self, metric: float) -> None:
        """See `Schedule`."""

    @property
    def cycle_ended(self) -> bool:
        """See `Schedule`."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """See `Schedule`."""
        if self.inner is None:
            return {}
        # What is not plain follows from the parameters.
        return {name: value for name, value in self.inner.state_dict().items() if _is_plain(value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Schedule`."""
        if self.inner is not None:
            self.inner.load_state_dict(dict(state))


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


class Plateau(Constant):
    """The step size falls when the validation metric has not risen for some epochs.

    Parameters
    ----------
    optimiser, epochs, steps_per_epoch : as of `Constant`
    factor : by which it falls
    patience : epochs without a better metric that are still borne
    """

    def __init__(
        self, optimiser: Optimizer, *, epochs: int, steps_per_epoch: int, factor: float = 0.5, patience: int = 5
    ) -> None:
        super().__init__(optimiser, epochs=epochs, steps_per_epoch=steps_per_epoch)
        self.inner = lr_scheduler.ReduceLROnPlateau(optimiser, mode="max", factor=factor, patience=patience)

    def after_epoch(self, metric: float) -> None:
        """See `Schedule`."""
        self.inner.step(metric)


class CosineRestarts(Constant):
    """The step size falls along a cosine and starts anew (Loshchilov and Hutter 2017, arXiv 1608.03983).

    Weights at the ends of cycles make a snapshot ensemble (Huang et al. 2017, arXiv 1704.00109).

    Parameters
    ----------
    optimiser, epochs, steps_per_epoch : as of `Constant`
    cycle : epochs of the first cycle; None: all
    longer : by how much each cycle is longer than the one before
    """

    def __init__(
        self, optimiser: Optimizer, *, epochs: int, steps_per_epoch: int, cycle: int | None = None, longer: int = 1
    ) -> None:
        super().__init__(optimiser, epochs=epochs, steps_per_epoch=steps_per_epoch)
        first = (cycle or epochs) * steps_per_epoch
        self.inner = lr_scheduler.CosineAnnealingWarmRestarts(optimiser, first, longer)

    def after_step(self) -> None:
        """See `Schedule`."""
        self.inner.step()

    @property
    def cycle_ended(self) -> bool:
        """See `Schedule`."""
        return bool(self.inner.last_epoch > 0 and self.inner.T_cur == 0)


class OneCycle(Constant):
    """The step size rises from a 25th, then falls to almost nothing (Smith and Topin 2018, arXiv 1708.07120).

    Parameters
    ----------
    optimiser, epochs, steps_per_epoch : as of `Constant`
    rise : share of the steps in which it rises
    """

    def __init__(self, optimiser: Optimizer, *, epochs: int, steps_per_epoch: int, rise: float = 0.1) -> None:
        super().__init__(optimiser, epochs=epochs, steps_per_epoch=steps_per_epoch)
        largest = [group["lr"] for group in optimiser.param_groups]
        # One more than there are: torch asks for the step size of the step after the last.
        self.inner = lr_scheduler.OneCycleLR(optimiser, largest, total_steps=self.steps + 1, pct_start=rise)

    def after_step(self) -> None:
        """See `Schedule`."""
        if self.inner.last_epoch < self.steps:  # trained on for longer than planned, at the last step size
            self.inner.step()

    @property
    def cycle_ended(self) -> bool:
        """See `Schedule`."""
        return bool(self.inner.last_epoch == self.steps)
