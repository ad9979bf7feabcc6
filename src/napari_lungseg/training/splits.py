"""Which case trains, which chooses and which tests: drawn by patient, and kept in a file."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import TrainingDataError
from ..io.atomic import replacing
from .cases import LEFT_OUT, PARTS, Case, stem_of

FRACTIONS = (0.8, 0.1, 0.1)
_NEEDED = ("image", "mask", "split", "patient")
_BETWEEN = ";"  # several masks of one image, in one cell


def split_by_patient(
    cases: Iterable[Case], fractions: tuple[float, float, float] = FRACTIONS, seed: int = 0
) -> tuple[Case, ...]:
    """Put every case into train, val or test, all cases of a patient into the same one.

    Patients are shuffled, then each goes to the part that lacks most of its share, counted in cases.

    Parameters
    ----------
    cases : in any order; the result depends on their patients, not on the order
    fractions : of train, val and test; they add up to 1
    seed : another seed, another split

    Returns
    -------
    The same cases in the same order, with `Case.split` set.

    Raises
    ------
    TrainingDataError
        When the fractions are negative or do not add up to 1.
    """
    cases = tuple(cases)
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise TrainingDataError(
            f"The fractions {fractions} of train, val and test must not be negative and add up to 1."
        )
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case.patient] = sizes.get(case.patient, 0) + 1
    part_of = _dealt(sizes, np.asarray(fractions), seed)
    return tuple(dataclasses.replace(case, split=part_of[case.patient]) for case in cases)


def _dealt(sizes: dict[str, int], fractions: np.ndarray, seed: int) -> dict[str, str]:
    """Patient → part; large patients first, so that the small ones even out the shares."""
    patients = sorted(sizes)
    shuffled = [patients[k] for k in np.random.default_rng(seed).permutation(len(patients))]
    missing = fractions * sum(sizes.values())
    part_of = {}
    for patient in sorted(shuffled, key=lambda patient: -sizes[patient]):
        part = int(np.argmax(np.where(fractions > 0, missing, -np.inf)))
        missing[part] -= sizes[patient]
        part_of[patient] = PARTS[part]
    return part_of


def left_out_of(found: Iterable[Case], used: Iterable[Case]) -> tuple[Case, ...]:
    """Cases that were found but are not used, so that a split file can name them too."""
    names = {case.name for case in used}
    return tuple(dataclasses.replace(case, split=LEFT_OUT) for case in found if case.name not in names)


def write_splits(path: str | Path, cases: Iterable[Case]) -> Path:
    """Write a split file: CSV with a line per case, paths relative to the file's folder; complete or not at all.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    target = Path(path)
    text = io.StringIO()
    columns = ("image", "mask", "mask_labels", "split", "patient", "aspect", "licence")
    lines = csv.DictWriter(text, columns, lineterminator="\n")
    lines.writeheader()
    lines.writerows(_row(case, target.parent) for case in cases)
    with replacing(target) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return target


def _row(case: Case, folder: Path) -> dict[str, str]:
    def relative(path: Path) -> str:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()

    return {
        "image": relative(case.image),
        "mask": _BETWEEN.join(map(relative, case.masks)),
        "mask_labels": _BETWEEN.join(map(str, case.mask_labels)),
        "split": case.split,
        "patient": case.patient,
        "aspect": "" if case.aspect is None else f"{case.aspect:g}",
        "licence": case.licence,
    }


def read_splits(path: str | Path) -> tuple[Case, ...]:
    """Read a split file; other columns than those of `Case` are passed over.

    Raises
    ------
    TrainingDataError
        When the file or one of its lines cannot be used, naming the line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise TrainingDataError(
                    f"{path.name} has no column {', '.join(missing)}; a split file has {', '.join(_NEEDED)}."
                )
            rows = [_case(row, path, number) for number, row in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{path.name} cannot be read as a split file ({error}).") from error
    return _named_apart(rows)


def _case(row: dict[str, str], path: Path, line: int) -> Case:
    facts = {name: (value or "").strip() for name, value in row.items() if name}
    if not facts["image"] or facts["split"] not in (*PARTS, LEFT_OUT, ""):
        raise TrainingDataError(
            f"{path.name}, line {line}: found image {facts['image']!r} and split {facts['split']!r}; "
            f"expected a path and one of {', '.join((*PARTS, LEFT_OUT))}."
        )
    image = path.parent / facts["image"]
    try:
        aspect = float(facts["aspect"]) if facts.get("aspect") else None
        labels = tuple(int(label) for label in facts.get("mask_labels", "").split(_BETWEEN) if label)
    except ValueError as error:
        raise TrainingDataError(f"{path.name}, line {line}: {error}; correct the number.") from error
    masks = tuple(path.parent / name for name in facts["mask"].split(_BETWEEN) if name)
    name = stem_of(image)
    return Case(name, facts["patient"] or name, image, masks, facts["split"], facts.get("licence", ""), labels, aspect)


def _named_apart(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Names made unique by the folder's name where stems repeat."""
    stems = [case.name for case in cases]
    twice = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    return tuple(
        dataclasses.replace(case, name=f"{case.image.parent.name}/{case.name}") if case.name in twice else case
        for case in cases
    )
