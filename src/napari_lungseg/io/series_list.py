"""What series a folder, a ZIP file or a disc holds: only headers are read, and of those only what sorts them.

A list says what to choose from; `napari_lungseg.io.read` then reads what was chosen. Patients are numbered, not named.
"""

from __future__ import annotations

import dataclasses
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..errors import ReadError
from ..findings import Finding
from ..progress import Progress, drain
from . import LARGEST_CT, archive
from .dicom_header import NOT_SCANS, DamagedFileError
from .dicom_labels import LABEL_OBJECTS
from .dicom_scan import scan_header
from .discover import candidates, named_like_dicom
from .series_entry import Header, Opener, SeriesEntry, entry_of

if TYPE_CHECKING:
    from . import Item

_ROW = "row-"
# Progress and a chance to cancel, in seconds.
_YIELD_EVERY = 0.1
_TOLD = 8  # series in a message


@dataclass(frozen=True)
class SeriesList:
    """The series that a path holds, by patient, date and number.

    Parameters
    ----------
    entries : one per series that has images or labels
    findings : what was noticed on the way: damaged files, other objects …
    """

    entries: tuple[SeriesEntry, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def studies(self) -> int:
        """How many studies they belong to."""
        return len({(entry.patient_key, entry.study) for entry in self.entries})

    @property
    def scans(self) -> list[SeriesEntry]:
        """The entries that are no labels."""
        return [entry for entry in self.entries if not entry.is_labels]

    def largest_ct(self) -> SeriesEntry | None:
        """The CT series with the most slices, overview images aside; None where there is no CT."""
        return max((each for each in self.entries if each.is_ct), key=lambda each: each.slices, default=None)

    def pick(self, series: str) -> list[SeriesEntry]:
        """The entries that a word means; none where it means nothing.

        Parameters
        ----------
        series : ``"largest-ct"``, ``"row-3"`` (of this list, from 1), a series number, a SeriesInstanceUID, or a name
            or its beginning; of scans before labels
        """
        wanted = series.casefold().strip()
        scans, labels = self.scans, [each for each in self.entries if each.is_labels]
        if wanted == LARGEST_CT:
            largest = self.largest_ct()
            return [largest] if largest else []
        if is_row(wanted):
            row = int(wanted.removeprefix(_ROW))
            return list(self.entries[row - 1 : row]) if row else []
        meant: tuple[Callable[[SeriesEntry], bool], ...] = (
            lambda each: each.uid == series.strip(),
            lambda each: each.number is not None and str(each.number) == wanted,
            lambda each: each.name.casefold() == wanted,
            lambda each: bool(wanted) and not wanted.lstrip("-").isdigit() and each.name.casefold().startswith(wanted),
        )
        tried = ([each for each in those if means(each)] for those in (scans, labels) for means in meant)
        return next((found for found in tried if found), [])


@dataclass
class _Scan:
    """What looking at the files brought to light."""

    # By SeriesInstanceUID and whether they are labels: careless programs number those like their source.
    series: dict[tuple[str, bool], list[tuple[str, Header]]] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)  # file name and reason
    others: int = 0
    findings: list[Finding] = field(default_factory=list)


