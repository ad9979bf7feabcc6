"""Calibrate a model's predicted Dice, and judge it.

Usage, with rows of ``benchmarks/confidence_cases.py``::

    python benchmarks/confidence.py fit CALIBRATE.jsonl --about "..." -o CALIBRATION.json   # prints what is expected of it
    python scripts/seal_confidence.py MODEL.safetensors CALIBRATION.json                    # into the model's header
    python benchmarks/confidence.py judge TEST.jsonl --calibration CALIBRATION.json --plot docs/images/confidence.png

The doubt is a sum of signs with weights that are never negative (least squares on the logarithm of 1 - Dice), so a worse sign
never predicts a better result. The predicted Dice is a falling table of it (isotonic regression). Everything that is
expected of it comes from kinds of damage that the fit in question had left out, and so do the intervals. ``judge`` draws no
conclusion that could flow back: it runs once, on other kinds of damage and the test split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression, nnls
from scipy.stats import rankdata

from napari_lungseg.segmentation.calibration import Calibration, Term

POOR, LEVEL, FLAGGED = 0.90, 0.9, 0.06
LOG_SIGNS = ("expected_dice", "mirrored", "darker", "lighter", "turned")
PLAIN_SIGNS = ("changed", "hollow", "uneven")
KNOTS, NEIGHBOURS, FOLDS = 12, 60, 5
_LEAST = 0.01  # of 1 - Dice: finer differences are the annotators'


def read_rows(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Rows of all files."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation, ties shared."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def terms_of(rows: list[dict[str, Any]], signs: tuple[str, ...]) -> list[Term]:
    """Terms with weights of 1 and the range that the rows have."""
    terms = [Term(sign, 1.0, 0.0, 0.0, sign in LOG_SIGNS) for sign in signs]
    losses = [[term.loss(row) for row in rows] for term in terms]
    return [
        Term(t.sign, 1.0, round(min(values), 4), round(max(values), 4), t.log)
        for t, values in zip(terms, losses, strict=True)
    ]


def weighed(rows: list[dict[str, Any]], signs: tuple[str, ...]) -> tuple[Term, ...]:
    """Terms with the weights that explain log(1 - Dice) best; those of no weight are left out."""
    terms = terms_of(rows, signs)
    losses = np.array([[np.clip(term.loss(row), term.low, term.high) for term in terms] for row in rows])
    wanted = np.log10(1 - np.array([row["dice"] for row in rows]) + _LEAST)
    constant = np.ones((len(rows), 1))
    weights, _ = nnls(np.hstack([losses, constant, -constant]), wanted)
    return tuple(
        Term(t.sign, round(float(w), 4), t.low, t.high, t.log) for t, w in zip(terms, weights, strict=False) if w > 1e-3
    )


def table_of(terms: tuple[Term, ...], rows: list[dict[str, Any]]) -> Calibration:
    """The falling table from doubt to Dice, without intervals yet."""
    bare = Calibration(terms, (0.0,), (0.0,), (0.0,), (0.0,), LEVEL, 0.0)
    doubts, dice = (np.array(each) for each in ([bare.sum_of(row) for row in rows], [row["dice"] for row in rows]))
    order = doubts.argsort()
    falling = isotonic_regression(dice[order], increasing=False).x
    knots = np.unique(np.round(np.quantile(doubts, np.linspace(0, 1, KNOTS)), 4))
    # Between knots the steps of the isotonic fit are averaged.
    edges = np.concatenate([[-np.inf], (knots[1:] + knots[:-1]) / 2, [np.inf]])
    means = [falling[(doubts[order] >= low) & (doubts[order] <= high)].mean() for low, high in pairwise(edges)]
    values = np.minimum.accumulate(np.round(means, 4)).tolist()
    return Calibration(terms, tuple(knots.tolist()), tuple(values), tuple(values), tuple(values), LEVEL, 0.0)


def folds_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """A number per row: one for each kind of damage; sound cases are dealt out by name, whose damaged twins stay."""
    kinds = sorted({row["kind"] for row in rows} - {"none"})
    cases = {case: n % FOLDS for n, case in enumerate(sorted({row["case"] for row in rows}))}
    return np.array([kinds.index(r["kind"]) if r["kind"] != "none" else 100 + cases[r["case"]] for r in rows])


def unseen(rows: list[dict[str, Any]], signs: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Doubt and predicted Dice of each row by a fit that has seen neither its kind of damage nor, if sound, the case."""
    folds, doubts, dice = folds_of(rows), np.zeros(len(rows)), np.zeros(len(rows))
    for fold in np.unique(folds):
        left_out = {rows[i]["case"] for i in np.flatnonzero(folds == fold)} if fold >= 100 else set()
        rest = [row for row, f in zip(rows, folds, strict=True) if f != fold and row["case"] not in left_out]
        table = table_of(weighed(rest, signs), rest)
        for i in np.flatnonzero(folds == fold):
            doubts[i] = table.sum_of(rows[i])
            dice[i] = np.interp(doubts[i], table.doubt, table.dice)
    return doubts, dice


