"""What lies where in a cohort's folder (docs/reference/cohort.md); written so that a kill at any moment leaves it whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ReadError
from ..io.atomic import replacing
from .content import fingerprint
from .rows import CASE, DONE, STATE

if TYPE_CHECKING:
    from ..volume import Volume

FORMAT = 1
LABELS, THUMBNAIL, LOG, REPORT = "labels.nii.gz", "thumbnail.jpg", "log.txt", "report.html"
CORRECTED, DRAFT, REVIEW = "corrected.nii.gz", "draft.nii.gz", "review.json"
MANIFEST, STATUS, PAGE, TABLE, PARQUET = "manifest.json", "status.json", "index.html", "results.csv", "results.parquet"
ROWS, REVIEWS = "results.json", "reviews.csv"
_PRIVATE, _KEY = "private", "inputs.csv"


def write_json(path: Path, content: Any) -> None:
    """Write JSON, complete or not at all.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON; empty where there is no such file or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class CohortFolder:
    """The results of a cohort.

    Parameters
    ----------
    root : the folder
    """

    root: Path

    @classmethod
    def open(cls, path: str | Path) -> CohortFolder:
        """A folder that holds results.

        Raises
        ------
        ReadError
            When it does not.
        """
        folder = cls(Path(path))
        if read_json(folder.root / MANIFEST).get("format") != FORMAT:
            raise ReadError(
                f"{str(path)!r} holds no results of a cohort (no {MANIFEST} of format {FORMAT}). Choose the folder that "
                "was given to `lungseg cohort INPUT -o FOLDER`."
            )
        return folder

    @property
    def private(self) -> Path:
        """What says where inputs lie; nothing else in the folder does."""
        return self.root / _PRIVATE

    @property
    def key(self) -> Path:
        """The table that says which case comes from which path."""
        return self.private / _KEY

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """How the results were made."""
        return read_json(self.root / MANIFEST)

    def case(self, case: str, name: str = "") -> Path:
        """The folder of a case, or a file in it."""
        return self.root / "cases" / case / name

    def rows(self) -> list[dict[str, Any]]:
        """Every row of the last run, worst first, each with its findings in words under ``told``."""
        try:
            rows = json.loads((self.root / ROWS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [dict(row) for row in rows]

    def record(self, content: str) -> dict[str, Any]:
        """What is known of an input; empty where it was never finished."""
        record = read_json(self._record(content))
        return record if record.get("format") == FORMAT else {}

    def records(self) -> Iterator[dict[str, Any]]:
        """What is known of every input that was ever finished here."""
        for path in sorted((self.root / "records").glob("*.json")):
            if record := self.record(path.stem):
                yield record

    def write_record(self, record: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Say that an input is finished; the last that is written of it.

        Parameters
        ----------
        record : what came of it
        files : of the input; where they lie goes into `private` alone

        Raises
        ------
        WriteError
            When the disk refuses.
        """
        content = str(record["input"])
        self.make_private()
        common = Path(os.path.commonpath([path.resolve().parent for path in files]))
        names = [path.resolve().relative_to(common).as_posix() for path in files]
        write_json(self.private / f"{content}.json", {"folder": str(common), "files": names})
        write_json(self._record(content), {"format": FORMAT, **record})

    def tidy(self) -> None:
        """Remove what a kill left half-written; only for who knows that nobody works here."""
        for left in self.root.glob("**/.writing-*"):
            shutil.rmtree(left, ignore_errors=True)

    def forget(self, content: str) -> None:
        """Take an input for unfinished."""
        self._record(content).unlink(missing_ok=True)

    def make_private(self) -> None:
        """Make the folder that nobody else may look into."""
        self.private.mkdir(parents=True, exist_ok=True)
        self.private.chmod(0o700)

    def write_key(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the table that says which case comes from which path, with the user's columns."""
        from ..analysis.table import Table

        self.make_private()
        columns = tuple(dict.fromkeys(name for line in lines for name in line))
        Table(columns, tuple(tuple(line.get(name) for name in columns) for line in lines)).write(self.key)

    def files_of(self, content: str) -> list[Path]:
        """Where the files of an input were when it was finished."""
        told = read_json(self.private / f"{content}.json")
        return [Path(told["folder"], name) for name in told.get("files", ())]

    def volume(self, row: Mapping[str, Any]) -> Volume:
        """Open the scan of a row, from where it was.

        Raises
        ------
        ReadError
            When it is not there any more, or is another one now.
        """
        from ..io import read
        from ..volume import Volume

        files = self.files_of(str(row["input"]))
        if not files or not all(path.exists() for path in files):
            raise ReadError(f"The scan of case {row[CASE]} is not where it was when it was segmented; bring it back.")
        modality = self.manifest.get("settings", {}).get("modality")
        volumes = [item for item in read(files, modality=modality) if isinstance(item, Volume)]
        if not 0 <= int(row["volume"]) < len(volumes):
            raise ReadError(f"The files of case {row[CASE]} hold another scan than when they were segmented.")
        return volumes[int(row["volume"])]

    def is_settled(self, record: Mapping[str, Any], key: str) -> bool:
        """Whether what a record tells of was made in this way, and its labels are all there."""
        made = [row[CASE] for row in record.get("rows", ()) if row[STATE] == DONE]
        return record.get("key") == key and all(self.case(case, LABELS).is_file() for case in made)

    def _record(self, content: str) -> Path:
        return self.root / "records" / f"{content}.json"


def fingerprint_of(files: Sequence[Path]) -> str:
    """As `fingerprint`; "" where a file is not there."""
    try:
        return fingerprint(files)
    except OSError:
        return ""
