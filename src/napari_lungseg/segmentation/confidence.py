"""One light for a result, with its reason: what `quality` noticed and what `calibration` predicts, in one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..findings import Finding
from ..volume import LabelMap
from .calibration import Prediction
from .quality import DOUBTS

Light = Literal["green", "amber", "red", "grey"]
# A result under this is of no use without correction.
POOR = 0.90
_UNDOUBTED = "Nothing doubtful was noticed."
_UNCALIBRATED = (
    "Nothing doubtful was noticed, but this model's confidence was never calibrated: look at the result before use."
)


@dataclass(frozen=True)
class Confidence:
    """How far a result can be trusted.

    Parameters
    ----------
    light : ``"green"``: nothing speaks against it; ``"amber"``: look at it; ``"red"``: it is wrong, almost surely (no lung,
        or the whole interval lies under 0.90); ``"grey"``: the model cannot tell
    reason : a sentence for a person
    predicted_dice, low, high : of both lungs, and the interval in which it lies in ``level`` of cases; of the worst image
        where there are several; None where the model carries no calibration
    level : of the interval
    """

    light: Light
    reason: str
    predicted_dice: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None

    @property
    def figure(self) -> str:
        """The predicted Dice in words."""
        if self.predicted_dice is None or self.level is None:
            return "predicted Dice unknown"
        interval = f"{self.low:.2f} to {self.high:.2f} in {self.level:.0%} of cases"
        return f"predicted Dice {self.predicted_dice:.2f} ({interval})"

    def __str__(self) -> str:
        return f"{WORDS[self.light]}; {self.figure}"

    def as_record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


# What each light says to those who see no colours.
WORDS: Mapping[Light, str] = {"green": "good", "amber": "look at it", "red": "almost surely wrong", "grey": "not known"}


def judge(predicted: Sequence[Prediction | None], findings: Sequence[Finding]) -> Confidence:
    """Make one light of a result's predictions (one per image) and findings."""
    known = [prediction for prediction in predicted if prediction is not None]
    worst = min(known, key=lambda prediction: prediction.dice, default=None)
    doubts = [finding for finding in findings if finding.code in DOUBTS]
    reason = doubts[0].message if doubts else _UNDOUBTED if worst else _UNCALIBRATED
    light: Light = "amber" if doubts else "green" if worst else "grey"
    if any(doubt.code == "no-lung-found" for doubt in doubts) or any(p.high < POOR for p in known):
        light = "red"
    if worst is None:
        return Confidence(light, reason)
    return Confidence(light, reason, worst.dice, worst.low, worst.high, worst.level)


def confidence_of(labels: LabelMap) -> Confidence | None:
    """What was said of a result when it was made; None for labels that no model of this package made."""
    record = labels.record.get("confidence")
    return Confidence(**record) if record else None
