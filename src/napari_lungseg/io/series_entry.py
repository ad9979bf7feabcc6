"""One series of a list: what a person needs to choose it, and where its files are."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from ..findings import Finding
from . import archive
from .dicom_geometry import normal_of
from .dicom_header import DamagedFileError, Frame, Instance, frames_of
from .dicom_kind import is_localizer, neutral_name, says_ct
from .dicom_labels import LABEL_OBJECTS

Opener: TypeAlias = Callable[[], BinaryIO]
Header: TypeAlias = Mapping[str, str]
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


@dataclass(frozen=True)
class SeriesEntry:
    """A DICOM series as its headers describe it.

    Parameters
    ----------
    uid, study : SeriesInstanceUID and StudyInstanceUID
    patient : an alias ("patient 1"), or name and ID where those were asked for
    patient_key : name and ID, which tell patients apart; shown only where they were asked for
    date : of the study, ISO, or ""
    modality : as the header says it: "CT", "DX" …
    number : SeriesNumber, or None
    name : modality, number and description, without anything of the patient
    slices : images or frames; the slices that a segmentation has frames on; 0 for structure sets, which have no images
    spacing : (z, y, x) mm; None where the headers do not say
    shape : (rows, columns); zeros for structure sets
    is_ct : whether it is a CT other than an overview image
    is_labels : whether it holds segmentations or structure sets
    files : paths in the order of the slices, or names in ``zipped``
    zipped : the ZIP file that holds them, or None
    """

    uid: str
    study: str
    patient: str
    patient_key: str = field(repr=False)
    date: str
    modality: str
    number: int | None
    name: str
    slices: int
    spacing: tuple[float, float, float] | None
    shape: tuple[int, int]
    is_ct: bool
    is_labels: bool
    files: tuple[str, ...] = field(repr=False)
    zipped: Path | None = field(default=None, repr=False)

    @property
    def spacing_text(self) -> str:
        """Spacing for a person, a dash where it is not known."""
        return " × ".join(f"{value:.4g}" for value in self.spacing) if self.spacing else "–"

    @contextlib.contextmanager
    def on_disk(self, files: Sequence[str] | None = None) -> Iterator[tuple[list[Path], list[Finding]]]:
        """Its files (or some of them) as paths; those of an archive are unpacked as long as this lasts."""
        names = self.files if files is None else files
        if self.zipped is None:
            yield [Path(name) for name in names], []
        else:
            with archive.unpacked(self.zipped, names) as unpacked:
                yield unpacked


def entry_of(members: Sequence[tuple[str, Header]], openers: Mapping[str, Opener], zipped: Path | None) -> SeriesEntry:
    """The entry of one series.

    Parameters
    ----------
    members : file and what was scanned of it
    openers : opens each file
    zipped : the archive that they lie in, or None
    """
    members = list({header.get("SOPInstanceUID") or name: (name, header) for name, header in members}.values())
    places = _places([header for _, header in members])
    order = sorted(range(len(members)), key=lambda index: (places[index], _count(members[index][1], "InstanceNumber")))
    ordered = [members[index] for index in order]
    files = tuple(name for name, _ in ordered)
    frames = _frames(files[len(files) // 2], openers)
    first, is_labels = frames[0], members[0][1].get("SOPClassUID") in LABEL_OBJECTS
    placed = sorted(places) if len(frames) == 1 else _places_of(frames)
    date = next((text for keyword in _DATES if (text := first.text(keyword))), "")
    return SeriesEntry(
        uid=str(first.get("SeriesInstanceUID") or ""),
        study=str(first.get("StudyInstanceUID") or ""),
        patient="",
        patient_key=", ".join(str(first.get(each) or "").strip() for each in ("PatientName", "PatientID")).strip(", "),
        date=f"{date[:4]}-{date[4:6]}-{date[6:8]}" if re.fullmatch(r"\d{8}", date) else "",
        modality=re.sub(r"[^A-Z]", "", first.text("Modality"))[:8],
        number=None if (number := first.number("SeriesNumber")) is None else int(number),
        name=f"{neutral_name(first)}, localizer" if is_localizer(first) else neutral_name(first),
        slices=_slices(members, placed, is_labels) if first.shape[0] else 0,
        spacing=_spacing(first, placed),
        shape=first.shape,
        is_ct=says_ct(first) and not is_localizer(first) and not is_labels,
        is_labels=is_labels,
        files=files,
        zipped=zipped,
    )


def _slices(members: Sequence[tuple[str, Header]], places: Sequence[float], is_labels: bool) -> int:
    # A segmentation has a frame for each segment on a slice.
    return len(set(places)) if is_labels else sum(max(1, _count(header, "NumberOfFrames")) for _, header in members)


def _count(header: Header, keyword: str) -> int:
    try:
        return int(float(header.get(keyword) or 0))
    except (ValueError, OverflowError):
        return 0


def _places(headers: Sequence[Header]) -> list[float]:
    """Mm along the normal of the first slice; 0 where a header does not say."""
    across = next((found for header in headers if len(found := _numbers(header, "ImageOrientationPatient")) == 6), None)
    if across is None:
        return [0.0] * len(headers)
    normal = np.cross(across[:3], across[3:])
    positions = [_numbers(header, "ImagePositionPatient") for header in headers]
    return [round(float(np.dot(position, normal)), 4) if len(position) == 3 else 0.0 for position in positions]


def _numbers(header: Header, keyword: str) -> list[float]:
    try:
        values = [float(word) for word in (header.get(keyword) or "").split("\\") if word]
    except ValueError:
        return []
    return values if np.isfinite(values).all() else []


def _places_of(frames: Sequence[Frame]) -> list[float]:
    if any(frame.position is None for frame in frames) or frames[0].orientation is None:
        return []
    return sorted((np.array([frame.position for frame in frames]) @ normal_of(frames[0].orientation)).round(4).tolist())


def _frames(name: str, openers: Mapping[str, Opener]) -> list[Frame]:
    """The frames of one file, by its whole header; the scan has read it before, so there is one."""
    import pydicom

    with contextlib.closing(openers[name]()) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(io.BufferedReader(file), stop_before_pixels=True, force=True)  # type: ignore[type-var]
    instance = Instance(Path(name), header, "", None)
    try:
        return frames_of(instance)
    except DamagedFileError:
        return [Frame(instance)]


def _spacing(frame: Frame, places: Sequence[float]) -> tuple[float, float, float] | None:
    """(z, y, x) mm: the usual distance of neighbours, else the thickness of the slice."""
    gaps = np.diff(np.unique(places))
    between = float(np.median(gaps)) if gaps.size else abs(frame.number("SliceThickness") or 0.0)
    return (round(between, 4), *frame.spacing) if frame.spacing and between else None
