"""What a cohort consists of: files, folders, patterns and tables become inputs, each one series or one file."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ReadError
from ..io import suffix_of
from ..io.discover import may_be_dicom
from ..progress import Progress

_TABLES = (".csv", ".parquet")
_PATH_COLUMNS = ("path", "file", "filename", "filepath", "image", "image_path", "scan", "folder")
_HEADER = ("SeriesInstanceUID", "ConvolutionKernel", "SliceThickness")
# Volumes whose header and voxels are files of their own.
_IN_PARTS = (".mhd", ".nhdr")
_MARKS = "*?["
_MISSING = "There is no such file or folder; check the path in the table."
_EMPTY = "There is nothing here that could be a scan."


@dataclass(frozen=True)
class Input:
    """What one worker opens at once.

    Parameters
    ----------
    files : of one series, or the one file
    kernel : the series' reconstruction kernel, or ""
    thickness_mm : of its slices as the scanner states it, or None
    columns : what the user's table says of it, without the path
    whose : the patient's identifiers, where they were asked for
    problem : why it cannot be opened at all, or ""
    """

    files: tuple[Path, ...]
    kernel: str = ""
    thickness_mm: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    whose: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def to_hash(self) -> tuple[Path, ...]:
        """The files, and those that lie beside them and say more of them (voxels, sidecars)."""
        if len(self.files) != 1:
            return self.files
        path = self.files[0]
        stem = path.name[: len(path.name) - len(suffix_of(path))]
        beside = [path.with_name(f"{stem}{end}") for end in (".volume.json", ".labels.json")]
        if suffix_of(path) in _IN_PARTS:
            beside += [other for other in sorted(path.parent.iterdir()) if other.name.startswith(f"{stem}.")]
        return tuple(dict.fromkeys([path, *(other for other in beside if other.is_file())]))


def iter_inputs(
    paths: Sequence[str | Path], leave: Path, *, identifiers: bool = False
) -> Generator[Progress, None, list[Input]]:
    """Find every input, and yield `Progress` while headers are looked at.

    Parameters
    ----------
    paths : files, folders (searched through all subfolders), patterns such as ``scans/**/*.nii.gz``, and ``.csv`` or
        ``.parquet`` tables with a column of paths, relative to the table's folder
    leave : a folder that is passed over: that of the results, where it lies among the scans
    identifiers : whether headers are asked whose scan it is

    Returns
    -------
    list of Input
        One per DICOM series, wherever in a folder its files lie, and one per other file, in order.

    Raises
    ------
    ReadError
        When a path does not exist, a table cannot be understood, or there is nothing at all that can be opened.
    """
    found: list[Input] = []
    for path in paths:
        for group, columns in _entries(str(path)):
            inputs = yield from _inputs_of(group, leave.resolve())
            inputs = inputs or [Input(tuple(group), problem=_EMPTY)]
            found += [replace(item, columns=columns, whose=_whose(item) if identifiers else {}) for item in inputs]
    if all(item.problem for item in found):
        why = found[0].problem if found else "The table has no rows."
        raise ReadError(f"{why} Name files, a folder, a pattern or a table of paths.")
    return found


def _entries(path: str) -> list[tuple[list[Path], Mapping[str, Any]]]:
    """Groups of paths that one argument stands for, each with its columns of the user's table."""
    if not Path(path).exists() and any(mark in path for mark in _MARKS):
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - a pattern may be absolute
        if not matches:
            raise ReadError(f"No file or folder matches the pattern {path!r}.")
        return [([Path(match) for match in matches], {})]
    if not Path(path).exists():
        raise ReadError(f"There is no file or folder {path!r}; check the path.")
    if Path(path).suffix.lower() in _TABLES and Path(path).is_file():
        return _listed(Path(path))
    return [([Path(path)], {})]


def _listed(table: Path) -> list[tuple[list[Path], Mapping[str, Any]]]:
    rows = _rows(table)
    names = list(rows[0]) if rows else []
    column = next((name for name in names if name.strip().lower() in _PATH_COLUMNS), None)
    if column is None:
        raise ReadError(
            f"{table.name} has no column of paths: expected one called {', '.join(_PATH_COLUMNS)}; "
            f"found {', '.join(names) or 'no row'}."
        )
    return [([table.parent / str(row.pop(column))], row) for row in rows]


def _rows(table: Path) -> list[dict[str, Any]]:
    if table.suffix.lower() == ".parquet":
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise ReadError("A .parquet table needs pyarrow: run `pip install pyarrow`, or give a .csv file.") from None
        try:
            rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
        except (ArrowException, OSError) as error:
            raise ReadError(f"{table.name} is no Parquet table that can be read ({error}).") from error
        return rows
    import csv

    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return [{name or "": value for name, value in row.items()} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ReadError(f"{table.name} is no CSV table in UTF-8 that can be read ({error}).") from error


def _inputs_of(paths: Sequence[Path], leave: Path) -> Generator[Progress, None, list[Input]]:
    """Sort the files of one group into series; those that are not DICOM stand alone."""
    others = [Input((path,), problem=_MISSING) for path in paths if not path.exists()]
    series: defaultdict[str, list[Path]] = defaultdict(list)
    said: dict[str, Input] = {}
    unclear: defaultdict[Path, list[Path]] = defaultdict(list)
    for seen, file in enumerate(_files_below(paths, leave), start=1):
        if may_be_dicom(file):
            uid, header = _peek(file)
            (series[uid] if uid else unclear[file.parent]).append(file)
            said.setdefault(uid, header)
        elif suffix_of(file) or file in paths:
            others.append(Input((file,)))
        if seen % 100 == 0:
            yield Progress(seen, 0, f"looking at {seen} files")
    for folder, files in unclear.items():
        _adopt(
            files, [members for members in series.values() if any(file.parent == folder for file in members)], others
        )
    return [replace(said[uid], files=tuple(files)) for uid, files in series.items()] + others


def _files_below(paths: Iterable[Path], leave: Path) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
        for folder, below, names in os.walk(path):
            inside = [name for name in sorted(below) if not name.startswith(".")]
            below[:] = [name for name in inside if Path(folder, name).resolve() != leave]
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _adopt(unclear: Sequence[Path], series: Sequence[list[Path]], others: list[Input]) -> None:
    """Damaged DICOM files belong to the one series of their folder, which then tells of them; else they stand alone."""
    if len(series) == 1:
        series[0].extend(unclear)
    else:
        others.append(Input(tuple(unclear)))


def _peek(path: Path) -> tuple[str, Input]:
    """Series of a DICOM file and what the header says of it; "" where it cannot be understood."""
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER), force=True)
        uid = str(header.get("SeriesInstanceUID") or "")
        kernel = header.get("ConvolutionKernel") or ""
        kernel = kernel if isinstance(kernel, str) else "\\".join(map(str, kernel))
        thickness = header.get("SliceThickness")
        return uid, Input((path,), kernel, float(thickness) if thickness else None)
    except Exception:  # noqa: BLE001 - pydicom raises anything on damaged bytes; reading says what is wrong
        return "", Input((path,))


def _whose(item: Input) -> dict[str, str]:
    """The patient's identifiers in the first file of a series; empty where it has none."""
    import pydicom

    from ..io.identifiers import IDENTIFIERS, identifiers_in

    if not item.files or not may_be_dicom(item.files[0]):
        return {}
    try:
        header = pydicom.dcmread(
            item.files[0], stop_before_pixels=True, specific_tags=list(IDENTIFIERS.values()), force=True
        )
        return identifiers_in(header)
    except Exception:  # noqa: BLE001 - as in `_peek`
        return {}
