"""An evaluation as files: rows per case, means with intervals, and a page to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..volume import label_colour
from .page import figure, html_table, listed, page, picture
from .regions import REGION_COLUMNS
from .summary import CASE

if TYPE_CHECKING:
    from .cuts import Cut
    from .evaluation import Evaluation
    from .table import Table

CASES, SUMMARY, PAGE = "cases.csv", "summary.json", "report.html"
# Sizes say how large a lung is, not how good a result is.
_NOT_DRAWN = ("predicted_", "reference_")
_COLUMNS, _PER_ROW = 4, 3
_UNION = "#444444"


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``cases.csv``, ``summary.json`` and ``report.html`` (self-contained) into a folder, each complete or not at all.

    Returns
    -------
    list of Path
        The files.
    """
    from ..io.atomic import replacing

    cases, summary, page = (folder / name for name in (CASES, SUMMARY, PAGE))
    evaluation.cases.write(cases)
    with replacing(summary) as temporary:
        temporary.write_text(json.dumps(as_json(evaluation), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(page) as temporary:
        temporary.write_text(page_of(evaluation), encoding="utf-8")
    return [cases, summary, page]


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The summary for machines: how it was done, means with intervals, and what failed."""
    return {
        **evaluation.record,
        "summary": evaluation.summary.records(),
        "failed": dict(evaluation.failed),
        "notes": dict(evaluation.notes),
    }


def page_of(evaluation: Evaluation) -> str:
    """One HTML page that needs nothing beside it: figures, distributions and the worst cases."""
    count = len({row[CASE] for row in evaluation.cases})
    parts = [
        f"<p>{count} case(s). {escape(_sentence(evaluation.record))}</p>",
        picture(_distributions(evaluation.cases), "Each dot is a case; boxes hold the middle half. Infinite distances "
                 "are not drawn."),
        html_table("Means over the cases", evaluation.summary),
    ]  # fmt: skip
    if evaluation.worst:
        legend = "The slice in which most voxels differ; solid: prediction, dashed: reference."
        parts.append("<h2>The worst cases</h2>" + picture(_pictures(evaluation.worst), legend))
    parts.append(listed("Not compared", [f"{name}: {why}" for name, why in evaluation.failed.items()]))
    parts.append(listed("Doubtful", [f"{name}: {why}" for name, why in evaluation.notes.items()]))
    parts.append(listed("Left out", evaluation.record.get("left_out", [])))
    return page("Evaluation", parts)


def _sentence(record: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in record.items() if not isinstance(value, list)) + "."


def _distributions(cases: Table) -> Any:
    """A panel per metric, a box with its cases per label."""
    metrics = [name for name in cases.columns if name not in (CASE, *REGION_COLUMNS)]
    metrics = [name for name in metrics if not name.startswith(_NOT_DRAWN)]
    rows = list(cases)
    regions = list(dict.fromkeys((row["label"], row["name"]) for row in rows))
    down = -(-len(metrics) // _COLUMNS)
    drawn = figure(3.6 * _COLUMNS, 2.8 * down)
    panels = drawn.subplots(down, _COLUMNS, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        panel.set_title(cases.title(metric), fontsize=10)
        for place, (label, name) in enumerate(regions):
            values = [row[metric] for row in rows if (row["label"], row["name"]) == (label, name)]
            _strip(panel, place, [value for value in values if value is not None and np.isfinite(value)], label)
        panel.set_xticks(range(len(regions)), [name for _, name in regions], fontsize=8)
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    return drawn


def _strip(panel: Any, place: int, values: Sequence[float], label: int | None) -> None:
    """A box and its dots, moved aside by the same small steps every time."""
    if not values:
        return
    colour = label_colour(label) if label else _UNION
    panel.boxplot([values], positions=[place], widths=0.5, showfliers=False, medianprops={"color": "black"})
    aside = place + 0.18 * np.sin(np.arange(len(values)) * 2.4)
    panel.plot(aside, values, ".", color=colour, markersize=4, alpha=0.7)


def _pictures(cuts: Sequence[Cut]) -> Any:
    down = -(-len(cuts) // _PER_ROW)
    drawn = figure(4.8 * _PER_ROW, 5 * down)
    panels = drawn.subplots(down, _PER_ROW, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, cut in zip(panels, cuts, strict=False):
        panel.imshow(cut.image, cmap="gray", vmin=0, vmax=255, aspect=cut.aspect)
        for marks, style in ((cut.predicted, "solid"), (cut.reference, "dashed")):
            for label in np.unique(
                marks[(marks > 0) & (marks.min() != marks.max())]
            ):  # one that fills all has no outline
                colours = [label_colour(int(label))]
                panel.contour(marks == label, levels=[0.5], colors=colours, linestyles=style, linewidths=1.3)
        panel.set_title(cut.title, fontsize=9)
    return drawn
