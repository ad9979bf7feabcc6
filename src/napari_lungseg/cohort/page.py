"""``index.html``: one page that needs nothing beside it, on which what deserves a look comes first."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ..segmentation.quality import DOUBTS
from . import rows
from .folder import CORRECTED, LABELS, LOG, REPORT, REVIEW, THUMBNAIL, CohortFolder, read_json

# Pictures of so many of the worst cases are in the page itself (some 6 kB each); those of the rest lie beside it.
_PICTURES = 2000
_HIDDEN = (rows.REASON, rows.DOUBTED, "findings", "input", "volume")
_SHOWN = (rows.CASE, rows.STATE, "series", rows.QUALITY, "review")
_FIGURES = ("both_volume_ml", "both_area_mm2", "seconds")
_LINKS = {"report": REPORT, "labels": LABELS, "corrected": CORRECTED, "log": LOG}


def page_of(folder: CohortFolder, found: Sequence[Mapping[str, Any]], at: str) -> str:
    """The page.

    Parameters
    ----------
    folder : of the results
    found : rows, worst first
    at : when
    """
    shown = [_entry(folder, row, embed=number < _PICTURES) for number, row in enumerate(found)]
    columns = [
        name for name in rows.ordered(list(dict.fromkeys(n for row in found for n in row))) if name not in _HIDDEN
    ]
    if any("review" in entry for entry in shown):
        columns.insert(2, "review")
    filled = [name for name in columns if any(entry.get(name) is not None for entry in shown)]
    states = [row[rows.STATE] for row in found]
    doubtful = sum(bool(row[rows.DOUBTED]) for row in found)
    counts = [(state, states.count(state)) for state in (rows.DONE, rows.FAILED, rows.LEFT_OUT)]
    content = {
        "rows": shown,
        "columns": filled,
        "shown": [name for name in filled if name in (*_SHOWN, *_FIGURES)],
        "counts": [*counts, ("doubtful", doubtful), (f"on {at.replace('T', ' ').replace('Z', ' UTC')}", "")],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return files("napari_lungseg.cohort").joinpath("page.html").read_text(encoding="utf-8").replace("@DATA@", text)


def _entry(folder: CohortFolder, row: Mapping[str, Any], *, embed: bool) -> dict[str, Any]:
    case = str(row[rows.CASE])
    told = [{**finding, "doubt": finding["code"] in DOUBTS} for finding in row[rows.TOLD]]
    there = {name: f"cases/{case}/{file}" for name, file in _LINKS.items() if folder.case(case, file).is_file()}
    entry = {**row, rows.TOLD: told, "links": there, "picture": _picture(folder, case, embed=embed)}
    review = read_json(folder.case(case, REVIEW)).get("verdict")
    return entry | ({"review": review} if review else {})


def _picture(folder: CohortFolder, case: str, *, embed: bool) -> str:
    path = folder.case(case, THUMBNAIL)
    if not path.is_file():
        return ""
    if not embed:
        return f"cases/{case}/{THUMBNAIL}"
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
