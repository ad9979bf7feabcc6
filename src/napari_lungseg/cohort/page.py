"""``index.html``: one page that needs nothing beside it, on which what deserves a look comes first."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from ..io.atomic import replacing
from ..segmentation.quality import DOUBTS
from . import rows
from .folder import LABELS, LOG, PAGE, REPORT, REVIEW, THUMBNAIL, CohortFolder, read_json

# Pictures of so many of the worst cases are in the page itself (some 6 kB each); those of the rest lie beside it.
_PICTURES = 2000
_HIDDEN = (rows.REASON, rows.DOUBTED, "findings", "input", "volume")
_SHOWN = (rows.CASE, rows.STATE, "series")
_FIGURES = ("both_volume_ml", "both_area_mm2", "seconds")
_LINKS = {"report": REPORT, "labels": LABELS, "log": LOG}
# The last part of the page, written anew at each verdict.
_REVIEWS = re.compile(r'(?<=<script id="reviews" type="application/json">).*?(?=</script>)', re.DOTALL)


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
    filled = [name for name in columns if any(entry.get(name) is not None for entry in shown)]
    quality = rows.PREDICTED if rows.PREDICTED in filled else rows.EXPECTED
    states = [row[rows.STATE] for row in found]
    doubtful = sum(bool(row[rows.DOUBTED]) for row in found)
    counts = [(state, states.count(state)) for state in (rows.DONE, rows.FAILED, rows.LEFT_OUT)]
    content = {
        "rows": shown,
        "columns": filled,
        "shown": [name for name in filled if name in (*_SHOWN, quality, *_FIGURES)],
        "counts": [*counts, ("doubtful", doubtful), (f"on {at.replace('T', ' ').replace('Z', ' UTC')}", "")],
    }
    reviews = {
        case: read_json(folder.case(case, REVIEW)).get("verdict") for case in {str(row[rows.CASE]) for row in found}
    }
    page = files("napari_lungseg.cohort").joinpath("page.html").read_text(encoding="utf-8")
    page = page.replace("@REVIEWS@", _json({case: verdict for case, verdict in reviews.items() if verdict}))
    return page.replace("@DATA@", _json(content))


def show_verdict(folder: CohortFolder, case: str, verdict: str) -> None:
    """Show a verdict on the page that is there, if one is.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    page = folder.root / PAGE
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if found := _REVIEWS.search(text):
        reviews = json.loads(found[0]) | {case: verdict}
        with replacing(page) as temporary:
            temporary.write_text(f"{text[: found.start()]}{_json(reviews)}{text[found.end() :]}", encoding="utf-8")


def _json(content: Any) -> str:
    """Content that cannot end the script that holds it."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _entry(folder: CohortFolder, row: Mapping[str, Any], *, embed: bool) -> dict[str, Any]:
    case = str(row[rows.CASE])
    told = [{**finding, "doubt": finding["code"] in DOUBTS} for finding in row[rows.TOLD]]
    there = {name: f"cases/{case}/{file}" for name, file in _LINKS.items() if folder.case(case, file).is_file()}
    return {**row, rows.TOLD: told, "links": there, "picture": _picture(folder, case, embed=embed)}


def _picture(folder: CohortFolder, case: str, *, embed: bool) -> str:
    path = folder.case(case, THUMBNAIL)
    if not path.is_file():
        return ""
    if not embed:
        return f"cases/{case}/{THUMBNAIL}"
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
