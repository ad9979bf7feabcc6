"""Means over cases and their intervals, against figures worked out by hand and against known populations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_lungseg.analysis.summary import interval_of_mean, summarise
from napari_lungseg.analysis.table import Table, joined

COLUMNS = ("case", "label", "name", "dice", "iou", "hd95", "background_iou", "predicted_volume", "relative_difference")


def cases(*rows):
    return Table(COLUMNS, rows, {"hd95": "mm", "predicted_volume": "ml"})


def line(table, name, metric):
    return next(row for row in table if (row["name"], row["metric"]) == (name, metric))


def test_means_spread_and_worst_by_hand():
    table = summarise(
        cases(
            ("a", 1, "box", 0.9, 0.8, 3.0, 0.98, 12.0, -0.2),
            ("b", 1, "box", 0.5, 0.3, math.inf, 0.90, 2.0, 0.1),
            ("c", 1, "box", 1.0, 1.0, 0.0, 1.00, 20.0, 0.0),
        )
    )
    dice = line(table, "box", "dice")
    assert (dice["label"], dice["cases"], dice["infinite"]) == (1, 3, 0)
    assert dice["mean"] == pytest.approx(0.8)
    assert dice["sd"] == pytest.approx(math.sqrt((0.01 + 0.09 + 0.04) / 2))
    assert (dice["median"], dice["worst"], dice["worst_case"]) == (0.9, 0.5, "b")
    far = line(table, "box", "hd95")
    assert (far["unit"], far["mean"], far["infinite"], far["worst"], far["median"]) == ("mm", 1.5, 1, math.inf, 3.0)
    assert line(table, "box", "relative_difference")["worst"] == -0.2
    assert line(table, "box", "predicted_volume")["worst_case"] is None
    whole = line(table, "with background", "mean_iou")
    assert whole["mean"] == pytest.approx(((0.8 + 0.98) / 2 + (0.3 + 0.9) / 2 + 1) / 3)
    assert whole["worst_case"] == "b"


def test_the_mean_over_classes_counts_each_label_once_and_the_union_never():
    table = summarise(
        cases(
            ("a", 1, "right lung", 0, 0.8, 0, 0.1, 0, 0),
            ("a", 2, "left lung", 0, 0.6, 0, 0.2, 0, 0),
            ("a", None, "both", 0, 0.7, 0, 0.9, 0, 0),
        )
    )
    assert line(table, "with background", "mean_iou")["mean"] == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert line(table, "both", "iou")["mean"] == 0.7
    assert line(table, "both", "iou")["low"] is None  # one case has no interval


def test_the_median_between_a_finite_and_an_infinite_distance_is_infinite():
    table = summarise(cases(("a", 1, "x", 0, 0, 2.0, 0, 0, 0), ("b", 1, "x", 0, 0, math.inf, 0, 0, 0)))
    assert line(table, "x", "hd95")["median"] == math.inf
    assert line(table, "x", "hd95")["mean"] == 2.0


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    held = []
    for seed in range(120):
        drawn = np.random.default_rng(seed).beta(9, 1, 30)  # skewed to 1, as Dice is; its mean is 0.9
        low, high = interval_of_mean(drawn.tolist(), seed)
        assert low <= drawn.mean() <= high
        held.append(low <= 0.9 <= high)
    assert 0.86 <= np.mean(held) < 1


def test_the_interval_is_that_of_a_plain_loop_and_the_same_for_the_same_seed():
    values = np.random.default_rng(5).beta(9, 1, 25)
    low, high = interval_of_mean(values.tolist(), 1)
    assert (low, high) == interval_of_mean(values.tolist(), 1)
    assert (low, high) != interval_of_mean(values.tolist(), 2)
    draw = np.random.default_rng(99)
    means = [values[draw.integers(0, 25, 25)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.004)
    assert interval_of_mean([0.5]) == (None, None)


def test_tables_of_two_units_keep_them_apart():
    mm = Table(("name", "hd95"), (("x", 2.0),), {"hd95": "mm"})
    pixels = Table(("name", "hd95", "predicted_area"), (("x", 7.0, 3.0),), {"hd95": "pixel", "predicted_area": "pixel"})
    table = joined({"a": mm, "b": pixels}, "case")
    assert table.headings == ("case", "name", "hd95_mm", "hd95_pixel", "predicted_area_pixel")
    assert table.rows == (("a", "x", 2.0, None, None), ("b", "x", None, 7.0, 3.0))
