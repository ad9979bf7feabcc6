"""Many cases compared: a table with a row per case and label, means with intervals, and the worst cases to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import LungSegError
from ..progress import Progress, drain
from ..settings import setting, validate
from .cuts import Cut, cut_of
from .metrics import NSD_TOLERANCE, evaluate
from .pairs import Both, Pair
from .resample import resample_labels
from .summary import CASE, LEVEL, RESAMPLES, summarise, whole_rows
from .table import Table, joined


@dataclass(frozen=True)
class EvaluateSettings:
    """How to compare.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """

    tolerance: float = setting(
        NSD_TOLERANCE, "Of NSD; pixels where the images have no spacing.", unit="mm", min=0, max=100
    )
    resample: bool = setting(False, "Bring a prediction on another grid onto the reference's, by the nearest voxel.")
    worst: int = setting(6, "How many of the worst cases are pictured.", min=0, max=100)
    seed: int = setting(0, "Of the bootstrap.", min=0, max=2**31 - 1)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of it.

    Parameters
    ----------
    cases : a row per case, frame and label; column ``case`` in front of those of `evaluate`
    summary : means over the cases, see `summarise`
    worst : pictures of the cases with the lowest Dice over all labels, the worst first
    failed : case → why it could not be compared
    notes : case → what is doubtful about how its labels were matched
    record : how it was done, JSON-ready
    """

    cases: Table
    summary: Table
    worst: tuple[Cut, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def evaluate_cases(
    cases: Sequence[Pair],
    *,
    settings: EvaluateSettings | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Evaluation:
    """Compare many cases (from `pairs_of_files` or `pairs_of_model`); see `iter_evaluate_cases`."""
    return drain(iter_evaluate_cases(cases, settings=settings), progress)


def iter_evaluate_cases(
    cases: Sequence[Pair], *, settings: EvaluateSettings | None = None
) -> Generator[Progress, None, Evaluation]:
    """Compare case by case: yields `Progress` (its payload the table of a case just done), returns the `Evaluation`.

    A case that cannot be compared is told in ``failed`` and does not stop the others.

    Raises
    ------
    LungSegError
        When no case can be compared; the first reason is named.
    """
    settings = settings or EvaluateSettings()
    tables: dict[str, Table] = {}
    failed: dict[str, str] = {}
    notes: dict[str, str] = {}
    worst: list[Cut] = []
    for number, (name, case) in enumerate(_unique(cases).items()):
        try:
            both = yield from _opened(case, name, number, len(cases))
            both = on_one_grid(both, settings)
            tables[name] = _compared(both, settings)
        except LungSegError as error:
            failed[name] = str(error)
            yield Progress(number + 1, len(cases), f"{name}: {error}")
            continue
        notes |= {name: both.note} if both.note else {}
        worst = _worst(worst, both, name, tables[name], settings.worst)
        yield Progress(number + 1, len(cases), name, tables[name])
    if not tables:
        reasons = [f"{name}: {reason}" for name, reason in failed.items()] or ["no case was given."]
        raise LungSegError(f"Nothing could be compared. {reasons[0]}")
    table = joined(tables, CASE)
    record = {
        "tolerance": settings.tolerance,
        "resampled": settings.resample,
        "interval": f"{LEVEL:.0%} percentile bootstrap of the mean over the cases, {RESAMPLES} times",
        "seed": settings.seed,
    }
    return Evaluation(table, summarise(table, seed=settings.seed), tuple(worst), failed, notes, record)


def _unique(cases: Sequence[Pair]) -> dict[str, Pair]:
    """Cases by name; a name that comes again gets a number."""
    named: dict[str, Pair] = {}
    for case in cases:
        name, number = case.name, 1
        while name in named:
            number += 1
            name = f"{case.name} ({number})"
        named[name] = case
    return named


def _opened(case: Pair, name: str, number: int, total: int) -> Generator[Progress, None, Both]:
    """Run a case's own steps as parts of one step of the whole."""
    steps = case.open()
    try:
        while True:
            step = next(steps)
            yield Progress(number, total, f"{name}: {step.message}")
    except StopIteration as stop:
        both: Both = stop.value
        return both
    finally:
        steps.close()


def on_one_grid(both: Both, settings: EvaluateSettings) -> Both:
    """Both with the prediction on the reference's grid, where that is wanted and needed."""
    predicted, reference = both.predicted, both.reference
    if settings.resample and not predicted.geometry.same_grid(reference.geometry):
        return dataclasses.replace(both, predicted=resample_labels(predicted, reference.geometry))
    return both


def _compared(both: Both, settings: EvaluateSettings) -> Table:
    table = evaluate(both.predicted, both.reference, tolerance=settings.tolerance)
    if not len(table):
        raise LungSegError("Neither label map holds a label or names one, so nothing can be compared; leave it out.")
    return table


def _worst(held: Sequence[Cut], both: Both, name: str, table: Table, most: int) -> list[Cut]:
    """The worst cases so far with this one among them, no more than wanted."""
    dice = min(row["dice"] for row in whole_rows(joined({name: table}, CASE)))
    if len(held) == most and (not held or dice >= held[-1].dice):
        return list(held)
    cuts = [*held, cut_of(both, f"{name}, Dice {dice:.3f}", dice)]
    return sorted(cuts, key=lambda cut: cut.dice)[:most]
