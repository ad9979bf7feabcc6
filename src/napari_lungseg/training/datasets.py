"""Data sets of images and masks, found by how their folders are laid out.

A layout is one function and one line in `LAYOUTS`. It lists and pairs files without opening them; what lies in the
files is looked at by `napari_lungseg.training.checking`.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import LungSegError, TrainingDataError
from ..findings import Finding
from ..io import suffix_of
from ..io.infer import MOST_LABELS, hu_offset
from ..registry import Table
from ..volume import LEFT_LUNG, LUNG_NAMES, RIGHT_LUNG, Modality, Unit, Volume
from .cases import PARTS, Case, Found, LayoutError
from .reading import read_case, read_image, read_mask
from .splits import FRACTIONS, read_splits, split_by_patient

__all__ = ["LAYOUTS", "Case", "DataSet", "find_dataset"]

_HERE = "napari_lungseg.training"
LAYOUTS = Table(
    "layout of a data set",
    {
        "split-csv": f"{_HERE}.layouts:find_split_csv",
        "montgomery": f"{_HERE}.public_layouts:find_montgomery",
        "shenzhen": f"{_HERE}.public_layouts:find_shenzhen",
        "merged": f"{_HERE}.public_layouts:find_merged",
        "jsrt": f"{_HERE}.public_layouts:find_jsrt",
        "isic": f"{_HERE}.public_layouts:find_isic",
        "finding-lungs": f"{_HERE}.public_layouts:find_finding_lungs",
        "images-tr": f"{_HERE}.layouts:find_image_tree",
        "ct-seg": f"{_HERE}.layouts:find_volume_pairs",
        "folders": f"{_HERE}.layouts:find_folders",
        "unlabelled": f"{_HERE}.layouts:find_unlabelled",
    },
)
"""Name → function from a folder to what was `Found` there; it raises `LayoutError` for another layout. Tried in order."""

# Never guessed: a folder whose masks are not recognised must not pass for one without any.
_ASKED_FOR = ("unlabelled",)

# So many cases, evenly spread, are looked at to see what a data set holds; of volumes fewer, which take seconds each.
_PICTURES_SEEN, _VOLUMES_SEEN = 8, 2
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class DataSet:
    """Images with masks, ready to be read one by one.

    Parameters
    ----------
    path : folder or split file
    layout : name in `LAYOUTS`
    cases : usable as far as their names tell
    names : label → name
    modality, unit : of the images
    problems : what was left out, and what may be wrong
    offset : what is added to a CT that is not stored in Hounsfield units, or None
    """

    path: Path
    layout: str
    cases: tuple[Case, ...]
    names: Mapping[int, str]
    modality: Modality
    unit: Unit
    problems: tuple[Finding, ...] = ()
    offset: float | None = None

    def read(self, case: Case) -> tuple[Volume, np.ndarray | None]:
        """The scan in the standard view, loaded, and its labels.

        Returns
        -------
        The scan, and (z, y, x) uint8 labels in the same view, whose values are those of ``names``; None for an unlabelled
        case.

        Raises
        ------
        ReadError, TrainingDataError
            When a file cannot be read, or image and masks do not fit each other.
        """
        volume, labels, _ = self.examine(case)
        return volume, labels

    def examine(self, case: Case) -> tuple[Volume, np.ndarray | None, tuple[Finding, ...]]:
        """As `read`, with what was noticed about the masks."""
        volume, labels, noticed = read_case(case, self.modality, self.names, self.offset)
        if volume.unit != self.unit:
            raise TrainingDataError(
                f"{case.image.name} is in {volume.unit}, but the data set is in {self.unit}; leave it out or convert it."
            )
        return volume, labels, noticed

    def part(self, name: str) -> tuple[Case, ...]:
        """The cases of ``"train"``, ``"val"`` or ``"test"``; "" for those not yet split."""
        return tuple(case for case in self.cases if case.split == name)

    def divided(self, fractions: tuple[float, float, float] = FRACTIONS, seed: int = 0) -> DataSet:
        """The same data set with all cases split by patient; one that is split already is returned unchanged."""
        if any(case.split for case in self.cases):
            return self
        return dataclasses.replace(self, cases=split_by_patient(self.cases, fractions, seed))


def find_dataset(
    path: str | Path,
    layout: str = "auto",
    split_file: str | Path | None = None,
    *,
    modality: Modality | None = None,
    patient_pattern: str | None = None,
) -> DataSet:
    """Find the images and masks of a folder by its layout.

    Parameters
    ----------
    path : folder, or a split file
    layout : name in `LAYOUTS`; ``"auto"`` takes the first that fits
    split_file : says which case is in which part; cases that it does not name belong to none
    modality : of the images, where their files do not say it or say it wrongly
    patient_pattern : regular expression whose first group is the patient in a case's name, where the layout knows none

    Raises
    ------
    TrainingDataError
        When no layout fits (the message says what was found and what each expects), or nothing can be paired.
    UnknownNameError
        When there is no such layout.
    """
    folder = Path(path)
    if not folder.exists():
        raise TrainingDataError(f"There is no data set at {folder.name!r}; check the path.")
    name, found = _auto(folder) if layout == "auto" else (layout, _asked(folder, layout))
    if not found.cases:
        raise TrainingDataError(f"{folder.name} has layout {name}, but no usable case. {_first(found.problems)}")
    cases, problems = found.cases, list(found.problems)
    if patient_pattern is not None:
        cases = tuple(map(_patient_by(patient_pattern), cases))
        problems = [problem for problem in problems if problem.code != "patients-unknown"]
    if split_file is not None:
        cases, told = _assigned(cases, Path(split_file))
        problems += told
    problems += _about_parts(cases)
    kind, unit, offset, told = _judged(cases, modality or found.modality)
    names = found.names if found.names is not None else _names_of(cases, kind)
    return DataSet(folder, name, cases, names, kind, unit, (*problems, *told), offset)


def _asked(folder: Path, layout: str) -> Found:
    try:
        found: Found = LAYOUTS.resolve(layout)(folder)
    except LayoutError as error:
        raise TrainingDataError(f"{folder.name} does not have layout {layout}, which expects {error}.") from error
    return found


def _auto(folder: Path) -> tuple[str, Found]:
    expected = []
    for name in LAYOUTS:
        if name in _ASKED_FOR:
            continue
        try:
            return name, LAYOUTS.resolve(name)(folder)
        except LayoutError as error:
            expected.append(f"{name} expects {error}")
    inside = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir()) if folder.is_dir() else []
    shown = ", ".join(inside[:8]) + (f" and {len(inside) - 8} more" if len(inside) > 8 else "")
    raise TrainingDataError(
        f"{folder.name} is laid out like no known data set. Found: {shown or 'nothing'}. Layouts: {'; '.join(expected)}."
    )


def _first(problems: Sequence[Finding]) -> str:
    return " ".join(str(problem) for problem in problems[:3]) or "No image was found."


def _patient_by(pattern: str) -> Callable[[Case], Case]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TrainingDataError(f"The pattern {pattern!r} is no regular expression ({error}).") from error
    if compiled.groups < 1:
        raise TrainingDataError(f"The pattern {pattern!r} needs a group in brackets around what names the patient.")

    def renamed(case: Case) -> Case:
        match = compiled.search(case.name)
        if match is None or not match.group(1):
            raise TrainingDataError(f"The pattern {pattern!r} finds no patient in {case.name!r}.")
        return dataclasses.replace(case, patient=match.group(1))

    return renamed


def _assigned(cases: Sequence[Case], path: Path) -> tuple[tuple[Case, ...], list[Finding]]:
    """Cases in the parts that a split file says, found by path, else by name."""
    given = read_splits(path)
    by_path = {case.image.resolve(): case for case in given}
    by_name = {case.name: case for case in given}
    settled, problems = [], []
    for case in cases:
        said = by_path.get(case.image.resolve()) or by_name.get(case.name)
        if said is None:
            told = f"{case.name} is not in {path.name} and belongs to no part."
            problems.append(Finding("not-in-split", told))
        patient = said.patient if said else case.patient
        settled.append(dataclasses.replace(case, split=said.split if said else "", patient=patient))
    return tuple(settled), problems


def _about_parts(cases: Sequence[Case]) -> list[Finding]:
    """Patients in two parts, and parts without a case."""
    parts: dict[str, set[str]] = {}
    for case in cases:
        parts.setdefault(case.patient, set()).add(case.split)
    torn = sorted(patient for patient, found in parts.items() if len(found.intersection(PARTS)) > 1)
    told = "Patient {} is in {}: figures on such a split are too good."
    problems = [
        Finding("patient-in-two-parts", told.format(who, " and ".join(sorted(parts[who].intersection(PARTS)))))
        for who in torn
    ]
    used = {case.split for case in cases}.intersection(PARTS)
    missing = [part for part in PARTS if part not in used] if used else []
    return problems + [Finding("empty-part", f"The split has no case in {part!r}.") for part in missing]


def spread(cases: Sequence[Case], count: int | None = None) -> list[Case]:
    """Up to ``count`` cases, evenly spread over the data set; None: as many as tell what it holds."""
    if count is None:
        pictures = all(suffix_of(case.image) in _PICTURES for case in cases)
        count = _PICTURES_SEEN if pictures else _VOLUMES_SEEN
    picks = np.unique(np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int))
    return [cases[pick] for pick in picks]


def _judged(cases: Sequence[Case], modality: Modality | None) -> tuple[Modality, Unit, float | None, list[Finding]]:
    """Modality and unit of most of the images looked at, and the offset that makes them Hounsfield units."""
    kinds: Counter[tuple[Modality, Unit, float | None]] = Counter()
    reasons = []
    for case in spread(cases):
        try:
            volume = read_image(case, modality)
            kinds[volume.modality, volume.unit, hu_offset(volume)] += 1
        except LungSegError as error:
            reasons.append(str(error))
    if not kinds:
        raise TrainingDataError(f"None of the {len(reasons)} images looked at can be read. {reasons[0]}")
    (kind, unit, offset), _ = kinds.most_common(1)[0]
    problems = []
    if len({kind for kind, _, _ in kinds}) > 1:
        mixed = ", ".join(f"{count} {kind}" for (kind, _, _), count in kinds.most_common())
        problems.append(Finding("mixed-images", f"Not all images are of one kind ({mixed} seen); taken as {kind}."))
    if offset is not None:
        told = f"The images are stored with an offset; {offset:+.0f} is added to every voxel to reach Hounsfield units."
        problems.append(Finding("offset-applied", told))
    return kind, "HU" if offset is not None else unit, offset, problems


def _names_of(cases: Sequence[Case], modality: Modality) -> dict[int, str]:
    """Label names, by what some masks say or hold: sides are named only where there are two labels."""
    said: dict[int, str] = {}
    values: set[int] = set()
    for case in spread([case for case in cases if case.masks]):
        if case.mask_labels:
            values |= set(case.mask_labels)
            continue
        try:
            mask = read_mask(case.masks[0])
        except LungSegError:  # told with its name when the data set is checked
            continue
        found = set(np.unique(np.asarray(mask.array)).tolist()) - {0}
        if max(found, default=0) <= MOST_LABELS:  # a smoothed mask holds shades of grey
            said |= mask.names
            values |= found
    if said:
        return {label: said.get(label, f"label {label}") for label in sorted({*said, *values})}
    return _usual_names(values, modality)


def _usual_names(values: set[int], modality: Modality) -> dict[int, str]:
    if modality != "photo" and values == {RIGHT_LUNG, LEFT_LUNG}:
        return dict(LUNG_NAMES)
    if len(values) > 1:
        return {label: f"label {label}" for label in sorted(values)}
    return {1: "lesion" if modality == "photo" else "lungs"}
