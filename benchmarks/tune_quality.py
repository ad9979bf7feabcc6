"""Choose the threshold of the "low-confidence" finding for a model, on validation cases only.

Usage: ``python benchmarks/accuracy.py DATA --split val --csv val.csv``, then
``python benchmarks/tune_quality.py val.csv [--flagged 0.06]``

A case is poor when its Dice (both lungs) is under 0.90. The threshold on the Dice that the network expects of itself is
set so that a given share of the good cases is flagged (less than a tenth, so that other findings have room), and so low
only as all poor ones need where they are told apart completely. The last lines say what to put into the model's record:
``training["quality"]["expected_dice"]``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

POOR = 0.90
SIGNS = ("expected_dice", "balance", "roughness", "cut_off", "right", "left")


def columns_of(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """Columns of numbers of all files together."""
    rows = [row for path in paths for row in csv.DictReader(path.open(newline=""))]
    if not rows:
        raise SystemExit("There are no cases in these files. Run benchmarks/accuracy.py --split val --csv FILE first.")
    names = ("dice_both", "dice_right", "dice_left", *SIGNS)
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def threshold(expected: np.ndarray, poor: np.ndarray, flagged: float) -> float:
    """Below it, `flagged` of the good cases; less where that still catches every poor one with room to spare."""
    allowed = float(np.quantile(expected[~poor], flagged))
    if not poor.any() or expected[poor].max() >= allowed:
        return allowed
    return float((allowed + expected[poor].max()) / 2)


def main() -> None:
    """Read, choose, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="from accuracy.py --csv, of validation cases")
    parser.add_argument("--flagged", type=float, default=0.06, help="share of good cases to flag")
    arguments = parser.parse_args()
    values = columns_of(arguments.files)
    dice, expected = values["dice_both"], values["expected_dice"]
    poor = dice < POOR
    if poor.all():
        raise SystemExit("Every case is poor: a threshold would say nothing. Train the model further first.")
    chosen = threshold(expected, poor, arguments.flagged)
    print(f"{len(dice)} cases, {poor.sum()} poor")
    for sign in SIGNS:
        print(f"  rank correlation of Dice with {sign:14} {rank_correlation(values[sign], dice):+.3f}")
    caught = expected < chosen
    print(
        f"expected_dice {chosen:.4f}: flags {caught[poor].sum()} of {poor.sum()} poor, {caught[~poor].mean():.1%} of the good"
    )


if __name__ == "__main__":
    main()
