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
from .cases import Case
from .datasets import DataSet

# Thumbnails of so many pixels a side are compared; pictures that correlate more are possible duplicates. Of 3 million
# pairs of radiographs of different children the most alike reach 0.968, true copies saved anew 0.9999; of 2 million pairs
# of skin lesions six lie between 0.97 and 0.99.
_THUMBNAIL, _SAME_PICTURE = 32, 0.975
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Checked:
    """What was seen in a data set.

    Parameters
    ----------
    dataset : without the cases that cannot be used; its problems name them
    findings : what was noticed in the files; part of ``dataset.problems``
    facts : one row per case: name, patient, part, size, labels and what is wrong with it
    """

    dataset: DataSet
    findings: tuple[Finding, ...]
    facts: Table


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
    seen.findings += duplicates(seen.usable, seen.pixels, seen.thumbnails)
    columns = ("case", "patient", "part", "slices", "rows", "columns", "labels", "foreground", "problem")
    facts = Table(columns, tuple(seen.rows), {"foreground": "%"})
    kept = dataclasses.replace(dataset, cases=tuple(seen.usable), problems=(*dataset.problems, *seen.findings))
    return Checked(kept, tuple(seen.findings), facts)


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


def duplicates(cases: Sequence[Case], pixels: Sequence[str], thumbnails: Sequence[np.ndarray]) -> list[Finding]:
    """Cases with the same pixels, and cases of different patients whose pictures look alike.

    Parameters
    ----------
    cases, pixels, thumbnails : the cases, a hash of the pixels of each, and its `thumbnail`
    """
    first: dict[str, Case] = {}
    problems = []
    for case, digest in zip(cases, pixels, strict=True):
        twin = first.setdefault(digest, case)
        if twin is not case:
            problems.append(
                Finding("same-pixels", f"{twin.name} and {case.name} have the same pixels{_across(twin, case)}.")
            )
    for one, other, likeness in _alike(thumbnails):
        apart = pixels[one] != pixels[other] and cases[one].patient != cases[other].patient
        if apart:
            told = f"{cases[one].name} and {cases[other].name} look alike (correlation {likeness:.4f})"
            problems.append(Finding("possible-duplicate", f"{told}{_across(cases[one], cases[other])}."))
    return problems


def _across(one: Case, other: Case) -> str:
    return f", one in {one.split} and one in {other.split}" if one.split != other.split else ""


def _alike(thumbnails: Sequence[np.ndarray]) -> Iterable[tuple[int, int, float]]:
    """Pairs ``(first, second, correlation)`` above the bound, without holding all correlations at once."""
    if not thumbnails:
        return
    stack = np.stack(thumbnails)
    for begin in range(0, len(stack), _ROWS_AT_ONCE):
        likeness = stack[begin : begin + _ROWS_AT_ONCE] @ stack[begin:].T
        for row, column in np.argwhere(np.triu(likeness, 1) > _SAME_PICTURE):
            yield int(begin + row), int(begin + column), float(likeness[row, column])
