"""A training case: one image with its masks, and how images and masks find each other by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import TrainingDataError
from ..findings import Finding
from ..io import suffix_of
from ..volume import Modality

PARTS = ("train", "val", "test")
LEFT_OUT = "left out"
"""Of a case that is in no part for a reason: it cannot be used, or its patient has a copy in another part."""


@dataclass(frozen=True)
class Case:
    """One image with its masks.

    Parameters
    ----------
    name : neutral and unique in its data set: the file's stem
    patient : whom it shows; cases of one patient stay in one part
    image : file, or folder of one DICOM series
    masks : files of labels; empty for an unlabelled image
    split : ``"train"``, ``"val"``, ``"test"``, `LEFT_OUT`, or "" while undecided
    licence : of the image and its masks, where the data set says it
    mask_labels : label that the foreground of each mask stands for; empty where one mask holds the labels themselves
    aspect : true width ÷ height of an image that was squashed to another shape, or None
    """

    name: str
    patient: str
    image: Path
    masks: tuple[Path, ...]
    split: str = ""
    licence: str = ""
    mask_labels: tuple[int, ...] = ()
    aspect: float | None = None


@dataclass(frozen=True)
class Found:
    """What a layout found in a folder.

    Parameters
    ----------
    cases : images with their masks
    problems : what could not be paired, by name
    modality : of the images where the layout knows it; None: judged by looking at some
    names : label → name where the layout knows them; None: judged by looking at some masks
    """

    cases: tuple[Case, ...]
    problems: tuple[Finding, ...] = ()
    modality: Modality | None = None
    names: dict[int, str] | None = None


class LayoutError(TrainingDataError):
    """A folder that is not laid out as expected; the message says what is expected."""


def stem_of(path: Path) -> str:
    """File name without the suffix that says its format: ``case.nii.gz`` → ``case``."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def image_files(folder: Path) -> list[Path]:
    """Files directly in a folder that can be read as images or labels, by name; hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and suffix_of(path) and path.name[0] != ".")


def pair_up(
    images: Iterable[Path],
    mask_sets: Sequence[Iterable[Path]],
    *,
    image_key: Callable[[str], str] = str,
    mask_key: Callable[[str], str] = str,
    mask_labels: tuple[int, ...] = (),
    patient: Callable[[str], str] = str,
) -> tuple[tuple[Case, ...], tuple[Finding, ...]]:
    """Pair images with one mask of every set by a key made from their stems.

    Parameters
    ----------
    images, mask_sets : files; of each set every image needs one mask
    image_key, mask_key : from a stem to what the two have in common
    mask_labels : label of each set's foreground; see `Case`
    patient : from an image's key to its patient

    Returns
    -------
    Cases in the order of the images, and a finding for everything that has no partner; those are left out.
    """
    tables = [_by_key(masks, mask_key) for masks in mask_sets]
    problems: list[Finding] = [problem for _, doubled in tables for problem in doubled]
    cases, used = [], set()
    by_key, doubled = _by_key(images, image_key)
    for key, image in by_key.items():
        masks = tuple(table[key] for table, _ in tables if key in table)
        used.add(key)
        if len(masks) < len(tables):
            missing = "no mask" if not masks else f"only {len(masks)} of {len(tables)} masks"
            problems.append(Finding("orphan-image", f"{image.name} has {missing} and is left out."))
        else:
            cases.append(Case(key, patient(key), image, masks, mask_labels=mask_labels))
    for table, _ in tables:
        lost = [path.name for key, path in table.items() if key not in used]
        problems += [Finding("orphan-mask", f"{name} has no image and is left out.") for name in lost]
    return tuple(cases), (*doubled, *problems)


def _by_key(paths: Iterable[Path], key: Callable[[str], str]) -> tuple[dict[str, Path], list[Finding]]:
    """Files by key; a second file of the same key is told and left out."""
    table: dict[str, Path] = {}
    doubled = []
    for path in paths:
        name = key(stem_of(path))
        if name in table:
            told = f"{table[name].name} and {path.name} are both called {name!r}; the second is left out."
            doubled.append(Finding("same-name", told))
        else:
            table[name] = path
    return table, doubled


def without(pattern: str) -> Callable[[str], str]:
    """A key: the stem without what a regular expression matches, in any case of letters."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda stem: compiled.sub("", stem)
