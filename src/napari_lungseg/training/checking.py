"""Look at every image and mask of a data set before anything is trained on it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..analysis.table import Table
from ..errors import LungSegError
from ..findings import Finding
from ..progress import Progress
from ..volume import Volume
from .cases import PARTS, Case
from .datasets import DataSet
from .splits import FRACTIONS, split_by_patient

# Thumbnails of so many pixels a side are compared; pictures that correlate more are possible duplicates. Of 3 million
# pairs of radiographs of different children the most alike reach 0.968, true copies saved anew 0.9999; of 2 million pairs
# of skin lesions ten reach 0.97, all of them the same picture in other colours or cropped otherwise.
_THUMBNAIL, _SAME_PICTURE = 32, 0.97
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Checked:
    """What was seen in a data set.

    Parameters
    ----------
    dataset : without the cases that cannot be used; its problems name them
    findings : what was noticed in the files; part of ``dataset.problems``
    facts : one row per case: name, patient, part, size, labels and what is wrong with it
    copies : pairs of cases that show the same picture, as far as can be told
    """

    dataset: DataSet
    findings: tuple[Finding, ...]
    facts: Table
    copies: tuple[tuple[Case, Case], ...] = ()

    def divided(self, fractions: tuple[float, float, float] = FRACTIONS, seed: int = 0) -> DataSet:
        """As `DataSet.divided`, but patients who share a picture count as one, so that no copy crosses."""
        if any(case.split for case in self.dataset.cases):
            return self.dataset
        group = {case.patient: case.patient for case in self.dataset.cases}
        for one, other in self.copies:
            old, new = group[other.patient], group[one.patient]
            group = {patient: new if found == old else found for patient, found in group.items()}
        grouped = [dataclasses.replace(case, patient=group[case.patient]) for case in self.dataset.cases]
        parts = [case.split for case in split_by_patient(grouped, fractions, seed)]
        cases = (dataclasses.replace(case, split=part) for case, part in zip(self.dataset.cases, parts, strict=True))
        return dataclasses.replace(self.dataset, cases=tuple(cases))

    def apart(self) -> DataSet:
        """The data set without the patients of train and val who have a copy in a part that is judged by.

        The test part stays whole: val gives way to it, and train to both.
        """
        rank = {part: number for number, part in enumerate(PARTS)}
        across = [
            pair for pair in self.copies if all(case.split in PARTS for case in pair) and pair[0].split != pair[1].split
        ]
        giving = [min(pair, key=lambda case: rank[case.split]) for pair in across]
        leaving = {(case.patient, case.split) for case in giving}
        kept = tuple(case for case in self.dataset.cases if (case.patient, case.split) not in leaving)
        told = [
            Finding(
                "leak-left-out", f"{case.name} is left out of {case.split}: its patient has a copy in another part."
            )
            for case in self.dataset.cases
            if (case.patient, case.split) in leaving
        ]
        return dataclasses.replace(self.dataset, cases=kept, problems=(*self.dataset.problems, *told))


@dataclass
class _Seen:
    """What is kept of each case while the others are read."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    usable: list[Case] = field(default_factory=list)
    pixels: list[str] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)


def check_dataset(dataset: DataSet) -> Generator[Progress, None, Checked]:
    """Read every case, leave out what cannot be used, and tell what is odd.

    Noticed: files that cannot be read, sizes or grids that do not fit, values that are no labels, empty masks, labels
    that are missing, the same pixels under two names, and pictures that look alike although their patients differ.

    Parameters
    ----------
    dataset : as `napari_lungseg.training.datasets.find_dataset` found it

    Yields
    ------
    Progress
        After every case.
    """
    seen = _Seen()
    for number, case in enumerate(dataset.cases):
        _look(dataset, case, seen)
        yield Progress(number + 1, len(dataset.cases), case.name)
    copies = list(_copies(seen, by_look=dataset.modality != "ct"))
    seen.findings += [told for _, _, told in copies]
    columns = ("case", "patient", "part", "slices", "rows", "columns", "labels", "foreground", "problem")
    facts = Table(columns, tuple(seen.rows), {"foreground": "%"})
    kept = dataclasses.replace(dataset, cases=tuple(seen.usable), problems=(*dataset.problems, *seen.findings))
    return Checked(kept, tuple(seen.findings), facts, tuple((one, other) for one, other, _ in copies))


