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


def bare(axes: Any, colour: str) -> None:
    """Axes without a box, their ticks in one colour."""
    axes.set_facecolor("none")
    axes.tick_params(colors=colour, labelsize=7, length=2, pad=2)
    axes.locator_params(axis="y", nbins=4)
    axes.spines[:].set_visible(False)
