"""The best weights of a training on paint so far, and whether newer ones take their place."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch

from .learner import Learner

# Standard errors that newer weights of a new class may be worse by, where more was painted since.
_SEEN_MORE = 2.0
# A class was found when it agrees so well with the paint that is held out of it.
_FOUND = 0.1


class Best:
    """The best weights so far, and how well they agree with the paint that is held out."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        self.number = 0
        """The round that they are of."""
        self.dice: float | None = None
        self._dices: Mapping[int, float] = {}
        self._pixels = 0

    def judge_anew(self, learner: Learner) -> None:
        """The held-out paint has changed, and with it what these weights are worth."""
        self.dice, self._dices = None, {}
        if self.weights:
            network = copy.deepcopy(learner.mean)
            network.load_state_dict(self.weights)
            self._dices = learner.dices(network)
            self.dice = mean_of(self._dices)

    def holds_against(self, dices: Mapping[int, float], learner: Learner) -> bool:
        """Whether newer weights, which have seen most paint, are clearly worse.

        Parameters
        ----------
        dices : label → Dice of the newer ones
        learner : that they are of
        """
        newer = mean_of(dices)
        if self.dice is None or newer is None:
            return False
        # Of few classes a small one may be lost within the error of the mean.
        lost = any(found > _FOUND and dices.get(label) == 0 for label, found in self._dices.items())
        # What is held out of early paint is easy, and would keep an early round.
        more = learner.new and learner.pixels > self._pixels
        allowed = learner.error_of(self.dice) * (_SEEN_MORE if more else 1.0)
        return lost or newer < self.dice - allowed

    def give_way(self, weights: dict[str, torch.Tensor], number: int, dices: Mapping[int, float], pixels: int) -> None:
        """Let newer weights take their place; how good the best were stays known.

        Parameters
        ----------
        weights, number, dices : the newer weights, their round, and label → Dice of them
        pixels : that they were learned from
        """
        known = [dice for dice in (self.dice, mean_of(dices)) if dice is not None]
        self.weights, self.number, self._dices, self._pixels = weights, number, dices, pixels
        self.dice = max(known, default=None)


def mean_of(dices: Mapping[int, float]) -> float | None:
    """The mean over classes; None where there is none."""
    return sum(dices.values()) / len(dices) if dices else None
