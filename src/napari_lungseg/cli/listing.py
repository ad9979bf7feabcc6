"""``lungseg series``: what there is to choose from, by headers alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LungSegError
from . import show

if TYPE_CHECKING:
    from ..io.series_entry import SeriesEntry


def list_all(paths: Sequence[Path], *, identifiers: bool, as_json: bool) -> int:
    """Tell which series each path holds and return the exit code: 2 when any cannot be read."""
    from ..io.series_list import iter_list_series

    records, failed = [], False
    for path in paths:
        try:
            listed = show.drained(iter_list_series(path, identifiers=identifiers), path.name)
        except LungSegError as error:
            show.error_about(path, error)
            failed = True
            continue
        records += [
            {"path": str(path), "row": row, **_record(each, identifiers)} for row, each in enumerate(listed.entries, 1)
        ]
        if not as_json:
            _print(path, listed.entries)
            show.findings(listed.findings)
    if as_json:
        show.for_machines(records)
    return 2 if failed else 0


def _record(entry: SeriesEntry, identifiers: bool) -> dict[str, Any]:
    hidden = ("patient_key", "files", "zipped", *(() if identifiers else ("uid", "study")))
    return {name: value for name, value in dataclasses.asdict(entry).items() if name not in hidden}


def _print(path: Path, entries: Sequence[SeriesEntry]) -> None:
    show.line(f"{path}: {len(entries)} series")
    columns = ("row", "patient", "date", "name", "slices", "rows × columns", "spacing (mm)")
    lines = [
        (str(row), each.patient, each.date, each.name, *_size(each), each.spacing_text)
        for row, each in enumerate(entries, 1)
    ]
    show.rows(columns, lines)


def _size(entry: SeriesEntry) -> tuple[str, str]:
    return (str(entry.slices), " × ".join(map(str, entry.shape))) if entry.slices else ("–", "–")
