"""What a worker does with one input: open it, segment what it holds, measure, and write; whatever happens is a row."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DeviceError, LungSegError, ReadError, WriteError
from ..findings import Finding, has_finding
from ..io.anonymous import Anonymous
from ..io.atomic import replacing
from ..progress import drain
from ..segmentation.predict import SegmentSettings
from . import rows
from .content import content_hash
from .folder import LABELS, LOG, REPORT, THUMBNAIL, CohortFolder, fingerprint_of
from .inputs import Input
from .settings import CohortSettings

if TYPE_CHECKING:
    from ..volume import LabelMap, Modality, Volume

# One network at a time on a device; the other scans of a worker are read, tidied up and written meanwhile.
_DEVICE = threading.Lock()
_DRAWING = threading.Lock()  # matplotlib does not draw in several threads
# Case of an input whose files could not even be read.
UNREAD = "unread"


@dataclass(frozen=True)
class Task:
    """Everything that is the same for all inputs of a run.

    Parameters
    ----------
    root : folder of the results
    key : hash of model and settings, set by `run_cohort`; results that bear it need not be made again
    model, device, modality, hu_offset, segment, straighten : as for `lungseg segment`
    cohort : which scans, and whether those that failed are tried again
    """

    root: Path
    key: str = ""
    model: str | None = None
    device: str = "auto"
    modality: Modality | None = None
    hu_offset: float | str | None = None
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    cohort: CohortSettings = field(default_factory=CohortSettings)
    straighten: bool = False


def settled(folder: CohortFolder, record: dict[str, Any], task: Task, *, with_report: bool = True) -> bool:
    """Whether an input needs no work: done, left out for the same reason, or failed and not to be tried again."""
    if not folder.is_settled(record, task.key):
        return False
    for row in record["rows"]:
        if row[rows.STATE] == rows.FAILED and task.cohort.retry_failed:
            return False
        if row[rows.STATE] == rows.LEFT_OUT and row[rows.FILTERED] and not task.cohort.against(row):
            return False
        if with_report and _lacks_report(folder, row, task):
            return False
    return True


def _lacks_report(folder: CohortFolder, row: dict[str, Any], task: Task) -> bool:
    return task.cohort.report and row[rows.STATE] == rows.DONE and not folder.case(row[rows.CASE], REPORT).is_file()


def work_on(task: Task, item: Input, device: str, threads: int) -> dict[str, Any]:
    """Do all that is to be done with one input; runs in a worker and does not raise.

    Parameters
    ----------
    task : what is the same for all
    item : the input
    device : for the network
    threads : of the processor, for the network

    Returns
    -------
    dict
        The input's record: ``rows``, one for each scan in it, and ``recorded``: whether it lies in the folder. What this
        machine could not do (disk, device, memory) is not recorded, so that the next run takes it up.
    """
    folder, neutral = CohortFolder(task.root), Anonymous(item.files)
    content = ""
    try:
        if item.problem:
            raise ReadError(item.problem)
        content = content_hash(item.to_hash)
        known = folder.record(content)
        if settled(folder, known, task, with_report=False):
            return _seen_again(folder, known, item, task)
        folder.forget(content)  # killed from here on, neither old nor new labels are taken for the others
        record = {"input": content, "key": task.key, "fingerprints": [fingerprint_of(item.to_hash)]}
        record["rows"] = _Worker(folder, task, content, item, neutral, device, threads).rows()  # type: ignore[assignment]
        folder.write_record(record, item.files)
        return record | {"recorded": True}
    except (LungSegError, OSError, MemoryError) as error:
        reason = _sentence(neutral(_reason(error)))
        return {"input": content, "rows": [unfinished(content, reason)], "recorded": False, "disk": _is_disk(error)}


def unfinished(content: str, reason: str) -> dict[str, Any]:
    """The row of an input that could not be worked on."""
    return rows.empty_row(content or UNREAD, content, 0) | {rows.REASON: reason}


def _is_disk(error: BaseException) -> bool:
    return isinstance(error, WriteError | OSError)


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "The memory of the worker ran out; take fewer workers, or --overlap 1."
    if isinstance(error, OSError):
        return f"A file could not be read or written ({error.strerror or error})."
    return str(error)


def _sentence(text: str) -> str:
    """On one line, and with a capital letter where a name at its beginning was replaced."""
    line = " ".join(text.split())
    return line[:1].upper() + line[1:]


def _seen_again(folder: CohortFolder, record: dict[str, Any], item: Input, task: Task) -> dict[str, Any]:
    """Finished before, under another name or with another date: remember that too, and add the reports that lack."""
    from ..io import read

    now = fingerprint_of(item.to_hash)
    if now not in record["fingerprints"]:
        record["fingerprints"] = [*record["fingerprints"], now]
        folder.write_record(record, item.files)
    for row in record["rows"]:
        if _lacks_report(folder, row, task):
            (labels,) = read(folder.case(row[rows.CASE], LABELS), labels=True)
            _write_report(folder, folder.volume(row), labels, row)
    return record | {"recorded": True, "unchanged": True}


def _write_report(folder: CohortFolder, volume: Volume, labels: Any, row: dict[str, Any]) -> None:
    """The report of a case, with the findings of its row, from which names are taken out."""
    from ..analysis.case_report import write_case_report

    told = tuple(Finding(finding["code"], finding["message"]) for finding in row[rows.TOLD])
    volume = dataclasses.replace(volume, findings=told, source="", name=str(row["series"]))
    labels = dataclasses.replace(labels, findings=(), source="")
    with _DRAWING:
        write_case_report(volume, labels, folder.case(row[rows.CASE], REPORT), name=f"Case {row[rows.CASE]}")


@dataclass
class _Worker:
    """One input on its way."""

    folder: CohortFolder
    task: Task
    content: str
    item: Input
    neutral: Anonymous
    device: str
    threads: int
    lines: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def rows(self) -> list[dict[str, Any]]:
        """One row per scan; raises only for what the machine could not do."""
        started = time.perf_counter()
        try:
            volumes = self._volumes()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - as in `_one`
            return [self._failed(self._row(0, 1), error)]
        read_s = time.perf_counter() - started
        made = []
        for number, volume in enumerate(volumes):
            self.lines, self.started = [], time.perf_counter()
            row = self._row(number, len(volumes))
            row |= rows.facts(volume, self.item.kernel, self.item.thickness_mm) | {"read_s": read_s / len(volumes)}
            row["series"] = self.neutral(row["series"])
            made.append(self._one(volume, row))
        return made

    def _volumes(self) -> list[Volume]:
        from ..io import read
        from ..volume import Volume

        self._log(f"opening {len(self.item.files)} file(s)")
        items = read(self.item.files, modality=self.task.modality)
        volumes = [item for item in items if isinstance(item, Volume)]
        if not volumes:
            raise _NotAScanError("This is a label map, not an image.")
        return volumes

    def _row(self, number: int, of: int) -> dict[str, Any]:
        from .. import __version__

        case = self.content if of == 1 else f"{self.content}-{number + 1}"
        return rows.empty_row(case, self.content, number) | {"version": __version__}

    def _one(self, volume: Volume, row: dict[str, Any]) -> dict[str, Any]:
        try:
            self._check_wanted(volume, row)
            self._make(volume, row)
        except _NotAScanError as error:
            return self._left_out(row, str(error), filtered=False)
        except _NotWantedError as error:
            return self._left_out(row, str(error), filtered=True)
        except (WriteError, DeviceError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a crash costs one scan, and its log says where
            return self._failed(row, error)
        return row

    def _check_wanted(self, volume: Volume, row: dict[str, Any]) -> None:
        if has_finding(volume.findings, "localizer"):
            raise _NotAScanError("This is a scanner's overview image (localizer), not a scan.")
        if reason := self.task.cohort.against(row):
            raise _NotWantedError(reason)

    def _make(self, volume: Volume, row: dict[str, Any]) -> None:
        """Segment, measure and write one scan; fills in its row."""
        from ..io import write
        from .thumbnail import save_thumbnail

        started = time.perf_counter()
        volume = _in_hounsfield(volume, self.task.hu_offset).load()
        row["read_s"] = row["read_s"] + time.perf_counter() - started
        self._log(f"read {' × '.join(map(str, volume.geometry.shape))} voxels, {volume.modality} in {volume.unit}")
        labels, row["device_s"] = self._segment(volume)
        measured, noticed = _measured(volume, labels)
        told = (*volume.findings, *labels.findings, *noticed)
        findings = [Finding(finding.code, self.neutral(finding.message)) for finding in told]
        row |= measured | rows.judged(labels, findings) | _maker(labels)
        started = time.perf_counter()
        case = row[rows.CASE]
        save_thumbnail(volume, labels, self.folder.case(case, THUMBNAIL))
        self.folder.case(case, REPORT).unlink(missing_ok=True)
        if self.task.cohort.report:
            _write_report(self.folder, volume, labels, row)
        write(dataclasses.replace(labels, source="", name="labels"), self.folder.case(case, LABELS))
        row["write_s"] = time.perf_counter() - started
        for finding in findings:
            self._log(f"{finding.code}: {finding.message}")
        self._finish(row, rows.DONE, "")

    def _segment(self, volume: Volume) -> tuple[LabelMap, float]:
        """Labels on the scan's own grid, and the seconds for which they held the device."""
        from ..analysis.resample import resample_labels
        from ..analysis.straighten import straightened
        from ..segmentation.predict import iter_segment

        straight = straightened(volume) if self.task.straighten else volume
        steps = iter_segment(straight, self.task.model, device=self.device, settings=self.task.segment)
        with _DEVICE:
            started = time.perf_counter()
            _set_threads(self.threads)
            for step in steps:
                if step.total and step.done >= step.total:  # what follows is for the processor
                    break
            held = time.perf_counter() - started
        labels = drain(steps)
        if straight is not volume:
            told = (*labels.findings, straight.findings[-1])
            labels = dataclasses.replace(resample_labels(labels, volume.geometry), findings=told)
        self._log(f"the network took {held:.2f} s on {labels.record.get('device')}")
        return labels, held

    def _left_out(self, row: dict[str, Any], reason: str, *, filtered: bool) -> dict[str, Any]:
        row |= {rows.FILTERED: filtered, rows.STATE: rows.LEFT_OUT, rows.REASON: reason}
        return _rounded(row)

    def _failed(self, row: dict[str, Any], error: Exception) -> dict[str, Any]:
        if isinstance(error, _NotAScanError):
            return self._left_out(row, str(error), filtered=False)
        if isinstance(error, LungSegError):
            reason = str(error)
        else:
            reason = f"An unexpected error ({type(error).__name__}: {error}); the log of the case says where."
            self._log("".join(traceback.format_exception(error)))
        for name in (LABELS, THUMBNAIL, REPORT):  # of another model or other settings
            self.folder.case(row[rows.CASE], name).unlink(missing_ok=True)
        self._finish(row, rows.FAILED, _sentence(self.neutral(reason)))
        return row

    def _finish(self, row: dict[str, Any], state: str, reason: str) -> None:
        row |= {rows.STATE: state, rows.REASON: reason, "seconds": time.perf_counter() - self.started}
        row["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row |= _rounded(row)
        self._log(f"{state} {reason}".strip())
        with replacing(self.folder.case(row[rows.CASE], LOG)) as temporary:
            temporary.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def _log(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        self.lines.append(f"{stamp} {time.perf_counter() - self.started:8.2f} s  {self.neutral(text)}")


class _NotAScanError(LungSegError):
    """Nothing that could ever be segmented; a reason to leave it out."""


class _NotWantedError(LungSegError):
    """A scan that the filters leave out."""


def _in_hounsfield(volume: Volume, offset: float | str | None) -> Volume:
    if offset is None or volume.modality != "ct" or volume.unit != "a.u.":
        return volume
    from ..io.infer import apply_offset

    return apply_offset(volume, None if offset == "auto" else float(offset))


def _measured(volume: Volume, labels: LabelMap) -> tuple[dict[str, Any], list[Finding]]:
    """The figures; what cannot be measured costs the figures and not the labels."""
    from ..analysis.measure import measure

    try:
        return rows.figures(measure(volume, labels)), []
    except LungSegError as error:
        return {}, [Finding("not-measured", str(error))]


def _maker(labels: LabelMap) -> dict[str, Any]:
    record = labels.record
    return {
        "device": record.get("device"),
        "precision": record.get("precision"),
        "model": record.get("model"),
        "model_version": record.get("version"),
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Six digits say enough, and a value that is not finite is no value for JSON."""
    return {
        name: (float(f"{value:.6g}") if np.isfinite(value) else None) if isinstance(value, float) else value
        for name, value in row.items()
    }


def _set_threads(threads: int) -> None:
    """Dask allows a worker one thread of the processor where nobody says otherwise."""
    import torch

    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
