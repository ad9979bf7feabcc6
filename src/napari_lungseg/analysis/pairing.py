"""Which predicted file belongs to which reference: by name, without the words that say "this is a label map"."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ReadError
from ..findings import Finding
from ..io import READERS, suffix_of

# What programs add to a scan's name when they save its labels.
_ADDED = re.compile(
    r"[\W_]+(labels?|masks?|lm|seg|segmentations?|pred|predicted|predictions?|reference|truth|gt)$", re.IGNORECASE
)
_SHOWN = 5


@dataclass(frozen=True)
class FilePair:
    """Two label maps of one case.

    Parameters
    ----------
    name : of the case: the reference's name without suffix and label words
    predicted, reference : files
    """

    name: str
    predicted: Path
    reference: Path


def case_name(path: Path) -> str:
    """A file's name without suffix and label words: ``a-labels.nii.gz``, ``a_mask.png`` and ``a.nrrd`` are all "a"."""
    suffix = suffix_of(path)
    name = path.name[: len(path.name) - len(suffix)]
    while (shorter := _ADDED.sub("", name)) not in ("", name):
        name = shorter
    return name


def pair_files(predicted: Path, reference: Path) -> tuple[list[FilePair], list[Finding]]:
    """Pair two files, or the files directly in two folders; what has no partner is told.

    Raises
    ------
    ReadError
        When one is a file and the other a folder, when two files of a folder have the same claim, or when nothing
        pairs.
    """
    for path in (predicted, reference):
        if not path.exists():
            raise ReadError(f"There is no file or folder {path.name!r} in {str(path.parent)!r}; check the path.")
    if predicted.is_dir() != reference.is_dir():
        folder, file = (predicted, reference) if predicted.is_dir() else (reference, predicted)
        raise ReadError(f"{folder.name} is a folder, but {file.name} is a file; name two files or two folders.")
    if predicted.is_file():
        return [FilePair(case_name(reference), predicted, reference)], []
    theirs, ours = _by_case(predicted), _by_case(reference)
    common = sorted(theirs.keys() & ours.keys())
    if not common:
        raise ReadError(
            f"No file of {predicted.name} has a partner of the same name in {reference.name}: found "
            f"{_listed(theirs.values())} and {_listed(ours.values())}. Endings like -labels or _mask may differ; the "
            "rest of the name must be the same."
        )
    pairs = [FilePair(name, theirs[name], ours[name]) for name in common]
    return pairs, [*_alone(theirs, common, reference), *_alone(ours, common, predicted)]


def images_of(folder: Path) -> dict[str, Path]:
    """Case → scan: the files in a folder, and its subfolders as DICOM series; of a scan and its labels, the scan."""
    images: dict[str, Path] = {}
    # The shorter of two names comes last and stays: it has no words for labels.
    for entry in sorted(folder.iterdir(), key=lambda entry: len(entry.name), reverse=True):
        if entry.is_dir():
            images[entry.name] = entry
        elif suffix_of(entry, READERS):
            images[case_name(entry)] = entry
    return images


def _by_case(folder: Path) -> dict[str, Path]:
    """Case → file; of a scan and its labels side by side, the labels."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and suffix_of(path, READERS)]
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[case_name(path)].append(path)
    return {name: _one(name, group, folder) for name, group in groups.items()}


def _one(name: str, group: Sequence[Path], folder: Path) -> Path:
    said = [path for path in group if path.name[: len(path.name) - len(suffix_of(path))] != name] or group
    if len(said) > 1:
        raise ReadError(
            f"In {folder.name}, {_listed(said)} could all be the labels of {name!r}; keep one, or name two files."
        )
    return said[0]


def _alone(files: dict[str, Path], common: Sequence[str], other: Path) -> list[Finding]:
    alone = [path for name, path in files.items() if name not in common]
    told = f"{len(alone)} file(s) have no partner in {other.name} and were left out: {_listed(alone)}."
    return [Finding("no-partner", told)] if alone else []


def _listed(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "nothing that can be read"
