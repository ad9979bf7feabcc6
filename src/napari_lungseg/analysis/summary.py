"""From a table with a row per case and label to means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .regions import REGION_COLUMNS
from .table import Table

CASE = "case"
COLUMNS = (
    *("label", "name", "metric", "unit", "cases", "infinite"),
    *("mean", "sd", "low", "high", "median", "worst", "worst_case"),
)
LEVEL = 0.95
RESAMPLES = 2000
# A large value is a bad one: distances; of differences, the one farthest from 0.
_SMALL_IS_GOOD = ("hd95", "assd")
_NEAR_ZERO_IS_GOOD = ("difference",)
_SIZES = ("predicted_volume", "reference_volume", "predicted_area", "reference_area")


def summarise(cases: Table, *, seed: int = 0) -> Table:
    """Means over cases, label by label and metric by metric.

    Parameters
    ----------
    cases : from `evaluation`: columns case, (frame,) label, name and metrics
    seed : of the bootstrap

    Returns
    -------
    Table
        Columns `COLUMNS`. Mean, SD and the 95 % interval of the mean (percentile bootstrap over the cases, None for
        fewer than two) are over the finite values; ``infinite`` counts the others (distances to an empty mask). The
        median and the worst value are over all. The last row is the mean IoU over all labels and the background.
    """
    rows = list(cases)
    regions = list(dict.fromkeys((row["label"], row["name"]) for row in rows))
    metrics = [name for name in cases.columns if name not in (CASE, *REGION_COLUMNS)]
    lines = []
    for label, name in regions:
        of = [row for row in rows if (row["label"], row["name"]) == (label, name)]
        for metric in metrics:
            values = [(row[CASE], row[metric]) for row in of if row[metric] is not None]
            if values:
                lines.append((label, name, metric, cases.units.get(metric, ""), *_figures(metric, values, seed)))
    values = list(_mean_iou(rows))
    if values:
        lines.append((None, "with background", "mean_iou", "", *_figures("mean_iou", values, seed)))
    return Table(COLUMNS, tuple(lines))


def interval_of_mean(values: Sequence[float], seed: int = 0) -> tuple[float | None, float | None]:
    """The 95 % percentile bootstrap interval of a mean; (None, None) for fewer than two values.

    Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13.
    """
    if len(values) < 2:
        return None, None
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def whole_rows(cases: Table) -> list[dict[str, Any]]:
    """The row of each case (and frame) that is about all labels together, or about the only one."""
    rows: dict[tuple[Any, Any], dict[str, Any]] = {}
    for row in cases:
        rows[row[CASE], row.get("frame")] = row  # the union stands last
    return list(rows.values())


def _figures(metric: str, values: Sequence[tuple[str, float]], seed: int) -> tuple[Any, ...]:
    numbers = np.asarray([value for _, value in values], dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    mean = float(finite.mean()) if len(finite) else None
    sd = float(finite.std(ddof=1)) if len(finite) > 1 else None
    infinite = len(numbers) - len(finite)
    ends = interval_of_mean(finite.tolist(), seed)
    worst_case, worst = max(values, key=lambda pair: _badness(metric, pair[1]))
    last = (None, None) if metric in _SIZES else (worst, worst_case)  # a small lung is no fault
    return len(numbers), infinite, mean, sd, *ends, _median(numbers), *last


def _median(numbers: np.ndarray) -> float:
    """The median; between a finite and an infinite value lies no number, so the larger is taken."""
    ordered = np.sort(numbers)
    low, high = float(ordered[(len(ordered) - 1) // 2]), float(ordered[len(ordered) // 2])
    return high if math.isinf(high) else (low + high) / 2


def _badness(metric: str, value: float) -> float:
    if metric.startswith(_SMALL_IS_GOOD):
        return value
    return abs(value) if any(word in metric for word in _NEAR_ZERO_IS_GOOD) else -value


def _mean_iou(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Per case (and frame): the mean IoU over its labels and the background."""
    images: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for row in rows:
        images.setdefault((row[CASE], row.get("frame")), []).append(row)
    for (case, _), found in images.items():
        labels = found[:-1] if len(found) > 1 else found
        yield case, float(np.mean([row["iou"] for row in labels] + [found[-1]["background_iou"]]))
