"""Curves of tables, drawn on matplotlib axes that a report or a widget brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..volume import label_colour
from .comparing import SLICE, whole_slices
from .table import Table

PLAIN = "#444444"
_DIFFERING = "#DC267F"
_SMALL = 8
# From beyond air to beyond soft tissue: what else is under a label (metal, what lies outside the scanner's circle) is rare.
_DRAWN_HU = (-1050.0, 150.0)


def draw_slices(axes: Any, slices: Table, colours: Mapping[int, str], colour: str = PLAIN) -> None:
    """Dice per slice of each label, over the area in which all of them differ.

    Parameters
    ----------
    axes : `matplotlib.axes.Axes`
    slices : from `compare_slices`
    colours : label → ``"#rrggbb"``
    colour : of text and of the curve of all labels
    """
    whole = whole_slices(slices)
    below = axes.twinx()
    numbers = [row[SLICE] for row in whole]
    below.fill_between(
        numbers, [row["differing"] for row in whole], step="mid", color=_DIFFERING, alpha=0.3, linewidth=0
    )
    below.set_ylim(0, 2.5 * max([row["differing"] for row in whole], default=1) or 1)
    below.set_title(slices.title("differing"), color=_DIFFERING, fontsize=_SMALL, loc="right", pad=3)
    for label, name in dict.fromkeys((row["label"], row["name"]) for row in slices):
        of = [row for row in slices if row["label"] == label]
        dice = [float("nan") if row["dice"] is None else row["dice"] for row in of]
        line = colour if label is None else colours.get(label, label_colour(label))
        axes.plot([row[SLICE] for row in of], dice, ".-", color=line, linewidth=1, markersize=3, label=name)
    axes.set_ylim(-0.03, 1.03)
    axes.set_title("Dice", color=colour, fontsize=_SMALL, loc="left", pad=3)
    axes.set_xlabel(SLICE, color=colour, fontsize=_SMALL, labelpad=1)
    for each, shade in ((axes, colour), (below, _DIFFERING)):
        bare(each, shade)
    axes.tick_params(axis="x", colors=colour)
    axes.set_zorder(below.get_zorder() + 1)  # curves over the area, and clicks count in their data


def draw_profile(axes: Any, slices: Table, colours: Mapping[int, str], colour: str = PLAIN) -> None:
    """Area of each label over the slices.

    Parameters
    ----------
    slices : from `profile`
    axes, colours, colour : as of `draw_slices`
    """
    for label, rows in _by_label(slices).items():
        line = colours.get(label, label_colour(label))
        areas = [row["area"] for row in rows]
        axes.plot([row[SLICE] for row in rows], areas, color=line, linewidth=1.2, label=rows[0]["name"])
    _finish(axes, slices.title("area"), SLICE, colour)


def draw_histogram(axes: Any, counts: Table, colours: Mapping[int, str], colour: str = PLAIN) -> None:
    """Share of each label's voxels over their values; of Hounsfield units those from −1050 to 150.

    Parameters
    ----------
    counts : from `histogram`
    axes, colours, colour : as of `draw_slices`
    """
    for label, rows in _by_label(counts).items():
        line = colours.get(label, label_colour(label))
        held = [row for row in rows if row["share"] is not None]
        middles, shares = [(row["low"] + row["high"]) / 2 for row in held], [row["share"] for row in held]
        axes.plot(middles, shares, color=line, linewidth=1.2, label=rows[0]["name"])
        axes.fill_between(middles, shares, color=line, alpha=0.2, linewidth=0)
    unit = counts.units["low"]
    if unit == "HU":
        axes.set_xlim(*_DRAWN_HU)
    _finish(axes, "share of voxels (%)", unit if unit == "HU" else "value", colour)


def _by_label(table: Table) -> dict[int, list[dict[str, Any]]]:
    """Rows of each label, without those of several together."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in table:
        if row["label"] is not None:
            rows.setdefault(row["label"], []).append(row)
    return rows


def _finish(axes: Any, title: str, along: str, colour: str) -> None:
    axes.set_ylim(bottom=0)
    axes.set_title(title, color=colour, fontsize=_SMALL, loc="left", pad=3)
    axes.set_xlabel(along, color=colour, fontsize=_SMALL, labelpad=1)
    bare(axes, colour)
    if axes.lines:
        axes.legend(fontsize=7, frameon=False, labelcolor=colour)


def bare(axes: Any, colour: str) -> None:
    """Axes without a box, their ticks in one colour."""
    axes.set_facecolor("none")
    axes.tick_params(colors=colour, labelsize=7, length=2, pad=2)
    axes.locator_params(axis="y", nbins=4)
    axes.spines[:].set_visible(False)
