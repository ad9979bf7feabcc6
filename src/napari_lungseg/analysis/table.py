"""Numbers with names and units, for a person, a spreadsheet or a program."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LungSegError, WriteError


@dataclass(frozen=True)
class Table:
    """Rows of values under named columns.

    Parameters
    ----------
    columns : names, each once
    rows : one value per column: a number, a text or None
    units : column → unit, where it has one; a file's heading carries it (``hd95_mm``)

    Raises
    ------
    LungSegError
        When a row or a unit does not fit the columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        if len(set(self.columns)) != len(self.columns):
            raise LungSegError(f"A table's columns must differ; found {', '.join(self.columns)}.")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise LungSegError(f"A row of {len(row)} values does not fit {len(self.columns)} columns.")
        unknown = set(self.units) - set(self.columns)
        if unknown:
            raise LungSegError(f"Units are given for {', '.join(sorted(unknown))}, but there is no such column.")

    @property
    def headings(self) -> tuple[str, ...]:
        """Column names that say their unit, as they stand in a file: ``hd95_mm``."""
        return tuple(f"{name}_{self.units[name]}" if self.units.get(name) else name for name in self.columns)

    def title(self, name: str) -> str:
        """A column's name for a person: ``hd95 (mm)``."""
        unit = self.units.get(name, "").replace("mm2", "mm²").replace("percent", "%")
        return f"{name.replace('_', ' ')} ({unit})" if unit else name.replace("_", " ")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries by column name."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def column(self, name: str) -> tuple[Any, ...]:
        """The values of one column.

        Raises
        ------
        LungSegError
            When there is none of that name.
        """
        if name not in self.columns:
            raise LungSegError(f"The table has no column {name!r}; it has {', '.join(self.columns)}.")
        position = self.columns.index(name)
        return tuple(row[position] for row in self.rows)

    def only(self, *names: str) -> Table:
        """The same rows with these columns alone, in this order.

        Raises
        ------
        LungSegError
            When there is no such column.
        """
        picked = zip(*(self.column(name) for name in names), strict=True)
        return Table(names, tuple(picked), {name: unit for name, unit in self.units.items() if name in names})

    def behind(self, constants: Mapping[str, Any]) -> Table:
        """The same rows behind columns that hold one value each."""
        return Table((*constants, *self.columns), tuple((*constants.values(), *row) for row in self.rows), self.units)

    def records(self) -> list[dict[str, Any]]:
        """Rows as JSON-ready dictionaries under `headings`; what is not a finite number becomes None."""
        return [dict(zip(self.headings, map(_plain, row), strict=True)) for row in self.rows]

    def to_csv(self) -> str:
        """Comma-separated text with a line of headings; None is empty, an infinite distance is ``inf``."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(self.headings)
        lines.writerows(self.rows)
        return text.getvalue()

    def to_json(self) -> str:
        """A JSON list with one object per row; JSON knows no infinity, so that becomes null."""
        return json.dumps(self.records(), indent=2)

    def write(self, path: str | Path) -> Path:
        """Write a ``.csv``, ``.json`` or ``.parquet`` file, complete or not at all.

        Raises
        ------
        WriteError
            For another suffix, a disk that refuses, or Parquet without the library that writes it.
        """
        from ..io.atomic import replacing

        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in (".csv", ".json", ".parquet"):
            raise WriteError(f"{target.name!r} names no kind of table; end it with .csv, .json or .parquet.")
        with replacing(target) as temporary:
            if suffix == ".parquet":
                self._write_parquet(temporary)
            else:
                temporary.write_text(self.to_csv() if suffix == ".csv" else self.to_json() + "\n", encoding="utf-8")
        return target

    def _write_parquet(self, path: Path) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise WriteError("Parquet needs pyarrow: run `pip install pyarrow`, or write .csv or .json.") from None
        columns = {heading: list(values) for heading, values in zip(self.headings, self._transposed(), strict=True)}
        parquet.write_table(pa.table(columns), path)

    def _transposed(self) -> list[tuple[Any, ...]]:
        return [tuple(row[k] for row in self.rows) for k in range(len(self.columns))]


def joined(tables: Mapping[str, Table], heading: str) -> Table:
    """Tables under each other, with what each is of in front.

    A column that one lacks stays empty there. Where a column has another unit in a later table (pixels after mm), that
    table's values get a column of their own, so that no two units meet in one.

    Parameters
    ----------
    tables : what each is of → table
    heading : of the column in front
    """
    units: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for of, table in tables.items():
        named = {name: _apart(name, table.units.get(name, ""), units) for name in table.columns}
        rows += [{heading: of} | {named[name]: value for name, value in row.items()} for row in table]
    columns = tuple(dict.fromkeys([heading, *(name for row in rows for name in row)]))
    held = {name: unit for name, unit in units.items() if unit}
    return Table(columns, tuple(tuple(row.get(name) for name in columns) for row in rows), held)


def _apart(name: str, unit: str, units: dict[str, str]) -> str:
    """The column for values of this unit: the name itself, or one that says the unit where the name has another."""
    if units.setdefault(name, unit) == unit:
        return name
    units[f"{name}_{unit}"] = ""
    return f"{name}_{unit}"


def text_of(value: Any, decimals: int = 4) -> str:
    """A value for a person: few digits (``decimals`` of small numbers), and a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{decimals}f}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
