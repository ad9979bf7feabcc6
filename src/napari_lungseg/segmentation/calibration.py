"""From a result's statistics to a predicted Dice with an interval: a sum, a table of a few knots, nothing hidden.

A calibration is JSON in the record of the model that it was made for (``spec.training["quality"]["calibration"]``), by
``benchmarks/confidence.py``. Models that somebody trains carry none: the numbers of another network would be wrong for them.
The interval is conformal (Romano et al., "Conformalized quantile regression", NeurIPS 2019, in its plainest form: quantiles
of the residuals on damage of kinds that the fit had not seen).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..models.spec import ModelSpec

# A Dice of 1 loses this much; without it the logarithm would have no end.
_LEAST_LOSS = 0.002


@dataclass(frozen=True)
class Prediction:
    """The Dice of both lungs that a result probably has, and the range in which it lies in ``level`` of cases."""

    dice: float
    low: float
    high: float
    level: float = 0.9
    odd: bool = False

    def __str__(self) -> str:
        return f"{self.dice:.2f} ({self.low:.2f} to {self.high:.2f} in {self.level:.0%} of cases)"


@dataclass(frozen=True)
class Term:
    """What one sign adds to the doubt.

    Parameters
    ----------
    sign : name among a result's statistics
    weight : never negative
    low, high : range of the sign's `loss` over the calibration cases; what lies beyond adds no more
    log : whether the sign is a Dice, which counts by the logarithm of what it lacks to 1, or counts as it is
    """

    sign: str
    weight: float
    low: float
    high: float
    log: bool = True

    def loss(self, values: Mapping[str, float]) -> float:
        """How bad the sign is; NaN where the result has none."""
        value = values.get(self.sign, float("nan"))
        return float(np.log10(np.maximum(1 - value, 0) + _LEAST_LOSS)) if self.log else float(value)


@dataclass(frozen=True)
class Calibration:
    """A model's own table from doubt to Dice.

    Parameters
    ----------
    terms : what the doubt is summed of
    doubt : knots, rising
    dice, low, high : at the knots, never rising; straight lines between them
    level : share of cases whose Dice lies between low and high
    flag_below : predicted Dice under which a result is doubted: nine of ten good calibration cases lie above
    about : what it was made from, in words
    """

    terms: tuple[Term, ...]
    doubt: tuple[float, ...]
    dice: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    level: float
    flag_below: float
    about: str = ""

    @classmethod
    def of(cls, spec: ModelSpec) -> Calibration | None:
        """A model's own, or None where its record has none."""
        record = spec.training.get("quality", {}).get("calibration")
        return cls.from_record(record) if record else None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Calibration:
        """What `as_record` wrote."""
        return cls(**{**record, "terms": tuple(Term(**term) for term in record["terms"])})

    def as_record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def sum_of(self, values: Mapping[str, float]) -> float:
        """The doubt about a result; NaN where a sign is missing."""
        return float(sum(t.weight * np.clip(t.loss(values), t.low, t.high) for t in self.terms))

    def predict(self, values: Mapping[str, float]) -> Prediction | None:
        """What Dice a result with these statistics has; None where a sign is missing.

        A sign worse than in any calibration case makes the result ``odd``: nothing is known of such, and the interval
        reaches down to 0.
        """
        doubt = self.sum_of(values)
        if np.isnan(doubt):
            return None
        dice, low, high = (round(float(np.interp(doubt, self.doubt, at)), 4) for at in (self.dice, self.low, self.high))
        odd = any(term.loss(values) > term.high + 0.05 * (term.high - term.low) for term in self.terms)
        return Prediction(dice, 0.0 if odd else low, high, self.level, odd)


def predictions(statistics: Sequence[Mapping[str, float]], spec: ModelSpec) -> list[Prediction | None]:
    """One for each entry of a result's ``record["quality"]``; None without a calibration or where a sign is missing.

    Where no lung was found, the Dice is 0 if the image shows one: the interval says nothing.
    """
    calibration = Calibration.of(spec)
    if calibration is None:
        return [None] * len(statistics)
    nothing = Prediction(0.0, 0.0, 1.0, calibration.level, odd=True)
    return [calibration.predict(values) if values["right"] + values["left"] else nothing for values in statistics]
