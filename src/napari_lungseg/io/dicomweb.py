"""Query, retrieve and store over DICOMweb: QIDO-RS, WADO-RS and STOW-RS (DICOM PS3.18 10.4 to 10.6)."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PacsError
from ..progress import Progress
from . import atomic
from .dicom_header import is_dicom
from .dicom_kind import is_neutral
from .discover import files_of
from .pacs_session import Credentials, connect, told

# What a query may ask for; the keyword is DICOM's.
FILTERS = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "date": "StudyDate",
    "accession": "AccessionNumber",
    "study": "StudyInstanceUID",
}
_STUDY_FIELDS = ["StudyDescription"]
_SERIES_FIELDS = ["SeriesDescription", "NumberOfSeriesRelatedInstances", "Modality", "SeriesNumber"]


@dataclass(frozen=True)
class RemoteSeries:
    """A series that a server holds.

    Parameters
    ----------
    study, uid : its Study and Series Instance UID
    alias : neutral name of the patient, e.g. ``"patient 1"``; the same for all series of one query
    date : of the study, ``YYYYMMDD``
    modality, description, number, instances : as the server tells them
    patient_name, patient_id : the person; not part of ``repr``, and shown only where a user asks for it
    """

    study: str
    uid: str
    alias: str
    date: str = ""
    modality: str = ""
    description: str = field(default="", repr=False)
    number: int | None = None
    instances: int | None = None
    patient_name: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)

    @property
    def neutral_description(self) -> str:
        """The description where it tells nothing of the patient, else empty."""
        return self.description if is_neutral(self.description, (self.patient_name, self.patient_id)) else ""


def query(
    url: str,
    filters: Mapping[str, str] | None = None,
    *,
    modality: str = "",
    limit: int = 100,
    credentials: Credentials | None = None,
) -> Generator[Progress, None, list[RemoteSeries]]:
    """The series on a server whose studies match.

    Parameters
    ----------
    url : of the service
    filters : names of `FILTERS` with values; ``*`` and ``?`` match anything, dates may be ranges (``20240101-20241231``,
        ``2024-01-01-2024-12-31``, and open at one end)
    modality : only series of it, e.g. ``"CT"``
    limit : at most so many studies
    credentials : by default from the environment or netrc

    Raises
    ------
    PacsError
        Where the server cannot be reached, refuses, or speaks no DICOMweb.
    """
    client = connect(url, credentials)
    asked = {FILTERS[name]: value for name, value in (filters or {}).items() if value}
    if "StudyDate" in asked:  # with dashes for people, without for DICOM (PS3.5 6.2, DA)
        asked["StudyDate"] = re.sub(r"(\d{4})-(\d\d)-(\d\d)(?!\d)", r"\1\2\3", asked["StudyDate"])
    found: list[RemoteSeries] = []
    aliases: dict[str, str] = {}
    yield Progress(0, 0, "Asking for studies …")
    with told(url):
        studies = client.search_for_studies(fields=_STUDY_FIELDS, search_filters=asked, limit=limit)
    for done, study in enumerate(studies):
        yield Progress(done, len(studies), "Asking for series …")
        with told(url):
            whose = _read(study)
            alias = aliases.setdefault(str(whose.get("PatientID", "") or ""), f"patient {len(aliases) + 1}")
            series = client.search_for_series(str(whose.StudyInstanceUID), fields=_SERIES_FIELDS)
            found += [_series(whose, _read(one), alias) for one in series]
    # Here, for servers differ in whether they know ModalitiesInStudy of a study of several.
    return [series for series in found if modality in ("", series.modality)]


def retrieve(
    url: str, series: RemoteSeries, folder: Path, *, credentials: Credentials | None = None
) -> Generator[Progress, None, Path]:
    """Bring a series into a folder, file by file as the server stored it; the folder appears complete or not at all.

    Parameters
    ----------
    url : of the service
    series : as `query` found it
    folder : to be made; it may exist while it is empty
    credentials : by default from the environment or netrc

    Raises
    ------
    PacsError
        Where the server refuses, breaks off, or sends fewer instances than it told of.
    WriteError
        Where the folder holds something, or the disk refuses.
    """
    client = connect(url, credentials)
    total = series.instances or 0
    with atomic.replacing_folder(folder) as temporary:
        yield Progress(0, total, "Waiting for the server …")
        with told(url):
            instances = iter(client.iter_series(series.study, series.uid, media_types=(("application/dicom", "*"),)))
        done = 0
        while (instance := _next(instances, url)) is not None:
            done += 1
            instance.save_as(temporary / f"{done:06d}.dcm", enforce_file_format=True)
            yield Progress(done, total, f"Retrieved {done} of {total or 'unknown'} instances")
        if done < max(total, 1):
            raise PacsError(f"Only {done} of {total} instances of the series came; nothing was kept. Try again.")
    return folder


def store(url: str, paths: Sequence[Path], *, credentials: Credentials | None = None) -> Generator[Progress, None, int]:
    """Send DICOM files, or all those in folders, to a server; returns how many.

    Parameters
    ----------
    url : of the service
    paths : files and folders
    credentials : by default from the environment or netrc

    Raises
    ------
    PacsError
        Where a path holds no DICOM, or the server refuses; the message says how many it has taken by then.
    """
    import pydicom

    files = _files(paths)
    client = connect(url, credentials)
    for done, path in enumerate(files):
        yield Progress(done, len(files), f"Stored {done} of {len(files)} instances")
        try:
            with told(url):
                answer = client.store_instances([pydicom.dcmread(path)])
                failed = answer.get("FailedSOPSequence")
                reason = int(failed[0].get("FailureReason", 0)) if failed else 0
        except PacsError as error:
            raise PacsError(f"{path.name}: {error} Stored before: {done} of {len(files)}.") from None
        if failed:
            raise PacsError(
                f"{path.name} was not accepted by the server (reason {reason:#06x} of PS3.18 table 10.5.3-1). "
                f"Stored before: {done} of {len(files)}."
            )
    return len(files)


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = [file for file in files_of(path)[0] if is_dicom(file)]
        if not found:
            raise PacsError(f"{path.name} is no DICOM, and nothing else can be stored; write labels as .seg.dcm.")
        files += found
    return files


def _read(answer: Mapping[str, Any]) -> Any:
    from pydicom.dataset import Dataset

    return Dataset.from_json(dict(answer))


def _series(study: Any, series: Any, alias: str) -> RemoteSeries:
    def text(dataset: Any, keyword: str) -> str:
        return str(dataset.get(keyword, "") or "").strip()

    def number(keyword: str) -> int | None:
        told_number = series.get(keyword)
        return None if told_number in (None, "") else int(told_number)

    return RemoteSeries(
        study=str(study.StudyInstanceUID),
        uid=str(series.SeriesInstanceUID),
        alias=alias,
        date=text(study, "StudyDate"),
        modality=text(series, "Modality"),
        description=text(series, "SeriesDescription"),
        number=number("SeriesNumber"),
        instances=number("NumberOfSeriesRelatedInstances"),
        patient_name=text(study, "PatientName"),
        patient_id=text(study, "PatientID"),
    )


def _next(instances: Any, url: str) -> Any:
    with told(url):
        return next(instances, None)
