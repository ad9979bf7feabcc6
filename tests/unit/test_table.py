"""A table keeps its numbers, names and units through every format."""

from __future__ import annotations

import builtins
import csv
import io
import json

import pytest

from napari_lungseg.analysis.table import Table, text_of
from napari_lungseg.errors import LungSegError, WriteError


@pytest.fixture
def table():
    rows = (("right lung", 0.9876543210123, 4.5), ("left, lower", None, float("inf")))
    return Table(("name", "dice", "hd95"), rows, {"hd95": "mm"})


def test_csv_says_units_and_keeps_every_digit(table):
    lines = list(csv.reader(io.StringIO(table.to_csv())))
    assert lines[0] == ["name", "dice", "hd95_mm"]
    assert float(lines[1][1]) == 0.9876543210123
    assert lines[2] == ["left, lower", "", "inf"]


def test_json_is_valid_without_infinity(table):
    text = table.to_json()
    assert "Infinity" not in text
    assert json.loads(text)[0] == {"name": "right lung", "dice": 0.9876543210123, "hd95_mm": 4.5}
    assert json.loads(text)[1]["hd95_mm"] is None


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_files_hold_what_the_text_says(table, tmp_path, suffix):
    path = table.write(tmp_path / "new" / f"table{suffix}")
    wanted = table.to_csv() if suffix == ".csv" else table.to_json() + "\n"
    assert path.read_text(encoding="utf-8") == wanted
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_unknown_suffix_writes_nothing(table, tmp_path):
    with pytest.raises(WriteError, match=r"\.csv, \.json or \.parquet"):
        table.write(tmp_path / "table.xlsx")
    assert not list(tmp_path.iterdir())


def test_parquet_without_its_library_is_a_sentence_with_the_cure(table, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(WriteError, match="pip install pyarrow"):
        table.write(tmp_path / "table.parquet")
    assert not list(tmp_path.iterdir())


def test_parquet_round_trip(table, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    read = parquet.read_table(table.write(tmp_path / "table.parquet")).to_pydict()
    assert read == {
        "name": ["right lung", "left, lower"],
        "dice": [0.9876543210123, None],
        "hd95_mm": [4.5, float("inf")],
    }


def test_rows_and_columns_can_be_asked_for(table):
    assert len(table) == 2
    assert table.column("dice")[0] == pytest.approx(0.98765, abs=1e-5)
    assert [row["name"] for row in table] == ["right lung", "left, lower"]
    with pytest.raises(LungSegError, match="no column 'iou'"):
        table.column("iou")


@pytest.mark.parametrize(
    ("columns", "rows", "units", "message"),
    [
        (("a", "a"), (), {}, "must differ"),
        (("a",), ((1, 2),), {}, "2 values does not fit 1"),
        (("a",), (), {"b": "mm"}, "no such column"),
    ],
)
def test_what_does_not_fit_is_refused(columns, rows, units, message):
    with pytest.raises(LungSegError, match=message):
        Table(columns, rows, units)


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.98765, "0.9877"), (-12.34, "-12.3"), (3, "3"), ("a", "a")])
def test_values_are_told_with_few_digits(value, text):
    assert text_of(value) == text
