"""One HTML page that needs nothing beside it: pictures, tables and lists, on screen and on paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from .table import Table, text_of

_TEXTS = ("name", "metric", "unit", "worst_case")
_HIDDEN = ("label",)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { margin-bottom: 0; } h2 { margin: 1.6em 0 .4em; font-size: 1.2em; } figure { margin: 0; }
figcaption, .aside { color: #555; font-size: 13px; }
table { border-collapse: collapse; font-size: 13px; } td, th { padding: .2em .8em .2em 0; text-align: right; }
th { border-bottom: 1px solid #888; } td.text, th.text { text-align: left; } img { max-width: 100%; }
tr.line td { border-bottom: 1px solid #ddd; } .wide { overflow-x: auto; }
@media print {
  @page { size: A4; margin: 14mm; }
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; } table { font-size: 8pt; } .wide { overflow: visible; }
  figure img { max-height: 115mm; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } a { color: inherit; text-decoration: none; }
}
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A complete page of parts that are HTML already."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}<h1>{escape(title)}</h1>{"".join(parts)}</html>\n'


def listed(heading: str, lines: Sequence[str]) -> str:
    """Lines under a heading; nothing where there are none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{escape(heading)}</h2><ul>{items}</ul>" if lines else ""


def picture(drawn: Any, legend: str) -> str:
    """A matplotlib figure within the page."""
    held = io.BytesIO()
    drawn.savefig(held, format="png", dpi=100, pil_kwargs={"compress_level": 3})  # half the time
    text = base64.b64encode(held.getvalue()).decode("ascii")
    said = escape(legend)
    return f'<figure><img alt="{said}" src="data:image/png;base64,{text}"><figcaption>{said}</figcaption></figure>'


def figure(width: float, height: float, *, layout: Any = "constrained", **options: Any) -> Any:
    """An empty matplotlib figure, inches; layout ``"none"`` for panels whose places are known, which is quicker."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout=layout, **options)
    FigureCanvasAgg(drawn)
    return drawn


def html_table(heading: str, table: Table) -> str:
    """A table under a heading."""
    columns = [name for name in table.columns if name not in _HIDDEN]
    head = "".join(f"<th{_kind(name)}>{escape(table.title(name))}</th>" for name in columns)
    lines = [
        "<tr>" + "".join(f"<td{_kind(name)}>{escape(text_of(row[name]))}</td>" for name in columns) + "</tr>"
        for row in table
    ]
    return f'<h2>{escape(heading)}</h2><div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def turned_table(heading: str, table: Table) -> str:
    """A table of few rows and many columns, turned: one line per column, so that it fits on paper."""
    columns = [name for name in table.columns if name not in (*_HIDDEN, "name")]
    names = table.column("name")
    head = "<th></th>" + "".join(f"<th>{escape(str(name))}</th>" for name in names)
    lines = [
        f'<tr class="line"><td class="text">{escape(table.title(name))}</td>'
        + "".join(f"<td>{escape(text_of(value))}</td>" for value in table.column(name))
        + "</tr>"
        for name in columns
    ]
    return f'<h2>{escape(heading)}</h2><div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def facts_table(heading: str, facts: Sequence[tuple[str, str]]) -> str:
    """Names and what they are."""
    lines = "".join(
        f'<tr class="line"><td class="text">{escape(name)}</td><td class="text">{escape(value)}</td></tr>'
        for name, value in facts
    )
    return f"<h2>{escape(heading)}</h2><table>{lines}</table>" if facts else ""


def _kind(name: str) -> str:
    return ' class="text"' if name in _TEXTS else ""