def with_intervals(table: Calibration, rows: list[dict[str, Any]], predicted: np.ndarray, about: str) -> Calibration:
    """Add what the residuals of unseen rows say: at each knot the quantiles among the rows predicted most alike."""
    true = np.array([row["dice"] for row in rows])
    sound = np.array([row["kind"] == "none" for row in rows])
    low, high = [], []
    for value in table.dice:
        near = np.abs(predicted - value).argsort()[:NEIGHBOURS]
        residuals = np.sort(true[near] - predicted[near])
        # The finite-sample quantiles of conformal prediction.
        tail = max(0, int(np.floor((len(near) + 1) * (1 - LEVEL) / 2)) - 1)
        low.append(float(np.clip(value + residuals[tail], 0, value)))
        high.append(float(np.clip(value + residuals[-1 - tail], value, 1)))
    flag = float(np.quantile(predicted[sound & (true >= POOR)], FLAGGED))
    rounded = [tuple(np.round(np.minimum.accumulate(each), 4).tolist()) for each in (low, high)]
    return Calibration(table.terms, table.doubt, table.dice, rounded[0], rounded[1], LEVEL, round(flag, 4), about)


def found_at(predicted: np.ndarray, true: np.ndarray, specificity: float = 0.9) -> tuple[float, float]:
    """Share of the poor cases under the threshold that lets this share of the good ones pass, and the threshold."""
    good = np.sort(predicted[true >= POOR])
    threshold = good[int(np.floor((1 - specificity) * len(good)))]
    return float((predicted[true < POOR] < threshold).mean()) if (true < POOR).any() else float("nan"), float(threshold)