def list_series(
    path: str | Path | Iterable[str | Path],
    *,
    identifiers: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> SeriesList:
    """List the DICOM series that a path holds, without reading a pixel.

    Parameters
    ----------
    path : a folder (with everything below it), a ZIP file, a DICOMDIR, a DICOM file, or a list of files
    identifiers : patients under their names and IDs; otherwise they are numbered
    progress : called with every `Progress`

    Raises
    ------
    ReadError
        Where there is no DICOM series, or the archive cannot be trusted.
    """
    return drain(iter_list_series(path, identifiers=identifiers), progress)


def read_series(
    path: str | Path | Iterable[str | Path],
    series: str | SeriesEntry,
    **how: Any,
) -> list[Item]:
    """Read the series of a path that a word means (see `SeriesList.pick`), or an entry of its list; ``how`` as `read` takes it.

    Raises
    ------
    ReadError
        Where none is meant, with what is there.
    """
    if isinstance(series, SeriesEntry):
        return _read_entry(series, _with_scan(series, path, how))
    listed = list_series(path)
    entries = listed.pick(series)
    if not entries:
        raise ReadError(nothing_meant(series, [entry.name for entry in listed.entries]))
    return [item for entry in entries for item in _read_entry(entry, _with_scan(entry, path, how))]


def nothing_meant(series: str, names: Sequence[str]) -> str:
    """What to say where a word means none of the series of these names."""
    return f"There is no series {series!r}; found {some_of(names)}. Give a number or a name of these."


def some_of(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(map(repr, names[:_TOLD])) + more


def is_row(series: str) -> bool:
    """Whether a word means a row of the list: ``"row-3"``."""
    wanted = series.casefold().strip()
    return wanted.startswith(_ROW) and wanted.removeprefix(_ROW).isdigit()


def _with_scan(
    entry: SeriesEntry, path: str | Path | Iterable[str | Path], how: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Labels are drawn on a scan, which lies most often where they do."""
    if not entry.is_labels or how.get("reference") is not None or not isinstance(path, str | Path):
        return how
    return {**how, "reference": path}


def _read_entry(entry: SeriesEntry, how: Mapping[str, Any]) -> list[Item]:
    from . import read
    from .unpacking import read_unpacked

    with entry.on_disk() as (files, told):
        if entry.zipped is None:
            return read(files, **how)
        return read_unpacked(files, entry.zipped, told, **how)


def iter_list_series(
    path: str | Path | Iterable[str | Path], *, identifiers: bool = False
) -> Generator[Progress, None, SeriesList]:
    """`list_series`, step by step."""
    yield Progress(0, 0, "Looking for files …")
    single = Path(path) if isinstance(path, str | Path) else None
    if single is not None and archive.is_archive(single):
        with archive.opened(single) as opened:
            members, told = archive.members_of(opened)
            named = [member for member in members if named_like_dicom(member.filename)]
            files: dict[str, Opener] = {member.filename: partial(_member, opened, member) for member in named}
            return (yield from _listed(single.name, single, files, told, identifiers))
    paths, told = candidates(path)
    openers: dict[str, Opener] = {str(each): partial(_raw, each) for each in paths}
    return (yield from _listed(single.name if single else "The list", None, openers, told, identifiers))


def _listed(
    name: str, zipped: Path | None, files: dict[str, Opener], told: Sequence[Finding], identifiers: bool
) -> Generator[Progress, None, SeriesList]:
    scan = yield from _scan(files)
    if not scan.series:
        raise ReadError(_nothing(name, scan, told))
    entries = []
    for done, members in enumerate(scan.series.values()):
        yield Progress(done, len(scan.series), "Sorting series …")
        try:
            entries.append(entry_of(members, files, zipped))
        except archive.DAMAGE as error:
            scan.damaged += [(Path(name).name, str(error)) for name, _ in members]
    if not entries:
        raise ReadError(_nothing(name, scan, told))
    # The order of their names would tell of them, too: patients come as their files do.
    came = {key: number for number, key in enumerate(Counter(each.patient_key for each in entries))}
    entries.sort(key=lambda each: (came[each.patient_key], each.date, each.study, each.is_labels, each.number or 0))
    return SeriesList(tuple(_numbered(entries, identifiers)), (*told, *_findings(scan)))


def _scan(files: dict[str, Opener]) -> Generator[Progress, None, _Scan]:
    scan, last = _Scan(), time.monotonic()
    for done, (name, opener) in enumerate(files.items()):
        if (now := time.monotonic()) - last > _YIELD_EVERY:
            last = now
            yield Progress(done, len(files), "Reading headers …")
        try:
            with closing(opener()) as file:
                header = scan_header(file)
        except DamagedFileError as error:
            scan.damaged.append((Path(name).name, str(error)))
            continue
        except archive.DAMAGE as error:
            scan.damaged.append((Path(name).name, f"it cannot be opened ({getattr(error, 'strerror', None) or error})"))
            continue
        if header is None:
            continue
        sop_class = header.get("SOPClassUID", "")
        is_labels = sop_class in LABEL_OBJECTS
        if not is_labels and (int(header.get("Rows") or 0) < 1 or sop_class in NOT_SCANS):
            scan.others += 1
        else:
            scan.series.setdefault((header.get("SeriesInstanceUID", ""), is_labels), []).append((name, header))
    return scan


def _raw(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)  # one read is all that most files need


def _member(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    return cast("BinaryIO", opened.open(member))


def _nothing(name: str, scan: _Scan, told: Sequence[Finding]) -> str:
    if scan.damaged:
        return f"{name} holds no DICOM series; {scan.damaged[0][0]} is damaged: {scan.damaged[0][1]}. Export it again."
    if scan.others:
        return f"{name} holds DICOM, but no images. Open the folder of the CT series or the radiograph."
    return " ".join((f"{name} holds no DICOM series.", *(finding.message for finding in told)))


def _findings(scan: _Scan) -> list[Finding]:
    findings = []
    if scan.damaged:
        name, reason = scan.damaged[0]
        others = f" and {len(scan.damaged) - 1} more" if len(scan.damaged) > 1 else ""
        findings.append(
            Finding("damaged-files", f"{name}{others} could not be read ({reason}); slices may be missing.")
        )
    if scan.others:
        told = f"There are also {scan.others} object(s) that are neither scans nor labels; they are not listed."
        findings.append(Finding("other-objects", told))
    return findings


def _numbered(entries: Sequence[SeriesEntry], identifiers: bool) -> list[SeriesEntry]:
    """Patients under a number, in the order of the list, or under their names and IDs."""
    if identifiers:
        return [dataclasses.replace(each, patient=each.patient_key) for each in entries]
    numbers = {key: number for number, key in enumerate(Counter(each.patient_key for each in entries), 1)}
    return [dataclasses.replace(each, patient=f"patient {numbers[each.patient_key]}") for each in entries]