def _look(dataset: DataSet, case: Case, seen: _Seen) -> None:
    head = (case.name, case.patient, case.split)
    try:
        volume, labels, noticed = dataset.examine(case)
    except LungSegError as error:
        seen.rows.append((*head, None, None, None, "", None, str(error)))
        seen.findings.append(Finding("unusable", f"{case.name} is left out. {error}"))
        return
    noticed = (*noticed, *_about_labels(dataset, case, volume, labels))
    values = [] if labels is None else np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist()
    share = None if labels is None else 100 * float(np.count_nonzero(labels)) / labels.size
    problem = " ".join(map(str, noticed))
    seen.rows.append((*head, *volume.geometry.shape, " ".join(map(str, values)), share, problem))
    seen.findings += noticed
    seen.usable.append(case)
    array = np.ascontiguousarray(volume.array)
    seen.pixels.append(hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest())
    seen.thumbnails.append(thumbnail(volume))


def _about_labels(dataset: DataSet, case: Case, volume: Volume, labels: np.ndarray | None) -> Iterable[Finding]:
    if labels is None:
        return
    if not labels.any():
        yield Finding("empty-mask", f"{case.name} has an empty mask; it stays in as background. Is that meant?")
        return
    whole = dataset.modality != "ct" or volume.geometry.shape[0] > 1  # a slice need not hold everything
    missing = [name for label, name in dataset.names.items() if not (labels == label).any()] if whole else []
    if missing:
        yield Finding("label-missing", f"{case.name} has no {' and no '.join(missing)}.")


def thumbnail(volume: Volume) -> np.ndarray:
    """(1024,) a small picture of the middle slice, of mean 0 and length 1: its products are correlations."""
    array = np.asarray(volume.array[volume.geometry.shape[0] // 2], dtype=np.float32)
    if array.ndim == 3:
        array = array.mean(axis=2)
    for axis in (0, 1):
        array = _shrunk(array, axis)
    flat = array.ravel() - array.mean()
    return np.asarray(flat / (np.linalg.norm(flat) or 1.0), dtype=np.float32)


def _shrunk(array: np.ndarray, axis: int) -> np.ndarray:
    """Means of so many pieces of the axis as a thumbnail has pixels; repeated pixels where there are fewer."""
    length = array.shape[axis]
    if length < _THUMBNAIL:
        return np.asarray(array.take(np.arange(_THUMBNAIL) * length // _THUMBNAIL, axis=axis))
    edges = np.arange(_THUMBNAIL + 1) * length // _THUMBNAIL
    sizes = np.diff(edges).astype(np.float32)
    return np.asarray(np.add.reduceat(array, edges[:-1], axis=axis) / (sizes[:, None] if axis == 0 else sizes))


def _copies(seen: _Seen, *, by_look: bool) -> Iterable[tuple[Case, Case, Finding]]:
    """Pairs with the same pixels, and pairs of different patients whose pictures look alike.

    Slices of CT all look alike, so ``by_look`` is for radiographs and photographs only.
    """
    first: dict[str, Case] = {}
    for case, digest in zip(seen.usable, seen.pixels, strict=True):
        twin = first.setdefault(digest, case)
        if twin is not case:
            told = f"{twin.name} and {case.name} have the same pixels{_across(twin, case)}."
            yield twin, case, Finding("same-pixels", told)
    for row, column, likeness in _alike(seen.thumbnails if by_look else ()):
        one, other = seen.usable[row], seen.usable[column]
        if seen.pixels[row] != seen.pixels[column] and one.patient != other.patient:
            told = f"{one.name} and {other.name} look alike (correlation {likeness:.4f}){_across(one, other)}."
            yield one, other, Finding("possible-duplicate", told)


def _across(one: Case, other: Case) -> str:
    across = one.split != other.split and {one.split, other.split} <= set(PARTS)
    return f", one in {one.split} and one in {other.split}" if across else ""


def _alike(thumbnails: Sequence[np.ndarray]) -> Iterable[tuple[int, int, float]]:
    """Pairs ``(first, second, correlation)`` above the bound, without holding all correlations at once."""
    if not thumbnails:
        return
    stack = np.stack(thumbnails)
    for begin in range(0, len(stack), _ROWS_AT_ONCE):
        likeness = stack[begin : begin + _ROWS_AT_ONCE] @ stack[begin:].T
        for row, column in np.argwhere(np.triu(likeness, 1) > _SAME_PICTURE):
            yield int(begin + row), int(begin + column), float(likeness[row, column])