def usable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in which some lung was found; without one nothing has to be predicted."""
    return [row for row in rows if row["right"] + row["left"] > 0]


def fit(arguments: argparse.Namespace) -> None:
    """Compare choices of signs on unseen kinds, fit the chosen one, write it."""
    rows = usable(read_rows(arguments.files))
    true = np.array([row["dice"] for row in rows])
    sound = np.array([row["kind"] == "none" for row in rows])
    print(f"{len(rows)} cases, {int(sound.sum())} of them sound; {int((true < POOR).sum())} under {POOR}")
    choices = {"expected Dice alone": LOG_SIGNS[:1], "and views": LOG_SIGNS, "and shape": LOG_SIGNS + PLAIN_SIGNS}
    for name, signs in choices.items():
        _, predicted = unseen(rows, signs)
        print(f"  {name:20} {scores(predicted, true, sound)}")
    signs = choices[arguments.signs]
    _, predicted = unseen(rows, signs)
    table = table_of(weighed(rows, signs), rows)
    calibration = with_intervals(table, rows, predicted, arguments.about)
    for term in calibration.terms:
        print(f"  {term}")
    arguments.out.write_text(json.dumps(calibration.as_record(), indent=1) + "\n")


def scores(predicted: np.ndarray, true: np.ndarray, sound: np.ndarray) -> str:
    """The figures that choices are compared by."""
    found, _ = found_at(predicted, true)
    error = np.abs(predicted - true)
    return (
        f"rho {spearman(predicted, true):.3f} (sound alone {spearman(predicted[sound], true[sound]):.3f}), "
        f"found at 90 % specificity {found:.3f}, mean error {error.mean():.3f} ({error[sound].mean():.3f})"
    )


def _by_ct(row: dict[str, Any]) -> bool:
    """Whether the CT model made the labels: a wrong model is judged by what it says of itself."""
    return row["kind"] == "ct-model" or (row["dataset"] == "ct" and row["kind"] != "xray-model")


def predicted_of(rows: list[dict[str, Any]], calibrations: list[Calibration]) -> np.ndarray:
    """(n, 3) predicted Dice, low and high of each row, by the calibration of its model; see `calibration.predictions`."""
    found = []
    for row in rows:
        if row["right"] + row["left"] == 0:
            found.append((0.0, 0.0, 1.0))
            continue
        prediction = calibrations[int(_by_ct(row)) % len(calibrations)].predict(row)
        if prediction is None:
            sys.exit(f"{row['case']} lacks a sign: it was segmented without looking again.")
        found.append((prediction.dice, prediction.low, prediction.high))
    return np.array(found)


def judge(arguments: argparse.Namespace) -> None:
    """Print the figures per group, draw the plot."""
    rows = read_rows(arguments.files)
    calibrations = [Calibration.from_record(json.loads(path.read_text())) for path in arguments.calibration]
    predicted = predicted_of(rows, calibrations)
    true, sound = (np.array(each) for each in ([r["dice"] for r in rows], [r["kind"] == "none" for r in rows]))
    ct = np.array([_by_ct(row) for row in rows])
    flag = np.array([calibrations[int(c) % len(calibrations)].flag_below for c in ct])
    groups = {"all": np.ones(len(rows), bool), "X-ray": ~ct, "CT": ct, "sound": sound, "damaged": ~sound}
    groups |= {"sound X-ray": sound & ~ct, "sound CT": sound & ct}
    groups |= {
        kind: np.array([r["kind"] == kind for r in rows]) for kind in sorted({r["kind"] for r in rows} - {"none"})
    }
    print("group           cases  poor  rho    found@90%  flagged: poor  good   in the interval  mean error")
    for name, chosen in groups.items():
        if chosen.sum() > 2:
            print(f"{name:14} {_line(predicted[chosen], true[chosen], flag[chosen])}")
    if arguments.plot:
        plot(rows, predicted, true, arguments.plot)


def _line(predicted: np.ndarray, true: np.ndarray, flag: np.ndarray) -> str:
    poor, flagged = true < POOR, predicted[:, 0] < flag
    found, _ = found_at(predicted[:, 0], true) if (~poor).any() else (float("nan"), 0.0)
    inside = (predicted[:, 1] <= true) & (true <= predicted[:, 2])
    shares = [flagged[each].mean() if each.any() else float("nan") for each in (poor, ~poor)]
    return (
        f"{len(true):6d} {int(poor.sum()):5d}  {spearman(predicted[:, 0], true):5.3f}  {found:9.3f}  {shares[0]:13.3f}  "
        f"{shares[1]:5.3f}  {inside.mean():15.3f}  {np.abs(predicted[:, 0] - true).mean():10.3f}"
    )


def plot(rows: list[dict[str, Any]], predicted: np.ndarray, true: np.ndarray, path: Path) -> None:
    """Predicted against true Dice, one colour and mark per kind of damage; the interval as a thin line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    names = {"none": "sound", **{k: k.replace("_", " ") for k in sorted({r["kind"] for r in rows} - {"none"})}}
    for axis, (low, high) in zip(axes, ((-0.02, 1.01), (0.85, 1.0)), strict=True):
        axis.plot((0, 1), (0, 1), color="0.6", lw=1, zorder=0)
        axis.axhline(POOR, color="0.8", lw=0.8, ls="--", zorder=0)
        for mark, (kind, name) in zip("o^svDPX*", names.items(), strict=False):
            at = np.array([row["kind"] == kind for row in rows])
            colour = "0.45" if kind == "none" else None
            line = axis.scatter(
                predicted[at, 0], true[at], s=9 if kind == "none" else 22, marker=mark, color=colour, label=name
            )
            line.set_alpha(0.75)
        axis.set(xlim=(low, high), ylim=(low, high), xlabel="predicted Dice", ylabel="true Dice", aspect="equal")
    axes[0].legend(fontsize=8, loc="upper left")
    axes[0].set_title("all test cases")
    axes[1].set_title("those above 0.85")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Fit or judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    fitting, judging = kinds.add_parser("fit"), kinds.add_parser("judge")
    for each, work in ((fitting, fit), (judging, judge)):
        each.add_argument("files", type=Path, nargs="+")
        each.set_defaults(work=work)
    fitting.add_argument("--about", default="")
    fitting.add_argument("--signs", default="and shape", help="which of the compared choices is fitted")
    fitting.add_argument("-o", "--out", type=Path, required=True)
    judging.add_argument(
        "--calibration", type=Path, nargs="+", required=True, help="of the X-ray model, then of the CT model"
    )
    judging.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    sys.exit(main())
