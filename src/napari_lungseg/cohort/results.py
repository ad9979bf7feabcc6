"""What a run tells of itself: live, and at its end as a table, a page and a manifest."""

from __future__ import annotations

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..io.atomic import replacing
from . import rows
from .case import UNREAD
from .folder import FORMAT, MANIFEST, PAGE, PARQUET, ROWS, STATUS, TABLE, CohortFolder, write_json
from .inputs import Input

if TYPE_CHECKING:
    from .case import Task
    from .run import Summary

_WRITE_EVERY_S = 30.0
_TELL_EVERY_S = 1.0
UNCHANGED = "unchanged"
# Names of columns that hold what DICOM's basic confidentiality profile (PS3.15 E) takes away.
_IDENTIFYING = re.compile(
    r"(^|_|\b)name$|birth|\bdob\b|\bmrn\b|accession|address|phone|e-?mail|insurance|physician|(patient|pat|subject)[\s_-]*id",
    re.IGNORECASE,
)
_PATH = re.compile(r"[\\/]")


@dataclass
class Results:
    """Rows as they come in, and the files that tell of them.

    Parameters
    ----------
    folder : of the results
    task : how they are made
    inputs : of the run
    hashes : of model and settings
    """

    folder: CohortFolder
    task: Task
    inputs: Sequence[Input]
    hashes: Mapping[str, str]
    told: dict[str, Any] = field(default_factory=dict)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    next_tables: float = field(default_factory=lambda: time.monotonic() + _WRITE_EVERY_S)
    ticked: float = 0.0

    @cached_property
    def _private(self) -> set[str]:
        """The user's columns that may say who a patient is: they stay in the private table, which has all of them."""
        if self.task.cohort.keep_identifiers:
            return set()
        given = [item.columns for item in self.inputs]
        names = {name for columns in given for name in columns}
        paths = {name for columns in given for name, value in columns.items() if _PATH.search(str(value))}
        return paths | {name for name in names if _IDENTIFYING.search(name)}

    @property
    def finished(self) -> int:
        """Inputs that have come to an end."""
        return len(self.records)

    def begin(self) -> None:
        """Say what is about to be done, before anything is."""
        self.folder.tidy()
        self._write_manifest("running")
        self._tell("running")

    def take(self, number: int, record: dict[str, Any]) -> None:
        """Take up what came of an input."""
        for row in record["rows"]:
            if row[rows.CASE] == UNREAD:
                row[rows.CASE] = f"{UNREAD}-{number + 1}"
        self.records[number] = record

    def tick(self, **told: Any) -> None:
        """Tell how far it is, once a second, and write the table now and then."""
        self.told |= told
        now = time.monotonic()
        if now - self.ticked >= _TELL_EVERY_S:
            self.ticked = now
            self._tell("running")
        if now >= self.next_tables:
            self._write_tables()
            # Of a large cohort this takes seconds, in which nothing is handed out: a twentieth of the time at most.
            self.next_tables = time.monotonic() + max(_WRITE_EVERY_S, 20 * (time.monotonic() - now))

    def end(self, how: str) -> None:
        """Write everything for the last time."""
        from ..errors import WriteError

        self.told |= {"running": 0}
        if how == "finished":
            self.folder.tidy()  # of workers that were killed on the way
        try:
            self._write_tables()
            self._write_manifest(how)
        except WriteError:
            if how == "finished":
                raise  # else the reason for the end says more than this consequence of it
        finally:
            self._tell(how)

    def rows(self) -> list[dict[str, Any]]:
        """One row per scan, worst first, the user's columns among them; what the filters reject now is left out."""
        own = {name for record in self.records.values() for row in record["rows"] for name in row}
        own |= {"review"} | {name for item in self.inputs for name in item.whose}
        found = []
        for number, record in sorted(self.records.items()):
            given = self.inputs[number].columns.items()
            kept = {
                f"input_{name}" if name in own else name: value for name, value in given if name not in self._private
            }
            found += [{**row, **self.inputs[number].whose, **kept, **self._filtered(row)} for row in record["rows"]]
        return [dict(row) for row in rows.worst_first(found)]

    def _filtered(self, row: Mapping[str, Any]) -> dict[str, Any]:
        reason = self.task.cohort.against(row) if row[rows.STATE] == rows.DONE else ""
        return {rows.STATE: rows.LEFT_OUT, rows.REASON: reason} if reason else {}

    def counts(self) -> dict[str, int]:
        """State → scans; and how many inputs needed no work."""
        found = Counter(row[rows.STATE] for record in self.records.values() for row in record["rows"])
        unchanged = sum(bool(record.get("unchanged")) for record in self.records.values())
        return {state: found[state] for state in (rows.DONE, rows.FAILED, rows.LEFT_OUT)} | {UNCHANGED: unchanged}

    def line(self) -> str:
        """How far it is, for a person."""
        counts = self.counts()
        told = [f"{counts[rows.DONE]} done", f"{counts[rows.FAILED]} failed", f"{self.told.get('workers', 0)} workers"]
        return ", ".join(told)

    def summary(self) -> Summary:
        """What the run came to."""
        from .run import Summary

        doubtful = sum(bool(row[rows.DOUBTED]) for row in self.rows() if row[rows.STATE] == rows.DONE)
        return Summary(self.counts(), doubtful, self.folder.root / PAGE, time.time() - self.started)

    def _tell(self, state: str) -> None:
        """Write the status; a disk that refuses it must not end the run."""
        from ..errors import WriteError

        worked = self.finished - self.counts()[UNCHANGED]
        seconds = time.time() - self.started
        left = len(self.inputs) - self.finished
        rate = worked / seconds if seconds else 0.0
        status = {
            "format": FORMAT,
            "state": state,
            "inputs": len(self.inputs),
            "finished": self.finished,
            **self.counts(),
            "running": 0,
            "workers": 0,
            **self.told,
            "per_hour": round(3600 * rate, 1),
            "seconds_left": round(left / rate) if rate and state == "running" else None,
            "started": _utc(self.started),
            "updated": _utc(time.time()),
        }
        try:
            write_json(self.folder.root / STATUS, status)
        except WriteError:
            return

    def _write_tables(self) -> None:
        from ..analysis.table import Table
        from .page import page_of

        found = self.rows()
        write_json(self.folder.root / ROWS, found)
        columns = rows.ordered(list(dict.fromkeys(name for row in found for name in row)))
        table = Table(tuple(columns), tuple(tuple(row.get(name) for name in columns) for row in found))
        table.write(self.folder.root / TABLE)
        if _has_parquet():
            table.write(self.folder.root / PARQUET)
        with replacing(self.folder.root / PAGE) as temporary:
            temporary.write_text(page_of(self.folder, found, _utc(time.time())), encoding="utf-8")
        self.folder.write_key(self._key())

    def _key(self) -> list[dict[str, Any]]:
        """Which case comes from where: the one table with paths."""
        lines = []
        for number, item in enumerate(self.inputs):
            common = os.path.commonpath([path.parent for path in item.files])
            path = str(item.files[0]) if len(item.files) == 1 else common
            for row in self.records.get(number, {}).get("rows", [{}]):
                told = {rows.CASE: row.get(rows.CASE), "series": row.get("series"), "path": path}
                lines.append({**told, "files": len(item.files), **item.columns})
        return lines

    def _write_manifest(self, state: str) -> None:
        """How the results were made, without a path; every run adds a line."""
        earlier = self.folder.manifest.get("runs", [])
        run = {
            "started": _utc(self.started),
            "ended": _utc(time.time()) if state != "running" else None,
            "state": state,
            "inputs": len(self.inputs),
            **self.counts(),
            "workers": self.told.get("workers"),
            "software": _software(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        }
        task = self.task
        settings = {
            "model": os.path.basename(task.model) if task.model else None,  # noqa: PTH119 - a name or a path
            "device": task.device,
            "modality": task.modality,
            "hu_offset": task.hu_offset,
            "straighten": task.straighten,
            "segment": asdict(task.segment),
            "cohort": asdict(task.cohort),
        }
        content = {"format": FORMAT, "settings": settings, "hashes": dict(self.hashes), "runs": [*earlier, run]}
        write_json(self.folder.root / MANIFEST, content)


def _software() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from .. import __version__

    found = {"napari-lungseg": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "SimpleITK", "pydicom", "distributed"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _has_parquet() -> bool:
    import importlib.util

    return importlib.util.find_spec("pyarrow") is not None


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
