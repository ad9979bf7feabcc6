"""``lungseg fetch`` and ``lungseg store``: series from and to a DICOMweb server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import PacsError
from . import show

if TYPE_CHECKING:
    from ..io.dicomweb import RemoteSeries
    from ..io.pacs_session import Credentials

Flag = Parameter(negative=())


def fetch(
    url: str,
    /,
    *,
    patient_id: str = "",
    patient_name: str = "",
    date: str = "",
    accession: str = "",
    modality: str = "",
    study: str = "",
    series: str | None = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    limit: int = 100,
    login: Annotated[bool, Flag] = False,
    keep_identifiers: Annotated[bool, Flag] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")] = False,
) -> int:
    """List the series on a PACS (DICOMweb), or retrieve one into a folder.

    Credentials are taken from LUNGSEG_PACS_TOKEN, or LUNGSEG_PACS_USER and LUNGSEG_PACS_PASSWORD, or netrc.

    Parameters
    ----------
    url : str
        Of the service, e.g. https://pacs.example.org/dicom-web
    patient_id : str
        Only this patient; * and ? match anything, here and below.
    patient_name : str
        Only patients of this name.
    date : str
        Only studies of a day or of days, e.g. 2024-02-29, 20240229 or 2024-01-01-2024-12-31.
    accession : str
        Only this accession number.
    modality : str
        Only series of it, e.g. CT.
    study : str
        Only the study with this Study Instance UID.
    series : str
        The Series Instance UID to retrieve; --study makes finding it quicker.
    out : Path
        Folder to be made for it.
    limit : int
        At most so many studies.
    login : bool
        Ask for user and password at the terminal.
    keep_identifiers : bool
        Show names and identifiers of patients; otherwise they are "patient 1", "patient 2" …
    """
    from ..io.dicomweb import query, retrieve

    if (series is None) != (out is None):
        raise PacsError("To retrieve, give both --series UID and -o FOLDER; to list, give neither.")
    credentials = _asked_for() if login else None
    filters = {"patient_id": patient_id, "patient_name": patient_name, "date": date}
    filters |= {"accession": accession, "study": study}
    found = show.drained(query(url, filters, modality=modality, limit=limit, credentials=credentials), "query")
    if series is None or out is None:
        _list(found, keep_identifiers, as_json)
        return 0
    wanted = [one for one in found if one.uid == series]
    if not wanted:
        raise PacsError(f"No such series among {len(found)} found; run `lungseg fetch` without --series to list them.")
    show.line(str(show.drained(retrieve(url, wanted[0], out, credentials=credentials), out.name)))
    return 0


def store(url: str, path: Path, /, *paths: Path, login: Annotated[bool, Flag] = False) -> int:
    """Send DICOM files to a PACS (DICOMweb): segmentations, structure sets, or whole series.

    Credentials are taken from LUNGSEG_PACS_TOKEN, or LUNGSEG_PACS_USER and LUNGSEG_PACS_PASSWORD, or netrc.

    Parameters
    ----------
    url : str
        Of the service, e.g. https://pacs.example.org/dicom-web
    path : Path
        File, or folder of files.
    paths : Path
        More of them.
    login : bool
        Ask for user and password at the terminal.
    """
    from ..io.dicomweb import store as store_steps

    credentials = _asked_for() if login else None
    count = show.drained(store_steps(url, (path, *paths), credentials=credentials), path.name)
    show.line(f"{count} instance(s) stored")
    return 0


def _asked_for() -> Credentials:
    from getpass import getpass

    from ..io.pacs_session import Credentials

    return Credentials(user=input("User: "), password=getpass("Password: "))


def _list(found: Sequence[RemoteSeries], keep_identifiers: bool, as_json: bool) -> None:
    rows = [_row(series, keep_identifiers) for series in found]
    if as_json:
        show.for_machines(rows)
    elif not rows:
        show.line("The server holds nothing that matches.")
    else:
        from ..analysis.table import Table

        columns = [name for name in rows[0] if name != "study"]
        show.table(Table(tuple(columns), tuple(tuple(row[name] for name in columns) for row in rows)))


def _row(series: RemoteSeries, keep_identifiers: bool) -> dict[str, Any]:
    who = {"patient": series.alias}
    if keep_identifiers:
        who = {"patient": series.patient_name, "patient_id": series.patient_id}
    return who | {
        "date": series.date,
        "modality": series.modality,
        "number": series.number,
        "description": series.description if keep_identifiers else series.neutral_description,
        "instances": series.instances,
        "study": series.study,
        "series": series.uid,
    }
