"""What a person says of a case, and the labels that they corrected: kept beside the originals, and to be learned from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from .folder import CORRECTED, DRAFT, LABELS, REVIEW, REVIEWS, CohortFolder, read_json, write_json
from .page import show_verdict
from .rows import CASE, LEFT_OUT, STATE

if TYPE_CHECKING:
    from ..training.work_record import ItemRecord, WorkRecord
    from ..volume import LabelMap, Volume

FORMAT = 1
IS_ACCEPTED, IS_CORRECTED, IS_REJECTED = "accepted", "corrected", "rejected"


@dataclass(frozen=True)
class Review:
    """What was said of a case.

    Parameters
    ----------
    verdict : ``"accepted"``, ``"corrected"``, ``"rejected"``, or "" where there are only notes so far
    notes : anything
    """

    verdict: str = ""
    notes: str = ""


@dataclass(frozen=True)
class OpenedCase:
    """A case to look at.

    Parameters
    ----------
    case : its name
    volume : the scan, loaded
    original : labels as they were made; empty where none could be
    corrected : labels as a person saved them, or None
    draft : labels that were changed and neither saved nor discarded, or None
    """

    case: str
    volume: Volume
    original: LabelMap
    corrected: LabelMap | None
    draft: LabelMap | None = None


def rows_to_review(folder: CohortFolder) -> list[dict[str, Any]]:
    """Rows that deserve a look, worst first: all but what was left out; two files of one content are one case."""
    rows: dict[str, dict[str, Any]] = {}
    for row in folder.rows():
        if row[STATE] != LEFT_OUT:
            rows.setdefault(row[CASE], row)
    return list(rows.values())


def read_review(folder: CohortFolder, case: str) -> Review:
    """What was said of a case so far."""
    content = read_json(folder.case(case, REVIEW))
    return Review(str(content.get("verdict", "")), str(content.get("notes", "")))


def write_review(folder: CohortFolder, case: str, review: Review) -> None:
    """Keep what is said of a case; unless it is corrected, nothing is learned from it any more.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    if review.verdict in (IS_ACCEPTED, IS_REJECTED):
        _withdraw(folder, case)
    said = dataclasses.asdict(review) | {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    write_json(folder.case(case, REVIEW), {"format": FORMAT, **said})
    _list(folder, {CASE: case, **said})
    show_verdict(folder, case, review.verdict)


def _list(folder: CohortFolder, said: dict[str, str]) -> None:
    """Keep all that was said in one table as well."""
    import csv

    from ..analysis.table import Table

    path = folder.root / REVIEWS
    known: dict[str, dict[str, str]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8-sig") as file:
            known = {line[CASE]: line for line in csv.DictReader(file)}
    known[said[CASE]] = said
    Table(tuple(said), tuple(tuple(line[name] for name in said) for line in known.values())).write(path)


def iter_open_case(folder: CohortFolder, row: dict[str, Any]) -> Generator[Progress, None, OpenedCase]:
    """Read the scan of a row and its labels.

    Raises
    ------
    ReadError
        When the scan is not where it was, or a file is damaged.
    """
    import numpy as np

    from ..volume import LUNG_NAMES, LabelMap

    case = str(row[CASE])
    yield Progress(0, 2, "Reading labels …")
    original, corrected, draft = (_labels(folder.case(case, name)) for name in (LABELS, CORRECTED, DRAFT))
    yield Progress(1, 2, "Reading the scan …")
    volume = folder.volume(row).load()
    if original is None:
        original = LabelMap(np.zeros(volume.geometry.shape, np.uint8), volume.geometry, LUNG_NAMES)
    return OpenedCase(case, volume, original, corrected, draft)


def iter_keep_corrected(
    folder: CohortFolder, opened: OpenedCase, labels: LabelMap, notes: str
) -> Generator[Progress, None, None]:
    """Keep corrected labels beside the originals, and with their scan's place for training; the verdict comes last.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    from ..io import write

    yield Progress(0, 3, "Saving the corrected labels …")
    made = {name: labels.record[name] for name in ("model", "version") if name in labels.record}
    labels = dataclasses.replace(labels, source="", name="corrected", findings=(), record={"corrected_from": made})
    write(labels, folder.case(opened.case, CORRECTED))
    yield Progress(1, 3, "Collecting them for training …")
    yield from _collect(folder, opened, labels)
    write_review(folder, opened.case, Review(IS_CORRECTED, notes))


def discard_corrected(folder: CohortFolder, case: str) -> None:
    """Remove the corrected labels of a case, whose originals were right after all."""
    _withdraw(folder, case)
    _remove(folder, case, CORRECTED)


def keep_draft(folder: CohortFolder, case: str, labels: LabelMap) -> None:
    """Keep changed labels that are not saved yet, to be shown when the case is opened again.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    from ..io import write

    write(dataclasses.replace(labels, source="", name="draft", findings=()), folder.case(case, DRAFT))


def has_draft(folder: CohortFolder, case: str) -> bool:
    """Whether labels of a case were changed and neither saved nor discarded."""
    return folder.case(case, DRAFT).is_file()


def discard_draft(folder: CohortFolder, case: str) -> None:
    """Forget changed labels that were saved or are not wanted."""
    _remove(folder, case, DRAFT)


def training_folder(folder: CohortFolder, modality: str) -> Path:
    """The work folder in which corrected cases are collected; it says where scans lie, hence is private."""
    return folder.private / f"corrected-{modality}"


def _remove(folder: CohortFolder, case: str, labels: str) -> None:
    for name in (labels, labels.replace(".nii.gz", ".labels.json")):
        folder.case(case, name).unlink(missing_ok=True)


def _labels(path: Path) -> LabelMap | None:
    from ..io import read
    from ..volume import LabelMap

    items = read(path, labels=True) if path.is_file() else []
    return next((item for item in items if isinstance(item, LabelMap)), None)


def _collect(folder: CohortFolder, opened: OpenedCase, labels: LabelMap) -> Generator[Progress, None, None]:
    """The whole label map counts, for a person went through it: every slice is complete."""
    from ..training.painted import BACKGROUND
    from ..training.work import Work, WorkItem, image_hash, iter_save_work

    volume, grid = opened.volume, opened.volume.geometry
    item = WorkItem(
        dataclasses.replace(labels, name=_name_of(opened.case)),
        BACKGROUND,
        frozenset(range(grid.reoriented(grid.reorientation()).shape[0])),
        image_name=opened.case,
        image_hash=image_hash(volume),
        image_path=Path(volume.source) if volume.source else None,
    )
    folder.make_private()
    where = training_folder(folder, volume.modality)
    before = _record(where)
    names, colours = {**before.names, **labels.names}, {**before.colours, **labels.colours}
    work = Work((item,), names, colours, start=before.start, settings=before.settings)
    yield from iter_save_work(where, work, _others(before, opened.case))


def _withdraw(folder: CohortFolder, case: str) -> None:
    from ..progress import drain
    from ..training.work import Work, iter_save_work

    for where in folder.private.glob("corrected-*"):
        before = _record(where)
        others = _others(before, case)
        if len(others) < len(before.items):
            work = Work((), before.names, before.colours, start=before.start, settings=before.settings)
            drain(iter_save_work(where, work, others))


def _record(where: Path) -> WorkRecord:
    from ..training.work_record import RECORD, WorkRecord, read_record

    return read_record(where) if (where / RECORD).is_file() else WorkRecord()


def _others(record: WorkRecord, case: str) -> list[ItemRecord]:
    return [item for item in record.items if item.name != _name_of(case)]


def _name_of(case: str) -> str:
    return f"{case} corrected"
